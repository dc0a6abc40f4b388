"""A filesystem of its own that is soon full, for those who may mount one."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PAGE_BYTES = 4096
BALLAST_NAME = "ballast"


@contextmanager
def mounted(path: Path, *, size_bytes: int) -> Iterator[Path]:
    """Mount a filesystem of that size at a new directory while the block runs; skips where nobody may."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small filesystem takes root")
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tlog-test", str(path)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount")
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)


def fill(disk: Path) -> None:
    """Fill a disk with a file of ballast, to the last page."""
    free = os.statvfs(disk)
    (disk / BALLAST_NAME).write_bytes(bytes(free.f_bavail * free.f_frsize))
    assert os.statvfs(disk).f_bavail == 0


def give_back(disk: Path, *, pages: int) -> None:
    """Take pages out of the ballast again."""
    ballast = disk / BALLAST_NAME
    os.truncate(ballast, max(0, ballast.stat().st_size - PAGE_BYTES * pages))
