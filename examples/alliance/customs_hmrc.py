"""UK customs messages: declarations as they were lodged, and the notifications that customs sent back.

The messages (see `examples/data/customs/hmrc-cds/SOURCE.md`) are HMRC's published samples of its customs
declaration service, in the WCO data model 3.6. An event carries a message's header fields and the SHA-256 of
its XML as published, so that whoever holds the XML can show that it is the one; the XML itself stays out.

What a notification means follows from its function code, never from its file name: one sample that is
called DMSRCV is an exit notification. Codes that the event catalogue has no type for (02 received, 06
documents wanted, 11 request granted, 13 tax, 14 and 15 payment, 18 exit reminder) are left out. A
notification that was published twice (same reference, sometimes with other comments) becomes one event, from
the file that comes first. A declaration whose goods are released (08) before it is cleared (09) has two
`released` events.

A declaration has no date in these samples, and no movement reference number (MRN): customs assigns it. The
MRN comes from the notifications with its local reference number (LRN) in the same scenario, and its time,
which is made up and marked, is one second before the first of them. Declarations without any notification are
left out.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec

from examples.alliance.event_fields import EventFields
from examples.alliance.members import CUSTOMS_ADMINISTRATION, SINGLE_WINDOW
from examples.alliance.rows import read_lines
from tlog.trade.keys import format_business_key

DATASET: Final = "customs/hmrc-cds"
FILE: Final = f"{DATASET}/messages.jsonl.gz"

LODGED_SOURCE: Final = f"{SINGLE_WINDOW.source}/gb-cds"
CUSTOMS_SOURCE: Final = f"{CUSTOMS_ADMINISTRATION.source}/gb-cds"

NOTIFICATIONS: Final = {
    "01": ("DMSACC", "trade.declaration.accepted.v1"),
    "03": ("DMSREJ", "trade.declaration.rejected.v1"),
    "05": ("DMSCTL", "trade.declaration.controlled.v1"),
    "07": ("DMSRES", "trade.declaration.amended.v1"),
    "08": ("DMSROG", "trade.declaration.released.v1"),
    # "clearance for the procedure, and therefore also […] the release of the goods (if this has not already
    # been done)", says the sample's comment.
    "09": ("DMSCLE", "trade.declaration.released.v1"),
    "10": ("DMSINV", "trade.declaration.withdrawn.v1"),
    "16": ("DMSEOG", "trade.goods.exited.v1"),
}
"""Function code of a notification to its name and the event type that it becomes."""

_ORIGINAL = "9"
_REFERENCE = re.compile(r"<(?:\w+:)?FunctionalReferenceID>\s*([0-9a-f]{32})\s*</")
_DATE_TIME = re.compile(r"(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(Z|[+-]\d\d)")


class CustomsMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Holds one line of messages.jsonl: header fields as they were parsed out, and the whole XML."""

    scenario: str
    file: str
    root: str
    message: str
    wco_type: str
    function_code: str
    declaration_type: str
    lrn: str
    mrn: str
    version: str
    issue_datetime: str
    xml: str

    @property
    def issued(self) -> str:
        """Return the issue time as RFC 3339. Raises ValueError when the message has none."""
        matched = _DATE_TIME.fullmatch(self.issue_datetime)
        if matched is None:
            raise ValueError(f"{self.file} has no issue time in WCO format 304, but {self.issue_datetime!r}")
        year, month, day, hour, minute, second, zone = matched.groups()
        offset = "+00:00" if zone == "Z" else f"{zone}:00"
        return f"{year}-{month}-{day}T{hour}:{minute}:{second}{offset}"

    @property
    def reference(self) -> str:
        """Return the notification's own reference, 32 hex digits. Raises ValueError when there is none."""
        # A notification's own reference stands before the one of the declaration that it answers.
        matched = _REFERENCE.search(self.xml)
        if matched is None:
            raise ValueError(f"{self.file} has no FunctionalReferenceID of 32 hex digits")
        return matched.group(1)

    @property
    def xml_sha256(self) -> str:
        """Return the SHA-256, in hex, of the XML's UTF-8 bytes with every line end as U+000A."""
        return hashlib.sha256(self.xml.encode()).hexdigest()


def read_messages(data_dir: Path) -> list[CustomsMessage]:
    """Read all messages, in file order."""
    decoder = msgspec.json.Decoder(CustomsMessage)
    return [decoder.decode(line) for line in read_lines(data_dir / FILE)]


def customs_message_events(data_dir: Path) -> Iterator[EventFields]:
    """Give one event for each notification with a type of its own, and one for each declaration answered."""
    messages = read_messages(data_dir)
    answers: dict[tuple[str, str], list[CustomsMessage]] = {}
    references: set[str] = set()
    for message in messages:
        if message.message != "Response":
            continue
        answers.setdefault((message.scenario, message.lrn), []).append(message)
        if message.function_code in NOTIFICATIONS and message.reference not in references:
            references.add(message.reference)
            yield _notified(message)
    lodged: set[str] = set()
    for message in messages:
        if message.message == "Declaration" and message.function_code == _ORIGINAL:
            answered = answers.get((message.scenario, message.lrn))
            if answered and answered[0].mrn not in lodged:
                lodged.add(answered[0].mrn)
                yield _lodged(message, answered)


def _notified(message: CustomsMessage) -> EventFields:
    name, event_type = NOTIFICATIONS[message.function_code]
    key = format_business_key("declaration", message.mrn)
    return EventFields(
        id=message.reference,
        source=CUSTOMS_SOURCE,
        type=event_type,
        subject=key,
        time=message.issued,
        refs=(key,),
        data={
            "dataset": DATASET,
            "message": name,
            "function_code": message.function_code,
            "reference": message.reference,
            "mrn": message.mrn,
            "lrn": message.lrn,
            # Two samples leave the version out.
            **({"version": message.version} if message.version else {}),
            "file": message.file,
            "xml_sha256": message.xml_sha256,
            "synthetic": [],
        },
    )


def _lodged(declaration: CustomsMessage, answered: list[CustomsMessage]) -> EventFields:
    mrn = answered[0].mrn
    first = min((message.issued for message in answered), key=datetime.fromisoformat)
    key = format_business_key("declaration", mrn)
    return EventFields(
        id=f"{mrn}-lodged",
        source=LODGED_SOURCE,
        type="trade.declaration.lodged.v1",
        subject=key,
        time=(datetime.fromisoformat(first) - timedelta(seconds=1)).isoformat(),
        refs=(key,),
        data={
            "dataset": DATASET,
            "message": "declaration",
            "function_code": declaration.function_code,
            "declaration_type": declaration.declaration_type,
            "mrn": mrn,
            "lrn": declaration.lrn,
            "file": declaration.file,
            "xml_sha256": declaration.xml_sha256,
            "synthetic": ["time"],
        },
    )
