"""Korean import declarations: lodged by the single window, then accepted, controlled and released by customs.

The rows (see `examples/data/customs/kcs-import-declarations/SOURCE.md`) hold the declaration, the day it was
reported, and two labels that customs found: fraud 0/1 and critical fraud 0/1/2. They hold no time of day and
no course of events. So the lodging is real but for its clock, and the rest is derived, and marked:

* every declaration is accepted;
* one with the label fraud is controlled first, and the label is the finding;
* one with critical fraud 2 is never released; every other one is.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

from examples.alliance.event_fields import EventFields, JsonValue, synthetic_number
from examples.alliance.members import CUSTOMS_ADMINISTRATION, SINGLE_WINDOW
from examples.alliance.rows import Row, read_rows
from tlog.trade.keys import format_business_key

DATASET = "customs/kcs-import-declarations"
FILE = f"{DATASET}/import_declarations.csv.gz"

LODGED_SOURCE = f"{SINGLE_WINDOW.source}/kr-import"
CUSTOMS_SOURCE = f"{CUSTOMS_ADMINISTRATION.source}/kr-import"

# Korea Standard Time has had no daylight saving since 1988.
_OFFSET = "+09:00"
_DAY_S = 86_400
_HOUR_S = 3_600
_MINUTE_S = 60


def declaration_events(data_dir: Path) -> Iterator[EventFields]:
    """Give the events of every declaration, in file order."""
    for row in read_rows(data_dir / FILE):
        yield from _course(row)


def _course(row: Row) -> Iterator[EventFields]:
    number = row["Declaration ID"]
    opened = datetime.fromisoformat(f"{row['Date']}T08:00:00{_OFFSET}")
    lodged_at = opened + timedelta(seconds=synthetic_number(f"{number} lodged", 0, 10 * _HOUR_S))
    accepted_at = lodged_at + timedelta(seconds=synthetic_number(f"{number} accepted", 1, 20 * _MINUTE_S))
    wait_s = synthetic_number(f"{number} released", 10 * _MINUTE_S, 2 * _HOUR_S)

    yield _lodged(row, lodged_at)
    yield _decided(
        row, "accepted", accepted_at, {"answers": {"source": LODGED_SOURCE, "id": f"{number}-lodged"}}
    )
    if row["Fraud"] == "1":
        controlled_at = accepted_at + timedelta(seconds=synthetic_number(f"{number} controlled", 60, _DAY_S))
        finding = {"fraud": row["Fraud"], "critical_fraud": row["Critical Fraud"]}
        yield _decided(row, "controlled", controlled_at, {"finding": finding})
        wait_s += _DAY_S
    if row["Critical Fraud"] != "2":
        released_at = accepted_at + timedelta(seconds=wait_s)
        yield _decided(row, "released", released_at, {"after_control": row["Fraud"] == "1"})


def _lodged(row: Row, at: datetime) -> EventFields:
    key = format_business_key("declaration", row["Declaration ID"])
    data: dict[str, JsonValue] = {
        "dataset": DATASET,
        "declaration": row["Declaration ID"],
        "office": row["Office ID"],
        "process": row["Process Type"],
        "import_type": row["Import Type"],
        "import_use": row["Import Use"],
        "payment_type": row["Payment Type"],
        "transport_mode": row["Mode of Transport"],
        "declarant": row["Declarant ID"],
        "importer": row["Importer ID"],
        # Not every declaration has a seller or a courier; an empty field is left out.
        **{
            name: row[column]
            for name, column in (("seller", "Seller ID"), ("courier", "Courier ID"))
            if row[column]
        },
        "hs6": row["HS6 Code"],
        "country": {"departure": row["Country of Departure"], "origin": row["Country of Origin"]},
        "origin_indicator": row["Country of Origin Indicator"],
        "tax": {"type": row["Tax Type"], "rate_percent": row["Tax Rate"]},
        "net_mass_kg": row["Net Mass"],
        "item_price": {"amount": row["Item Price"], "currency": "KRW"},
        "synthetic": ["time.clock", "time.offset"],
    }
    return EventFields(
        id=f"{row['Declaration ID']}-lodged",
        source=LODGED_SOURCE,
        type="trade.declaration.lodged.v1",
        subject=key,
        time=at.isoformat(),
        refs=(key,),
        data=data,
    )


def _decided(row: Row, decision: str, at: datetime, facts: dict[str, JsonValue]) -> EventFields:
    key = format_business_key("declaration", row["Declaration ID"])
    return EventFields(
        id=f"{row['Declaration ID']}-{decision}",
        source=CUSTOMS_SOURCE,
        type=f"trade.declaration.{decision}.v1",
        subject=key,
        time=at.isoformat(),
        refs=(key,),
        data={
            "dataset": DATASET,
            "declaration": row["Declaration ID"],
            "office": row["Office ID"],
            "importer": row["Importer ID"],
            **facts,
            "synthetic": ["event", "time"],
        },
    )
