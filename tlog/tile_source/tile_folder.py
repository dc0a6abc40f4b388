"""A folder of tiles that is written: durable, each file whole or absent, by one writer at a time.

Files are prepared in a folder of their own, forced to the disk, and then renamed to their places; the
checkpoint comes last. What a crash leaves behind: the old checkpoint with all of its tiles, perhaps some
newer tiles, and what was prepared, which the next writer removes.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from tlog.errors import StorageError, StoreInUseError
from tlog.tile_source.base import CHECKPOINT_PATH
from tlog.tile_source.directory import DirectoryTileSource, read_if_there
from tlog.tiles import Tile

FILES_AT_ONCE = 128
"""How many files at most are prepared before they go to their places."""
SYNCS_AT_ONCE = 16
"""How many files are forced to the disk at a time: those share a commit of the file system's journal, and one
after the other would each wait for one of its own."""

_PREPARING = ".preparing"


class TileFolder:
    """Writes tiles and then the checkpoint over them; is a TileCache. Use `open`."""

    def __init__(self, path: Path, threads: ThreadPoolExecutor) -> None:
        """Write below a path, and force files to the disk in `threads`; use `open`."""
        self._path = path
        self._threads = threads
        self._source = DirectoryTileSource(path=path)
        self._preparing = path / _PREPARING
        # What is prepared, and when it is on the disk, by the place that it goes to.
        self._prepared: dict[Path, tuple[Path, Future[None]]] = {}
        self._changed: set[Path] = set()  # folders with names that are not yet forced to the disk
        self._count = 0

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[Self]:
        """Open a folder for the block, making it where only its parent exists.

        What the block leaves prepared is dropped. Raises StoreInUseError when another process writes there,
        StorageError when nothing can be written.
        """
        with _told(path):
            path.mkdir(exist_ok=True)
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise StoreInUseError(f"another process writes to {path}: wait until it is done") from error
            threads = ThreadPoolExecutor(SYNCS_AT_ONCE, "tile-folder")
            self = cls(path, threads)
            try:
                with _told(path):
                    shutil.rmtree(self._preparing, ignore_errors=True)
                    self._preparing.mkdir()
                yield self
            finally:
                threads.shutdown(cancel_futures=True)
                shutil.rmtree(self._preparing, ignore_errors=True)
        finally:
            os.close(descriptor)

    @property
    def source(self) -> DirectoryTileSource:
        """Return the folder as it can be read now."""
        return self._source

    def get(self, tile: Tile) -> bytes | None:
        """Return what is in a tile's place, whatever it is, or None."""
        return read_if_there(self._source, tile)

    def put(self, tile: Tile, data: bytes) -> None:
        """Write an authenticated tile, in its place after the next `flush` at the latest."""
        self._prepare(tile.path, data)
        if len(self._prepared) >= FILES_AT_ONCE:
            self._settle()

    def flush(self) -> None:
        """Force everything that was put to the disk, under its own name. Raises StorageError."""
        self._settle()
        with _told(self._path):
            for folder in sorted(self._changed, reverse=True):
                _fsync(folder)
        self._changed.clear()

    def put_checkpoint(self, note: bytes) -> None:
        """Replace the checkpoint, after all that was put before is on the disk. Raises StorageError."""
        self.flush()
        self._prepare(CHECKPOINT_PATH, note)
        self.flush()

    def remove_partials(self, tile: Tile) -> None:
        """Remove all partials of a tile that is there in full; one that cannot be removed does no harm."""
        full = self._path / Tile(tile.level, tile.index).path
        if full.is_file():
            shutil.rmtree(full.with_name(f"{full.name}.p"), ignore_errors=True)

    def _prepare(self, name: str, data: bytes) -> None:
        self._count += 1
        prepared = self._preparing / str(self._count)
        with _told(self._path):
            prepared.write_bytes(data)
        place = self._path / name
        with suppress(KeyError):
            # Whether that one was forced to the disk does not matter any more.
            self._prepared.pop(place)[0].unlink(missing_ok=True)
        self._prepared[place] = prepared, self._threads.submit(_fsync, prepared)

    def _settle(self) -> None:
        """Wait until all that is prepared is on the disk, and rename it to its place."""
        with _told(self._path):
            for _, synced in self._prepared.values():
                synced.result()
            for place, (prepared, _) in self._prepared.items():
                self._make_folder(place.parent)
                prepared.replace(place)
                self._changed.add(place.parent)
        self._prepared.clear()

    def _make_folder(self, folder: Path) -> None:
        if folder.is_dir():
            return
        self._make_folder(folder.parent)
        folder.mkdir()
        self._changed.add(folder.parent)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = error.filename or path
        raise StorageError(
            f"nothing more can be written to {path}: {where}: {error.strerror}; what is there stays valid, "
            "start again when this is mended"
        ) from error


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
