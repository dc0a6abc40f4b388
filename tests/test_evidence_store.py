"""Evidence on disk: durable, bounded, and a log that was convicted stays convicted."""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path

import pytest
from _support.alliance import Alliance, key
from _support.signed_tree import SignedTree, signed_checkpoint
from _support.signers import cosigner, signer

from tlog.checkpoint import Checkpoint
from tlog.errors import (
    ConvictedError,
    CorruptionError,
    PolicyError,
    ProofError,
    RefusalReason,
    StorageError,
    VerificationError,
)
from tlog.evidence import (
    MAX_SPREAD_BYTES,
    Evidence,
    format_evidence,
    make_rule,
    make_same_size,
    make_sizes,
)
from tlog.evidence_store import EvidenceStore
from tlog.policy import Policy, build_policy

ORIGIN = "log.example/evidence"
LOG, WITNESS = signer(ORIGIN, 1), cosigner("w.example/1", 101)
POLICY = build_policy([LOG.vkey], [WITNESS.vkey])
ENTRIES = [b"entry %d" % number for number in range(20)]
ONE = SignedTree(ENTRIES, LOG)
OTHER = SignedTree([b"fork", *ENTRIES[1:]], LOG)
SAME_SIZE = make_same_size(ONE.note(8), OTHER.note(8))
SIZES = make_sizes(OTHER.note(8), ONE.note(20), ONE.path(8, 20))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "evidence"


def opened(directory: Path, policy: Policy = POLICY) -> EvidenceStore:
    return EvidenceStore(directory, policy)


def test_what_is_added_is_a_file_named_after_kind_and_hash(directory: Path) -> None:
    store = opened(directory)
    assert store.pieces() == ()
    assert not directory.exists()
    stored = store.add(SAME_SIZE)
    data = format_evidence(SAME_SIZE)
    assert stored.path == directory / f"same-size-{sha256(data).hexdigest()}.evidence"
    assert stored.path.read_bytes() == data
    assert list(directory.iterdir()) == [stored.path]
    assert store.pieces() == (stored,)
    assert directory.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("evidence", [SAME_SIZE, SIZES])
def test_a_log_stays_convicted_across_restarts(directory: Path, evidence: Evidence) -> None:
    path = opened(directory).add(evidence).path
    for _ in range(3):
        store = opened(directory)
        assert store.is_convicted(ORIGIN)
        assert not store.is_convicted("log.example/another")
        with pytest.raises(ConvictedError) as refusal:
            store.refuse_convicted(ORIGIN)
        assert str(path) in str(refusal.value)
        assert LOG.key_id.hex() in str(refusal.value)
        store.refuse_convicted("log.example/another")


def test_another_process_sees_what_was_added(directory: Path) -> None:
    one, other = opened(directory), opened(directory)
    assert not other.is_convicted(ORIGIN)
    one.add(SAME_SIZE)
    assert other.is_convicted(ORIGIN)


def test_the_same_conviction_is_kept_once(directory: Path) -> None:
    store = opened(directory)
    first = store.add(SAME_SIZE)
    assert store.add(SAME_SIZE) == first
    assert store.add(SIZES) == first
    for size in range(1, 20):
        assert opened(directory).add(make_same_size(ONE.note(size), OTHER.note(size))).path == first.path
    assert len(list(directory.iterdir())) == 1


def test_what_convicts_one_more_key_is_kept_as_well(directory: Path) -> None:
    store = opened(directory)
    store.add(SAME_SIZE)
    cosigned = [SignedTree(tree.tree.entries, LOG, cosigners=[WITNESS]) for tree in (ONE, OTHER)]
    both = store.add(make_same_size(*(tree.note(9) for tree in cosigned)))
    assert len(both.verdict.convicted) == 2
    assert len(store.pieces()) == 2
    assert store.add(SIZES).path in {stored.path for stored in store.pieces()}
    assert len(store.pieces()) == 2


def long_evidence() -> Evidence:
    """Evidence that is longer than what nodes spread, of two notes with very long extension lines."""
    notes = [
        signed_checkpoint(Checkpoint(ORIGIN, 8, tree.root(8), ("x" * 900_000,)), [LOG])
        for tree in (ONE, OTHER)
    ]
    return make_same_size(*notes)


def test_a_piece_that_can_be_spread_is_kept_beside_one_that_is_too_long_for_it(directory: Path) -> None:
    store = opened(directory)
    long = store.add(long_evidence())
    assert long.length == long.path.stat().st_size > MAX_SPREAD_BYTES
    assert store.add(long_evidence()) == long
    short = store.add(SAME_SIZE)
    assert (short.length, len(store.pieces())) == (short.path.stat().st_size, 2)
    assert opened(directory).add(SIZES).path == short.path
    assert opened(directory).add(long_evidence()).path in {long.path, short.path}
    assert len(list(directory.iterdir())) == 2


def test_a_piece_that_is_too_long_is_not_kept_beside_one_that_can_be_spread(directory: Path) -> None:
    short = opened(directory).add(SAME_SIZE)
    assert opened(directory).add(long_evidence()).path == short.path
    assert len(list(directory.iterdir())) == 1


def test_evidence_against_a_witness_convicts_no_log(directory: Path) -> None:
    new = signer(ORIGIN, 2)
    policy = build_policy([LOG.vkey, new.vkey], [WITNESS.vkey])
    one = SignedTree(ENTRIES, LOG, cosigners=[WITNESS])
    other = SignedTree([b"fork", *ENTRIES[1:]], new, cosigners=[WITNESS])
    store = opened(directory, policy)
    store.add(make_same_size(one.note(8), other.note(8)))
    assert len(store.pieces()) == 1
    assert not store.is_convicted(ORIGIN)
    store.refuse_convicted(ORIGIN)


def test_what_convicts_nobody_is_not_kept(directory: Path) -> None:
    store = opened(directory)
    agreeing = make_sizes(ONE.note(8), ONE.note(20), ONE.path(8, 20))
    with pytest.raises(ProofError):
        store.add(agreeing)
    with pytest.raises(PolicyError):
        opened(directory, build_policy([signer(ORIGIN, 9).vkey])).add(SAME_SIZE)
    alliance = Alliance()
    tree = SignedTree([*alliance.governance, alliance.entry(1, signer=key("stranger"))], alliance.signer)
    governance = [tree.logged(at) for at in range(4)]
    unproven = make_rule(RefusalReason.UNKNOWN_KEY, tree.logged(4), governance=governance)
    with pytest.raises(PolicyError, match="leaves a gap"):
        opened(directory, build_policy([alliance.signer.vkey])).add(unproven)
    assert not directory.exists()


def test_by_a_policy_without_the_key_nobody_is_convicted(directory: Path) -> None:
    opened(directory).add(SAME_SIZE)
    replaced = build_policy([signer(ORIGIN, 2).vkey])
    store = opened(directory, replaced)
    assert not store.is_convicted(ORIGIN)
    assert store.pieces() == ()
    # The file is still there, for whoever still lists the key.
    assert opened(directory).is_convicted(ORIGIN)


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[:-1], lambda data: data[::-1]])
def test_a_changed_file_stops_everything_and_is_named(directory: Path, damage: object) -> None:
    path = opened(directory).add(SAME_SIZE).path
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    for call in ("pieces", "is_convicted", "refuse_convicted"):
        store = opened(directory)
        with pytest.raises(CorruptionError, match=path.name):
            getattr(store, call)(*(() if call == "pieces" else (ORIGIN,)))


def test_evidence_is_kept_beside_a_file_that_is_damaged(directory: Path) -> None:
    path = opened(directory).add(SAME_SIZE).path
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    store = opened(directory)
    assert store.add(SIZES).path == store.add(SIZES).path
    path.write_bytes(whole)
    assert {piece.path.name.split("-")[0] for piece in opened(directory).pieces()} == {"same", "sizes"}


def test_a_file_that_is_no_evidence_under_a_right_name_is_named(directory: Path) -> None:
    directory.mkdir()
    forged = format_evidence(SAME_SIZE).replace(b"same-size", b"sizes")
    for data in (b"nonsense", forged):
        path = directory / f"sizes-{sha256(data).hexdigest()}.evidence"
        path.write_bytes(data)
        with pytest.raises(CorruptionError, match=path.name):
            opened(directory).pieces()
        path.unlink()
    for name in (
        "notes.txt",
        f".sizes-{'0' * 64}.evidence.1.tmp",
        f"{'0' * 64}.evidence",
        "sizes-0.evidence",
    ):
        (directory / name).write_bytes(b"nonsense")
    assert opened(directory).pieces() == ()


def test_a_directory_that_cannot_be_used_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    store = opened(tmp_path / "file")
    with pytest.raises(StorageError, match="cannot be read"):
        store.is_convicted(ORIGIN)
    below = opened(tmp_path / "file" / "below")
    with pytest.raises(StorageError, match="cannot be"):
        below.add(SAME_SIZE)


def test_a_crash_before_the_rename_leaves_no_evidence_and_no_harm(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object) -> None:
        raise OSError("power failure")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", crash)
        with pytest.raises(StorageError, match="power failure"):
            opened(directory).add(SAME_SIZE)
    assert not opened(directory).is_convicted(ORIGIN)
    opened(directory).add(SAME_SIZE)
    assert opened(directory).is_convicted(ORIGIN)


def test_the_file_is_synced_before_it_gets_its_name_and_the_directory_after(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    replace = Path.replace

    def fsync(descriptor: int) -> None:
        synced = Path(f"/proc/self/fd/{descriptor}").readlink().name
        steps.append(f"sync {synced.rpartition('.')[2]}")

    def renamed(self: Path, target: Path) -> Path:
        steps.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", renamed)
    opened(directory).add(SAME_SIZE)
    assert steps[:3] == ["sync tmp", "rename", "sync evidence"]


def test_a_convicted_log_is_a_verification_error() -> None:
    assert issubclass(ConvictedError, VerificationError)
