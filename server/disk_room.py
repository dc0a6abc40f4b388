"""How much the store may still grow: appends end before the disk does, and reading goes on.

A disk that is full to the last byte takes more with it than appends: cosignatures, logs, the operator's own
tools. So there is a floor, `[store] min_free_bytes`, and a commit that would go below it is refused whole.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic

from tlog.errors import StorageError, StoreFullError
from tlog.storage.headroom import StoreUsage
from tlog.storage.lmdb_header import DATA_FILE_NAME

WRITTEN_PER_BYTE = 3
"""What a commit may add to the file for every byte of entries: tiles, indexes, pages that are copied."""
COMMIT_BYTES = 2**20
"""What it may add besides."""
SAMPLE_EVERY_S = 10.0
SAMPLES = 360
"""The rate of growth is measured over the last hour."""
MIN_SPAN_S = 5.0


class DiskRoom:
    """Measures the filesystem that the store lies on, and the store; for any thread."""

    def __init__(
        self,
        path: Path,
        *,
        min_free_bytes: int,
        now_s: Callable[[], float] = monotonic,
    ) -> None:
        """Keep `min_free_bytes` of the filesystem of `path` free; 0: no floor."""
        self._path = os.fspath(path)
        self._file = path / DATA_FILE_NAME
        self._min_free_bytes = min_free_bytes
        self._usage: Callable[[], StoreUsage] | None = None
        self._now_s = now_s
        self._samples: deque[tuple[float, int]] = deque(maxlen=SAMPLES)

    @property
    def min_free_bytes(self) -> int:
        """Return the floor."""
        return self._min_free_bytes

    def usage(self) -> StoreUsage:
        """Return what the store's map and its data take; waits while the map grows. Raises StorageError."""
        if self._usage is None:
            raise StorageError("no store is open yet: open one, then measure it")
        return self._usage()

    def measure(self, usage: Callable[[], StoreUsage]) -> None:
        """Take the store's usage from there."""
        self._usage = usage

    def free_bytes(self) -> int:
        """Return what of the filesystem is free for this process. Raises OSError."""
        found = os.statvfs(self._path)
        return found.f_bavail * found.f_frsize

    def require(self, entries_bytes: int) -> None:
        """Check that a commit of so many bytes of entries leaves the floor free. Raises StoreFullError."""
        if not self._min_free_bytes:
            return
        try:
            free_bytes = self.free_bytes()
        except OSError:
            return  # the commit itself will say it better
        needed_bytes = self._min_free_bytes + COMMIT_BYTES + WRITTEN_PER_BYTE * entries_bytes
        if free_bytes < needed_bytes:
            raise StoreFullError(_full(free_bytes, needed_bytes))

    def look(self) -> str | None:
        """Say that the disk is too full for a commit; None where it is not. Measures the growth as well."""
        self._sample()
        try:
            self.require(0)
        except StoreFullError as error:
            return str(error)
        return None

    def file_bytes(self) -> int:
        """Return how large the store's file is. Raises OSError."""
        return self._file.stat().st_size

    def _sample(self) -> None:
        """Take note of the file's size, at most every ten seconds."""
        now_s = self._now_s()
        if not self._samples or now_s - self._samples[-1][0] >= SAMPLE_EVERY_S:
            with suppress(OSError):
                self._samples.append((now_s, self.file_bytes()))

    def horizon_s(self) -> float:
        """Return after how many seconds the floor is reached if the store grows on as it did; inf: never.

        Raises OSError.
        """
        room_bytes = max(0, self.free_bytes() - self._min_free_bytes - COMMIT_BYTES)
        if not room_bytes:
            return 0.0
        if not self._samples:
            return math.inf
        began_s, began_bytes = self._samples[0]
        span_s = self._now_s() - began_s
        grown_bytes = self.file_bytes() - began_bytes
        if span_s < MIN_SPAN_S or grown_bytes <= 0:
            return math.inf
        return room_bytes * span_s / grown_bytes


def _full(free_bytes: int, needed_bytes: int) -> str:
    return (
        f"the disk is too full for an entry more: {free_bytes} bytes are free, and a commit needs "
        f"{needed_bytes} ([store] min_free_bytes is part of that); nothing was written, and reading goes on: "
        "make room, appends then go on by themselves"
    )
