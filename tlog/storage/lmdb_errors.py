"""LMDB's errors as this project's: what is wrong, and what to do."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path

import lmdb

from tlog.errors import CorruptionError, StateUnknownError, StorageError
from tlog.storage.lmdb_header import DATA_FILE_NAME

MAX_READERS = 1024
"""How many readers of all processes may be open at once; LMDB refuses the next one."""


_ROOM_BYTES = 2**26


def is_broken_disk(error: lmdb.Error, path: Path) -> bool:
    """Return whether it was the disk that failed in a commit, and not that there was no room.

    LMDB says EIO for both: its own word for a write that was cut short is the same as the disk's.
    """
    if getattr(error, "code", None) != errno.EIO:
        return False
    try:
        disk, file_bytes = os.statvfs(path), (path / DATA_FILE_NAME).stat().st_size
    except OSError:
        return True
    most_bytes, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    has_room = disk.f_bavail * disk.f_frsize >= _ROOM_BYTES
    return has_room and (most_bytes == resource.RLIM_INFINITY or most_bytes - file_bytes >= _ROOM_BYTES)


def translated(path: Path, error: lmdb.Error, consequence: str = "") -> StorageError:
    """Make this project's error of one of LMDB's."""
    what = f"{path}: {error}" + (f": {consequence}" if consequence else "")
    match error:
        case lmdb.CorruptedError() | lmdb.PageNotFoundError() | lmdb.InvalidError() | lmdb.BadTxnError():
            return CorruptionError(f"{what}; the database is damaged, restore it from a backup")
        case lmdb.VersionMismatchError():
            return StorageError(f"{what}; another LMDB version uses this directory")
        case lmdb.ReadersFullError():
            return StorageError(f"{what}; more than {MAX_READERS} readers are open at once")
        case lmdb.PanicError():
            return StateUnknownError(f"{what}; an earlier commit broke off, open the store anew")
        case _:
            return StorageError(
                f"{what}; check that this user may read and write the directory, and the disk"
            )
