from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from _support.signers import signer

from tlog.checkpoint import Checkpoint, format_checkpoint, parse_checkpoint
from tlog.client.checkpoint_file import MAX_FILE_BYTES, CheckpointFile
from tlog.errors import ConfigError, ConflictError, CorruptionError, StorageError
from tlog.note import parse_note, sign_note

ORIGIN = "log.example/trade"
LOG = signer(ORIGIN)


def note(size: int, origin: str = ORIGIN, root: int = 0) -> bytes:
    return sign_note(format_checkpoint(Checkpoint(origin, size, root.to_bytes(32, "big"))), [LOG])


def size_in(data: bytes) -> int:
    return parse_checkpoint(parse_note(data)[0]).tree_size


@pytest.fixture
def file(tmp_path: Path) -> CheckpointFile:
    return CheckpointFile(tmp_path / "trusted", ORIGIN)


def test_a_file_that_is_not_there_holds_nothing(file: CheckpointFile) -> None:
    assert file.load() is None


def test_what_is_written_is_read(file: CheckpointFile) -> None:
    assert file.advance(expected=None, new=note(3)) == note(3)
    assert file.load() == note(3)
    assert file.path.read_bytes() == note(3)
    assert file.advance(expected=note(3), new=note(9)) == note(9)
    assert CheckpointFile(file.path, ORIGIN).load() == note(9)


def test_it_never_goes_back(file: CheckpointFile) -> None:
    file.advance(expected=None, new=note(9))
    with pytest.raises(ConflictError, match=r"size 9.* size 8"):
        file.advance(expected=note(9), new=note(8))
    assert file.load() == note(9)


def test_what_another_process_wrote_is_answered_and_not_overwritten(file: CheckpointFile) -> None:
    file.advance(expected=None, new=note(9))
    assert file.advance(expected=note(3), new=note(12)) == note(9)
    assert file.advance(expected=None, new=note(12)) == note(9)
    assert file.load() == note(9)


@pytest.mark.parametrize(
    "content",
    [b"", b"\x00" * 100, note(7)[:-1], note(7)[:40], b"x" * (MAX_FILE_BYTES + 1), note(7) + b"\n", b"\xff"],
)
def test_a_corrupt_file_is_an_error_and_stays_as_it_is(file: CheckpointFile, content: bytes) -> None:
    file.path.write_bytes(content)
    with pytest.raises(CorruptionError, match="Restore it"):
        file.load()
    with pytest.raises(CorruptionError, match="Restore it"):
        file.advance(expected=None, new=note(9))
    assert file.path.read_bytes() == content


def test_a_file_of_another_origin_is_refused(file: CheckpointFile) -> None:
    file.path.write_bytes(note(7, "other.example"))
    with pytest.raises(ConfigError, match=r"other\.example"):
        file.load()


def test_a_missing_directory_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a directory"):
        CheckpointFile(tmp_path / "nowhere" / "trusted", ORIGIN)


def test_what_the_system_refuses_is_a_storage_error(file: CheckpointFile) -> None:
    file.path.mkdir()
    with pytest.raises(StorageError, match="cannot be read"):
        file.load()
    file.path.rmdir()
    file.path.with_name("trusted.tmp").mkdir()
    with pytest.raises(StorageError, match="cannot be written"):
        file.advance(expected=None, new=note(1))
    assert file.load() is None


def _climb(path: Path, stop: int) -> None:
    """Raise the file to `stop` in steps of one, against whoever else does the same."""
    file = CheckpointFile(path, ORIGIN)
    known: bytes | None = None
    size = 0
    while size < stop:
        new = note(size + 1)
        stored = file.advance(expected=known, new=new)
        assert size_in(stored) >= size + 1 or known is None
        known, size = stored, size_in(stored)


def test_processes_that_share_a_file_never_move_it_back(tmp_path: Path) -> None:
    path = tmp_path / "trusted"
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_climb, args=(path, 60)) for _ in range(2)]
    for writer in writers:
        writer.start()
    seen = 0
    while any(writer.is_alive() for writer in writers):
        if path.exists():
            size = size_in(path.read_bytes())
            assert size >= seen
            seen = size
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert size_in(path.read_bytes()) == 60


def test_threads_that_share_a_file_exclude_each_other(file: CheckpointFile) -> None:
    threads = [threading.Thread(target=_climb, args=(file.path, 40)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert size_in(file.path.read_bytes()) == 40


_WRITE_FOR_EVER = """
import sys
from pathlib import Path
sys.path[:0] = {paths!r}
from tlog.checkpoint import Checkpoint, format_checkpoint
from tlog.client.checkpoint_file import CheckpointFile
from tlog.note import Signer, sign_note
signer = Signer.from_skey({skey!r})
file = CheckpointFile(Path({path!r}), signer.name)
known = file.load()
size = {start}
while True:
    size += 1
    new = sign_note(format_checkpoint(Checkpoint(signer.name, size, bytes(32))), [signer])
    known = file.advance(expected=known, new=new)
    print(size, flush=True)
"""


def test_a_kill_in_the_middle_of_writes_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "trusted"
    acknowledged = 0
    for round_number in range(5):
        script = _WRITE_FOR_EVER.format(
            paths=[entry for entry in sys.path if entry], skey=LOG.skey, path=str(path), start=acknowledged
        )
        writer = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        acknowledged = int(writer.stdout.readline())
        time.sleep(0.003 * round_number)
        os.kill(writer.pid, signal.SIGKILL)
        lines = writer.stdout.read().splitlines()
        writer.stdout.close()
        writer.wait()
        if lines:
            acknowledged = int(lines[-1])
        # The file may be one write ahead of what was said; it is whole, and never behind.
        stored = CheckpointFile(path, ORIGIN).load()
        assert stored is not None
        assert size_in(stored) - acknowledged in (0, 1)
        acknowledged = size_in(stored)
    assert acknowledged > 5
