"""LMDB's lock file, with its blocks on the disk before LMDB maps it.

LMDB makes it as a hole, and writes to it through the map. On a full disk the kernel has no block to give
for that, and ends the process by SIGBUS. With the blocks there beforehand, a full disk is an error like any
other.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

from tlog.errors import StorageError

LOCK_FILE_NAME: Final = "lock.mdb"
_HEAD_BYTES = 128
_READER_BYTES = 64
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def make_lock_file(directory: Path, *, max_readers: int) -> None:
    """Make the lock file of an environment where there is none, as long as LMDB wants it; leaves any other.

    What else keeps it from being made is left for LMDB to meet, which can do without on a file system that
    is read-only. Raises StorageError on a full disk.
    """
    path = directory / LOCK_FILE_NAME
    try:
        if path.exists() and path.stat().st_size:
            # Never opened here: to close it would let go of the record locks by which this process' own
            # environment, if it has one open, keeps others from beginning the file anew.
            return
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, _HEAD_BYTES + max_readers * _READER_BYTES)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno in _FULL:
            raise StorageError(f"{path} cannot be made: {error.strerror}; make room on the disk") from error
