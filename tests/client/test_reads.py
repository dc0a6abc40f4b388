from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from _support.alliance import Alliance
from _support.lying_log import RUN_ENTRIES, LyingLog
from _support.signers import cosigner

from tlog.checkpoint import Checkpoint
from tlog.client import LogClient, RetryPolicy
from tlog.errors import (
    ConsistencyUnprovenError,
    MalformedError,
    NotFoundError,
    OutOfRangeError,
    PolicyError,
    ProofError,
    RemoteError,
    RuleBrokenError,
    SignatureError,
    SplitViewError,
    VerificationError,
)
from tlog.merkle import leaf_hash, verify_consistency
from tlog.note import Signer
from tlog.policy import Policy, build_policy
from tlog.receipt import verify_receipt

Connect = Callable[..., LogClient]
Change = Callable[[Any, Any], object]


def entries(start: int, end: int) -> list[bytes]:
    return [b"entry %d" % number for number in range(start, end)]


@pytest.fixture
def filled(log: LyingLog) -> LyingLog:
    log.add(*entries(0, 30))
    return log


@pytest.fixture
def alliance(log: LyingLog) -> Alliance:
    return Alliance(origin=log.origin, signer=log.signer)


def ask_checkpoint(client: LogClient) -> object:
    return client.checkpoint()


def ask_watch(client: LogClient) -> object:
    watching = client.watch_checkpoints()
    try:
        return next(watching)
    finally:
        watching.close()  # type: ignore[attr-defined]


def ask_entries(client: LogClient) -> object:
    return list(client.entries(0, 20))


def ask_inclusion(client: LogClient) -> object:
    return client.inclusion_proof(b"entry 3", leaf_index=3)


def ask_receipts(client: LogClient) -> object:
    return client.receipts([b"entry 3"], leaf_indices=[3])


def ask_lookup(client: LogClient) -> object:
    return list(client.lookup("invoice:1"))


ASK = {
    "GetCheckpoint": ask_checkpoint,
    "WatchCheckpoints": ask_watch,
    "GetEntries": ask_entries,
    "GetInclusionProofs": ask_inclusion,
    "GetReceipts": ask_receipts,
    "Lookup": ask_lookup,
}
WITH_CHECKPOINT = [method for method in ASK if method != "GetReceipts"]


# What every answer with a checkpoint has in common


@pytest.mark.parametrize("method", ASK)
def test_every_answer_moves_trust_forward(
    client: LogClient, filled: LyingLog, state_file: Path, method: str
) -> None:
    ASK[method](client)
    assert state_file.read_bytes() == filled.note(30)
    filled.add(b"one more")
    ASK[method](client)
    assert state_file.read_bytes() == filled.note(31)


@pytest.mark.parametrize("method", ASK)
def test_every_answer_with_an_older_consistent_tree_is_stale_and_trust_stays(
    client: LogClient, filled: LyingLog, state_file: Path, method: str
) -> None:
    client.checkpoint()
    filled.published_size = 25
    ASK[method](client)
    assert state_file.read_bytes() == filled.note(30)


@pytest.mark.parametrize("method", ASK)
def test_no_answer_over_a_forked_tree_is_taken(
    connect: Connect, filled: LyingLog, state_file: Path, tmp_path: Path, method: str
) -> None:
    connect().checkpoint()
    trusted = filled.note(30)
    forged = [b"forged", *entries(1, 30)]
    for history, error in [
        (forged, SplitViewError),
        ([*forged, b"longer"], ConsistencyUnprovenError),
        (forged[:25], ConsistencyUnprovenError),
    ]:
        filled.fork_to(history)
        # Each time a client that knows of no evidence: one that does refuses every call.
        client = connect(evidence_directory=tmp_path / str(len(history)))
        with pytest.raises(error) as caught:
            ASK[method](client)
        assert caught.value.checkpoints[0] == trusted
        assert caught.value.checkpoints[-1] == filled.note(filled.size)
        assert client.trusted is not None
        assert state_file.read_bytes() == client.trusted.note == trusted


@pytest.mark.parametrize("method", ASK)
def test_no_answer_of_a_log_that_was_rolled_back_is_taken(
    client: LogClient, filled: LyingLog, state_file: Path, method: str
) -> None:
    client.checkpoint()
    trusted = filled.note(30)
    filled.fork_to(entries(0, 12))
    with pytest.raises(ConsistencyUnprovenError):
        ASK[method](client)
    assert state_file.read_bytes() == trusted


def test_an_index_that_a_rolled_back_log_denies_raises_the_alarm(client: LogClient, filled: LyingLog) -> None:
    client.checkpoint()
    filled.fork_to(entries(0, 12))
    with pytest.raises(ConsistencyUnprovenError):
        client.inclusion_proof(b"entry 20", leaf_index=20)
    with pytest.raises(ConsistencyUnprovenError):
        list(client.entries(20))


@pytest.mark.parametrize("method", ASK)
def test_no_answer_signed_by_another_key_or_for_another_origin_is_taken(
    client: LogClient, filled: LyingLog, state_file: Path, method: str
) -> None:
    honest = filled.signer
    filled.signer = Signer.generate(filled.origin)
    with pytest.raises(SignatureError):
        ASK[method](client)
    filled.signer, filled.origin = honest, "log.example/other"
    with pytest.raises(PolicyError):
        ASK[method](client)
    assert client.trusted is None
    assert not state_file.exists()


@pytest.mark.parametrize("method", ASK)
def test_every_answer_but_an_append_must_meet_the_quorum(
    connect: Connect, filled: LyingLog, method: str
) -> None:
    witnesses = [cosigner("one.example", 101), cosigner("two.example", 102)]
    client = connect(policy=build_policy([filled.signer.vkey], [witness.vkey for witness in witnesses], 2))
    filled.witnesses = witnesses[:1]
    with pytest.raises(PolicyError, match="1 of the 2"):
        ASK[method](client)
    assert client.trusted is None
    filled.witnesses = witnesses
    ASK[method](client)


@pytest.mark.parametrize("method", WITH_CHECKPOINT)
def test_no_answer_with_a_truncated_consistency_proof_is_taken(
    client: LogClient, filled: LyingLog, state_file: Path, method: str
) -> None:
    client.checkpoint()
    filled.add(b"one more")
    filled.lies[method] = lambda reply, request: reply.consistency_proof.pop()
    with pytest.raises(ConsistencyUnprovenError):
        ASK[method](client)
    assert state_file.read_bytes() == filled.note(30)


@pytest.mark.parametrize("method", ASK)
def test_a_short_outage_is_sat_out(client: LogClient, filled: LyingLog, method: str) -> None:
    filled.fail_next(method, grpc.StatusCode.UNAVAILABLE, times=2)
    ASK[method](client)
    assert len(filled.calls_of(method)) == 3


# Inclusion proofs, consistency proofs and receipts


def test_entries_are_proven_by_index_and_by_source_and_id(
    client: LogClient, log: LyingLog, alliance: Alliance, policy: Policy
) -> None:
    log.add(*alliance.governance, *alliance.entries(0, 5))
    first = len(alliance.governance)
    wanted = [alliance.entry(3), alliance.entry(99), alliance.entry(0)]
    proven = client.inclusion_proofs(wanted)
    assert [entry and entry.leaf_index for entry in proven] == [first + 3, None, first]
    assert proven[0] is not None
    verify_receipt(wanted[0], proven[0].receipt, policy)
    assert client.inclusion_proof(wanted[2], leaf_index=first).leaf_index == first
    receipts = client.receipts(wanted)
    assert receipts[1] is None
    assert receipts[0] is not None
    assert verify_receipt(wanted[0], receipts[0], policy).tree_size == first + 5
    with pytest.raises(NotFoundError):
        client.inclusion_proof(wanted[1])
    with pytest.raises(OutOfRangeError):
        client.inclusion_proof(wanted[1], leaf_index=99)
    with pytest.raises(MalformedError):
        client.inclusion_proofs(wanted, leaf_indices=[1])
    with pytest.raises(MalformedError):
        client.receipts([b"no event at all"])


def test_another_entry_under_the_same_source_and_id_is_not_passed_off(
    client: LogClient, log: LyingLog, alliance: Alliance
) -> None:
    log.add(*alliance.entries(0, 5))
    other = alliance.entry(3, note="other bytes")
    with pytest.raises(ProofError):
        client.inclusion_proof(other)
    with pytest.raises(ProofError):
        client.receipts([other])


def test_a_proof_at_another_index_than_was_asked_for_is_refused(client: LogClient, filled: LyingLog) -> None:
    """The entry is where the log says it is, and yet that is not what was asked."""
    filled.lies["GetInclusionProofs"] = lambda reply, request: reply.results[0].proof.CopyFrom(
        filled.inclusion(9, 30)
    )
    with pytest.raises(ProofError, match="entry 3 was asked for"):
        client.inclusion_proof(b"entry 9", leaf_index=3)
    filled.lies["GetReceipts"] = lambda reply, request: setattr(
        reply.results[0], "receipt", filled.receipt(9, 30)
    )
    with pytest.raises(ProofError, match="entry 3 was asked for"):
        client.receipts([b"entry 9"], leaf_indices=[3])


def test_more_keys_than_one_call_takes_are_asked_in_several(client: LogClient, log: LyingLog) -> None:
    many = entries(0, 1200)
    log.add(*many)
    proven = client.inclusion_proofs(many, leaf_indices=range(1200))
    assert [entry and entry.leaf_index for entry in proven] == list(range(1200))
    assert all(client.receipts(many, leaf_indices=range(1200)))
    assert len(log.calls_of("GetInclusionProofs")) == len(log.calls_of("GetReceipts")) == 2
    assert client.inclusion_proofs([]) == []
    assert client.receipts([]) == []


INCLUSION_LIES: dict[str, Change] = {
    "a hash is altered": lambda reply, request: reply.results[0].proof.hashes.__setitem__(1, bytes(32)),
    "a hash is dropped": lambda reply, request: reply.results[0].proof.hashes.pop(),
    "a hash is short": lambda reply, request: reply.results[0].proof.hashes.__setitem__(1, b"short"),
    "another leaf": lambda reply, request: setattr(reply.results[0].proof, "leaf_index", 4),
    "the results are swapped": lambda reply, request: reply.results.extend(
        [reply.results.pop(1), reply.results.pop(0)]
    ),
    "a result is dropped": lambda reply, request: reply.results.pop(),
    "a result is added": lambda reply, request: reply.results.add(),
}


@pytest.mark.parametrize("name", INCLUSION_LIES)
def test_an_inclusion_proof_that_proves_nothing_is_refused(
    client: LogClient, filled: LyingLog, state_file: Path, name: str
) -> None:
    client.checkpoint()
    filled.add(b"one more")
    filled.lies["GetInclusionProofs"] = INCLUSION_LIES[name]
    with pytest.raises(ProofError):
        client.inclusion_proofs([b"entry 3", b"entry 9"], leaf_indices=[3, 9])
    assert state_file.read_bytes() == filled.note(30)


def _receipt_of(other: int) -> Callable[[LyingLog], Change]:
    return lambda log: (
        lambda reply, request: setattr(reply.results[0], "receipt", log.receipt(other, log.size))
    )


RECEIPT_LIES: dict[str, tuple[Callable[[LyingLog], Change], type[Exception]]] = {
    "of another entry": (_receipt_of(4), ProofError),
    "no receipt": (
        lambda log: lambda reply, request: setattr(reply.results[0], "receipt", b"nonsense"),
        RemoteError,
    ),
    "cut short": (
        lambda log: (
            lambda reply, request: setattr(reply.results[0], "receipt", reply.results[0].receipt[:-10])
        ),
        RemoteError,
    ),
    "a result dropped": (lambda log: lambda reply, request: reply.results.pop(), ProofError),
    "a result added": (lambda log: lambda reply, request: reply.results.add(), ProofError),
}


@pytest.mark.parametrize("name", RECEIPT_LIES)
@pytest.mark.parametrize("by_index", [True, False])
def test_a_receipt_that_proves_nothing_is_refused(
    client: LogClient, log: LyingLog, alliance: Alliance, state_file: Path, name: str, by_index: bool
) -> None:
    log.add(*alliance.entries(0, 8))
    client.checkpoint()
    log.add(b"one more")
    change, error = RECEIPT_LIES[name]
    log.lies["GetReceipts"] = change(log)
    with pytest.raises(error):
        client.receipts([alliance.entry(2)], leaf_indices=[2] if by_index else None)
    assert state_file.read_bytes() == log.note(8)


def test_consistency_is_proven_between_checkpoints(client: LogClient, filled: LyingLog) -> None:
    def checkpoint(size: int) -> Checkpoint:
        return Checkpoint(filled.origin, size, filled.tree.mth(0, size))

    for size1, size2 in [(0, 9), (9, 9), (4, 30), (7, 30), (29, 30)]:
        proof = client.consistency_proof(checkpoint(size1), checkpoint(size2))
        verify_consistency(size1, size2, proof, checkpoint(size1).root_hash, checkpoint(size2).root_hash)
    with pytest.raises(OutOfRangeError):
        client.consistency_proof(checkpoint(9), checkpoint(4))
    with pytest.raises(OutOfRangeError):
        client.consistency_proof(checkpoint(9), Checkpoint(filled.origin, 31, bytes(32)))
    with pytest.raises(ProofError):
        client.consistency_proof(checkpoint(9), Checkpoint(filled.origin, 20, bytes(32)))
    filled.lies["GetConsistencyProof"] = lambda reply, request: reply.hashes.pop()
    with pytest.raises(ProofError):
        client.consistency_proof(checkpoint(9), checkpoint(20))


# Entries


@pytest.mark.parametrize(
    ("start", "end"),
    [(0, None), (0, 30), (5, 6), (29, None), (30, None), (0, 0), (7, 7), (3, 3 + RUN_ENTRIES)],
)
def test_entries_come_in_order_each_with_its_index(
    client: LogClient, filled: LyingLog, start: int, end: int | None
) -> None:
    stop = 30 if end is None else end
    assert list(client.entries(start, end)) == list(
        zip(range(start, stop), entries(start, stop), strict=True)
    )


@pytest.mark.parametrize("index", [-1, 2**63, 2**64, True, 1.0, "1"])
def test_what_is_no_leaf_index_is_refused_before_it_is_asked_for(
    client: LogClient, filled: LyingLog, index: Any
) -> None:
    for ask in (
        lambda: client.inclusion_proofs([b"entry 1"], leaf_indices=[index]),
        lambda: client.receipts([b"entry 1"], leaf_indices=[index]),
        lambda: client.lookup("invoice:1", start=index),
        lambda: client.entries(index),
        lambda: client.entries(0, index) if index is not True else client.entries(True, 5),
    ):
        with pytest.raises(OutOfRangeError, match="not an int from 0 to"):
            ask()
    assert not filled.calls


@pytest.mark.parametrize(("start", "end"), [(-1, None), (5, 4), (0, 2**63), (2**63, None)])
def test_a_range_that_is_none_is_refused_before_it_is_asked_for(
    client: LogClient, filled: LyingLog, start: int, end: int | None
) -> None:
    with pytest.raises(OutOfRangeError):
        client.entries(start, end)
    assert not filled.calls


@pytest.mark.parametrize(("start", "end"), [(0, 31), (31, None), (31, 40)])
def test_a_range_beyond_the_tree_is_out_of_range(
    client: LogClient, filled: LyingLog, start: int, end: int | None
) -> None:
    with pytest.raises(OutOfRangeError):
        list(client.entries(start, end))


def test_a_stream_that_breaks_is_taken_up_where_it_broke(client: LogClient, filled: LyingLog) -> None:
    filled.fail_next("GetEntries mid-stream", grpc.StatusCode.UNAVAILABLE, times=2)
    reading = client.entries()
    read = []
    for leaf_index, entry in reading:
        read.append((leaf_index, entry))
        if leaf_index == 4:
            filled.add(b"while the stream is broken")
    assert read == list(enumerate(entries(0, 30)))
    # The log may send a run twice or lose one with the connection; the client asks for what it lacks.
    starts = [request.start for request in filled.calls_of("GetEntries")]
    assert len(starts) == 3
    assert starts == sorted(starts)
    assert [request.end for request in filled.calls_of("GetEntries")][1:] == [30, 30]


def test_a_log_that_stops_and_starts_again_does_not_break_a_stream(
    client: LogClient, filled: LyingLog
) -> None:
    reading = client.entries()
    first = list(itertools.islice(reading, 3))
    filled.stop()
    filled.start()
    assert first + list(reading) == list(enumerate(entries(0, 30)))


def test_a_stream_that_ends_early_is_not_taken_for_the_whole(client: LogClient, filled: LyingLog) -> None:
    filled.end_stream_after = 2
    reading = client.entries()
    assert len(list(itertools.islice(reading, 2 * RUN_ENTRIES))) == 2 * RUN_ENTRIES
    with pytest.raises(RemoteError, match=f"before entry {2 * RUN_ENTRIES}"):
        next(reading)


def test_a_reader_slower_than_the_deadline_still_gets_everything(connect: Connect, filled: LyingLog) -> None:
    client = connect(timeout_s=0.1)
    filled.add(*entries(30, 400))
    read = []
    for leaf_index, entry in client.entries():
        read.append(entry)
        if leaf_index in (2, 200):
            threading.Event().wait(0.15)
    assert read == entries(0, 400)


ENTRY_LIES: dict[str, Change] = {
    "an entry is altered": lambda reply, request: reply.entries.__setitem__(2, b"forged"),
    "an entry is dropped": lambda reply, request: reply.entries.pop(),
    "an entry is dropped, and the range made to fit": lambda reply, request: (
        reply.entries.pop(),
        setattr(reply.range_proof, "end", reply.range_proof.end - 1),
    ),
    "two entries are swapped": lambda reply, request: reply.entries.extend(
        [reply.entries.pop(1), reply.entries.pop(0)]
    ),
    "the range is another": lambda reply, request: (
        setattr(reply.range_proof, "start", 1),
        setattr(reply.range_proof, "end", 9),
    ),
    "the range is empty": lambda reply, request: setattr(reply.range_proof, "end", 0),
    "no range proof": lambda reply, request: reply.ClearField("range_proof"),
    "nothing at all": lambda reply, request: (reply.ClearField("entries"), reply.ClearField("range_proof")),
    "a right hash is altered": lambda reply, request: reply.range_proof.right.__setitem__(0, bytes(32)),
    "a right hash is dropped": lambda reply, request: reply.range_proof.right.pop(),
}


@pytest.mark.parametrize("name", ENTRY_LIES)
def test_entries_that_are_not_proven_are_not_yielded(client: LogClient, filled: LyingLog, name: str) -> None:
    filled.lies["GetEntries"] = ENTRY_LIES[name]
    with pytest.raises(ProofError):
        next(client.entries())


def test_more_entries_than_were_asked_for_are_refused(client: LogClient, filled: LyingLog) -> None:
    def more(reply: Any, request: Any) -> None:
        del reply.entries[:]
        reply.entries.extend(entries(0, 10))
        reply.range_proof.CopyFrom(filled.range_proof(0, 10, 30))

    filled.lies["GetEntries"] = more
    with pytest.raises(ProofError):
        list(client.entries(0, 5))


def test_a_run_from_elsewhere_is_refused_though_it_is_proven(client: LogClient, filled: LyingLog) -> None:
    def send(start: int, end: int, *, said_end: int) -> Change:
        def change(reply: Any, request: Any) -> None:
            reply.ClearField("entries")
            reply.entries.extend(entries(start, end))
            reply.range_proof.CopyFrom(filled.range_proof(start, end, 30))
            reply.range_proof.end = said_end

        return change

    # Entries left out at the beginning; more entries than the range that they are said to be.
    for change, end in ((send(8, 16, said_end=16), 20), (send(0, 10, said_end=5), 5)):
        filled.lies["GetEntries"] = change
        with pytest.raises(ProofError, match=rf"entries \[0, {end}\) are to come"):
            next(client.entries(0, end))


def test_a_log_that_answers_from_a_smaller_tree_than_was_asked_about_is_out_of_range(
    client: LogClient, filled: LyingLog
) -> None:
    def from_20(reply: Any, request: Any) -> None:
        reply.checkpoint = filled.note(20)
        reply.ClearField("consistency_proof")
        reply.consistency_proof.extend(filled.consistency(request.trusted_tree_size, 20))
        reply.ClearField("entries")
        reply.ClearField("range_proof")

    filled.lies["GetEntries"] = from_20
    for start, end in ((5, 30), (25, None)):
        with pytest.raises(OutOfRangeError, match="20 are published"):
            next(client.entries(start, end))


def test_a_later_run_is_held_to_the_first_checkpoint(client: LogClient, filled: LyingLog) -> None:
    def forge(reply: Any, request: Any) -> None:
        if not reply.checkpoint:
            reply.entries[0] = b"forged"

    filled.lies["GetEntries"] = forge
    reading = client.entries()
    assert len(list(itertools.islice(reading, RUN_ENTRIES))) == RUN_ENTRIES
    with pytest.raises(ProofError):
        next(reading)


def test_entry_0_is_held_to_the_pinned_genesis(connect: Connect, log: LyingLog, alliance: Alliance) -> None:
    log.add(*alliance.governance)
    right = connect(genesis_leaf_hash=leaf_hash(alliance.governance[0]))
    assert next(right.entries()) == (0, alliance.governance[0])
    wrong = connect(genesis_leaf_hash=leaf_hash(alliance.governance[1]), checkpoint_file=None)
    for start in (0, 1):
        with pytest.raises(VerificationError, match="pinned"):
            next(wrong.entries(start))
    assert wrong.trusted is None


@pytest.mark.parametrize("method", [*ASK, "Append"])
@pytest.mark.parametrize("trusted_before", [False, True])
def test_no_answer_of_a_log_with_another_genesis_is_taken(
    connect: Connect, filled: LyingLog, state_file: Path, method: str, trusted_before: bool
) -> None:
    if trusted_before:  # by a client that pins nothing
        connect().checkpoint()
    before = filled.note(30) if trusted_before else None
    wrong = connect(genesis_leaf_hash=leaf_hash(b"entry 1"))
    with pytest.raises(VerificationError, match="pinned"):
        (ASK | {"Append": lambda client: client.append([b"more"])})[method](wrong)
    assert (state_file.read_bytes() if state_file.exists() else None) == before


@pytest.mark.parametrize("method", [*ASK, "Append"])
def test_the_pinned_genesis_is_asked_for_once_in_a_client(
    connect: Connect, filled: LyingLog, alliance: Alliance, method: str
) -> None:
    if method == "GetEntries":  # whoever pins a genesis has the rules checked of what is read
        filled.fork_to([*alliance.governance, *alliance.entries(4, 30)])
    filled.published_size = 20  # an append is proven in a tree that is not published yet
    client = connect(genesis_leaf_hash=leaf_hash(filled.tree.entries[0]))
    for entry in (b"more", b"still more"):
        (ASK | {"Append": lambda client, entry=entry: client.append([entry])})[method](client)
    (asked,) = (request for request in filled.calls_of("GetInclusionProofs") if request.tree_size)
    assert [key.leaf_index for key in asked.keys] == [0]
    assert asked.tree_size == (31 if method == "Append" else 20)
    assert client.trusted is not None


PIN_LIES: dict[str, Change] = {
    "the proof of another entry": lambda reply, request: setattr(reply.results[0].proof, "leaf_index", 1),
    "an altered proof": lambda reply, request: reply.results[0].proof.hashes.__setitem__(0, bytes(32)),
    "no proof": lambda reply, request: reply.results[0].ClearField("proof"),
    "no result": lambda reply, request: reply.ClearField("results"),
    "two results": lambda reply, request: reply.results.add(),
}


@pytest.mark.parametrize("name", PIN_LIES)
def test_a_genesis_that_is_not_proven_is_not_believed(
    connect: Connect, filled: LyingLog, state_file: Path, name: str
) -> None:
    filled.lies["GetInclusionProofs"] = PIN_LIES[name]
    client = connect(genesis_leaf_hash=leaf_hash(b"entry 0"))
    with pytest.raises(VerificationError):
        client.checkpoint()
    assert client.trusted is None
    assert not state_file.exists()
    filled.lies.clear()
    client.checkpoint()  # the failure is not taken for a confirmation, and not held against the log
    assert state_file.read_bytes() == filled.note(30)


def test_a_log_that_cannot_be_asked_for_the_genesis_is_not_believed(
    connect: Connect, filled: LyingLog, state_file: Path
) -> None:
    filled.fail_next("GetInclusionProofs", grpc.StatusCode.INTERNAL)
    with pytest.raises(RemoteError):
        connect(genesis_leaf_hash=leaf_hash(b"entry 0")).checkpoint()
    assert not state_file.exists()


def test_an_empty_log_has_no_genesis_to_confirm_and_later_it_has(connect: Connect, log: LyingLog) -> None:
    client = connect(genesis_leaf_hash=leaf_hash(b"entry 0"))
    assert client.checkpoint().tree_size == 0
    log.add(b"entry 1")
    with pytest.raises(VerificationError, match="pinned"):
        client.checkpoint()
    assert client.trusted is not None
    assert client.trusted.tree_size == 0


# Lookup and registry


def _with_invoices(log: LyingLog, alliance: Alliance) -> list[bytes]:
    """Fill the log so that every third event is about invoice:1."""
    made = [
        alliance.entry(number, refs=["invoice:1"] if number % 3 == 0 else ["invoice:2"])
        for number in range(400)
    ]
    log.add(*alliance.governance, *made)
    return made[::3]


def test_a_lookup_yields_every_entry_that_carries_the_key(
    client: LogClient, log: LyingLog, alliance: Alliance, policy: Policy
) -> None:
    expected = _with_invoices(log, alliance)
    found = list(client.lookup("invoice:1"))
    assert [entry.entry for entry in found] == expected
    assert [log.tree.entries[entry.leaf_index] for entry in found] == expected
    verify_receipt(found[5].entry, found[5].receipt, policy)
    assert len(log.calls_of("Lookup")) == 2
    assert list(client.lookup("invoice:1", start=found[7].leaf_index)) == found[7:]
    assert list(client.lookup("invoice:none")) == []
    with pytest.raises(OutOfRangeError):
        client.lookup("invoice:1", start=-1)


LOOKUP_LIES: dict[str, tuple[Change, type[Exception]]] = {
    "an entry is altered": (lambda reply, request: setattr(reply.found[0], "entry", b"forged"), ProofError),
    "two proofs are swapped": (
        lambda reply, request: reply.found[0].inclusion_proof.CopyFrom(reply.found[1].inclusion_proof),
        ProofError,
    ),
    "the order is another": (
        lambda reply, request: reply.found.extend([reply.found.pop(1), reply.found.pop(0)]),
        ProofError,
    ),
    "one comes twice": (
        lambda reply, request: (reply.found.pop(), reply.found.insert(0, reply.found[0])),
        ProofError,
    ),
    "it would not come to an end": (lambda reply, request: setattr(reply, "next_start", 3), RemoteError),
    "it goes on beyond every tree": (
        lambda reply, request: setattr(reply, "next_start", 2**63),
        RemoteError,
    ),
    "nothing found, and more to come": (lambda reply, request: reply.ClearField("found"), RemoteError),
}


@pytest.mark.parametrize("name", LOOKUP_LIES)
def test_a_lookup_that_is_not_proven_is_refused(
    client: LogClient, log: LyingLog, alliance: Alliance, state_file: Path, name: str
) -> None:
    client.checkpoint()
    _with_invoices(log, alliance)
    change, error = LOOKUP_LIES[name]
    log.lies["Lookup"] = change
    with pytest.raises(error):
        next(client.lookup("invoice:1"))
    assert state_file.read_bytes() == log.note(0)


def test_an_entry_that_does_not_carry_the_key_is_refused(
    client: LogClient, log: LyingLog, alliance: Alliance
) -> None:
    _with_invoices(log, alliance)
    log.add(b"no event at all")
    for stray, error in (
        (len(alliance.governance) + 1, ProofError),
        (0, ProofError),
        (log.size - 1, RuleBrokenError),  # and then the log is refused
    ):

        def add_stray(reply: Any, request: Any, stray: int = stray) -> None:
            del reply.found[:]
            reply.found.add(entry=log.tree.entries[stray], inclusion_proof=log.inclusion(stray, log.size))

        log.lies["Lookup"] = add_stray
        with pytest.raises(error):
            next(client.lookup("invoice:1"))


def test_the_registry_is_folded_from_proven_governance_entries(
    connect: Connect, log: LyingLog, alliance: Alliance
) -> None:
    log.add(*alliance.governance, *alliance.entries(0, 3))
    registry = connect(genesis_leaf_hash=leaf_hash(alliance.governance[0])).registry()
    assert registry.origin == log.origin
    assert sorted(registry.members) == ["exporter", "forwarder"]
    assert registry.seq == len(alliance.governance) - 1
    assert connect().registry() == registry
    with pytest.raises(VerificationError, match="pinned"):
        connect(genesis_leaf_hash=bytes(32)).registry()


def test_a_governance_entry_that_is_held_back_leaves_a_gap(
    client: LogClient, log: LyingLog, alliance: Alliance
) -> None:
    log.add(*alliance.governance)
    log.lies["Lookup"] = lambda reply, request: reply.found.pop(1)
    with pytest.raises(VerificationError, match="held back"):
        client.registry()
    log.lies["Lookup"] = lambda reply, request: reply.found.pop(0)
    with pytest.raises(VerificationError, match="genesis is entry 0"):
        client.registry()
    log.lies["Lookup"] = lambda reply, request: reply.ClearField("found")
    with pytest.raises(NotFoundError, match="genesis"):
        client.registry()


# Watching


def test_watching_yields_every_growth_and_ends_with_the_client(
    client: LogClient, filled: LyingLog, state_file: Path
) -> None:
    watching = client.watch_checkpoints()
    assert next(watching).tree_size == 30
    filled.add(b"more")
    assert next(watching).tree_size == 31
    client.append([b"even more"])  # trust moves beside the stream
    assert next(watching).tree_size == 32
    assert state_file.read_bytes() == filled.note(32)
    threading.Timer(0.05, client.close).start()
    assert list(watching) == []


def test_watching_goes_on_after_an_outage(client: LogClient, filled: LyingLog) -> None:
    watching = client.watch_checkpoints()
    assert next(watching).tree_size == 30
    filled.stop()
    filled.start()
    filled.add(b"more")
    assert next(watching).tree_size == 31


def test_watching_goes_on_over_many_short_streams(connect: Connect, filled: LyingLog) -> None:
    client = connect(watch_s=0.05, retry=RetryPolicy(deadline_s=2.0, first_delay_s=0.001))
    watching = client.watch_checkpoints()
    assert next(watching).tree_size == 30
    threading.Timer(0.2, filled.add, [b"more"]).start()
    assert next(watching).tree_size == 31
    filled.end_stream_after = 1
    threading.Timer(0.2, filled.add, [b"more still"]).start()
    assert next(watching).tree_size == 32


def test_watching_a_log_where_nothing_happens_is_no_failure(connect: Connect, filled: LyingLog) -> None:
    """However long nothing happens: longer than a call with all its attempts may take."""
    client = connect(retry=RetryPolicy(deadline_s=0.5, first_delay_s=0.4, draw=lambda: 0.99))
    watching = client.watch_checkpoints()
    assert next(watching).tree_size == 30
    threading.Timer(1.2, filled.add, [b"more"]).start()
    assert next(watching).tree_size == 31
    assert len(filled.calls_of("WatchCheckpoints")) > 2


@pytest.mark.parametrize("smaller", [False, True])
def test_a_watch_that_does_not_grow_inside_one_stream_is_refused(
    client: LogClient, filled: LyingLog, smaller: bool
) -> None:
    watching = client.watch_checkpoints()
    assert next(watching).tree_size == 30

    def repeat(reply: Any, request: Any) -> None:
        size = 20 if smaller else 30
        reply.checkpoint = filled.note(size)
        del reply.consistency_proof[:]
        reply.consistency_proof.extend(filled.consistency(30, size))

    filled.lies["WatchCheckpoints"] = repeat
    filled.add(b"more")
    with pytest.raises(RemoteError, match="after size 30"):
        next(watching)
    assert len(filled.calls_of("WatchCheckpoints")) == 1


@pytest.mark.parametrize("code", [None, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE])
def test_streams_that_end_at_once_and_bring_nothing_are_failures(
    connect: Connect, filled: LyingLog, code: grpc.StatusCode | None
) -> None:
    retry = RetryPolicy(deadline_s=1.0, first_delay_s=0.1, max_delay_s=0.3, draw=lambda: 0.99)
    watching = connect(retry=retry).watch_checkpoints()
    if code is None:
        filled.end_stream_after = 1
    else:
        filled.fail_next("WatchCheckpoints mid-stream", code, times=1_000)
    assert next(watching).tree_size == 30
    with pytest.raises(RemoteError) as caught:
        next(watching)
    assert "times within 1.0 s" in caught.value.__notes__[0]
    assert 3 <= len(filled.calls_of("WatchCheckpoints")) <= 5  # each waits longer than the one before


def test_a_watch_that_turns_to_a_fork_is_refused(
    client: LogClient, filled: LyingLog, state_file: Path
) -> None:
    watching = client.watch_checkpoints()
    assert next(watching).tree_size == 30
    trusted = filled.note(30)
    filled.fork_to([b"forged", *entries(1, 33)])
    with pytest.raises(ConsistencyUnprovenError):
        next(watching)
    assert state_file.read_bytes() == trusted


def test_a_watch_from_a_stale_checkpoint_is_bridged_to_the_trusted_one(
    client: LogClient, filled: LyingLog
) -> None:
    client.checkpoint()
    filled.published_size = 20
    watching = client.watch_checkpoints()
    assert next(watching).tree_size == 20
    filled.add(*entries(30, 40))
    filled.published_size = 35
    assert next(watching).tree_size == 35
    (asked,) = filled.calls_of("GetConsistencyProof")
    assert (asked.first_tree_size, asked.second_tree_size) == (30, 35)
    assert client.trusted is not None
    assert client.trusted.tree_size == 35
