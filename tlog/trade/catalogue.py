"""Which trade events there are, and which role may issue which: one table.

The log itself knows no trade. An alliance writes this table into its log as a rules entry
(`tlog.rules.v1`, built from `rules_roles`), and from there on the log refuses a type that the issuer's
role does not have. A type's meaning never changes; a new meaning gets a new version, `….v2`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from tlog.encoding import shown
from tlog.errors import MalformedError

IMPORTER: Final = "importer"
EXPORTER: Final = "exporter"
FORWARDER: Final = "forwarder"
SINGLE_WINDOW: Final = "single-window"
CUSTOMS: Final = "customs"
CARRIER: Final = "carrier"
TERMINAL: Final = "terminal"
MANUFACTURER: Final = "manufacturer"
DEVICE_OPERATOR: Final = "device-operator"
INSURER: Final = "insurer"
BANK: Final = "bank"

ROLES: Final[tuple[str, ...]] = (
    IMPORTER,
    EXPORTER,
    FORWARDER,
    SINGLE_WINDOW,
    CUSTOMS,
    CARRIER,
    TERMINAL,
    MANUFACTURER,
    DEVICE_OPERATOR,
    INSURER,
    BANK,
)
"""Every role that issues events. A member may have several."""

_TABLE: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("order.placed", (IMPORTER,)),
    ("invoice.issued", (EXPORTER,)),
    ("invoice.credited", (EXPORTER,)),
    ("invoice.accepted", (IMPORTER,)),
    ("declaration.lodged", (FORWARDER, EXPORTER, SINGLE_WINDOW)),
    ("declaration.accepted", (CUSTOMS,)),
    ("declaration.rejected", (CUSTOMS,)),
    ("declaration.controlled", (CUSTOMS,)),
    ("declaration.amended", (CUSTOMS,)),
    ("declaration.released", (CUSTOMS,)),
    ("declaration.withdrawn", (CUSTOMS,)),
    ("goods.exited", (CUSTOMS,)),
    ("booking.confirmed", (CARRIER,)),
    ("vessel.departed", (CARRIER,)),
    ("vessel.arrived", (CARRIER,)),
    ("bl.issued", (CARRIER,)),
    ("bl.surrendered", (CARRIER,)),
    ("container.gated-in", (TERMINAL,)),
    ("container.loaded", (TERMINAL,)),
    ("container.discharged", (TERMINAL,)),
    ("goods.packed", (MANUFACTURER, DEVICE_OPERATOR)),
    ("lot.produced", (MANUFACTURER, DEVICE_OPERATOR)),
    ("readings.batched", (MANUFACTURER, DEVICE_OPERATOR)),
    ("goods.delivered", (CARRIER, TERMINAL)),
    ("cover.attached", (INSURER,)),
    ("loss.notified", (INSURER,)),
    ("loss.paid", (INSURER,)),
    ("claim.reserved", (BANK,)),
    ("claim.financed", (BANK,)),
    ("claim.repaid", (BANK,)),
    ("claim.released", (BANK,)),
    ("payment.settled", (BANK,)),
    # Whoever issued a record may correct it, so every role has the type. That it is the *same* issuer
    # follows from `source` and is for the reader to check: a role table cannot say it.
    ("record.corrected", ROLES),
)

CATALOGUE: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {f"trade.{name}.v1": roles for name, roles in _TABLE}
)
"""Event type, as it stands in an event's `type` attribute, to the roles that may issue it."""


def issuing_roles(event_type: str) -> tuple[str, ...]:
    """Return the roles that may issue an event type.

    Raises MalformedError when the catalogue does not have the type.
    """
    try:
        return CATALOGUE[event_type]
    except KeyError:
        raise MalformedError(
            f"event type {shown(event_type)} is not in the catalogue; types are written trade.<name>.v1, "
            "for example trade.invoice.issued.v1"
        ) from None


def rules_roles() -> dict[str, list[str]]:
    """Return the table `roles` of a rules entry: role to the event types it may issue.

    Every role is in it, roles in the order of `ROLES` and types in the order of the catalogue, so that one
    release always writes the same entry.
    """
    return {role: [event_type for event_type, roles in CATALOGUE.items() if role in roles] for role in ROLES}
