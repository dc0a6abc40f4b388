"""What a client does with a log that contradicts itself: evidence at once, and never believed again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from _support.lying_log import LyingLog
from _support.signers import cosigner

from tlog.checkpoint import Checkpoint, format_checkpoint
from tlog.client import LogClient
from tlog.errors import (
    ConsistencyUnprovenError,
    ConvictedError,
    CorruptionError,
    SplitViewError,
    VerificationError,
)
from tlog.evidence import EvidenceKind, Verdict, parse_evidence, verify_evidence
from tlog.note import sign_note
from tlog.policy import Policy, build_policy

Connect = Callable[..., LogClient]


def entries(start: int, end: int) -> list[bytes]:
    return [b"entry %d" % number for number in range(start, end)]


CALLS: dict[str, Callable[[LogClient], object]] = {
    "append": lambda client: client.append([b"one more"]),
    "checkpoint": lambda client: client.checkpoint(),
    "watch_checkpoints": lambda client: next(client.watch_checkpoints()),
    "entries": lambda client: list(client.entries()),
    "inclusion_proof": lambda client: client.inclusion_proof(b"entry 1", leaf_index=1),
    "find_entry": lambda client: client.find_entry("urn:a", "b"),
    "receipts": lambda client: client.receipts([b"entry 1"], leaf_indices=[1]),
    "lookup": lambda client: list(client.lookup("a:b")),
    "registry": lambda client: client.registry(),
}


@pytest.fixture
def directory(state_file: Path) -> Path:
    return state_file.parent / "evidence"


def kept(directory: Path, policy: Policy) -> Verdict:
    """Judge the one piece of evidence that is kept, as a third party does."""
    (path,) = directory.iterdir()
    return verify_evidence(parse_evidence(path.read_bytes()), policy)


def notes(error: BaseException) -> str:
    return "\n".join(getattr(error, "__notes__", ()))


def trust(client: LogClient, log: LyingLog, size: int) -> None:
    log.fork_to(entries(0, size))
    client.checkpoint()


def test_two_roots_of_one_size_are_evidence_at_once(
    client: LogClient, log: LyingLog, policy: Policy, directory: Path
) -> None:
    trust(client, log, 10)
    assert not directory.exists()
    log.fork_to([b"forged", *entries(1, 10)])
    with pytest.raises(SplitViewError) as caught:
        client.checkpoint()
    verdict = kept(directory, policy)
    assert (verdict.kind, verdict.tree_sizes) == (EvidenceKind.SAME_SIZE, (10, 10))
    assert [key.vkey for key in verdict.convicted] == [log.signer.vkey]
    (path,) = directory.iterdir()
    assert f"evidence: {path}" in notes(caught.value)


@pytest.mark.parametrize("size1", [1, 2, 3, 4, 7, 8, 12, 16])
@pytest.mark.parametrize("more", [1, 5])
def test_two_sizes_are_evidence_with_the_path_that_the_log_gives(
    client: LogClient, log: LyingLog, policy: Policy, directory: Path, size1: int, more: int
) -> None:
    """As after a restore from an old backup: the log does not know any more what it signed."""
    trust(client, log, size1)
    log.fork_to([*entries(0, size1 - 1), b"after the restore", *entries(100, 100 + more)])
    with pytest.raises(ConsistencyUnprovenError) as caught:
        client.checkpoint()
    verdict = kept(directory, policy)
    assert (verdict.kind, verdict.tree_sizes) == (EvidenceKind.SIZES, (size1, size1 + more))
    assert verdict.convicts_log
    assert str(next(directory.iterdir())) in notes(caught.value)
    with pytest.raises(ConvictedError):
        client.checkpoint()


def test_an_empty_tree_with_an_impossible_root_is_evidence(
    client: LogClient, log: LyingLog, policy: Policy, directory: Path
) -> None:
    text = format_checkpoint(Checkpoint(log.origin, 0, bytes(32)))

    def impossible(reply: Any, request: Any) -> None:
        reply.checkpoint = sign_note(text, [log.signer])

    log.lies["GetCheckpoint"] = impossible
    with pytest.raises(SplitViewError):
        client.checkpoint()
    assert kept(directory, policy).kind == EvidenceKind.EMPTY


@pytest.mark.parametrize("call", CALLS)
def test_a_convicted_log_is_refused_by_every_call_and_after_a_restart(
    connect: Connect, log: LyingLog, directory: Path, call: str
) -> None:
    client = connect()
    trust(client, log, 10)
    log.fork_to([b"forged", *entries(1, 10)])
    with pytest.raises(SplitViewError):
        client.checkpoint()
    (path,) = directory.iterdir()
    # It does not help to go back to the honest history.
    log.fork_to(entries(0, 10))
    asked = len(log.calls)
    for refusing in (client, connect()):
        with pytest.raises(ConvictedError) as refusal:
            CALLS[call](refusing)
        assert str(path) in str(refusal.value)
        assert log.signer.key_id.hex() in str(refusal.value)
        assert refusing.trusted is not None
    assert len(log.calls) == asked


@pytest.mark.parametrize("call", CALLS)
def test_whatever_call_sees_it_the_evidence_is_kept(
    connect: Connect, log: LyingLog, policy: Policy, directory: Path, call: str
) -> None:
    client = connect()
    trust(client, log, 10)
    log.fork_to([b"forged", *entries(1, 10)])
    with pytest.raises(VerificationError):
        CALLS[call](client)
    assert kept(directory, policy).convicts_log


def test_another_process_refuses_as_well_without_a_restart(connect: Connect, log: LyingLog) -> None:
    one, other = connect(), connect()
    trust(one, log, 10)
    other.checkpoint()
    log.fork_to([b"forged", *entries(1, 10)])
    with pytest.raises(SplitViewError):
        one.checkpoint()
    with pytest.raises(ConvictedError):
        other.checkpoint()


def test_a_witness_that_cosigned_both_is_named(connect: Connect, log: LyingLog, directory: Path) -> None:
    witness = cosigner("w.example/1")
    log.witnesses = [witness]
    policy = build_policy([log.signer.vkey], [witness.vkey], 1)
    client = connect(policy=policy)
    trust(client, log, 10)
    log.fork_to([b"forged", *entries(1, 10)])
    with pytest.raises(SplitViewError):
        client.checkpoint()
    assert [key.name for key in kept(directory, policy).convicted] == [log.origin, "w.example/1"]


def test_a_log_that_gives_no_path_is_an_alarm_and_convicts_nobody(
    connect: Connect, log: LyingLog, directory: Path
) -> None:
    client = connect()
    trust(client, log, 10)
    log.fork_to([b"forged", *entries(1, 12)])
    log.fail_next("GetInclusionProofs", grpc.StatusCode.OUT_OF_RANGE)
    with pytest.raises(ConsistencyUnprovenError) as caught:
        client.checkpoint()
    assert "evidence: none yet" in notes(caught.value)
    assert not directory.exists()
    log.fork_to(entries(0, 12))
    assert client.checkpoint().tree_size == 12


def test_a_log_that_went_back_cannot_give_the_path(client: LogClient, log: LyingLog, directory: Path) -> None:
    trust(client, log, 10)
    log.fork_to(entries(0, 6))
    with pytest.raises(ConsistencyUnprovenError) as caught:
        client.checkpoint()
    assert "evidence: none yet" in notes(caught.value)
    assert not directory.exists()


@pytest.mark.parametrize("size", [4, 10])
def test_a_wrong_proof_between_trees_that_agree_convicts_nobody(
    client: LogClient, log: LyingLog, directory: Path, size: int
) -> None:
    trust(client, log, size)
    log.add(b"one more", b"and another")

    def damage(reply: Any, request: Any) -> None:
        reply.consistency_proof[0] = bytes(32)

    log.lies["GetCheckpoint"] = damage
    with pytest.raises(ConsistencyUnprovenError) as caught:
        client.checkpoint()
    assert "the two agree" in notes(caught.value)
    assert not directory.exists()
    del log.lies["GetCheckpoint"]
    assert client.checkpoint().tree_size == size + 2


@pytest.mark.parametrize("damage", ["cut", "forge", "empty", "swap", "none"])
def test_a_wrong_path_convicts_nobody(client: LogClient, log: LyingLog, directory: Path, damage: str) -> None:
    trust(client, log, 8)
    log.fork_to([b"forged", *entries(1, 12)])

    def spoil(reply: Any, request: Any) -> None:
        first, second = (result.proof for result in reply.results)
        match damage:
            case "cut":
                del first.hashes[-1]
            case "forge":
                first.hashes[0] = bytes(32)
            case "empty":
                del second.hashes[:]
            case "swap":
                second.hashes[0] = first.hashes[0]
            case "none":
                del reply.results[1:]

    log.lies["GetInclusionProofs"] = spoil
    with pytest.raises(ConsistencyUnprovenError) as caught:
        client.checkpoint()
    assert "evidence: none" in notes(caught.value)
    assert not directory.exists()


def test_without_a_file_the_log_is_refused_for_the_life_of_the_client(
    connect: Connect, log: LyingLog, directory: Path
) -> None:
    client = connect(checkpoint_file=None)
    trust(client, log, 10)
    log.fork_to([b"forged", *entries(1, 10)])
    with pytest.raises(SplitViewError) as caught:
        client.checkpoint()
    assert "life of this client only" in notes(caught.value)
    with pytest.raises(ConvictedError, match="could not be kept in a file"):
        client.checkpoint()
    assert not directory.exists()
    connect(checkpoint_file=None).checkpoint()


def test_evidence_that_cannot_be_written_is_told_and_the_log_refused(
    connect: Connect, log: LyingLog, tmp_path: Path
) -> None:
    client = connect(evidence_directory=tmp_path / "later" / "evidence")
    trust(client, log, 10)
    log.fork_to([b"forged", *entries(1, 10)])

    def obstruct(reply: Any, request: Any) -> None:
        (tmp_path / "later").write_bytes(b"a file where a directory has to be")

    log.lies["GetCheckpoint"] = obstruct
    with pytest.raises(SplitViewError) as caught:
        client.checkpoint()
    assert "evidence: held for the life of this client only" in notes(caught.value)
    with pytest.raises(ConvictedError):
        client.checkpoint()


def test_evidence_that_was_damaged_stops_the_client(connect: Connect, log: LyingLog, directory: Path) -> None:
    client = connect()
    trust(client, log, 10)
    log.fork_to([b"forged", *entries(1, 10)])
    with pytest.raises(SplitViewError):
        client.checkpoint()
    (path,) = directory.iterdir()
    path.write_bytes(b"")
    with pytest.raises(CorruptionError, match=path.name):
        connect().checkpoint()


def test_a_policy_with_a_new_key_gives_the_log_another_chance(
    connect: Connect, log: LyingLog, directory: Path, tmp_path: Path
) -> None:
    client = connect()
    trust(client, log, 10)
    log.fork_to([b"forged", *entries(1, 10)])
    with pytest.raises(SplitViewError):
        client.checkpoint()
    with LyingLog(entries(0, 5)) as renewed:
        policy = build_policy([renewed.signer.vkey])
        fresh = LogClient(
            renewed.address, policy, checkpoint_file=tmp_path / "new", evidence_directory=directory
        )
        with fresh:
            assert fresh.checkpoint().tree_size == 5
