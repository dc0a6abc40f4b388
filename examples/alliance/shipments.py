"""Health-commodity shipments: booked with the carrier, covered by the insurer, delivered by the carrier.

The rows (see `examples/data/shipments/usaid-scms/SOURCE.md`) are delivery lines; a shipment is all lines with
one advice of shipment or delivery note (`ASN/DN #`), which always has one order, one country and one delivery
date. Delivery is real but for the time of day. That the carrier confirmed a booking, and when, is made up
around real facts, and so is the cover around its real premium and value.

Two things the raw columns get wrong, both handled here:

* Dates come from the corrected `…_iso` columns only. In the raw price-quote and order columns `2005-03-13`
  means 5/3/13, 3 May 2013.
* Freight and weight are often words: `See ASN-93 (ID#:1281)` (the figure stands on another line of the same
  shipment, and is counted there, once), `Freight Included in Commodity Cost`, `Invoiced Separately`, `Weight
  Captured Separately`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Final

from examples.alliance.event_fields import EventFields, JsonValue, synthetic_number
from examples.alliance.members import FREIGHT_CARRIER, MARINE_INSURER
from examples.alliance.rows import Row, read_rows, rows_sha256
from tlog.trade.keys import format_business_key

DATASET: Final = "shipments/usaid-scms"
FILE: Final = f"{DATASET}/scms_delivery_history.csv.gz"
CARRIER_SOURCE: Final = f"{FREIGHT_CARRIER.source}/health-commodities"
INSURER_SOURCE: Final = f"{MARINE_INSURER.source}/open-cover"

_OFFSET = "+00:00"
_BOOKED_DAYS_BEFORE = 21
_HOUR_S = 3_600
_NOT_APPLICABLE = "N/A"
_FREIGHT_WORDS: Final = {
    "Freight Included in Commodity Cost": "included in the price of the goods",
    "Invoiced Separately": "invoiced separately",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipment:
    """Holds the lines of one shipment; `head` is the line that the data set designates as its first."""

    advice: str
    head: Row
    rows: tuple[Row, ...]

    @property
    def order(self) -> str:
        """Return the number of the order that was shipped."""
        return self.head["PO / SO #"]

    @property
    def delivered_on(self) -> str:
        """Return the day of delivery to the client, as YYYY-MM-DD."""
        return self.head["delivered_iso"]

    @property
    def booked_at(self) -> datetime:
        """Return the made-up time of booking: three weeks before the earlier of planned and real delivery."""
        first = min(self.head["scheduled_delivery_iso"], self.delivered_on)
        return _at(first, f"{self.advice} booked") - timedelta(days=_BOOKED_DAYS_BEFORE)

    @property
    def premium_usd(self) -> Decimal | None:
        """Return the insurance of all lines, or None where it was not captured for any."""
        return _total(self.rows, "Line Item Insurance (USD)")


def read_shipments(data_dir: Path) -> list[Shipment]:
    """Read all shipments, in the order of their first lines in the file.

    Raises ValueError when the lines of a shipment disagree on order, country or day of delivery.
    """
    rows_by_advice: dict[str, list[Row]] = {}
    for row in read_rows(data_dir / FILE):
        rows_by_advice.setdefault(row["ASN/DN #"], []).append(row)
    return [_shipment(advice, rows) for advice, rows in rows_by_advice.items()]


def shipment_events(data_dir: Path) -> Iterator[EventFields]:
    """Give the booking, the cover (where the data has an insurance cost) and the delivery of a shipment."""
    for shipment in read_shipments(data_dir):
        yield _booked(shipment)
        if shipment.premium_usd:
            yield _covered(shipment, shipment.premium_usd)
        yield _delivered(shipment)


def _shipment(advice: str, rows: list[Row]) -> Shipment:
    for column in ("PO / SO #", "Country", "delivered_iso"):
        if len({row[column] for row in rows}) != 1:
            raise ValueError(f"the lines of shipment {advice} disagree on {column}")
    heads = [row for row in rows if row["First Line Designation"] == "Yes"]
    if len(heads) != 1:
        raise ValueError(f"shipment {advice} has {len(heads)} first lines")
    return Shipment(advice=advice, head=heads[0], rows=tuple(rows))


def _booked(shipment: Shipment) -> EventFields:
    head = shipment.head
    known: dict[str, JsonValue] = {
        name: head[column]
        for name, column in (
            ("mode", "Shipment Mode"),
            ("incoterm", "Vendor INCO Term"),
            ("quoted_on", "pq_sent_iso"),
            ("ordered_on", "po_sent_iso"),
        )
        if head[column] and not head[column].startswith(_NOT_APPLICABLE)
    }
    weight_kg = _total(shipment.rows, "Weight (Kilograms)")
    return _event(
        shipment,
        source=CARRIER_SOURCE,
        event_type="trade.booking.confirmed.v1",
        step="booked",
        at=shipment.booked_at,
        facts={
            "project": head["Project Code"],
            "vendor": head["Vendor"],
            "goods": head["Item Description"],
            **known,
            "scheduled_on": head["scheduled_delivery_iso"],
            "lines": len(shipment.rows),
            **({"weight_kg": str(weight_kg)} if weight_kg is not None else {}),
            "freight": _freight(shipment.rows),
        },
        synthetic=["event", "time"],
    )


def _covered(shipment: Shipment, premium_usd: Decimal) -> EventFields:
    policy = f"OC-{shipment.delivered_on[:4]}"
    value_usd = _total(shipment.rows, "Line Item Value")
    return _event(
        shipment,
        source=INSURER_SOURCE,
        event_type="trade.cover.attached.v1",
        step="covered",
        at=shipment.booked_at + timedelta(hours=synthetic_number(f"{shipment.advice} covered", 1, 48)),
        facts={
            "policy": policy,
            "insured": {"amount": str(value_usd), "currency": "USD"},
            "premium": {"amount": str(premium_usd), "currency": "USD"},
        },
        synthetic=["event", "time", "refs", "data.policy"],
        more_refs=(format_business_key("policy", policy),),
    )


def _delivered(shipment: Shipment) -> EventFields:
    return _event(
        shipment,
        source=CARRIER_SOURCE,
        event_type="trade.goods.delivered.v1",
        step="delivered",
        at=_at(shipment.delivered_on, f"{shipment.advice} delivered"),
        facts={
            "scheduled_on": shipment.head["scheduled_delivery_iso"],
            "delivered_on": shipment.delivered_on,
            "recorded_on": shipment.head["delivery_recorded_iso"],
            "lines": len(shipment.rows),
            "packs": sum(int(row["Line Item Quantity"]) for row in shipment.rows),
            "rows_sha256": rows_sha256(shipment.rows),
        },
        synthetic=["time.clock", "time.offset"],
    )


def _event(
    shipment: Shipment,
    *,
    source: str,
    event_type: str,
    step: str,
    at: datetime,
    facts: dict[str, JsonValue],
    synthetic: list[str],
    more_refs: tuple[str, ...] = (),
) -> EventFields:
    key = format_business_key("order", shipment.order)
    return EventFields(
        id=f"{shipment.advice}-{step}",
        source=source,
        type=event_type,
        subject=key,
        time=at.isoformat(),
        refs=(key, *more_refs),
        data={
            "dataset": DATASET,
            "advice": shipment.advice,
            "order": shipment.order,
            "country": shipment.head["Country"],
            **facts,
            "synthetic": synthetic,
        },
    )


def _freight(rows: tuple[Row, ...]) -> JsonValue:
    cost_usd = _total(rows, "Freight Cost (USD)")
    if cost_usd is not None:
        return {"amount": str(cost_usd), "currency": "USD"}
    words = {row["Freight Cost (USD)"] for row in rows if not row["Freight Cost (USD)"].startswith("See ")}
    return " and ".join(sorted(_FREIGHT_WORDS[word] for word in words))


def _total(rows: tuple[Row, ...], column: str) -> Decimal | None:
    """Add up a column's figures; None when there is none, only words or nothing."""
    figures = [Decimal(row[column]) for row in rows if row[column] and row[column][0].isdigit()]
    return sum(figures, Decimal(0)) if figures else None


def _at(day: str, seed: str) -> datetime:
    """Put a made-up time of day, between 07:00 and 17:00, to a real day."""
    start = datetime.fromisoformat(f"{day}T07:00:00{_OFFSET}")
    return start + timedelta(seconds=synthetic_number(seed, 0, 10 * _HOUR_S))
