"""A new directory that appears whole or not at all, for the commands that make one."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tlog.durable_file import sync_directory
from tlog.errors import ConfigError, StorageError


@contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """Yield a temporary sibling of `path` that takes its place when the block ends well, and goes when not.

    Raises ConfigError when `path` is anything but absent or an empty directory, StorageError when it cannot
    be made. A crash leaves the sibling behind, named after `path`, and never `path` itself half made.
    """
    target = path.absolute()
    if not target.parent.is_dir():
        raise ConfigError(f"{target.parent} is not a directory: make it first")
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise ConfigError(f"{path} exists and is no directory: choose another one")
    if target.is_dir() and any(target.iterdir()):
        raise ConfigError(
            f"{path} is not empty: only a new or empty directory can be used, choose another one"
        )
    if target.is_dir() and target.samefile(Path.cwd()):
        raise ConfigError(
            f"{path} is where you are, and would be replaced: run this from its parent directory"
        )
    try:
        building = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent))
    except OSError as error:
        raise StorageError(f"nothing can be made in {target.parent}: {error.strerror}") from error
    try:
        yield building
        _fsync_directories(building)
        # Replaces an empty directory in one step; if somebody filled it meanwhile, this fails.
        building.rename(target)
        sync_directory(target.parent)
    except OSError as error:
        raise StorageError(f"{path} cannot be made: {error.strerror}; nothing was left behind") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)


def write_durably(path: Path, data: bytes) -> None:
    """Write a new file and force it to the disk. Raises OSError."""
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _fsync_directories(top: Path) -> None:
    for directory, _, _ in os.walk(top):
        sync_directory(Path(directory))
