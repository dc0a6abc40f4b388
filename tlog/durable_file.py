"""Small files and directories that outlive a power cut.

A file is not durable before the directory that names it is. Nothing is translated here: who calls knows what
the file was for, and tells it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def replace_file(path: Path, data: bytes) -> None:
    """Write a file whole through a temporary one beside it, and sync both the file and its directory.

    A crash leaves the old content or the new one. One writer at a time. Raises OSError; then the old content
    is still there.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_directory(path.parent)


def fill_new_file(descriptor: int, path: Path, data: bytes) -> None:
    """Write a file that was just made and opened, and sync both the file and its directory.

    Takes the descriptor over and closes it. Where anything fails, the file is removed again: a part of it
    would stand in the way of the next attempt. Raises OSError.
    """
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        sync_directory(path.parent)
    except BaseException:
        with suppress(OSError):
            path.unlink()
        raise


def sync_directory(path: Path) -> None:
    """Write a directory's list of names to the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
