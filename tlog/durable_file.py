"""Small files and directories that outlive a power cut.

A file is not durable before the directory that names it is. Nothing is translated here: who calls knows what
the file was for, and tells it.
"""

from __future__ import annotations

import os
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


def sync_directory(path: Path) -> None:
    """Write a directory's list of names to the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
