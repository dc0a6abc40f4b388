from __future__ import annotations

import pytest

from bench.workload import (
    ENTRY_BYTES,
    FILLER,
    MEMBERS,
    ORIGIN,
    fillers,
    governance,
    index_rows,
    log_signer,
    signed_events,
)
from tlog.envelope import decode_entry
from tlog.errors import RefusalReason, RefusedError
from tlog.event import parse_event
from tlog.log import Log
from tlog.merkle import leaf_hash
from tlog.storage.memory import MemoryStore
from tlog.validate import verify_entries, verify_entry


@pytest.mark.parametrize("entry_bytes", [ENTRY_BYTES, 1_000, 4_000, 15_000])
@pytest.mark.parametrize("member", [0, 7, MEMBERS - 1])
def test_an_event_is_valid_and_exactly_as_long_as_asked_for(member: int, entry_bytes: int) -> None:
    entries = signed_events(member, 5, 9, entry_bytes=entry_bytes)
    assert {len(entry) for entry in entries} == {entry_bytes}
    for entry in entries:
        assert len(verify_entry(entry, ORIGIN).business_keys) == 1


def test_an_event_too_short_is_refused() -> None:
    with pytest.raises(ValueError, match="at least"):
        signed_events(0, 0, 1, entry_bytes=300)


def test_ids_and_business_keys_come_without_any_order_and_only_once() -> None:
    events = [verify_entry(entry, ORIGIN) for member in (0, 1) for entry in signed_events(member, 0, 300)]
    for values in ([event.identity for event in events], [event.business_keys[0] for event in events]):
        assert len(set(values)) == 600
        assert values != sorted(values)
    ids = [event.event.id for event in events]
    assert ids[:300] != sorted(ids[:300])


def test_a_log_takes_the_governance_every_member_and_the_fillers() -> None:
    log = Log(MemoryStore(ORIGIN, log_signer().vkey), log_signer())
    log.append(governance())
    log.append([entry for member in range(MEMBERS) for entry in signed_events(member, 0, 2)])
    (outcome,) = log.commit([list(fillers(0, 300))]).outcomes
    assert outcome.new_range == (len(governance()) + 2 * MEMBERS, len(governance()) + 2 * MEMBERS + 300)


def test_a_filler_is_in_the_form_of_an_event_and_carries_what_it_says() -> None:
    verified = verify_entries(signed_events(3, 0, 1), ORIGIN)[0]
    for filler in fillers(40, 60):
        event = parse_event(decode_entry(filler.entry).payload)
        assert len(filler.entry) == len(verified.entry) == ENTRY_BYTES
        assert event.source == f"https://member-{FILLER}.example/erp"
        real = verified_again(filler.entry)
        assert (filler.identity, filler.business_keys, filler.leaf_hash) == real


def verified_again(entry: bytes) -> tuple[bytes, tuple[bytes, ...], bytes]:
    """Compute by the ordinary way what a filler claims of itself."""
    from tlog.event import identity
    from tlog.validate import business_key_index

    event = parse_event(decode_entry(entry).payload)
    return (
        identity(event.source, event.id),
        tuple(business_key_index(ref) for ref in event.refs),
        leaf_hash(entry),
    )


def test_a_fillers_signature_fools_nobody() -> None:
    (filler,) = fillers(7, 8)
    with pytest.raises(RefusedError) as refused:
        verify_entry(filler.entry, ORIGIN)
    assert refused.value.reason is RefusalReason.BAD_SIGNATURE


def test_the_floor_gets_the_rows_that_the_store_gets() -> None:
    made = list(fillers(0, 3))
    assert [(row.entry, row.identity, row.business_key) for row in index_rows(made)] == [
        (one.entry, one.identity, one.business_keys[0]) for one in made
    ]
