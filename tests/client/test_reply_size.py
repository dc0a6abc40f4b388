"""A reply of 16 MiB has room for millions of empty fields: it is counted before anything is made of them."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from _support.alliance import Alliance
from _support.lying_log import LyingLog

from tlog.checkpoint import Checkpoint
from tlog.client import LogClient, VerifiedCheckpoint
from tlog.client.append_reply import verify_append_reply
from tlog.client.log_client import LOOKUP_PAGE_ENTRIES
from tlog.client.proven_entries import prove_entry, verify_found, verify_run
from tlog.client.wire import MAX_PROOF_HASHES, MAX_RUN_ENTRIES, decode_hashes
from tlog.errors import ProofError, RemoteError, TlogError
from tlog.merkle import leaf_hash
from tlog.v1 import log_pb2

MANY = 200_000
TREE = VerifiedCheckpoint(note=b"", checkpoint=Checkpoint("log.example/trade", 2 * MANY, bytes(32)))


@contextmanager
def little_memory(most_bytes: int = 100_000) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
    finally:
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak_bytes < most_bytes


def repeated(field_number: int) -> bytes:
    """Spell MANY empty values of one length-delimited field."""
    return bytes([field_number << 3 | 2, 0]) * MANY


def append_of_many_proofs() -> None:
    reply = log_pb2.AppendResponse.FromString(repeated(4))
    reply.results.add(leaf_index=5, already_present=True)
    with little_memory():
        verify_append_reply([b"entry"], reply, TREE, 0)


def append_of_many_results() -> None:
    reply = log_pb2.AppendResponse.FromString(repeated(1))
    with little_memory():
        verify_append_reply([b"entry"], reply, TREE, 0)


def append_of_a_long_range_proof() -> None:
    reply = log_pb2.AppendResponse(
        results=[log_pb2.AppendResult(leaf_index=5)],
        range_proof=log_pb2.RangeProof.FromString(b"\x08\x05\x10\x06" + repeated(3)),
    )
    with little_memory():
        verify_append_reply([b"entry"], reply, TREE, 0)


def run_of_empty_entries() -> None:
    message = log_pb2.GetEntriesResponse.FromString(repeated(1))
    message.range_proof.end = MANY
    with little_memory():
        verify_run(message, TREE, 0, 2 * MANY)


def run_with_a_long_range_proof() -> None:
    message = log_pb2.GetEntriesResponse(
        entries=[b"entry"], range_proof=log_pb2.RangeProof.FromString(b"\x10\x01" + repeated(4))
    )
    with little_memory():
        verify_run(message, TREE, 0, 10)


def lookup_of_many_entries() -> None:
    reply = log_pb2.LookupResponse.FromString(repeated(1))
    with little_memory():
        verify_found(reply, TREE, "invoice:1", 0, limit=LOOKUP_PAGE_ENTRIES)


def inclusion_proof_of_many_hashes() -> None:
    message = log_pb2.InclusionProof.FromString(repeated(2))
    with little_memory():
        prove_entry(b"entry", message, TREE)


def consistency_proof_of_many_hashes() -> None:
    message = log_pb2.GetConsistencyProofResponse.FromString(repeated(1))
    with little_memory():
        decode_hashes(message.hashes, "consistency proof")


@pytest.mark.parametrize(
    "verify",
    [
        append_of_many_proofs,
        append_of_many_results,
        append_of_a_long_range_proof,
        run_of_empty_entries,
        run_with_a_long_range_proof,
        lookup_of_many_entries,
        inclusion_proof_of_many_hashes,
        consistency_proof_of_many_hashes,
    ],
)
def test_a_reply_of_too_many_parts_is_refused_before_they_become_objects(verify: Callable[[], None]) -> None:
    with pytest.raises(TlogError) as caught:
        verify()
    assert isinstance(caught.value, ProofError | RemoteError)


def test_the_longest_proof_passes_and_one_hash_more_does_not() -> None:
    assert len(decode_hashes([bytes(32)] * MAX_PROOF_HASHES, "proof")) == MAX_PROOF_HASHES
    with pytest.raises(ProofError, match="127 hashes"):
        decode_hashes([bytes(32)] * (MAX_PROOF_HASHES + 1), "proof")


def in_one_message(log: LyingLog, count: int) -> Callable[[object, object], None]:
    def change(reply: log_pb2.GetEntriesResponse, request: object) -> None:
        del reply.entries[:]
        reply.entries.extend(log.tree.entries[:count])
        reply.range_proof.CopyFrom(log.range_proof(0, count, log.size))

    return change  # type: ignore[return-value]


def test_a_run_of_256_entries_passes_and_one_more_does_not(client: LogClient, log: LyingLog) -> None:
    log.add(*(b"entry %d" % number for number in range(300)))
    log.lies["GetEntries"] = in_one_message(log, MAX_RUN_ENTRIES)
    assert next(client.entries()) == (0, b"entry 0")
    log.lies["GetEntries"] = in_one_message(log, MAX_RUN_ENTRIES + 1)
    with pytest.raises(RemoteError, match="257 entries"):
        next(client.entries())


@pytest.mark.parametrize("entry", [b"", b"x" * 65_536])
def test_an_entry_of_a_size_that_no_entry_has_is_refused_though_it_is_proven(
    client: LogClient, log: LyingLog, entry: bytes
) -> None:
    log.add(b"x" * 65_535, entry)
    assert [leaf_hash(entry) for _, entry in client.entries(0, 1)] == [leaf_hash(b"x" * 65_535)]
    with pytest.raises(RemoteError, match=f"{len(entry)} bytes"):
        list(client.entries())


def test_a_lookup_of_more_entries_than_were_asked_for_is_refused(client: LogClient, log: LyingLog) -> None:
    alliance = Alliance(origin=log.origin, signer=log.signer)
    log.add(*alliance.governance, *(alliance.entry(number, refs=["invoice:1"]) for number in range(3)))

    def repeat(reply: log_pb2.LookupResponse, request: log_pb2.LookupRequest) -> None:
        reply.found.extend([reply.found[0]] * (request.limit + 1 - len(reply.found)))

    assert len(list(client.lookup("invoice:1"))) == 3
    log.lies["Lookup"] = repeat
    with pytest.raises(RemoteError, match="129 at once"):
        next(client.lookup("invoice:1"))
