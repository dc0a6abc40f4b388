"""The example alliance's committed data, read without its converters, and ways to pick its events."""

import csv
import gzip
from collections.abc import Mapping
from pathlib import Path

from examples.alliance.event_fields import EventFields

DATA = Path(__file__).parents[2] / "examples" / "data"
DATASETS = {
    "customs/hmrc-cds",
    "customs/kcs-import-declarations",
    "invoices/uci-online-retail",
    "iot/uci-steel-energy",
    "shipments/usaid-scms",
}

Streams = Mapping[str, list[EventFields]]


def csv_rows(name: str) -> list[dict[str, str]]:
    with gzip.open(DATA / name, "rt", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def of_type(events: list[EventFields], *types: str) -> list[EventFields]:
    return [event for event in events if event.type in types]
