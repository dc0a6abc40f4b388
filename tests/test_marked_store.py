"""Every commit is in the mark before anybody hears of it, and a start can tell what was lost."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path

import pytest
from _support.alliance import Alliance

from server.remote_log import RemoteLog
from tlog.envelope import decode_entry
from tlog.errors import StateUnknownError, StorageError
from tlog.event import parse_event
from tlog.log import Log
from tlog.mark_check import check_mark
from tlog.marked_store import MarkedStore
from tlog.storage.high_water_mark import HighWaterMarkFile, Mark
from tlog.storage.lmdb_store import LmdbStore
from tlog.storage.marked_size import MarkedSize
from tlog.storage.memory import MemoryStore


class RememberedMarks:
    """Remembers every mark, and fails when it is told to."""

    def __init__(self) -> None:
        self.marks: list[Mark] = []
        self.problem: StorageError | None = None

    def write(self, mark: Mark) -> None:
        if self.problem is not None:
            raise self.problem
        self.marks.append(mark)


@pytest.fixture
def alliance() -> Alliance:
    return Alliance()


def mark_of(log: Log) -> Mark:
    checkpoint = log.checkpoint().checkpoint
    return Mark(tree_size=checkpoint.tree_size, root_hash=checkpoint.root_hash)


def test_a_commit_is_answered_after_its_mark_and_only_a_commit_moves_it(alliance: Alliance) -> None:
    marks = RememberedMarks()
    log = Log(MarkedStore(MemoryStore(alliance.origin, alliance.signer.vkey), marks), alliance.signer)
    expected = [mark_of(log)]
    for entries in (alliance.governance, *([entry] for entry in alliance.entries(0, 5))):
        log.append(entries)
        expected.append(mark_of(log))
        log.append(entries)
        log.publish(log.checkpoint().note)
    log.freeze()
    assert marks.marks == expected


def test_where_the_mark_fails_the_state_is_unknown_and_nothing_more_is_committed(alliance: Alliance) -> None:
    marks = RememberedMarks()
    log = Log(MarkedStore(MemoryStore(alliance.origin, alliance.signer.vkey), marks), alliance.signer)
    log.append(alliance.governance)
    marks.problem = StorageError("the high-water mark x cannot be written: No space left on device")
    with pytest.raises(StateUnknownError, match=r"\[4, 5\) are committed, but the high-water mark x cannot"):
        log.append([alliance.entry(1)])
    marks.problem = None
    with pytest.raises(StateUnknownError, match="restart to recover"):
        log.append([alliance.entry(2)])


def test_a_store_is_held_against_its_mark_at_every_distance(tmp_path: Path, alliance: Alliance) -> None:
    store = LmdbStore.create(tmp_path / "store", alliance.origin, alliance.signer.vkey)
    with Log(store, alliance.signer) as log:
        marks = [mark_of(log)]
        for entries in (alliance.governance, *(alliance.entries(n, n + 2) for n in range(0, 8, 2))):
            log.append(entries)
            marks.append(mark_of(log))
        newest = marks[-1]
        ahead = Mark(tree_size=newest.tree_size + 1, root_hash=b"\1" * 32)
        other = Mark(tree_size=newest.tree_size, root_hash=b"\1" * 32)
        other_before = Mark(tree_size=marks[-2].tree_size, root_hash=b"\1" * 32)
        inside = Mark(tree_size=newest.tree_size - 1, root_hash=b"\1" * 32)
        with log.view() as view:
            # The newest commit; or the one before, when a crash came between a commit and its mark.
            assert check_mark(view, newest) is None
            assert check_mark(view, marks[-2]) is None
            for older in marks[:-2]:
                gap = check_mark(view, older)
                assert gap is not None
                assert "cannot vouch for the store" in gap.reason
                assert gap.lost is None
            assert (gap := check_mark(view, ahead)) is not None
            assert f"entries [{newest.tree_size}, {ahead.tree_size}) are missing" in gap.reason
            assert gap.lost == ahead
            for different in (other, other_before, inside):
                assert (gap := check_mark(view, different)) is not None
                assert "this is another history" in gap.reason
                assert gap.lost == different
            assert (gap := check_mark(view, None)) is not None
            assert f"no high-water mark to hold the store ({newest}) against" in gap.reason


def test_a_mark_in_the_middle_of_the_last_commit_vouches_for_nothing(alliance: Alliance) -> None:
    log = Log(MemoryStore(alliance.origin, alliance.signer.vkey), alliance.signer)
    log.append(alliance.governance)
    with log.view() as view:
        middle = Mark(tree_size=2, root_hash=view.root_hash(2))
        assert (gap := check_mark(view, middle)) is not None
        assert "cannot vouch" in gap.reason


def test_a_marked_store_passes_everything_else_on(tmp_path: Path, alliance: Alliance) -> None:
    inner = MemoryStore(alliance.origin, alliance.signer.vkey)
    with HighWaterMarkFile(tmp_path / "mark", alliance.origin) as file:
        store = MarkedStore(inner, file)
        log = Log(store, alliance.signer)
        log.append(alliance.governance)
        store.rebind("other", expected=log.checkpoint().note, new=b"by the other key", publish=True)
        assert (store.origin, store.log_vkey, store.load()) == (alliance.origin, "other", b"by the other key")
        store.set_restored(True)
        store.set_frozen(True)
        store.publish(b"shown")
        with inner.reader() as reader:
            assert reader.is_restored()
            assert reader.is_frozen()
            assert reader.published() == b"shown"
        assert file.mark is not None
        assert file.mark.tree_size == len(alliance.governance)
        store.close()
    with pytest.raises(StorageError, match="closed"):
        inner.load()


class BlockedMark(RememberedMarks):
    """A mark whose sync takes as long as it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.is_writing = threading.Event()
        self.may_end = threading.Event()

    def write(self, mark: Mark) -> None:
        self.is_writing.set()
        self.may_end.wait()
        super().write(mark)


@contextmanager
def appending(log: Log, entries: Sequence[bytes], mark: BlockedMark) -> Iterator[ThreadPoolExecutor]:
    """Append in another thread, which is at its mark when the block begins and no further before it says."""
    mark.is_writing.clear()
    mark.may_end.clear()
    with ThreadPoolExecutor(3) as threads:
        appended = threads.submit(log.append, entries)
        try:
            mark.is_writing.wait()
            yield threads
        finally:
            mark.may_end.set()
        assert appended.exception() is None


def test_nothing_of_a_commit_is_read_before_its_mark_is_durable_in_whatever_process(
    tmp_path: Path, alliance: Alliance
) -> None:
    inner = LmdbStore.create(tmp_path / "store", alliance.origin, alliance.signer.vkey)
    mark, marked_size = BlockedMark(), MarkedSize.create()
    mark.may_end.set()
    log = Log(MarkedStore(inner, mark, marked_size), alliance.signer)
    log.append(alliance.governance)
    worker = RemoteLog(inner, MarkedSize(os.dup(marked_size.descriptor)), on_lost=lambda error: None)
    new = len(alliance.governance)

    def sizes() -> tuple[int, int | None]:
        event = alliance.entry(1)
        with log.view() as view:
            return view.tree_size, view.leaf_index(*_source_and_id(event))

    def workers_size() -> int:
        with worker.view() as view:
            return view.tree_size

    with appending(log, [alliance.entry(1)], mark) as threads:
        with inner.reader() as reader:
            assert reader.tree_size == new + 1  # who does not wait reads it already
        for at_once in (log, worker):
            with at_once.view_before_mark() as view:
                assert view.tree_size == new + 1
        asked = [threads.submit(sizes), threads.submit(workers_size)]
        assert wait(asked, timeout=0.2).done == set()
        assert log.checkpoint().tree_size == new
        mark.may_end.set()
        assert asked[0].result() == (new + 1, new)
        assert asked[1].result() == new + 1
    worker.close()
    marked_size.close()


def test_where_the_mark_fails_who_reads_is_told_so_and_waits_for_nothing(alliance: Alliance) -> None:
    marks = RememberedMarks()
    log = Log(MarkedStore(MemoryStore(alliance.origin, alliance.signer.vkey), marks), alliance.signer)
    log.append(alliance.governance)
    marks.problem = StorageError("the high-water mark x cannot be written: No space left on device")
    with pytest.raises(StateUnknownError):
        log.append([alliance.entry(1)])
    with pytest.raises(StorageError, match="of size 5, is not in the high-water mark"), log.view():
        pass


def _source_and_id(entry: bytes) -> tuple[str, str]:
    event = parse_event(decode_entry(entry).payload)
    return event.source, event.id
