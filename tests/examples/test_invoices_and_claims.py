"""Invoices, credit notes and claims against the invoice lines, and against one another."""

import gzip
import hashlib
from collections import Counter, defaultdict
from decimal import Decimal

from _support.example_data import DATA, Streams, csv_rows, of_type

from examples.alliance.event_fields import EventFields


def test_invoice_totals_are_those_of_the_lines(events: list[EventFields]) -> None:
    totals: dict[str, Decimal] = defaultdict(Decimal)
    for row in csv_rows("invoices/uci-online-retail/cross_border_invoice_lines.csv.gz"):
        totals[row["InvoiceNo"]] += Decimal(row["UnitPrice"]) * int(row["Quantity"])
    documents = of_type(events, "trade.invoice.issued.v1", "trade.invoice.credited.v1")
    assert {event.data["number"]: Decimal(event.data["total"]["amount"]) for event in documents} == totals
    assert {event.data["total"]["currency"] for event in documents} == {"GBP"}
    for event in documents:
        is_credit_note = event.data["number"].startswith("C")
        assert is_credit_note == (event.type == "trade.invoice.credited.v1")
        assert Decimal(event.data["total"]["amount"]) <= 0 or not is_credit_note


def test_an_invoice_commits_to_its_lines(events: list[EventFields]) -> None:
    text = gzip.decompress(
        (DATA / "invoices/uci-online-retail/cross_border_invoice_lines.csv.gz").read_bytes()
    )
    lines = [line for line in text.splitlines(keepends=True) if line.startswith(b"536370,")]
    (event,) = (event for event in events if event.id == "536370-issued")
    assert event.data["lines"] == len(lines) == 20
    assert event.data["rows_sha256"] == hashlib.sha256(b"".join(lines)).hexdigest()


def test_a_credit_note_names_an_earlier_invoice_of_the_same_buyer_and_marks_it(
    events: list[EventFields],
) -> None:
    issued = {event.data["number"]: event for event in of_type(events, "trade.invoice.issued.v1")}
    credited = of_type(events, "trade.invoice.credited.v1")
    matched = [event for event in credited if "credits" in event.data]
    assert len(matched) == 406
    for event in matched:
        invoice = issued[event.data["credits"]]
        assert event.refs == (event.subject, invoice.subject)
        assert invoice.instant <= event.instant
        assert invoice.data["buyer"] == event.data["buyer"]
        assert {"data.credits", "refs"} <= set(event.data["synthetic"])
    for event in credited:
        if event not in matched:
            assert event.refs == (event.subject,)


def test_every_claim_is_reserved_first_and_used_up_exactly_once(events: list[EventFields]) -> None:
    issued = {event.subject: event for event in of_type(events, "trade.invoice.issued.v1")}
    credited = {event.subject: event for event in of_type(events, "trade.invoice.credited.v1")}
    claims = defaultdict(list)
    for event in events:
        if event.type.startswith("trade.claim."):
            claims[event.data["claim"]["id"]].append(event)
    assert len({claim[0].subject for claim in claims.values()}) == len(claims) == 835
    for claim in claims.values():
        first, *rest = claim
        assert first.type == "trade.claim.reserved.v1"
        assert issued[first.subject].instant < first.instant
        reserved = Decimal(first.data["claim"]["amount"])
        assert reserved == (Decimal(issued[first.subject].data["total"]["amount"]) * 4 / 5).quantize(
            Decimal("0.01")
        )
        free = reserved
        paid_out = Decimal(0)
        for event in rest:
            amount = Decimal(event.data["claim"]["amount"])
            assert amount > 0
            assert event.instant > first.instant
            assert event.source == first.source
            if event.type == "trade.claim.financed.v1":
                assert not paid_out
                assert amount == free
                paid_out = amount
            else:
                free -= amount
                assert free >= 0
            if event.type == "trade.claim.repaid.v1":
                assert paid_out
            if event.type == "trade.claim.released.v1":
                note = credited[event.refs[1]]
                assert note.data["credits"] == first.data["invoice"]["number"]
                assert amount <= -Decimal(note.data["total"]["amount"])
                assert note.instant < event.instant
        assert free == 0
    outcomes = Counter(tuple(event.type.split(".")[2] for event in claim) for claim in claims.values())
    assert outcomes["reserved", "financed", "repaid"] > 600
    assert outcomes["reserved", "released"] > 0


def test_both_banks_claim_and_never_on_one_invoice(by_member: Streams) -> None:
    north, south = ({event.subject for event in by_member[bank]} for bank in ("bank-north", "bank-south"))
    assert len(north) > 350
    assert len(south) > 350
    assert not north & south
