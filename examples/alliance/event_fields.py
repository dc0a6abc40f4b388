"""What a converter makes of a row or a message: the fields of one event, and how made-up ones are marked.

Every event's `data` has two fields of ours beside the facts:

* `dataset`: the folder under `examples/data/` that the facts come from;
* `synthetic`: what in this event is made up, because the data set does not have it. A list of dotted paths
  from the event's root, such as `data.claim.id`, and of these marks:

  - `event`: that this happened at all is made up (the fields that are not listed are still the data set's);
  - `time`: the whole time is made up; `time.clock`: only the time of day is; `time.offset`: only the zone;
  - `refs`, `subject`: a key in there is made up or inferred.

What is not listed was copied, reformatted or added up from the rows, or points to another event; it was
never invented.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeAlias

JsonValue: TypeAlias = "bool | int | float | str | Sequence[JsonValue] | Mapping[str, JsonValue] | None"
"""A JSON value that nobody changes: any sequence is an array, any mapping with text keys an object."""

MARKS: Final = frozenset({"event", "time", "time.clock", "time.offset", "refs", "subject"})
"""The marks in `synthetic` that are not paths into `data`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFields:
    """Holds one event as `tlog.event.build_event` takes it; only the log's origin is still missing."""

    id: str
    source: str
    type: str
    subject: str
    time: str
    refs: tuple[str, ...]
    data: Mapping[str, JsonValue]

    @property
    def instant(self) -> datetime:
        """Return `time` as a point in time."""
        return datetime.fromisoformat(self.time)


def synthetic_number(seed: str, start: int, end: int) -> int:
    """Return a whole number in [start, end) that depends on nothing but `seed`. Requires start < end.

    The range is small against 2**64, so the remainder's bias does not matter here.
    """
    return start + int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8], "big") % (end - start)
