"""The banks' claims on the invoices: reserved, financed, and then repaid or released.

No data set says who financed what, so every claim is made up and marked; invoices, amounts and credit notes
are the real ones of `invoices`. The course of a claim:

* Invoices of at least 500 GBP are financed, each by one of the two banks, at 80 % of the total.
* The bank reserves the claim within hours, and pays out one to three days after the invoice.
* A credit note on the invoice releases as much of the claim as it credits, at most what is still open. When
  that is all of it before the pay-out, nothing is financed; when it is a part, the rest is.
* What is then still open is repaid 60 days after the invoice.

So for every claim, reserved = released + repaid, and at no time is more released or repaid than was reserved.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import Final

from examples.alliance.event_fields import EventFields, JsonValue, synthetic_number
from examples.alliance.invoices import CURRENCY, Invoice, read_invoices
from examples.alliance.invoices import DATASET as INVOICES_DATASET
from examples.alliance.members import BANK_NORTH, BANK_SOUTH
from tlog.trade.keys import format_business_key

DATASET: Final = INVOICES_DATASET
SMALLEST_TOTAL: Final = Decimal(500)
ADVANCE_RATE: Final = Decimal("0.80")

_BANKS = (BANK_NORTH, BANK_SOUTH)
_PENNY = Decimal("0.01")
_TERM = timedelta(days=60)
_HOUR_S = 3_600
_DAY_S = 86_400


def claim_events(data_dir: Path) -> Iterator[EventFields]:
    """Give the events of every claim, claim by claim, each claim's in the order of time."""
    documents = read_invoices(data_dir)
    credit_notes: dict[str, list[Invoice]] = {}
    for document in documents:
        if document.credits is not None:
            credit_notes.setdefault(document.credits, []).append(document)
    for document in documents:
        if not document.is_credit_note and document.total >= SMALLEST_TOTAL:
            yield from _course(document, credit_notes.get(document.number, []))


def _course(invoice: Invoice, credit_notes: list[Invoice]) -> Iterator[EventFields]:
    number = invoice.number
    reserved_at = _later(invoice.instant, f"{number} reserved", _HOUR_S, 8 * _HOUR_S)
    financed_at = _later(invoice.instant, f"{number} financed", _DAY_S, 3 * _DAY_S)
    repaid_at = financed_at + _TERM

    open_amount = (invoice.total * ADVANCE_RATE).quantize(_PENNY, ROUND_HALF_EVEN)
    yield _event(invoice, "reserved", f"{number}-reserved", reserved_at, open_amount, "invoice issued")
    financed = False
    last_at = reserved_at
    for credit_note in sorted(credit_notes, key=lambda note: (note.instant, note.number)):
        # The bank hears of a credit note hours after it was made out, and of one after the other.
        heard_at = _later(credit_note.instant, f"{credit_note.number} released", _HOUR_S, 8 * _HOUR_S)
        released_at = max(heard_at, last_at + timedelta(minutes=1))
        if released_at >= repaid_at:
            break
        last_at = released_at
        if not financed and financed_at <= released_at and open_amount:
            yield _event(invoice, "financed", f"{number}-financed", financed_at, open_amount, "paid out")
            financed = True
        amount = min(-credit_note.total, open_amount)
        if not amount:
            continue
        open_amount -= amount
        yield _event(
            invoice,
            "released",
            f"{number}-released-{credit_note.number}",
            released_at,
            amount,
            f"credit note {credit_note.number}",
            more_refs=(format_business_key("invoice", credit_note.number),),
        )
    if not open_amount:
        return
    if not financed:
        yield _event(invoice, "financed", f"{number}-financed", financed_at, open_amount, "paid out")
    yield _event(invoice, "repaid", f"{number}-repaid", repaid_at, open_amount, "invoice paid")


def _later(instant: datetime, seed: str, start_s: int, end_s: int) -> datetime:
    return instant + timedelta(seconds=synthetic_number(seed, start_s, end_s))


def _event(
    invoice: Invoice,
    step: str,
    event_id: str,
    at: datetime,
    amount: Decimal,
    reason: str,
    *,
    more_refs: tuple[str, ...] = (),
) -> EventFields:
    bank = _BANKS[synthetic_number(f"{invoice.number} bank", 0, len(_BANKS))]
    key = format_business_key("invoice", invoice.number)
    total: JsonValue = {"amount": f"{invoice.total:.2f}", "currency": CURRENCY}
    return EventFields(
        id=event_id,
        source=f"{bank.source}/trade-finance",
        type=f"trade.claim.{step}.v1",
        subject=key,
        time=at.isoformat(),
        refs=(key, *more_refs),
        data={
            "dataset": DATASET,
            "invoice": {"number": invoice.number, "total": total},
            "claim": {"id": f"{bank.id}-{invoice.number}", "amount": f"{amount:.2f}", "currency": CURRENCY},
            "reason": reason,
            "synthetic": ["event", "time", "data.claim.id", "data.claim.amount", "data.reason"],
        },
    )
