"""What was proven before, and the rules, convict a log that gives no path: at once and for good."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from _support.alliance import DECLARATION, Alliance, key
from _support.lying_log import LyingLog
from _support.signed_tree import SignedTree
from _support.signers import signer

from tlog.client import LogClient, ReceiptFolder
from tlog.envelope import decode_entry, sign_entry
from tlog.errors import (
    ConsistencyUnprovenError,
    ConvictedError,
    ProofError,
    RuleBrokenError,
    SplitViewError,
    VerificationError,
)
from tlog.evidence import EvidenceKind, RuleEvidence, Verdict, parse_evidence, verify_evidence
from tlog.merkle import leaf_hash
from tlog.policy import Policy

Connect = Callable[..., LogClient]
SOURCE = Alliance.source("exporter")


@pytest.fixture
def alliance(log: LyingLog) -> Alliance:
    return Alliance(origin=log.origin, signer=log.signer)


@pytest.fixture
def directory(state_file: Path) -> Path:
    return state_file.parent / "evidence"


def kept(directory: Path, policy: Policy) -> Verdict:
    """Judge the one piece of evidence that is kept, as a third party does."""
    (path,) = directory.iterdir()
    return verify_evidence(parse_evidence(path.read_bytes()), policy)


def notes(error: BaseException) -> str:
    return "\n".join(getattr(error, "__notes__", ()))


def entry_of(alliance: Alliance, number: int, note: str = "") -> bytes:
    return alliance.entry(number, note=note, refs=[f"invoice:{number}"])


def history(alliance: Alliance, size: int, note: str = "") -> list[bytes]:
    return [*alliance.governance, *(entry_of(alliance, number, note) for number in range(size))]


CALLS: dict[str, Callable[[LogClient, Alliance], object]] = {
    "append": lambda client, a: client.append([entry_of(a, 3, "forged")]),
    "entries": lambda client, a: list(client.entries()),
    "a few entries": lambda client, a: list(client.entries(7, 8)),
    "inclusion_proof": lambda client, a: client.inclusion_proof(entry_of(a, 3, "forged"), leaf_index=7),
    "receipts": lambda client, a: client.receipts([entry_of(a, 3, "forged")], leaf_indices=[7]),
    "find_entry": lambda client, a: client.find_entry(SOURCE, "event-3"),
    "lookup": lambda client, a: list(client.lookup("invoice:3")),
}


def write_receipt(folder: Path, name: str, entry: bytes, receipt: bytes) -> None:
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.entry").write_bytes(entry)
    (folder / f"{name}.tlog-proof").write_bytes(receipt)


@pytest.mark.parametrize("call", CALLS)
def test_a_log_that_gives_no_path_is_convicted_by_the_leaf_that_it_proved_before(
    connect: Connect, log: LyingLog, alliance: Alliance, policy: Policy, directory: Path, call: str
) -> None:
    client = connect()
    log.fork_to(history(alliance, 3))
    assert client.append([entry_of(alliance, 3)])[0].leaf_index == 7
    log.fork_to(history(alliance, 9, "forged"))
    # No path and no proof of consistency, whatever it is asked for.
    log.fail_next("GetConsistencyProof", grpc.StatusCode.OUT_OF_RANGE, times=9)
    if call not in {"inclusion_proof", "find_entry"}:
        log.fail_next("GetInclusionProofs", grpc.StatusCode.OUT_OF_RANGE, times=9)
    with pytest.raises(SplitViewError, match="entry 7") as caught:
        CALLS[call](client, alliance)
    verdict = kept(directory, policy)
    assert (verdict.kind, verdict.convicts_log) == (EvidenceKind.LEAF, True)
    assert str(next(directory.iterdir())) in notes(caught.value)
    log.fork_to(history(alliance, 3))
    for refusing in (client, connect()):
        with pytest.raises(ConvictedError):
            refusing.checkpoint()


@pytest.mark.parametrize("name", ["000000000007", "7", "event-3"])
@pytest.mark.parametrize("call", CALLS)
def test_a_receipt_of_an_earlier_life_convicts_a_log_that_is_met_as_if_for_the_first_time(
    connect: Connect, log: LyingLog, alliance: Alliance, policy: Policy, tmp_path: Path, call: str, name: str
) -> None:
    before = SignedTree(history(alliance, 5), log.signer)
    write_receipt(tmp_path / "receipts", name, before.tree.entries[7], before.receipt(7))
    log.fork_to(history(alliance, 9, "forged"))
    if call == "append":
        log.fork_to(history(alliance, 3, "forged"))
    client = connect(receipts=ReceiptFolder(tmp_path / "receipts").find)
    with pytest.raises(SplitViewError, match="entry 7"):
        CALLS[call](client, alliance)
    assert kept(tmp_path / "evidence", policy).kind == EvidenceKind.LEAF
    with pytest.raises(ConvictedError):
        connect().checkpoint()


def spoilt_receipts(log: LyingLog, alliance: Alliance) -> dict[str, tuple[bytes, bytes]]:
    """Entries with receipts of leaf 7, none of which shows that this log has another leaf there."""
    mallory = SignedTree(history(alliance, 5, "else"), signer(log.origin, 66))
    stranger = SignedTree(history(alliance, 5, "else"), signer("log.example/else"))
    true = SignedTree(history(alliance, 9), log.signer)
    entry = true.tree.entries[7]
    return {
        "by a stranger's key": (mallory.tree.entries[7], mallory.receipt(7)),
        "of another log": (stranger.tree.entries[7], stranger.receipt(7)),
        "of another entry": (true.tree.entries[8], true.receipt(7)),
        "of another size": (entry, true.receipt(7).replace(b"\n13\n", b"\n14\n")),
        "cut off": (entry, true.receipt(7)[:60]),
        "without an entry": (b"", true.receipt(7)),
        "in order": (entry, true.receipt(7)),
    }


@pytest.mark.parametrize("number", range(7))
def test_a_receipt_that_proves_nothing_convicts_nobody(
    connect: Connect, log: LyingLog, alliance: Alliance, tmp_path: Path, number: int
) -> None:
    entry, receipt = list(spoilt_receipts(log, alliance).values())[number]
    write_receipt(tmp_path / "receipts", "7", entry, receipt)
    log.fork_to(history(alliance, 9))
    client = connect(receipts=ReceiptFolder(tmp_path / "receipts").find)
    assert len(list(client.entries())) == 13
    assert client.receipts([log.tree.entries[7]], leaf_indices=[7]) != [None]
    assert not (tmp_path / "evidence").exists()


def test_without_anything_kept_a_log_without_a_path_is_an_alarm_only(
    connect: Connect, log: LyingLog, alliance: Alliance, directory: Path
) -> None:
    log.fork_to(history(alliance, 4))
    client = connect()
    client.checkpoint()
    log.fork_to(history(alliance, 9, "forged"))
    log.fail_next("GetInclusionProofs", grpc.StatusCode.OUT_OF_RANGE)
    with pytest.raises(ConsistencyUnprovenError) as caught:
        list(client.entries())
    assert "evidence: none yet" in notes(caught.value)
    assert not directory.exists()


def test_a_leaf_that_is_not_proven_convicts_nobody(
    connect: Connect, log: LyingLog, alliance: Alliance, directory: Path
) -> None:
    """Somebody on the way alters what an honest log answers."""
    log.fork_to(history(alliance, 3))
    client = connect()
    client.append([entry_of(alliance, 3)])

    def forge(reply: Any, request: Any) -> None:
        reply.entries[7] = entry_of(alliance, 3, "forged")

    log.lies["GetEntries"] = forge
    with pytest.raises(ProofError):
        list(client.entries())
    assert not directory.exists()
    log.lies.clear()
    assert len(list(client.entries())) == 8


def test_a_folder_need_not_exist_and_what_else_lies_in_it_is_passed_over(tmp_path: Path) -> None:
    assert ReceiptFolder(tmp_path / "none").find(0) is None
    (tmp_path / "notes.txt").write_text("no receipt")
    (tmp_path / f"{'9' * 30}.tlog-proof").write_text("no receipt")
    (tmp_path / "named.tlog-proof").write_text("index 5\n")
    folder = ReceiptFolder(tmp_path)
    assert [folder.find(index) for index in (0, 5, int("9" * 30))] == [None] * 3


# ----- entries that a log has to refuse


def wrong_entries(alliance: Alliance) -> dict[str, bytes]:
    good = alliance.entry(40, refs=["invoice:40"])
    return {
        "bad_signature": good.replace(b'"number":40', b'"number":41'),
        "wrong_origin": alliance.entry(40, refs=["invoice:40"], origin="log.example/else"),
    }


READS: dict[str, Callable[[LogClient], object]] = {
    "find_entry": lambda client: client.find_entry(SOURCE, "event-40"),
    "lookup": lambda client: list(client.lookup("invoice:40")),
    "entries": lambda client: list(client.entries()),
}


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("reason", ["bad_signature", "wrong_origin"])
def test_an_entry_that_every_log_refuses_convicts_the_log_that_took_it(
    connect: Connect,
    log: LyingLog,
    alliance: Alliance,
    policy: Policy,
    directory: Path,
    read: str,
    reason: str,
) -> None:
    log.fork_to([*history(alliance, 9), wrong_entries(alliance)[reason], *history(alliance, 0)])
    pinned = leaf_hash(alliance.governance[0])
    with pytest.raises(RuleBrokenError) as caught:
        READS[read](connect(genesis_leaf_hash=pinned))
    (path,) = directory.iterdir()
    evidence = parse_evidence(path.read_bytes())
    assert isinstance(evidence, RuleEvidence)
    assert (evidence.reason, evidence.accused.leaf_index) == (reason, 13)
    assert kept(directory, policy).convicts_log
    assert f"evidence: {path}" in notes(caught.value)
    with pytest.raises(ConvictedError):
        connect().checkpoint()


@pytest.mark.parametrize("read", ["lookup", "entries"])
def test_two_entries_of_one_name_convict_the_log_that_took_both(
    connect: Connect, log: LyingLog, alliance: Alliance, policy: Policy, directory: Path, read: str
) -> None:
    log.fork_to([*history(alliance, 9), entry_of(alliance, 3, "again"), *history(alliance, 0)])
    client = connect(genesis_leaf_hash=leaf_hash(alliance.governance[0]))
    with pytest.raises(RuleBrokenError, match="entry 7"):
        list(client.lookup("invoice:3") if read == "lookup" else client.entries())
    assert kept(directory, policy).kind == EvidenceKind.RULE
    with pytest.raises(ConvictedError):
        connect().checkpoint()


def test_governance_that_the_fold_refuses_convicts_where_it_names_its_place(
    connect: Connect, log: LyingLog, alliance: Alliance, policy: Policy, directory: Path
) -> None:
    log.fork_to(history(alliance, 3))
    assert connect().registry().seq == 3
    payload = decode_entry(alliance.add_member("intruder", ["exporter"])).payload
    log.add(sign_entry(payload, [key("nobody 1"), key("nobody 2")]))
    with pytest.raises(RuleBrokenError):
        connect().registry()
    assert kept(directory, policy).kind == EvidenceKind.RULE


def test_governance_that_is_held_back_convicts_nobody(
    connect: Connect, log: LyingLog, alliance: Alliance, directory: Path
) -> None:
    log.fork_to(history(alliance, 3))

    def hold_back(reply: Any, request: Any) -> None:
        del reply.found[1]

    log.lies["Lookup"] = hold_back
    with pytest.raises(VerificationError) as caught:
        connect().registry()
    assert "evidence: none" in notes(caught.value)
    assert not directory.exists()
    log.lies.clear()
    assert connect().registry().seq == 3


def test_what_only_members_could_tell_is_not_judged_by_a_reader(
    connect: Connect, log: LyingLog, alliance: Alliance, directory: Path
) -> None:
    log.fork_to([
        *history(alliance, 3),
        alliance.entry(10, event_type=DECLARATION, refs=["invoice:10"]),
        alliance.entry(11, signer=key("stranger")),
    ])  # fmt: skip
    client = connect(genesis_leaf_hash=leaf_hash(alliance.governance[0]))
    assert len(list(client.entries())) == 9
    assert client.find_entry(SOURCE, "event-10").leaf_index == 7
    assert len(list(client.lookup("invoice:10"))) == 1
    assert not directory.exists()


def test_what_is_no_alliances_log_is_read_as_bytes(connect: Connect, log: LyingLog, directory: Path) -> None:
    """Without a pinned genesis nothing says that this log keeps our rules."""
    log.fork_to([b"no event", b"no event"])
    assert len(list(connect().entries())) == 2
    assert not directory.exists()
