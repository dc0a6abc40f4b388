"""Shipments, cover and meter readings against their rows, traps included."""

import re
from collections import defaultdict
from decimal import Decimal
from itertools import pairwise

from _support.example_data import csv_rows, of_type

from examples.alliance.event_fields import EventFields


def test_a_raw_date_that_looks_iso_is_read_as_month_day_year(events: list[EventFields]) -> None:
    rows = csv_rows("shipments/usaid-scms/scms_delivery_history.csv.gz")
    columns = (("PQ First Sent to Client Date", "pq_sent_iso"), ("PO Sent to Vendor Date", "po_sent_iso"))
    trapped = 0
    for row in rows:
        for raw_column, iso_column in columns:
            if looks_iso := re.fullmatch(r"20(\d\d)-(\d\d)-(\d\d)", row[raw_column]):
                month, day, year = looks_iso.groups()
                assert row[iso_column] == f"20{year}-{month}-{day}"
                trapped += 1
    assert trapped > 500

    advices = {row["ASN/DN #"] for row in rows if row["PQ First Sent to Client Date"] == "2005-03-13"}
    booked = {event.data["advice"]: event for event in of_type(events, "trade.booking.confirmed.v1")}
    assert advices
    for advice in advices:
        assert booked[advice].data["quoted_on"] == "2013-05-03"


def test_every_delivery_is_on_its_day_and_after_its_booking(events: list[EventFields]) -> None:
    rows = csv_rows("shipments/usaid-scms/scms_delivery_history.csv.gz")
    delivered_on = {row["ASN/DN #"]: row["delivered_iso"] for row in rows}
    delivered = {event.data["advice"]: event for event in of_type(events, "trade.goods.delivered.v1")}
    booked = {event.data["advice"]: event for event in of_type(events, "trade.booking.confirmed.v1")}
    assert delivered.keys() == booked.keys() == delivered_on.keys()
    assert sum(event.data["lines"] for event in delivered.values()) == len(rows)
    for advice, event in delivered.items():
        assert event.time.startswith(delivered_on[advice])
        assert booked[advice].instant < event.instant


def test_freight_that_stands_on_another_line_is_counted_once(events: list[EventFields]) -> None:
    figures: dict[str, Decimal] = defaultdict(Decimal)
    for row in csv_rows("shipments/usaid-scms/scms_delivery_history.csv.gz"):
        if re.fullmatch(r"[0-9.]+", row["Freight Cost (USD)"]):
            figures[row["ASN/DN #"]] += Decimal(row["Freight Cost (USD)"])
    for event in of_type(events, "trade.booking.confirmed.v1"):
        freight = event.data["freight"]
        if event.data["advice"] in figures:
            assert freight == {"amount": str(figures[event.data["advice"]]), "currency": "USD"}
        else:
            assert freight in ("included in the price of the goods", "invoiced separately")


def test_cover_premiums_add_up_to_the_data_sets_insurance(events: list[EventFields]) -> None:
    insurance = sum(
        Decimal(row["Line Item Insurance (USD)"] or "0")
        for row in csv_rows("shipments/usaid-scms/scms_delivery_history.csv.gz")
    )
    cover = of_type(events, "trade.cover.attached.v1")
    assert sum(Decimal(event.data["premium"]["amount"]) for event in cover) == insurance
    assert all(event.refs[1] == f"policy:{event.data['policy']}" for event in cover)


def test_no_reading_is_lost_and_midnight_ends_its_day(events: list[EventFields]) -> None:
    rows = csv_rows("iot/uci-steel-energy/steel_industry_data.csv.gz")
    batches = of_type(events, "trade.readings.batched.v1")
    assert len(batches) * 4 == len(rows)
    batched = [str(value) for event in batches for value in event.data["usage_kwh"]]
    assert list(map(Decimal, batched)) == [Decimal(row["Usage_kWh"]) for row in rows]
    assert batches[0].time == "2018-01-01T01:00:00+09:00"
    assert rows[95]["date"] == "01/01/2018 00:00"
    assert batches[23].time == "2018-01-02T00:00:00+09:00"
    assert batches[-1].time == "2018-05-01T00:00:00+09:00"
    steps = {later.instant - earlier.instant for earlier, later in pairwise(batches)}
    assert {step.total_seconds() for step in steps} == {3_600}
