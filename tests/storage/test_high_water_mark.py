"""The high-water mark on disk: whole or not there, the newest one, and only its own log's."""

from __future__ import annotations

import errno
import os
from hashlib import sha256
from pathlib import Path

import pytest

from tlog.errors import ConfigError, StorageError
from tlog.storage.high_water_mark import SLOT_SPACING_BYTES, HighWaterMarkFile, Mark

ORIGIN = "log.example/alliance"


def mark(number: int) -> Mark:
    return Mark(tree_size=number, root_hash=sha256(b"%d" % number).digest())


def read(path: Path) -> Mark | None:
    with HighWaterMarkFile(path, ORIGIN) as file:
        return file.mark


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "high-water.mark"


def test_there_is_no_mark_and_no_file_before_the_first_write(path: Path) -> None:
    assert read(path) is None
    assert not path.exists()


def test_the_newest_of_many_marks_is_read_again(path: Path) -> None:
    for number in range(1, 12):
        with HighWaterMarkFile(path, ORIGIN) as file:
            file.write(mark(number))
            file.write(mark(100 + number))
            assert file.mark == mark(100 + number)
        assert read(path) == mark(100 + number)
    assert path.stat().st_size == 2 * SLOT_SPACING_BYTES
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_mark_may_go_down_because_the_newest_write_counts_not_the_largest_size(path: Path) -> None:
    with HighWaterMarkFile(path, ORIGIN) as file:
        file.write(mark(9))
        file.write(mark(4))
    assert read(path) == mark(4)


def test_every_torn_write_leaves_the_mark_before_it(path: Path) -> None:
    with HighWaterMarkFile(path, ORIGIN) as file:
        file.write(mark(1))
        file.write(mark(2))
        before = path.read_bytes()
        file.write(mark(3))
    after = path.read_bytes()
    (first, *_), *_, (last, *_) = [
        (at,) for at, (old, new) in enumerate(zip(before, after, strict=True)) if old != new
    ]
    assert last - first < 200
    for cut in range(first, last + 1):
        path.write_bytes(after[:cut] + before[cut:])
        assert read(path) == mark(2)
        path.write_bytes(after[:cut] + b"\xff" + after[cut + 1 :] if after[cut] != 0xFF else before)
        assert read(path) == mark(2)
    path.write_bytes(after)
    assert read(path) == mark(3)


@pytest.mark.parametrize("junk", [b"", b"x", b"\0" * 8192, os.urandom(8192), b"tlogmrk1" * 1024])
def test_a_file_that_holds_no_mark_is_none_and_can_be_written(path: Path, junk: bytes) -> None:
    path.write_bytes(junk)
    assert read(path) is None
    with HighWaterMarkFile(path, ORIGIN) as file:
        file.write(mark(5))
    assert read(path) == mark(5)


def test_another_logs_mark_is_refused_and_never_overwritten(path: Path) -> None:
    with HighWaterMarkFile(path, "another.example/log") as file:
        file.write(mark(5))
    with pytest.raises(ConfigError, match=r"is another log's.*give each log one of its own"):
        HighWaterMarkFile(path, ORIGIN)


def test_a_mark_that_cannot_be_written_is_told_and_the_one_before_stays(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with HighWaterMarkFile(path, ORIGIN) as file:
        file.write(mark(1))
        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", fail)
            with pytest.raises(StorageError, match="cannot be written: Input/output error"):
                file.write(mark(2))
            patch.setattr(os, "fdatasync", lambda descriptor: None)
            patch.setattr(os, "pwrite", lambda descriptor, data, at: len(data) - 1)
            with pytest.raises(StorageError, match="only"):
                file.write(mark(3))
        assert file.mark == mark(1)
        file.write(mark(4))
    assert read(path) == mark(4)


def test_a_place_that_cannot_be_read_or_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be read"):
        HighWaterMarkFile(tmp_path, ORIGIN)
    with HighWaterMarkFile(tmp_path / "no" / "mark", ORIGIN) as file, pytest.raises(StorageError):
        file.write(mark(1))


def test_one_writer_at_a_time_keeps_a_mark_for_two_copies_of_a_log_would_sign_two_histories(
    path: Path,
) -> None:
    with HighWaterMarkFile(path, ORIGIN) as file, HighWaterMarkFile(path, ORIGIN) as other:
        file.write(mark(1))
        with pytest.raises(StorageError, match="another server keeps it"):
            other.write(mark(1))
        file.write(mark(2))
        assert read(path) == mark(2)


def test_a_mark_that_moved_since_it_was_read_is_not_written_over(path: Path) -> None:
    with HighWaterMarkFile(path, ORIGIN) as file:
        file.write(mark(1))
    with HighWaterMarkFile(path, ORIGIN) as late:
        with HighWaterMarkFile(path, ORIGIN) as file:
            file.write(mark(2))
        with pytest.raises(StorageError, match="changed since it was read"):
            late.write(mark(1))
    assert read(path) == mark(2)
