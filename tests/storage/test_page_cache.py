"""What a broken sync left in the page cache is not believed: it is written anew, or nothing is opened."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from _support import child
from _support.stored_rows import LOG_VKEY, ORIGIN, commit_rows, load_edge

from tlog.errors import StorageError
from tlog.storage.lmdb_header import META_PAGE_BYTES
from tlog.storage.lmdb_store import LmdbStore
from tlog.storage.page_cache import settle_data_file


@pytest.fixture
def path(tmp_path: Path) -> Path:
    store = LmdbStore.create(tmp_path / "store", ORIGIN, LOG_VKEY)
    commit_rows(store, [300])
    store.close()
    return tmp_path / "store"


def test_both_meta_pages_are_written_anew_and_synced_before_a_store_is_built_upon(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, int]] = []
    data = (path / "data.mdb").read_bytes()
    real_pwrite, real_sync = os.pwrite, os.fdatasync

    def pwrite(descriptor: int, written: bytes, at: int) -> int:
        if len(written) == META_PAGE_BYTES:
            assert written == data[at : at + META_PAGE_BYTES]
            calls.append(("write", at))
        return real_pwrite(descriptor, written, at)

    def sync(descriptor: int) -> None:
        calls.append(("sync", 0))
        real_sync(descriptor)

    monkeypatch.setattr(os, "pwrite", pwrite)
    monkeypatch.setattr(os, "fdatasync", sync)
    LmdbStore.open(path, ORIGIN, LOG_VKEY, read_only=True).close()
    assert calls == []
    LmdbStore.open(path, ORIGIN, LOG_VKEY).close()
    assert calls == [("sync", 0), ("write", 0), ("write", 4096), ("sync", 0)]
    assert (path / "data.mdb").read_bytes() == data


def test_a_disk_that_does_not_take_it_is_told_and_nothing_is_opened(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", broken)
        with pytest.raises(StorageError, match="perhaps the disk does not have what it shows"):
            LmdbStore.open(path, ORIGIN, LOG_VKEY)
    store = LmdbStore.open(path, ORIGIN, LOG_VKEY)
    assert load_edge(store).tree_size == 300
    store.close()


def test_after_a_start_that_the_disk_failed_the_next_one_reads_from_the_disk(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    forgotten: list[int] = []
    monkeypatch.setattr(os, "posix_fadvise", lambda *call: forgotten.append(call[0]))
    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", broken)
        for _ in range(2):
            with pytest.raises(StorageError):
                LmdbStore.open(path, ORIGIN, LOG_VKEY)
    assert not forgotten
    LmdbStore.open(path, ORIGIN, LOG_VKEY).close()
    assert len(forgotten) == 1
    LmdbStore.open(path, ORIGIN, LOG_VKEY).close()
    assert len(forgotten) == 1


def test_a_meta_page_that_is_written_short_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "pwrite", lambda descriptor, data, at: len(data) - 1)
    with pytest.raises(StorageError, match="cannot be made durable"):
        settle_data_file(path, forget=False)


def test_only_after_a_writer_that_did_not_end_well_everything_is_read_from_the_disk(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgotten: list[bool] = []
    monkeypatch.setattr(
        "tlog.storage.lmdb_environment.settle_data_file",
        lambda directory, *, forget: forgotten.append(forget) or settle_data_file(directory, forget=forget),
    )
    LmdbStore.open(path, ORIGIN, LOG_VKEY).close()
    script = f"""
import os, signal
from tlog.storage.lmdb_store import LmdbStore
store = LmdbStore.open({str(path)!r}, {ORIGIN!r}, {LOG_VKEY!r})
print("open", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    with child.start(script) as writer:
        assert child.read_line(writer) == "open"
        writer.wait(30)
    for _ in range(2):
        LmdbStore.open(path, ORIGIN, LOG_VKEY).close()
    assert forgotten == [False, True, False]
