"""Restores: verified before anything is written, and brought up to what the log signed last."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from _support.backed_up_log import BackedUpLog, Silent, silent
from _support.hostile import flipped
from _support.two_histories import TwoHistories

from tlog.backup.copy import Copy
from tlog.backup.joined import JoinedTiles
from tlog.backup.newest import Known
from tlog.backup.restore import Plan, plan_restore, restore_store
from tlog.checkpoint import Checkpoint, format_checkpoint
from tlog.errors import (
    ConfigError,
    PolicyError,
    ProofError,
    RemoteError,
    SplitViewError,
    StoreInUseError,
    TlogError,
)
from tlog.freezing import thaw_store
from tlog.log import Log
from tlog.log_view import LogView
from tlog.note import sign_note
from tlog.storage.lmdb_store import LmdbStore
from tlog.tile_source.directory import DirectoryTileSource
from tlog.tile_source.export import Export
from tlog.tile_source.verified import VerifiedTiles
from tlog.tiles import Tile


@pytest.fixture
def log(tmp_path: Path) -> BackedUpLog:
    return BackedUpLog(tmp_path / "log")


def plan(log: BackedUpLog, copy: Copy, *mirrors, known: tuple[Known, ...] = ()) -> Plan:
    return plan_restore(copy, log.keys, mirrors, known, silent)


def restore(log: BackedUpLog, made: Plan, target: Path, *, replace: bool = False, opens=None, show=silent):
    opens = log.keys.open if opens is None else opens
    return restore_store(made, target, opens=opens, replace=replace, show=show)


def mirror_of(log: BackedUpLog, directory: Path) -> DirectoryTileSource:
    log.back_up(directory)
    return DirectoryTileSource(path=directory)


@contextmanager
def view_of(store_path: Path) -> Iterator[LogView]:
    store = LmdbStore.open(store_path, None, None, read_only=True)
    try:
        with store.reader() as reader:
            yield LogView(reader)
    finally:
        store.close()


def test_a_restored_store_is_the_log_and_is_marked_as_restored(log: BackedUpLog, tmp_path: Path) -> None:
    log.grow(300)
    log.grow(310, publish=False)
    log.back_up(tmp_path / "backup")
    made = plan(log, log.copy_in(tmp_path / "backup"))

    def no_quorum(note: bytes) -> Checkpoint:
        raise PolicyError("nobody has cosigned this")

    assert restore(log, made, tmp_path / "store", opens=no_quorum) is None
    assert log.check(tmp_path / "store").is_sound
    with view_of(tmp_path / "store") as view, view_of(log.store_path) as original:
        assert view.entries(0, 310) == log.entries
        assert view.committed() == original.committed()
        assert (view.published().tree_size, view.published()) == (300, original.published())
        assert view.previous_size() == 300
        assert view.governance_indices() == original.governance_indices()
        assert view.is_restored()
        assert not view.is_frozen()
    assert (made.ahead, made.missing_entries) == (None, 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backup", "log", "store"]
    with Log.open(tmp_path / "store", log.alliance.signer) as again:
        again.append([log.alliance.entry(999)])


def test_a_frozen_log_stays_frozen(log: BackedUpLog, tmp_path: Path) -> None:
    with Log.open(log.store_path, log.alliance.signer) as frozen:
        frozen.freeze()
    log.back_up(tmp_path / "backup")
    made = plan(log, log.copy_in(tmp_path / "backup"))
    restore(log, made, tmp_path / "store")
    with view_of(tmp_path / "store") as view:
        assert view.is_frozen()
    assert made.is_frozen


def test_a_log_that_grew_since_it_was_frozen_was_thawed(log: BackedUpLog, tmp_path: Path) -> None:
    with Log.open(log.store_path, log.alliance.signer) as frozen:
        frozen.freeze()
    log.back_up(tmp_path / "backup")
    thaw_store(log.store_path)
    log.grow(20)
    made = plan(log, log.copy_in(tmp_path / "backup"), mirror_of(log, tmp_path / "mirror"))
    restore(log, made, tmp_path / "store")
    with view_of(tmp_path / "store") as view:
        assert not view.is_frozen()
    assert made.is_frozen is None


def test_an_export_without_a_manifest_can_be_restored(log: BackedUpLog, tmp_path: Path) -> None:
    log.grow(20)
    source = mirror_of(log, tmp_path / "mirror")
    with Export.begin(source, log.keys.open, tmp_path / "export") as export:
        export.run()
    copy = log.copy_in(tmp_path / "export")
    assert copy.manifest is None
    restore(log, plan(log, copy), tmp_path / "store")
    with view_of(tmp_path / "store") as view:
        assert (view.entries(0, 20), view.previous_size()) == (log.entries, None)


@pytest.mark.parametrize("older", [4, 5, 255, 256, 257, 511, 512])
def test_an_older_backup_is_caught_up_from_a_mirror(log: BackedUpLog, tmp_path: Path, older: int) -> None:
    if older > len(log.entries):
        log.grow(older)
    log.back_up(tmp_path / "backup")
    log.grow(600)
    made = plan(log, log.copy_in(tmp_path / "backup"), mirror_of(log, tmp_path / "mirror"))
    restore(log, made, tmp_path / "store")
    with view_of(tmp_path / "store") as view, view_of(log.store_path) as original:
        assert view.entries(0, 600) == log.entries
        assert view.committed() == original.committed()
    assert (made.caught_up_from, made.missing_entries) == (str(tmp_path / "mirror"), 0)
    # Only what the backup lacks is asked of the mirror.
    assert made.report.is_sound
    if older >= 256:
        with pytest.raises(AssertionError, match="asked"):
            source = JoinedTiles(
                older=Refusing(), older_size=older, newer=DirectoryTileSource(path=tmp_path / "mirror")
            )
            list(VerifiedTiles(source, made.newest.checkpoint).entries(0, 600))


class Refusing:
    """Is a source that nobody may ask."""

    name = "nobody's"
    concurrency = 1

    def checkpoint(self) -> bytes:
        raise AssertionError("asked for a checkpoint")

    def tile(self, tile: Tile) -> bytes:
        raise AssertionError(f"asked for {tile.path}")


class Gone(Refusing):
    """Is a mirror that does not answer."""

    def checkpoint(self) -> bytes:
        raise RemoteError("no answer")


def test_the_furthest_mirror_that_is_right_is_taken(log: BackedUpLog, tmp_path: Path) -> None:
    log.grow(20)
    log.back_up(tmp_path / "backup")
    log.grow(300)
    near = mirror_of(log, tmp_path / "near")
    log.grow(400)
    far = mirror_of(log, tmp_path / "far")
    log.grow(500)
    wrong = mirror_of(log, tmp_path / "wrong")
    bundle = tmp_path / "wrong" / "tile/entries/001.p/244"
    bundle.write_bytes(flipped(bundle.read_bytes(), 50))
    made = plan(log, log.copy_in(tmp_path / "backup"), near, Gone(), wrong, far)
    assert (made.caught_up_from, made.tree_size) == (far.name, 400)
    assert [who for who, _ in made.not_taken] == ["nobody's", wrong.name]
    # What the wrong one shows is signed all the same: so much is missing still.
    assert made.ahead is not None
    assert (made.ahead.who, made.missing_entries) == (wrong.name, 100)


def test_what_others_know_beyond_the_copy_is_the_gap(log: BackedUpLog, tmp_path: Path) -> None:
    log.grow(20)
    log.back_up(tmp_path / "backup")
    same = Known(who="a node", tree_size=20, root_hash=_root(log, 20), note=None)
    older = Known(who="a monitor", tree_size=7, root_hash=_root(log, 7), note=None)
    copy = log.copy_in(tmp_path / "backup")
    assert plan(log, copy, known=(same, older)).missing_entries == 0
    ahead = Known(who="a witness", tree_size=33, root_hash=b"\1" * 32, note=None)
    made = plan(log, copy, known=(same, ahead, older))
    assert (made.ahead, made.missing_entries) == (ahead, 13)


def _root(log: BackedUpLog, size: int) -> bytes:
    with view_of(log.store_path) as view:
        return view.root_hash(size)


@pytest.mark.parametrize("size", [7, 20])
def test_what_somebody_knows_against_the_copy_stops_it_with_both_checkpoints(
    log: BackedUpLog, tmp_path: Path, size: int
) -> None:
    log.grow(20)
    log.back_up(tmp_path / "backup")
    copy = log.copy_in(tmp_path / "backup")
    text = format_checkpoint(Checkpoint(log.alliance.origin, size, b"\1" * 32))
    note = sign_note(text, [log.alliance.signer])
    signed = Known(who="a witness", tree_size=size, root_hash=b"\1" * 32, note=note)
    with pytest.raises(SplitViewError, match="two histories") as caught:
        plan(log, copy, known=(signed,))
    assert caught.value.checkpoints == (note, copy.newest.note)
    mark = Known(who="the mark", tree_size=size, root_hash=b"\1" * 32, note=None)
    with pytest.raises(ProofError, match="the mark knows of size"):
        plan(log, copy, known=(mark,))


def test_a_mirror_of_another_history_stops_it_with_both_checkpoints(log: BackedUpLog, tmp_path: Path) -> None:
    other = BackedUpLog(tmp_path / "other", log.alliance)
    log.grow(20)
    log.back_up(tmp_path / "backup")
    with Log.open(other.store_path, log.alliance.signer) as forked:
        forked.append(log.alliance.entries(500, 540))
    with pytest.raises(SplitViewError, match="two histories"):
        plan(log, log.copy_in(tmp_path / "backup"), mirror_of(other, tmp_path / "mirror"))


@pytest.mark.parametrize("name", ["tile/entries/000", "tile/0/001.p/44", "tile/1/000.p/1"])
def test_a_damaged_backup_is_refused_and_a_mirror_hides_no_damage(
    log: BackedUpLog, tmp_path: Path, name: str
) -> None:
    log.grow(300)
    log.back_up(tmp_path / "backup")
    file = tmp_path / "backup" / name
    file.write_bytes(flipped(file.read_bytes(), 31))
    copy = log.copy_in(tmp_path / "backup")
    with pytest.raises(ProofError, match=r"is damaged: nothing was written; mend it with `tlog fsck"):
        plan(log, copy)
    log.grow(301)
    if name == "tile/entries/000":
        with pytest.raises(ProofError, match="is damaged"):
            plan(log, copy, mirror_of(log, tmp_path / "mirror"))


def test_a_manifest_of_another_log_is_refused(log: BackedUpLog, tmp_path: Path) -> None:
    log.back_up(tmp_path / "backup")
    manifest = tmp_path / "backup" / "backup.json"
    good = manifest.read_text()
    stranger = TwoHistories(4)
    for wrong in (
        good.replace('"tree_size":4', '"tree_size":5'),
        good.replace(f'"origin":"{log.alliance.origin}"', '"origin":"elsewhere"'),
        good.replace(log.alliance.signer.vkey, stranger.signer.vkey),
        good.replace("\\n4\\n", "\\n3\\n"),
    ):
        assert wrong != good
        manifest.write_text(wrong)
        with pytest.raises(TlogError, match="move it away"):
            log.copy_in(tmp_path / "backup")
    manifest.unlink()
    assert log.copy_in(tmp_path / "backup").manifest is None


def test_a_store_is_replaced_only_by_name_and_kept_and_never_under_a_server(
    log: BackedUpLog, tmp_path: Path
) -> None:
    log.grow(20)
    log.back_up(tmp_path / "backup")
    made = plan(log, log.copy_in(tmp_path / "backup"))
    before = (log.store_path / "data.mdb").read_bytes()
    with pytest.raises(ConfigError, match="replaced only by name"):
        restore(log, made, log.store_path)
    with Log.open(log.store_path, log.alliance.signer), pytest.raises(StoreInUseError):
        restore(log, made, log.store_path, replace=True)
    assert (log.store_path / "data.mdb").read_bytes() == before
    for number in (1, 2):
        kept = restore(log, made, log.store_path, replace=True)
        assert kept == log.directory / f"store.before-restore-{number}"
        assert log.check(log.store_path).is_sound
    assert (log.directory / "store.before-restore-1" / "data.mdb").read_bytes() == before


def test_a_store_is_brought_up_to_a_mirror_from_itself(log: BackedUpLog, tmp_path: Path) -> None:
    log.grow(20)
    ahead = BackedUpLog(tmp_path / "ahead", log.alliance)
    ahead.grow(20)
    ahead.grow(300)
    from tlog.backup.copy import copy_of_store

    with log.store() as store:
        copy = copy_of_store(store, "the old store", log.keys, now_s=1)
        made = plan(log, copy, mirror_of(ahead, tmp_path / "mirror"))
        restore(log, made, log.store_path, replace=True)
    with view_of(log.store_path) as view:
        assert view.entries(0, 300) == ahead.entries


def test_a_restore_that_breaks_off_leaves_nothing_in_the_place_and_goes_on_when_started_again(
    log: BackedUpLog, tmp_path: Path
) -> None:
    log.grow(300)
    log.back_up(tmp_path / "backup")
    made = plan(log, log.copy_in(tmp_path / "backup"))

    @contextmanager
    def killed(label: str, total: int | None) -> Iterator[Silent]:
        yield Silent()
        raise KeyboardInterrupt

    @contextmanager
    def damaging(label: str, total: int | None) -> Iterator[Silent]:
        if label == "checked again":
            data = tmp_path / ".store.restoring" / "data.mdb"
            at = data.read_bytes().index(log.entries[200])
            data.write_bytes(flipped(data.read_bytes(), 8 * at))
        yield Silent()

    @contextmanager
    def second(label: str, total: int | None) -> Iterator[Silent]:
        with pytest.raises(StoreInUseError, match="another restore works in"):
            restore(log, made, tmp_path / "store")
        yield Silent()

    with pytest.raises(KeyboardInterrupt):
        restore(log, made, tmp_path / "store", show=killed)
    restore(log, made, tmp_path / "other-store", show=second)
    with pytest.raises(ProofError, match="is not what was verified: look at disk and memory"):
        restore(log, made, tmp_path / "store", show=damaging)
    assert not (tmp_path / "store").exists()
    restore(log, made, tmp_path / "store")
    assert log.check(tmp_path / "store").is_sound
