"""Every member's own stream of events, converted from the committed data and put into the order of time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from examples.alliance.customs_hmrc import customs_message_events
from examples.alliance.customs_kcs import declaration_events
from examples.alliance.event_fields import EventFields
from examples.alliance.finance import claim_events
from examples.alliance.invoices import invoice_events
from examples.alliance.members import MEMBERS, member_of
from examples.alliance.meters import meter_events
from examples.alliance.shipments import shipment_events

CONVERTERS: Final[tuple[Callable[[Path], Iterator[EventFields]], ...]] = (
    declaration_events,
    customs_message_events,
    invoice_events,
    shipment_events,
    meter_events,
    claim_events,
)
"""Every converter. It is given the folder `examples/data`; an event's source says whose stream it goes to."""


def streams(data_dir: Path) -> dict[str, list[EventFields]]:
    """Convert everything under `data_dir` and return each member's events by member id, oldest first.

    Events of one instant are ordered by source and id, so the result depends on the files alone. Raises
    ValueError when a file does not hold what its converter needs, and OSError when it cannot be read.
    """
    by_member: dict[str, list[EventFields]] = {member.id: [] for member in MEMBERS}
    for converter in CONVERTERS:
        for event in converter(data_dir):
            by_member[member_of(event.source).id].append(event)
    for events in by_member.values():
        events.sort(key=lambda event: (event.instant, event.source, event.id))
    return by_member
