"""Who is in the example alliance: the members, their roles, and the sources their events come from.

The cast follows the log's first use: a customs administration and a single window, two banks that must not
finance one invoice twice, an insurer, a carrier, and a manufacturer with an IoT gateway.

* The gateway is a member of its own, not a second key of the manufacturer: a device in a plant is easier to
  steal from than an office, and a member's role decides what its key may sign. With the gateway's key one
  can batch readings, and can never issue an invoice.
* The manufacturer sells what it makes, so it is an exporter too, and the invoices are its.
* Nobody has the role importer, forwarder or terminal, so their event types (`order.placed`,
  `invoice.accepted`, `container.…`) do not occur.
* The single window lodges declarations for the traders, so exporter rights are not needed for that.

The data sets come from different countries and companies. That they belong to this cast is made up; the
sub-source (`…:customs/kr-import`, `…:customs/gb-cds`) tells them apart, and every event names its data set.
No member has an LEI: a made-up one would be a lie about somebody.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tlog.trade.catalogue import BANK, CARRIER, CUSTOMS, DEVICE_OPERATOR, EXPORTER, INSURER, MANUFACTURER
from tlog.trade.catalogue import SINGLE_WINDOW as SINGLE_WINDOW_ROLE


@dataclass(frozen=True, slots=True, kw_only=True)
class AllianceMember:
    """Describes one member as its governance entry will; `key_count` is how many keys to make for it."""

    id: str
    name: str
    roles: tuple[str, ...]
    source: str
    key_count: int = 1


def _member(member_id: str, name: str, *roles: str) -> AllianceMember:
    return AllianceMember(id=member_id, name=name, roles=roles, source=f"urn:example:alliance:{member_id}")


CUSTOMS_ADMINISTRATION: Final = _member("customs", "Example Customs Administration", CUSTOMS)
SINGLE_WINDOW: Final = _member("single-window", "Example Trade Single Window", SINGLE_WINDOW_ROLE)
BANK_NORTH: Final = _member("bank-north", "Example Bank North", BANK)
BANK_SOUTH: Final = _member("bank-south", "Example Bank South", BANK)
MARINE_INSURER: Final = _member("insurer", "Example Marine Insurance", INSURER)
FREIGHT_CARRIER: Final = _member("carrier", "Example Freight Lines", CARRIER)
PLANT: Final = _member("manufacturer", "Example Manufacturing", EXPORTER, MANUFACTURER)
PLANT_GATEWAY: Final = _member("iot-gateway", "Example Manufacturing, plant gateway", DEVICE_OPERATOR)

MEMBERS: Final[tuple[AllianceMember, ...]] = (
    CUSTOMS_ADMINISTRATION,
    SINGLE_WINDOW,
    BANK_NORTH,
    BANK_SOUTH,
    MARINE_INSURER,
    FREIGHT_CARRIER,
    PLANT,
    PLANT_GATEWAY,
)
"""Every member, in the order in which they are admitted."""


def member_of(source: str) -> AllianceMember:
    """Return the member whose source an event's source is, or lies under (source + `/` + more).

    Raises ValueError when there is none.
    """
    for member in MEMBERS:
        if source == member.source or source.startswith(f"{member.source}/"):
            return member
    raise ValueError(f"no member of the example alliance has the source {source}")
