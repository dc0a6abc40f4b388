"""Times of events: RFC 3339 with an offset, of days and seconds that exist. Pure; it reads no clock."""

from __future__ import annotations

import re
from typing import Final

from tlog.encoding import shown
from tlog.errors import MalformedError

# RFC 3339 section 5.6, date-time; its letters may be of either case. Days of a month and leap seconds: below.
_TIME: Final = re.compile(
    r"[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])"
    r"[Tt](?:[01][0-9]|2[0-3]):[0-5][0-9]:(?:[0-5][0-9]|60)(?:\.[0-9]+)?"
    r"(?:[Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
)
_DAYS: Final = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def check_time(time: str) -> None:
    """Check the form of an event's `time`: RFC 3339, calendar-valid, leap seconds where they can be.

    Raises MalformedError.
    """
    if not _TIME.fullmatch(time):
        raise MalformedError(
            f"the event's time is {shown(time)}, not an RFC 3339 time with an offset: "
            "write it like 2025-11-03T09:12:44Z or 2025-11-03T10:12:44+01:00"
        )
    if time[8:10] > "28":
        year, month, day = int(time[:4]), int(time[5:7]), int(time[8:10])
        leap_year = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
        if day > _DAYS[month - 1] or (month == 2 and day == 29 and not leap_year):
            raise MalformedError(f"the event's time is {shown(time)}, a day that its month does not have")
    if time[17:19] == "60":
        # RFC 3339 section 5.7: leap seconds are inserted at 23:59:60 UTC.
        minute = int(time[11:13]) * 60 + int(time[14:16])
        if time[-1] not in "Zz":
            offset = int(time[-5:-3]) * 60 + int(time[-2:])
            minute += offset if time[-6] == "-" else -offset
        if minute % 1440 != 1439:
            raise MalformedError(
                f"the event's time is {shown(time)}, but a leap second comes only at 23:59:60 UTC"
            )
