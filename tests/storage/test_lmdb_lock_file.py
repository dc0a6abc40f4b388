"""LMDB's lock file: its blocks are there before LMDB maps it, and one that is in use is left alone."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tlog.errors import StorageError, StoreInUseError
from tlog.storage.lmdb_lock_file import make_lock_file
from tlog.storage.lmdb_pages import open_data_file
from tlog.storage.lmdb_store import LmdbStore

OTHERS_LOCK = """
import fcntl, sys
with open(sys.argv[1], "r+b") as file:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1)
    except BlockingIOError:
        print("held")
"""


def test_a_new_store_has_no_hole_in_its_lock_file(tmp_path: Path) -> None:
    with_store = LmdbStore.create(tmp_path / "store", "log.example/a", "log.example/a+00000000+AAAA")
    status = (tmp_path / "store" / "lock.mdb").stat()
    with_store.close()
    assert status.st_size == 128 + 64 * 1024
    assert status.st_blocks * 512 >= status.st_size
    assert sorted(file.name for file in (tmp_path / "store").iterdir() if file.name.startswith("lock")) == [
        "lock.mdb"
    ]


def test_a_disk_that_is_full_half_way_leaves_no_lock_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(descriptor: int, offset: int, size: int) -> None:
        os.ftruncate(descriptor, size // 2)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", half)
    with pytest.raises(StorageError, match=r"lock\.mdb cannot be made: No space left on device"):
        make_lock_file(tmp_path, max_readers=1_024)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    make_lock_file(tmp_path, max_readers=1_024)
    assert [(file.name, file.stat().st_size) for file in tmp_path.iterdir()] == [
        ("lock.mdb", 128 + 64 * 1_024)
    ]


def test_looking_at_a_store_that_this_process_has_open_does_not_let_go_of_lmdb_s_lock(tmp_path: Path) -> None:
    store = LmdbStore.create(tmp_path / "store", "log.example/a", "log.example/a+00000000+AAAA")
    try:
        for look in (
            lambda: open_data_file(tmp_path / "store").__enter__(),
            lambda: LmdbStore.open(tmp_path / "store", None, None, read_only=True),
        ):
            try:
                look()
            except StoreInUseError:
                continue
            raise AssertionError("the store was opened twice")
        command = [sys.executable, "-c", OTHERS_LOCK, str(tmp_path / "store" / "lock.mdb")]
        assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "held\n"
    finally:
        store.close()
