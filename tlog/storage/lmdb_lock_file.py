"""LMDB's lock file, with its blocks on the disk before LMDB maps it.

LMDB makes it as a hole, and writes to it through the map. On a full disk the kernel has no block to give
for that, and ends the process by SIGBUS. With the blocks there beforehand, a full disk is an error like any
other.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
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
    # Whole or not at all, and never one that is there: to open and close that would let go of the record
    # locks by which this process' own environment, if it has one open, keeps others from beginning it anew.
    aside = directory / f"{LOCK_FILE_NAME}.{os.getpid()}"
    try:
        if path.exists():
            return
        descriptor = os.open(aside, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, _HEAD_BYTES + max_readers * _READER_BYTES)
            with suppress(FileExistsError):
                os.link(aside, path)
        finally:
            os.close(descriptor)
            aside.unlink()
    except OSError as error:
        if error.errno in _FULL:
            raise StorageError(f"{path} cannot be made: {error.strerror}; make room on the disk") from error
