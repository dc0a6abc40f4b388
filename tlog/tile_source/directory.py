"""Tiles as files: an exported folder to read from, and a folder to keep authenticated tiles in."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from tlog.errors import NotFoundError, RemoteError, StorageError
from tlog.note import MAX_NOTE_BYTES
from tlog.tile_source.base import CHECKPOINT_PATH, check_tile_bytes, max_tile_bytes
from tlog.tiles import Tile


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectoryTileSource:
    """Reads a folder that holds a log's tiles under their own paths; is a TileSource."""

    path: Path
    concurrency: int = 1
    from_disk: bool = False
    """Let go of what the system keeps in memory of a file before it is read: for who checks the disk."""

    @property
    def name(self) -> str:
        """Return the folder's path."""
        return str(self.path)

    def checkpoint(self) -> bytes:
        """Read the signed checkpoint note. Raises NotFoundError, StorageError, RemoteError."""
        return self._read(CHECKPOINT_PATH, MAX_NOTE_BYTES)

    def tile(self, tile: Tile) -> bytes:
        """Read a tile of just this width. Raises NotFoundError, MalformedError, StorageError, RemoteError."""
        data = self._read(tile.path, max_tile_bytes(tile))
        check_tile_bytes(tile, data, self.name)
        return data

    def _read(self, name: str, max_bytes: int) -> bytes:
        try:
            # What is a pipe would else be waited for, until somebody writes into it.
            descriptor = os.open(self.path / name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                mode = os.fstat(descriptor).st_mode
                if stat.S_ISDIR(mode):
                    raise NotFoundError(f"{self.path / name} is a folder, where a file is needed")
                if not stat.S_ISREG(mode):
                    raise RemoteError(f"{self.path / name} is no regular file: put the log's in its place")
                if self.from_disk:
                    # Only what is on the disk already is let go; the rest is still to be forced there.
                    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                with os.fdopen(descriptor, "rb", closefd=False) as file:
                    data = file.read(max_bytes + 1)
            finally:
                os.close(descriptor)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NotFoundError(f"{self.path} has no {name}") from error
        except OSError as error:
            raise StorageError(f"{self.path / name} cannot be read: {error.strerror}") from error
        if len(data) > max_bytes:
            raise RemoteError(f"{self.path / name} is longer than {max_bytes} bytes, so it is something else")
        return data


class DirectoryTileCache:
    """Keeps authenticated tiles in a folder, laid out as a log's tiles are; is a TileCache.

    Nothing is forced to the disk: a file that a crash left torn is told by its hashes, and fetched again.
    """

    def __init__(self, path: Path) -> None:
        self._source = DirectoryTileSource(path=path)

    def get(self, tile: Tile) -> bytes | None:
        """Return what is kept under this name, whatever it is, or None."""
        return read_if_there(self._source, tile)

    def put(self, tile: Tile, data: bytes) -> None:
        """Keep an authenticated tile. Raises StorageError."""
        path = self._source.path / tile.path
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                temporary.write_bytes(data)
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"{path} cannot be written: {error.strerror}") from error


def read_if_there(source: DirectoryTileSource, tile: Tile) -> bytes | None:
    """Read a tile, or return None where it is not there, or is not of the right form."""
    try:
        return source.tile(tile)
    except (StorageError, RemoteError, ValueError):
        return None
