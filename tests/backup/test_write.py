"""Backups: of a live log, whole at every moment, only what is new, and what is on the disk was read again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from _support.backed_up_log import BackedUpLog, Silent, silent
from _support.hostile import flipped
from _support.tiled_log import walk

from tlog.backup.copy import Copy, copy_of_store, manifest_in
from tlog.backup.write import write_backup
from tlog.errors import ProofError, RemoteError, SplitViewError, StorageError, VerificationError
from tlog.log import Log
from tlog.storage.base import Reader
from tlog.storage.lmdb_store import LmdbStore
from tlog.tile_source.base import TileSource
from tlog.tile_source.paced import Pace
from tlog.tiles import Tile


class Broken:
    """Reads another source, and breaks off after some tiles; or calls somebody before each."""

    concurrency = 1

    def __init__(self, source: TileSource, after: int = 10**9) -> None:
        self._source = source
        self._left = after
        self.name = source.name
        self.asked: list[str] = []

    def checkpoint(self) -> bytes:
        return self._source.checkpoint()

    def tile(self, tile: Tile) -> bytes:
        self._left -= 1
        if self._left < 0:
            raise RemoteError("broken off")
        self.asked.append(tile.path)
        return self._source.tile(tile)


@pytest.fixture
def log(tmp_path: Path) -> BackedUpLog:
    return BackedUpLog(tmp_path / "log")


def entries_in(directory: Path) -> list[bytes]:
    return walk(lambda name: (directory / name).read_bytes())


def write(log: BackedUpLog, copy: Copy, directory: Path, **options) -> None:
    options = {"pace": Pace(None), "verify_all": False, "show": silent, **options}
    write_backup(copy, directory, log.keys, **options)


def test_a_backup_holds_all_that_is_committed_and_says_what_was_published(
    log: BackedUpLog, tmp_path: Path
) -> None:
    log.grow(300)
    log.grow(310, publish=False)
    written = log.back_up(tmp_path / "backup")
    assert entries_in(tmp_path / "backup") == log.entries
    manifest = manifest_in(tmp_path / "backup")
    assert manifest is not None
    assert (manifest.tree_size, manifest.previous_size, manifest.taken_s) == (310, 300, log.taken_s)
    assert log.keys.open(manifest.published).tree_size == 300
    assert (written.previous_tree_size, written.verified_from) == (0, 0)
    assert (tmp_path / "backup").stat().st_mode & 0o777 == 0o700
    copy = log.copy_in(tmp_path / "backup")
    assert (copy.newest.vkey, copy.manifest) == (log.alliance.signer.vkey, manifest)


def test_a_second_backup_reads_and_writes_only_what_is_new(log: BackedUpLog, tmp_path: Path) -> None:
    log.grow(600)
    log.back_up(tmp_path / "backup")
    for size in (600, 601, 768, 800):
        if size > 600:
            log.grow(size)
        with log.store() as store:
            copy = copy_of_store(store, "the store", log.keys, now_s=1)
            source = Broken(copy.source)
            write(log, replace(copy, source=source), tmp_path / "backup")
        assert entries_in(tmp_path / "backup") == log.entries
        assert not {"tile/entries/000", "tile/entries/001", "tile/0/000", "tile/0/001"} & set(source.asked)


def test_what_is_appended_meanwhile_waits_for_the_next_backup_and_no_view_stays_open(
    log: BackedUpLog, tmp_path: Path
) -> None:
    log.grow(520)
    before = list(log.entries)
    store = LmdbStore.open(log.store_path, None, None)
    with Log(store, log.alliance.signer) as server:
        opened: list[object] = []

        class Watched:
            """Passes everything on to the store, and counts the views that are open."""

            origin, log_vkey = store.origin, store.log_vkey

            @contextmanager
            def reader(self) -> Iterator[Reader]:
                with store.reader() as one:
                    opened.append(one)
                    yield one
                    opened.remove(one)

        class Appending(Silent):
            def advance(self, count: int = 1) -> None:
                assert not opened, "a view is held longer than for one tile: the store cannot reuse pages"
                number = 10_000 + server.checkpoint().tree_size
                server.append([log.alliance.entry(number)])

        @contextmanager
        def show(label: str, total: int | None) -> Iterator[Silent]:
            yield Appending()

        watched = copy_of_store(Watched(), "the store", log.keys, now_s=1)
        write(log, watched, tmp_path / "backup", show=show)
        assert server.checkpoint().tree_size > 520
    assert entries_in(tmp_path / "backup") == before


@contextmanager
def killed(label: str, total: int | None) -> Iterator[Silent]:
    """Is killed before anything is read again."""
    if label == "verified":
        raise KeyboardInterrupt
    yield Silent()


def test_a_backup_that_breaks_off_anywhere_leaves_the_earlier_one_whole_and_goes_on(
    log: BackedUpLog, tmp_path: Path
) -> None:
    log.grow(300)
    directory = tmp_path / "backup"
    log.back_up(directory)
    old, manifest = list(log.entries), manifest_in(directory)
    log.grow(800)
    with log.store() as store:
        copy = copy_of_store(store, "the store", log.keys, now_s=2)
        rounds = 0
        while True:
            try:
                write(log, replace(copy, source=Broken(copy.source, rounds)), directory, show=killed)
            except RemoteError:
                assert entries_in(directory) == old
                assert manifest_in(directory) == manifest
                rounds += 1
            except KeyboardInterrupt:
                break
        assert rounds >= 6
        # Killed when all was written, and nothing of it counted yet.
        assert (directory / "tile/entries/002").exists()
        assert entries_in(directory) == old
        assert manifest_in(directory) == manifest
        write(log, copy, directory)
    assert entries_in(directory) == log.entries


@pytest.mark.parametrize(
    "name", ["tile/entries/001", "tile/0/001", "tile/entries/002.p/88", "tile/1/000.p/2"]
)
def test_what_is_wrong_on_the_disk_is_found_before_it_counts(
    log: BackedUpLog, tmp_path: Path, name: str
) -> None:
    log.grow(250)
    directory = tmp_path / "backup"
    log.back_up(directory)
    old = list(log.entries)
    log.grow(600)

    @contextmanager
    def show(label: str, total: int | None) -> Iterator[Silent]:
        if label == "verified":
            (directory / name).write_bytes(flipped((directory / name).read_bytes(), 40))
        yield Silent()

    with log.store() as store:
        copy = copy_of_store(store, "the store", log.keys, now_s=2)
        with pytest.raises((VerificationError, ValueError)):
            write(log, copy, directory, show=show)
    assert entries_in(directory) == old


def test_all_of_a_backup_is_read_again_when_that_is_asked_for(log: BackedUpLog, tmp_path: Path) -> None:
    log.grow(600)
    log.back_up(tmp_path / "backup")
    rotten = tmp_path / "backup" / "tile/entries/000"
    rotten.write_bytes(flipped(rotten.read_bytes(), 100))
    log.grow(601)
    assert log.back_up(tmp_path / "backup").verified_from == 512
    with pytest.raises(ProofError, match="tile/entries/000"):
        log.back_up(tmp_path / "backup", verify_all=True)


def test_a_store_that_is_older_than_its_backup_is_told_and_the_backup_stays(
    log: BackedUpLog, tmp_path: Path
) -> None:
    older = BackedUpLog(tmp_path / "older", log.alliance)
    log.grow(20)
    log.back_up(tmp_path / "backup")
    older.grow(10)
    with pytest.raises(StorageError, match="the store is an old copy, do not sign with it"):
        older.back_up(tmp_path / "backup")
    assert entries_in(tmp_path / "backup") == log.entries


def test_another_history_never_continues_a_backup(log: BackedUpLog, tmp_path: Path) -> None:
    other = BackedUpLog(tmp_path / "other", log.alliance)
    log.grow(20)
    log.back_up(tmp_path / "backup")
    with Log.open(other.store_path, log.alliance.signer) as forked:
        forked.append(log.alliance.entries(500, 540))
    with pytest.raises(SplitViewError, match="are two histories"):
        other.back_up(tmp_path / "backup")
    assert entries_in(tmp_path / "backup") == log.entries


def test_a_backup_reads_no_faster_than_it_may(log: BackedUpLog, tmp_path: Path) -> None:
    now_s = [5.0]
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now_s[0] += seconds

    log.grow(600)
    pace = Pace(10_000, clock=lambda: now_s[0], sleep=sleep)
    log.back_up(tmp_path / "backup", pace=pace)
    # The entries are read from the store, and again from the disk, at the same pace.
    assert pace.spent_bytes >= 2 * sum(map(len, log.entries))
    assert now_s[0] - 5.0 == pytest.approx(pace.spent_bytes / 10_000)
    assert min(slept) > 0
    # Time that passed unused is not saved up, and a clock that stood still owes nothing.
    now_s[0] += 1_000
    pace.spend(20_000)
    assert slept[-1] == pytest.approx(2.0)
