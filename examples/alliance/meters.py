"""Meter readings of a steel plant, every 15 minutes, batched by the plant's gateway hour by hour.

The rows (see `examples/data/iot/uci-steel-energy/SOURCE.md`) give the end of each interval. The last row of a
day is dated 00:00 of that same day though it stands after 23:45: it is the day's end, 24:00. Taken at its
word it would jump back by a day. (Over the year its usage is 1.2 kWh away from that of 23:45 on average, and
4.1 kWh from that of the 00:15 which it would then precede.)
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from examples.alliance.event_fields import EventFields, JsonValue
from examples.alliance.members import PLANT_GATEWAY
from examples.alliance.rows import Row, read_rows, rows_sha256
from tlog.trade.keys import format_business_key

DATASET: Final = "iot/uci-steel-energy"
FILE: Final = f"{DATASET}/steel_industry_data.csv.gz"
SOURCE: Final = f"{PLANT_GATEWAY.source}/main-meter"
DEVICE: Final = "plant-main-meter-1"
INTERVAL_S: Final = 900
READINGS_PER_BATCH: Final = 4

# The plant stands in Korea; the data has no zone.
_OFFSET = "+09:00"
_COLUMNS: Final = {
    "usage_kwh": "Usage_kWh",
    "lagging_reactive_kvarh": "Lagging_Current_Reactive_Power_kVarh",
    "leading_reactive_kvarh": "Leading_Current_Reactive_Power_kVarh",
    "lagging_power_factor_percent": "Lagging_Current_Power_Factor",
    "leading_power_factor_percent": "Leading_Current_Power_Factor",
    "co2_t": "CO2(tCO2)",
}


def meter_events(data_dir: Path) -> Iterator[EventFields]:
    """Give one event for each full hour of readings, in order; its time is the end of the last interval.

    Raises ValueError when the readings have a gap, or do not fill their last hour.
    """
    batch: list[Row] = []
    batch_end: datetime | None = None
    for row in read_rows(data_dir / FILE):
        end = _interval_end(row)
        if batch_end is not None and end != batch_end + timedelta(seconds=INTERVAL_S):
            raise ValueError(
                f"the reading dated {row['date']} does not follow the one that ended {batch_end}"
            )
        batch_end = end
        batch.append(row)
        if len(batch) == READINGS_PER_BATCH:
            yield _batched(batch, end)
            batch = []
    if batch:
        raise ValueError(f"the last {len(batch)} readings do not fill an hour")


def _interval_end(row: Row) -> datetime:
    day, _, clock = row["date"].partition(" ")
    date, month, year = day.split("/")
    end = datetime.fromisoformat(f"{year}-{month}-{date}T{clock}:00{_OFFSET}")
    return end + timedelta(days=1) if clock == "00:00" else end


def _batched(rows: list[Row], end: datetime) -> EventFields:
    key = format_business_key("device", DEVICE)
    readings: dict[str, JsonValue] = {
        name: [_number(row[column]) for row in rows] for name, column in _COLUMNS.items()
    }
    return EventFields(
        id=f"{DEVICE}-{end:%Y%m%dT%H%M}",
        source=SOURCE,
        type="trade.readings.batched.v1",
        subject=key,
        time=end.isoformat(),
        refs=(key,),
        data={
            "dataset": DATASET,
            "device": DEVICE,
            "interval_s": INTERVAL_S,
            **readings,
            "load_type": [row["Load_Type"] for row in rows],
            "rows_sha256": rows_sha256(rows),
            "synthetic": ["time.offset", "subject", "refs", "data.device"],
        },
    )


def _number(text: str) -> int | float:
    """Give a decimal as the JSON number with the same digits."""
    return float(text) if "." in text else int(text)
