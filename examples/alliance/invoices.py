"""Invoices and credit notes of a UK wholesaler to buyers abroad: one event for each document.

The rows (see `examples/data/invoices/uci-online-retail/SOURCE.md`) are document lines. A number that starts
with C is a credit note, with negative quantities. Which invoice it credits is not in the data; it is
inferred, and marked: of the same buyer's earlier invoices, the one that shares the most articles with the
credit note, and of equals the latest. A credit note without buyer, or without such an invoice, names none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Final

from examples.alliance.event_fields import EventFields, JsonValue
from examples.alliance.members import PLANT
from examples.alliance.rows import Row, read_rows, rows_sha256
from tlog.trade.keys import format_business_key

DATASET: Final = "invoices/uci-online-retail"
FILE: Final = f"{DATASET}/cross_border_invoice_lines.csv.gz"
SOURCE: Final = f"{PLANT.source}/sales"
CURRENCY: Final = "GBP"

# The data has no zone. The shop's clock was a British one, but it does not say whether it was put forward in
# summer, so the offset is one and the same, and marked as made up.
_OFFSET = "+00:00"


@dataclass(frozen=True, slots=True, kw_only=True)
class Invoice:
    """Holds one document; a credit note has a negative `total`, and `credits` names the invoice it is for."""

    number: str
    time: str
    buyer: str | None
    country: str
    total: Decimal
    units: int
    rows: tuple[Row, ...]
    credits: str | None = None

    @property
    def is_credit_note(self) -> bool:
        """Tell a credit note from an invoice."""
        return self.number.startswith("C")

    @property
    def instant(self) -> datetime:
        """Return when the document was made out."""
        return datetime.fromisoformat(self.time)

    @property
    def articles(self) -> frozenset[str]:
        """Return the stock codes on the document."""
        return frozenset(row["StockCode"] for row in self.rows)


def read_invoices(data_dir: Path) -> list[Invoice]:
    """Read all documents by number, credit notes matched to the invoices that they seem to credit."""
    rows_by_number: dict[str, list[Row]] = {}
    for row in read_rows(data_dir / FILE):
        rows_by_number.setdefault(row["InvoiceNo"], []).append(row)
    documents = [_document(number, rows) for number, rows in rows_by_number.items()]

    invoices_by_buyer: dict[tuple[str, str], list[Invoice]] = {}
    for document in documents:
        if document.buyer and not document.is_credit_note:
            invoices_by_buyer.setdefault((document.buyer, document.country), []).append(document)
    return [
        _matched(document, invoices_by_buyer.get((document.buyer or "", document.country), []))
        if document.is_credit_note
        else document
        for document in documents
    ]


def invoice_events(data_dir: Path) -> Iterator[EventFields]:
    """Give one event for each invoice (`invoice.issued`) and each credit note (`invoice.credited`)."""
    for document in read_invoices(data_dir):
        yield _credited(document) if document.is_credit_note else _issued(document)


def _document(number: str, rows: list[Row]) -> Invoice:
    buyers = {(row["CustomerID"], row["Country"]) for row in rows}
    if len(buyers) != 1:
        raise ValueError(f"invoice {number} has several buyers: {sorted(buyers)}")
    buyer, country = buyers.pop()
    # Three documents were keyed in across a minute; they count from their first line.
    first = min(row["InvoiceDate"] for row in rows)
    return Invoice(
        number=number,
        time=f"{first.replace(' ', 'T')}{_OFFSET}",
        # The mirror read customer numbers as floating point: 12583.0.
        buyer=buyer.removesuffix(".0") or None,
        country=country,
        total=sum((Decimal(row["UnitPrice"]) * int(row["Quantity"]) for row in rows), Decimal("0.00")),
        units=sum(int(row["Quantity"]) for row in rows),
        rows=tuple(rows),
    )


def _matched(credit_note: Invoice, invoices: list[Invoice]) -> Invoice:
    shared = [
        (len(credit_note.articles & invoice.articles), invoice.instant, invoice.number)
        for invoice in invoices
        if invoice.instant <= credit_note.instant and credit_note.articles & invoice.articles
    ]
    if not shared:
        return credit_note
    return replace(credit_note, credits=max(shared)[2])


def _common(document: Invoice) -> dict[str, JsonValue]:
    return {
        "dataset": DATASET,
        "number": document.number,
        "buyer": {**({"customer": document.buyer} if document.buyer else {}), "country": document.country},
        "lines": len(document.rows),
        "units": document.units,
        "total": {"amount": f"{document.total:.2f}", "currency": CURRENCY},
        "rows_sha256": rows_sha256(document.rows),
    }


def _issued(document: Invoice) -> EventFields:
    key = format_business_key("invoice", document.number)
    return EventFields(
        id=f"{document.number}-issued",
        source=SOURCE,
        type="trade.invoice.issued.v1",
        subject=key,
        time=document.time,
        refs=(key,),
        data={**_common(document), "synthetic": ["time.offset"]},
    )


def _credited(document: Invoice) -> EventFields:
    key = format_business_key("invoice", document.number)
    inferred: dict[str, JsonValue] = {}
    synthetic = ["time.offset"]
    refs: tuple[str, ...] = (key,)
    if document.credits is not None:
        inferred = {"credits": document.credits}
        synthetic = [*synthetic, "data.credits", "refs"]
        refs = (key, format_business_key("invoice", document.credits))
    return EventFields(
        id=f"{document.number}-credited",
        source=SOURCE,
        type="trade.invoice.credited.v1",
        subject=key,
        time=document.time,
        refs=refs,
        data={**_common(document), **inferred, "synthetic": synthetic},
    )
