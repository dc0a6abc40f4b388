"""Make a store's directory durable: files are not, before the directory that names them is."""

from __future__ import annotations

from pathlib import Path

from tlog import durable_file
from tlog.errors import StorageError


def sync_directory(directory: Path) -> None:
    """Write a directory's list of names to the disk. Raises StorageError."""
    try:
        durable_file.sync_directory(directory)
    except OSError as error:
        raise StorageError(
            f"cannot sync the directory {directory} ({error.strerror}), without which a new log may vanish "
            "with a power cut: it must be readable, and its disk in order"
        ) from error
