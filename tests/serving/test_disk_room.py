"""The floor under the disk, and when it will be reached."""

from __future__ import annotations

import math
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from server.disk_room import DiskRoom
from tlog.errors import StoreFullError


class Clock:
    now_s = 1_000.0


def room_in(path: Path, clock: Clock, *, min_free_bytes: int) -> DiskRoom:
    return DiskRoom(
        path,
        min_free_bytes=min_free_bytes,
        now_s=lambda: clock.now_s,
    )


def free(monkeypatch: pytest.MonkeyPatch, free_bytes: int) -> None:
    """Let statvfs find so much free for ordinary users, and more for root."""

    class Found:
        f_frsize = 1
        f_bavail = free_bytes
        f_bfree = 2**50

    monkeypatch.setattr(os, "statvfs", lambda path: Found)


def test_a_commit_that_would_go_below_the_floor_is_refused_with_the_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = room_in(tmp_path, Clock(), min_free_bytes=1_000)
    needed = 1_000 + 2**20 + 3 * 500
    free(monkeypatch, needed)
    room.require(500)
    with pytest.raises(StoreFullError, match=str(needed)):
        room.require(501)
    free(monkeypatch, 1_000)
    assert "make room" in str(room.look())


def test_without_a_floor_nothing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = room_in(tmp_path, Clock(), min_free_bytes=0)
    free(monkeypatch, 0)
    room.require(2**30)
    assert room.look() is None


def test_the_horizon_follows_from_the_growth_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    room = room_in(tmp_path, clock, min_free_bytes=2**21)
    file = tmp_path / "data.mdb"
    free(monkeypatch, 2**21 + 2**20 + 10_000_000)
    assert room.horizon_s() == math.inf
    file.write_bytes(bytes(1_000))
    assert room.look() is None
    assert room.horizon_s() == math.inf  # nothing has grown yet
    clock.now_s += 100.0
    file.write_bytes(bytes(101_000))
    assert room.horizon_s() == pytest.approx(10_000.0)  # 1,000 bytes a second into 10 MB
    free(monkeypatch, 2**21 - 1)
    assert room.horizon_s() == 0.0


GROWING = """
import resource, sys
from pathlib import Path
sys.path[:0] = ["tests"]
from _support.alliance import Alliance
from tlog.errors import StateUnknownError, StoreFullError
from tlog.log import Log
from tlog.storage.lmdb_store import LmdbStore

alliance = Alliance()
path = Path(sys.argv[1])
store = LmdbStore.create(path, alliance.origin, alliance.signer.vkey, map_size_bytes=2**20)
log = Log(store, alliance.signer)
log.append(alliance.governance)
pages = int(Path("/proc/self/statm").read_text().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 24 * 2**20,) * 2)
size = 0
try:
    for number in range(0, 100_000, 200):
        log.append(alliance.entries(number, number + 200))
        size = log.checkpoint().tree_size
except StoreFullError as error:
    assert "ulimit -v" in str(error), error
    assert len(log.entries(size - 10, size)) == 10
    assert log.checkpoint().tree_size == size
    print("refused, and reading goes on")
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_a_map_that_may_not_grow_refuses_entries_and_the_log_can_still_be_read(tmp_path: Path) -> None:
    assert resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY
    done = subprocess.run(
        [sys.executable, "-c", GROWING, str(tmp_path / "store")],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stdout == "refused, and reading goes on\n", done.stderr
