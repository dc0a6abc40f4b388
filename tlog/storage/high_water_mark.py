"""The high-water mark: size and root of the newest commit, durable outside the store's own directory.

A store that is put back from an old copy looks whole: nothing in it says that there was more. So after every
commit, and before anybody hears of it, its size and root are synced here as well. At the start the two are
held against each other (tlog.mark_check).

File: two slots of 152 bytes, at 0 and at 4096, written in turn, so that a torn write leaves the other one. A
slot is magic (8), number of the write (8), size (8), root hash (32), SHA-256 of the origin (32), zeros (32),
SHA-256 of all that (32); numbers are big-endian. The file has its final length from the beginning: a write
changes neither metadata nor what is allocated, costs one flush of the disk, and needs no space.

Whoever writes holds a lock on the file until it is closed: two copies of a store with one mark would each be
what the mark says, and would sign two histories.

What a crash leaves behind: the mark of this commit or of the one before. The store records which size its
last commit built upon, so these are told apart from everything else.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Self

from tlog.durable_file import sync_directory
from tlog.errors import ConfigError, StorageError, StoreInUseError

SLOT_SPACING_BYTES = 4096
"""How far the slots are apart: no disk writes two of them as one block."""

_MAGIC = b"tlogmrk1"
_SLOT = struct.Struct(">8sQQ32s32s32x")
_DIGEST_BYTES = 32
_FILE_BYTES = 2 * SLOT_SPACING_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Holds size and root hash of the newest commit that was answered for."""

    tree_size: int
    root_hash: bytes

    def __str__(self) -> str:
        """Return `size N, root HEX`, as messages and `tlog accept-loss` write it."""
        return f"size {self.tree_size}, root {self.root_hash.hex()}"


class HighWaterMarkFile:
    """Keeps the mark of one log in one file; for one writer, from any thread, one call at a time."""

    def __init__(self, path: Path, origin: str) -> None:
        """Read the file, if there is one; nothing is written before `write`.

        Raises ConfigError when it is another log's, StorageError when it cannot be read.
        """
        self._path = path
        self._origin_hash = sha256(origin.encode()).digest()
        self._descriptor = -1
        self._number = 0
        self.mark: Mark | None = None
        """The mark that is on the disk; None where there is none, or none that is whole."""
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            raise StorageError(f"the high-water mark {path} cannot be read: {error.strerror}") from error
        for number, mark, origin_hash in _whole_slots(data):
            if origin_hash != self._origin_hash:
                raise ConfigError(
                    f"the high-water mark {path} is another log's, not that of {origin}: give each log one "
                    "of its own ([store] high_water_mark_path)"
                )
            if number > self._number:
                self._number, self.mark = number, mark

    def __enter__(self) -> Self:
        """Return the file itself."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Close the file."""
        self.close()

    @property
    def path(self) -> Path:
        """Return where the mark is kept."""
        return self._path

    def write(self, mark: Mark) -> None:
        """Replace the mark; durable when this returns. Until `close` nobody else writes to the file.

        Raises StorageError: it is the old or the new one then. StoreInUseError where another process keeps
        it, and StorageError where one has written to it since it was read: nothing is written then.
        """
        body = _SLOT.pack(_MAGIC, self._number + 1, mark.tree_size, mark.root_hash, self._origin_hash)
        slot = body + sha256(body).digest()
        try:
            if self._descriptor < 0:
                self._descriptor = self._open()
            at = SLOT_SPACING_BYTES * ((self._number + 1) % 2)
            _write_whole(self._descriptor, slot, at)
            os.fdatasync(self._descriptor)
        except OSError as error:
            raise StorageError(
                f"the high-water mark {self._path} cannot be written: {error.strerror}"
            ) from error
        self._number += 1
        self.mark = mark

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _open(self) -> int:
        """Open the file for writing, alone, and make it as long as it will ever be."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._lock(descriptor)
            old = os.pread(descriptor, _FILE_BYTES, 0)
            self._require_as_read(old)
            if os.fstat(descriptor).st_size < _FILE_BYTES:
                # Zeros, not a hole: the writes to come are to change nothing but these blocks.
                _write_whole(descriptor, old.ljust(_FILE_BYTES, b"\0"), 0)
                os.fsync(descriptor)
                sync_directory(self._path.parent)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _require_as_read(self, data: bytes) -> None:
        if max((number for number, _, _ in _whole_slots(data)), default=0) != self._number:
            raise StorageError(
                f"the high-water mark {self._path} has changed since it was read: another server of this log "
                "wrote to it; make sure that there is one, and start again"
            )

    def _lock(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreInUseError(
                f"the high-water mark {self._path} cannot be written: another server keeps it, perhaps one "
                "that runs on a copy of this log; a second server of one log is never right"
            ) from error


def _whole_slots(data: bytes) -> Iterator[tuple[int, Mark, bytes]]:
    """Yield the number of the write, the mark and the origin's hash of each slot that is whole."""
    for at in (0, SLOT_SPACING_BYTES):
        slot = data[at : at + _SLOT.size + _DIGEST_BYTES]
        body = slot[: _SLOT.size]
        if len(slot) == _SLOT.size + _DIGEST_BYTES and sha256(body).digest() == slot[_SLOT.size :]:
            magic, number, tree_size, root_hash, origin_hash = _SLOT.unpack(body)
            if magic == _MAGIC:
                yield number, Mark(tree_size=tree_size, root_hash=root_hash), origin_hash


def _write_whole(descriptor: int, data: bytes, at: int) -> None:
    written = os.pwrite(descriptor, data, at)
    if written != len(data):
        raise OSError(errno.ENOSPC, f"only {written} of {len(data)} bytes were written")
