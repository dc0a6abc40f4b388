"""A restore verifies every signature once, and what it reads again it holds against what it verified."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from _support.backed_up_log import BackedUpLog, Silent, silent
from _support.command_line import tlog
from msgspec.structs import replace

from tlog import envelope
from tlog.backup.restore import Plan, plan_restore, restore_store
from tlog.errors import ProofError
from tlog.log import Log
from tlog.merkle import leaf_hash
from tlog.policy import build_policy, format_policy
from tlog.tile_source.base import TileSource
from tlog.tile_source.directory import DirectoryTileSource
from tlog.validate import verify_entry

IN_SIGNATURE = -130


@pytest.fixture
def log(tmp_path: Path) -> BackedUpLog:
    made = BackedUpLog(tmp_path / "log")
    made.grow(300)
    return made


def plan(log: BackedUpLog, backup: Path, *mirrors: TileSource) -> Plan:
    return plan_restore(log.copy_in(backup), log.keys, mirrors, (), silent)


def forged(entry: bytes) -> bytes:
    changed = bytearray(entry)
    changed[IN_SIGNATURE] ^= 1
    return bytes(changed)


def commit_forged(log: BackedUpLog) -> None:
    """Have the log commit an entry with a broken signature, in a store that is right in all else."""
    right = verify_entry(log.alliance.entry(len(log.entries)), log.alliance.origin)
    entry = forged(right.entry)
    with Log.open(log.store_path, log.alliance.signer) as wrong:
        wrong.commit([[replace(right, entry=entry, leaf_hash=leaf_hash(entry))]])
    log.entries.append(entry)


def signatures_of(entries: list[bytes]) -> Counter[tuple[bytes, bytes, bytes]]:
    return Counter(
        (public_key, envelope.pae(decoded.payload), signature)
        for decoded in map(envelope.decode_entry, entries)
        for public_key, signature in decoded.signatures
    )


@pytest.mark.parametrize("is_caught_up", [False, True])
def test_every_signature_is_verified_once_and_before_anything_is_written(
    log: BackedUpLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_caught_up: bool
) -> None:
    log.back_up(tmp_path / "backup")
    mirror: list[object] = []
    if is_caught_up:
        log.grow(340)
        log.back_up(tmp_path / "mirror")
        mirror = ["--catch-up-from", tmp_path / "mirror"]
    new = tmp_path / "new"
    new.mkdir()
    (new / "policy").write_bytes(format_policy(build_policy([log.alliance.signer.vkey])))
    verified: Counter[tuple[bytes, bytes, bytes]] = Counter()
    written: list[Path] = []
    verify = envelope.verify_signature

    def counting(public_key: bytes, message: bytes, signature: bytes) -> None:
        verified[public_key, message, signature] += 1
        written.extend(path for path in new.iterdir() if path.name != "policy")
        verify(public_key, message, signature)

    monkeypatch.setattr(envelope, "verify_signature", counting)
    ended = tlog("restore", tmp_path / "backup", new, *mirror)
    assert ended.code == 0, ended
    assert verified == signatures_of(log.entries)
    assert set(verified.values()) == {1}
    assert written == []
    assert log.check(new / "store").is_sound


def test_a_copy_of_a_log_that_took_a_broken_signature_is_refused(log: BackedUpLog, tmp_path: Path) -> None:
    log.back_up(tmp_path / "before")
    commit_forged(log)
    log.back_up(tmp_path / "backup")
    with pytest.raises(ProofError, match=r"entry 300 is in the tree, and breaks a rule \(bad_signature\)"):
        plan(log, tmp_path / "backup")
    made = plan(log, tmp_path / "before", DirectoryTileSource(path=tmp_path / "backup"))
    assert (made.tree_size, made.caught_up_from, len(made.not_taken)) == (300, None, 1)


@pytest.mark.parametrize("at", [IN_SIGNATURE, 100])
def test_a_copy_that_changes_after_it_was_verified_is_refused(
    log: BackedUpLog, tmp_path: Path, at: int
) -> None:
    log.back_up(tmp_path / "backup")
    made = plan(log, tmp_path / "backup")
    bundle = tmp_path / "backup" / "tile/entries/000"
    data, entry = bytearray(bundle.read_bytes()), log.entries[200]
    data[data.index(entry) + at % len(entry)] ^= 1
    bundle.write_bytes(data)
    with pytest.raises(ProofError, match="entry 200 hashes to"):
        restore_store(made, tmp_path / "store", opens=log.keys.open, replace=False, show=silent)
    assert not (tmp_path / "store").exists()


def flip_in_signature(log: BackedUpLog, built: Path) -> None:
    data, entry = bytearray(built.read_bytes()), log.entries[200]
    data[data.index(entry) + IN_SIGNATURE % len(entry)] ^= 1
    built.write_bytes(data)


def put_another_tree(log: BackedUpLog, built: Path) -> None:
    """Put a store of another tree in the place, as large, and signed by the log's key as well."""
    other = BackedUpLog(log.directory.parent / "other", log.alliance)
    other.grow(len(log.entries) - 1)
    commit_forged(other)
    shutil.copy(other.store_path / "data.mdb", built)


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (flip_in_signature, "entry 200 is not the one that was signed"),
        (put_another_tree, "the entries are not those whose signatures were verified"),
    ],
)
def test_a_store_that_holds_other_entries_than_were_verified_is_refused(
    log: BackedUpLog, tmp_path: Path, damage: Callable[[BackedUpLog, Path], None], found: str
) -> None:
    log.back_up(tmp_path / "backup")
    made = plan(log, tmp_path / "backup")

    @contextmanager
    def damaging(label: str, total: int | None) -> Iterator[Silent]:
        if label == "checked again":
            damage(log, tmp_path / ".store.restoring" / "data.mdb")
        yield Silent()

    with pytest.raises(ProofError, match=f"is not what was verified: .*{found}"):
        restore_store(made, tmp_path / "store", opens=log.keys.open, replace=False, show=damaging)
    assert not (tmp_path / "store").exists()
