"""Which failed commit is the disk's failure, so that nothing may go on, and which is a want of room."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path
from types import SimpleNamespace

import lmdb
import pytest

from tlog.storage.lmdb_errors import is_broken_disk
from tlog.storage.lmdb_header import DATA_FILE_NAME


def failed(code: int) -> lmdb.Error:
    error = lmdb.Error("mdb_txn_commit: it failed")
    error.code = code
    return error


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / DATA_FILE_NAME).write_bytes(bytes(4096))
    room(monkeypatch, 2**30)
    return tmp_path


def room(monkeypatch: pytest.MonkeyPatch, room_bytes: int) -> None:
    disk = SimpleNamespace(f_bavail=room_bytes // 4096, f_frsize=4096)
    monkeypatch.setattr(os, "statvfs", lambda path: disk)


def test_an_eio_with_room_left_is_a_broken_disk_and_no_other_error_is(path: Path) -> None:
    assert is_broken_disk(failed(errno.EIO), path)
    assert not is_broken_disk(failed(errno.ENOSPC), path)
    assert not is_broken_disk(lmdb.Error("without a code"), path)


def test_an_eio_on_a_full_disk_or_at_a_files_limit_is_a_write_that_was_cut_short(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        room(patched, 2**20)
        assert not is_broken_disk(failed(errno.EIO), path)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (8192, 8192))
    assert not is_broken_disk(failed(errno.EIO), path)


def test_a_disk_that_cannot_even_be_asked_is_broken(path: Path) -> None:
    (path / DATA_FILE_NAME).unlink()
    assert is_broken_disk(failed(errno.EIO), path)
