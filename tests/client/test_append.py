from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from _support.lying_log import ORIGIN, LyingLog
from _support.signers import cosigner, signer

from tlog.client import LogClient, RetryPolicy
from tlog.client.append_reply import verify_append_reply
from tlog.client.trusted_log import TrustedLog
from tlog.errors import (
    ConfigError,
    ConsistencyUnprovenError,
    CorruptionError,
    MalformedError,
    PolicyError,
    ProofError,
    RemoteError,
    SignatureError,
    SplitViewError,
    VerificationError,
)
from tlog.merkle import leaf_hash
from tlog.note import Signer
from tlog.policy import Policy, build_policy
from tlog.receipt import verify_receipt
from tlog.v1 import log_pb2

Connect = Callable[..., LogClient]


def entries(start: int, end: int) -> list[bytes]:
    return [b"entry %d" % number for number in range(start, end)]


def test_appended_entries_come_back_with_receipts_that_verify_offline(
    client: LogClient, policy: Policy
) -> None:
    for start, end in [(0, 1), (1, 8), (8, 9), (9, 30)]:
        appended = client.append(entries(start, end))
        assert [result.leaf_index for result in appended] == list(range(start, end))
        assert not any(result.already_present for result in appended)
        for entry, result in zip(entries(start, end), appended, strict=True):
            assert verify_receipt(entry, result.receipt, policy).tree_size == end
            with pytest.raises(ProofError):
                verify_receipt(entry + b"!", result.receipt, policy)
    assert client.trusted is not None
    assert client.trusted.tree_size == 30


def test_entries_that_were_there_keep_their_place_and_get_a_receipt(
    client: LogClient, log: LyingLog, policy: Policy
) -> None:
    log.add(*entries(0, 10))
    mixed = [b"entry 7", b"new a", b"entry 2", b"new b", b"new a", b"entry 7"]
    appended = client.append(mixed)
    assert [(result.leaf_index, result.already_present) for result in appended] == [
        (7, True),
        (10, False),
        (2, True),
        (11, False),
        (10, True),
        (7, True),
    ]
    for entry, result in zip(mixed, appended, strict=True):
        verify_receipt(entry, result.receipt, policy)
    again = client.append(mixed)
    assert all(result.already_present for result in again)
    assert [result.leaf_index for result in again] == [result.leaf_index for result in appended]


def test_trust_outlives_the_client_and_each_request_builds_on_it(
    connect: Connect, log: LyingLog, state_file: Path
) -> None:
    connect().append(entries(0, 5))
    assert state_file.read_bytes() == log.note(5)
    second = connect()
    assert second.trusted is not None
    assert second.trusted.note == log.note(5)
    second.append(entries(5, 9))
    assert [request.trusted_tree_size for request in log.calls_of("Append")] == [0, 5]
    assert state_file.read_bytes() == log.note(9)


def test_without_a_file_nothing_is_kept(connect: Connect, state_file: Path) -> None:
    client = connect(checkpoint_file=None)
    client.append(entries(0, 5))
    assert client.trusted is not None
    assert not state_file.exists()


def test_an_append_needs_no_witness_and_a_published_checkpoint_does(connect: Connect, log: LyingLog) -> None:
    witness = cosigner("witness.example")
    client = connect(policy=build_policy([log.signer.vkey], [witness.vkey], 1))
    (appended,) = client.append(entries(0, 1))
    with pytest.raises(PolicyError, match="witness"):
        client.checkpoint()
    with pytest.raises(PolicyError):
        verify_receipt(b"entry 0", appended.receipt, build_policy([log.signer.vkey], [witness.vkey], 1))
    log.witnesses = [witness]
    assert client.checkpoint().tree_size == 1


@pytest.mark.parametrize("batch", [[], [b"x"] * 1001, [b"x" * 65_535] * 65])
def test_a_batch_that_no_log_takes_is_not_sent(client: LogClient, log: LyingLog, batch: list[bytes]) -> None:
    with pytest.raises(MalformedError, match="1 to 1000"):
        client.append(batch)
    assert not log.calls


def test_the_largest_batches_pass(client: LogClient, policy: Policy) -> None:
    large = [bytes([number]) * 65_535 for number in range(64)]
    assert client.append(large)[63].leaf_index == 63
    small = entries(0, 1000)
    appended = client.append(small)
    assert appended[999].leaf_index == 1063
    verify_receipt(small[500], appended[500].receipt, policy)


def lie(change: Callable[[log_pb2.AppendResponse], object]) -> Callable[[Any, Any], object]:
    return lambda reply, request: change(reply)


def _swap_results(reply: log_pb2.AppendResponse) -> None:
    first, second = reply.results[0].leaf_index, reply.results[1].leaf_index
    reply.results[0].leaf_index, reply.results[1].leaf_index = second, first


def _set(**values: Any) -> Callable[[Any, Any], None]:
    def change(reply: Any, request: Any) -> None:
        for name, value in values.items():
            *path, last = name.split("__")
            target = reply
            for step in path:
                target = target[int(step)] if step.isdigit() else getattr(target, step)
            if last.isdigit():
                target[int(last)] = value
            else:
                setattr(target, last, value)

    return change


# The log holds entries 0 to 9; entries 10 to 14 are appended, with entry 3, which is there, between them.
SENT = [b"entry 10", b"entry 11", b"entry 3", b"entry 12", b"entry 13", b"entry 14"]
LIES: dict[str, Callable[[Any, Any], object]] = {
    "a result is dropped": lie(lambda reply: reply.results.pop()),
    "a result is added": lie(lambda reply: reply.results.add()),
    "no results": lie(lambda reply: reply.ClearField("results")),
    "two results are swapped": lie(_swap_results),
    "another leaf index": _set(results__0__leaf_index=4),
    "a leaf index beyond the tree": _set(results__0__leaf_index=99),
    "the index of a new entry for the one that was there": _set(results__2__leaf_index=10),
    "a new entry is said to be there": _set(results__0__already_present=True),
    "all new entries are said to be there": lie(
        lambda reply: [setattr(result, "already_present", True) for result in reply.results]
    ),
    "an old entry is said to be new": _set(results__2__already_present=False),
    "no range proof": lie(lambda reply: reply.ClearField("range_proof")),
    "a range one too early": _set(range_proof__start=9),
    "a range one too long": _set(range_proof__end=16),
    "an empty range": _set(range_proof__end=10),
    "a reversed range": _set(range_proof__start=15, range_proof__end=10),
    "a left hash is altered": _set(range_proof__left__0=bytes(32)),
    "a left hash is dropped": lie(lambda reply: reply.range_proof.left.pop()),
    "a left hash is short": _set(range_proof__left__0=bytes(31)),
    "a right hash is added": lie(lambda reply: reply.range_proof.right.append(bytes(32))),
    "an inclusion hash is altered": _set(inclusion_proofs__0__hashes__1=bytes(32)),
    "an inclusion hash is dropped": lie(lambda reply: reply.inclusion_proofs[0].hashes.pop()),
    "the inclusion proof is dropped": lie(lambda reply: reply.inclusion_proofs.pop()),
    "the inclusion proof comes twice": lie(
        lambda reply: reply.inclusion_proofs.append(reply.inclusion_proofs[0])
    ),
    "the inclusion proof is of another leaf": _set(inclusion_proofs__0__leaf_index=4),
}
HUGE = {
    "an index of 2**63": _set(results__0__leaf_index=2**63),
    "a range end of 2**64 - 1": _set(range_proof__end=2**64 - 1),
}


def _prepared(connect: Connect, log: LyingLog) -> LogClient:
    log.add(*entries(0, 10))
    client = connect()
    assert client.checkpoint().tree_size == 10
    return client


def _unmoved(client: LogClient, state_file: Path, note: bytes) -> bool:
    return client.trusted is not None and client.trusted.note == state_file.read_bytes() == note


@pytest.mark.parametrize("name", LIES)
def test_a_reply_that_does_not_prove_what_it_says_is_refused(
    connect: Connect, log: LyingLog, state_file: Path, name: str
) -> None:
    client = _prepared(connect, log)
    log.lies["Append"] = LIES[name]
    with pytest.raises(ProofError):
        client.append(SENT)
    assert _unmoved(client, state_file, log.note(10))
    # An honest answer to the same call is taken again.
    log.lies.clear()
    assert client.append(SENT)[0].leaf_index == 10


@pytest.mark.parametrize("name", HUGE)
def test_numbers_beyond_every_tree_are_refused(
    connect: Connect, log: LyingLog, state_file: Path, name: str
) -> None:
    client = _prepared(connect, log)
    log.lies["Append"] = HUGE[name]
    with pytest.raises(RemoteError, match="above the maximum"):
        client.append(SENT)
    assert _unmoved(client, state_file, log.note(10))


def test_a_reply_to_other_entries_is_refused(connect: Connect, log: LyingLog, state_file: Path) -> None:
    client = _prepared(connect, log)
    other = connect(checkpoint_file=None)
    other.checkpoint()
    replies: list[log_pb2.AppendResponse] = []
    log.lies["Append"] = lambda reply, request: replies.append(reply)
    other.append([b"other %d" % number for number in range(len(SENT))])
    log.lies["Append"] = lambda reply, request: reply.CopyFrom(replies[0])
    with pytest.raises(ProofError):
        client.append(SENT)
    assert _unmoved(client, state_file, log.note(10))


def test_two_entries_cannot_share_a_leaf_and_one_cannot_have_two(connect: Connect, log: LyingLog) -> None:
    client = _prepared(connect, log)
    log.lies["Append"] = _set(results__1__leaf_index=10)
    with pytest.raises(ProofError, match="two different entries"):
        client.append(SENT)
    log.lies["Append"] = _set(results__1__leaf_index=11)
    with pytest.raises(ProofError, match="one entry is"):
        client.append([b"entry 3", b"entry 3"])


def test_an_old_entry_cannot_pass_as_new_with_a_valid_proof(connect: Connect, log: LyingLog) -> None:
    client = _prepared(connect, log)

    def pass_as_new(reply: log_pb2.AppendResponse, request: log_pb2.AppendRequest) -> None:
        reply.results[0].already_present = False
        reply.ClearField("inclusion_proofs")
        reply.range_proof.CopyFrom(log.range_proof(3, 4, 10))

    log.lies["Append"] = pass_as_new
    with pytest.raises(ProofError, match="is new, but its tree had 10"):
        client.append([b"entry 3"])


def test_a_range_proof_without_new_entries_is_refused(connect: Connect, log: LyingLog) -> None:
    client = _prepared(connect, log)
    log.lies["Append"] = lambda reply, request: reply.range_proof.CopyFrom(log.range_proof(3, 4, 10))
    with pytest.raises(ProofError, match="none is new"):
        client.append([b"entry 3"])


@pytest.mark.parametrize("trusted_before", [True, False])
def test_a_checkpoint_that_the_log_did_not_sign_is_refused(
    connect: Connect, log: LyingLog, state_file: Path, trusted_before: bool
) -> None:
    client = _prepared(connect, log) if trusted_before else connect()
    before = client.trusted
    honest = log.signer

    def signed_by(forger: Signer) -> Callable[[Any, Any], None]:
        def forge(reply: Any, request: Any) -> None:
            log.signer = forger
            reply.checkpoint = log.note(log.size)
            log.signer = honest

        return forge

    def without_signature(reply: Any, request: Any) -> None:
        reply.checkpoint = reply.checkpoint.split(b"\n\n")[0] + b"\n\n"

    def bad_signature(reply: Any, request: Any) -> None:
        # The honest signature over another tree: the key is known, so that the note is rejected.
        text = log.note(log.size).replace(b"\n%d\n" % log.size, b"\n%d\n" % (log.size + 1), 1)
        reply.checkpoint = text

    other_key = Signer.generate(ORIGIN)
    for change, error in [
        (signed_by(other_key), SignatureError),
        (signed_by(signer("other.example")), SignatureError),
        (without_signature, (SignatureError, RemoteError)),
        (bad_signature, SignatureError),
        (_set(checkpoint=b""), RemoteError),
        (_set(checkpoint=b"nonsense"), RemoteError),
    ]:
        log.lies["Append"] = change
        with pytest.raises(error):
            client.append(SENT)
        assert client.trusted == before
    assert state_file.exists() == trusted_before


def test_a_checkpoint_of_another_origin_is_refused(connect: Connect, log: LyingLog, state_file: Path) -> None:
    client = _prepared(connect, log)

    def other_origin(reply: Any, request: Any) -> None:
        reply.checkpoint = log.note(log.size, origin="log.example/other")

    log.lies["Append"] = other_origin
    with pytest.raises(PolicyError, match=r"log\.example/other"):
        client.append(SENT)
    assert _unmoved(client, state_file, log.note(10))


def test_a_forked_tree_is_refused_with_both_checkpoints(
    connect: Connect, log: LyingLog, state_file: Path, tmp_path: Path
) -> None:
    client = _prepared(connect, log)
    trusted = log.note(10)
    log.fork_to([*entries(0, 9), b"forged"])
    with pytest.raises(ConsistencyUnprovenError) as caught:
        client.append([b"more"])
    assert caught.value.checkpoints == (trusted, log.note(11))
    # A client that knows of no evidence: the first one now refuses every call.
    client = connect(evidence_directory=tmp_path / "other evidence")
    log.fork_to([*entries(0, 9), b"forged"])
    with pytest.raises(SplitViewError) as split:
        client.append([b"forged"])
    assert split.value.checkpoints == (trusted, log.note(10))
    assert _unmoved(client, state_file, trusted)


@pytest.mark.parametrize("change", ["drop last", "drop first", "drop all", "add", "alter"])
def test_a_consistency_proof_that_proves_nothing_is_refused(
    connect: Connect, log: LyingLog, state_file: Path, change: str
) -> None:
    client = _prepared(connect, log)

    def damage(reply: Any, request: Any) -> None:
        proof = reply.consistency_proof
        match change:
            case "drop last":
                proof.pop()
            case "drop first":
                del proof[0]
            case "drop all":
                del proof[:]
            case "add":
                proof.append(bytes(32))
            case "alter":
                proof[0] = bytes(32)

    log.lies["Append"] = damage
    with pytest.raises(ConsistencyUnprovenError):
        client.append(SENT)
    assert _unmoved(client, state_file, log.note(10))


def test_a_rolled_back_log_is_refused(connect: Connect, log: LyingLog, state_file: Path) -> None:
    client = _prepared(connect, log)
    trusted = log.note(10)
    log.fork_to(entries(0, 4))
    with pytest.raises(ConsistencyUnprovenError) as caught:
        client.append([b"after the rollback"])
    assert caught.value.checkpoints == (trusted, log.note(5))
    assert _unmoved(client, state_file, trusted)


def test_a_stale_but_consistent_checkpoint_is_taken_and_trust_stays(
    connect: Connect, log: LyingLog, state_file: Path
) -> None:
    client = _prepared(connect, log)

    def older(reply: log_pb2.AppendResponse, request: log_pb2.AppendRequest) -> None:
        reply.checkpoint = log.note(6)
        reply.inclusion_proofs[0].CopyFrom(log.inclusion(3, 6))
        del reply.consistency_proof[:]
        reply.consistency_proof.extend(log.consistency(10, 6))

    log.lies["Append"] = older
    (appended,) = client.append([b"entry 3"])
    assert appended.checkpoint.tree_size == 6
    assert _unmoved(client, state_file, log.note(10))


def test_a_damaged_state_file_stops_the_client(connect: Connect, log: LyingLog, state_file: Path) -> None:
    _prepared(connect, log)
    honest = state_file.read_bytes()
    for damaged in (honest[:30], honest.replace(b"\n10\n", b"\n11\n"), b""):
        state_file.write_bytes(damaged)
        with pytest.raises(CorruptionError, match="Restore it"):
            connect()
        assert state_file.read_bytes() == damaged


def test_a_client_and_a_log_that_do_not_belong_together_are_refused(
    connect: Connect, log: LyingLog, state_file: Path
) -> None:
    _prepared(connect, log)
    with pytest.raises(CorruptionError, match="mend the policy"):
        connect(policy=build_policy([Signer.generate(ORIGIN).vkey]))
    with pytest.raises(ConfigError, match="each log a file of its own"):
        connect(policy=build_policy([signer("other.example").vkey]))
    stranger = connect(policy=build_policy([Signer.generate(ORIGIN).vkey]), checkpoint_file=None)
    with pytest.raises(SignatureError):
        stranger.append([b"entry"])


def test_every_byte_of_a_reply_counts(log: LyingLog, policy: Policy) -> None:
    """Whatever bit flips on the way, the outcome is an error or the very same, proven, result."""
    log.add(*entries(0, 11))
    log.tree.entries[10:] = []  # entry 10 is appended by hand below
    trusted = TrustedLog.for_origin(policy, None)
    trusted = trusted.accept(trusted.open_committed(log.note(9)), [])
    log.add(b"entry 10", b"entry 11")
    sent = [b"entry 10", b"entry 3", b"entry 11"]
    honest = log_pb2.AppendResponse(
        results=[
            log_pb2.AppendResult(leaf_index=10),
            log_pb2.AppendResult(leaf_index=3, already_present=True),
            log_pb2.AppendResult(leaf_index=11),
        ],
        checkpoint=log.note(12),
        range_proof=log.range_proof(10, 12, 12),
        inclusion_proofs=[log.inclusion(3, 12)],
        consistency_proof=log.consistency(9, 12),
    )

    def outcome(reply: log_pb2.AppendResponse) -> list[tuple[int, bool, tuple[bytes, ...]]]:
        checkpoint = trusted.open_committed(reply.checkpoint)
        appended = verify_append_reply(sent, reply, checkpoint, trusted.tree_size)
        assert trusted.accept(checkpoint, reply.consistency_proof).tree_size == 12
        return [(result.leaf_index, result.already_present, result.proof) for result in appended]

    expected = outcome(honest)
    encoded = honest.SerializeToString()
    refused = 0
    for position in range(len(encoded) * 2):
        damaged = bytearray(encoded)
        damaged[position // 2] ^= 1 << position * 3 % 8
        try:
            reply = log_pb2.AppendResponse.FromString(bytes(damaged))
        except Exception:  # noqa: BLE001 - whatever protobuf says of bytes that are no message
            refused += 1
            continue
        try:
            assert outcome(reply) == expected
        except (VerificationError, RemoteError):
            refused += 1
    # What may differ without harm is protobuf's: unknown fields, another number for a boolean.
    assert refused > len(encoded) * 2 * 0.97
    assert leaf_hash(sent[0]) == log.tree.mth(10, 11)


def test_a_closed_client_says_so(client: LogClient) -> None:
    client.close()
    with pytest.raises(RemoteError, match="closed"):
        client.append([b"entry"])


def test_a_log_that_is_not_there_is_named(log: LyingLog, connect: Connect) -> None:
    client = connect(retry=RetryPolicy(deadline_s=0.3, first_delay_s=0.01))
    log.stop()
    with pytest.raises(RemoteError, match=f"{log.address}: UNAVAILABLE") as caught:
        client.append([b"entry"])
    assert "tried" in caught.value.__notes__[0]
    assert isinstance(caught.value.__cause__, grpc.RpcError)
