"""The batch that is about to be signed elsewhere, on disk before anybody is asked to sign it.

A signer that keeps a high-water mark signs one tree of each size and no other. What it has signed has to be
committed then, whatever happens in between: else the log could never sign again. So the entries are durable
here first; after a crash, or once the signer is back, the same entries make the same tree.

File: magic (8 bytes), size and root hash of the tree that the batch builds upon (8, 32), length of the
entries (8), the entries (each a 2-byte length and its bytes), SHA-256 of all of that. Numbers are big-endian.
It is written in place: a torn file is one that nobody was asked to sign. What builds upon another tree than
the committed one is over and done with.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Protocol

from tlog.durable_file import sync_directory
from tlog.errors import StorageError

PENDING_NAME = "pending.batch"

_HEAD = struct.Struct(">8sQ32sQ")
_LENGTH = struct.Struct(">H")
_MAGIC = b"tlogpnd1"
_DIGEST_BYTES = 32


class PendingBatch(Protocol):
    """Keeps one batch of entries durably until it is committed."""

    def write(self, tree_size: int, root_hash: bytes, entries: Sequence[bytes]) -> None:
        """Keep the entries that come behind a tree; durable when this returns. Raises StorageError."""
        ...

    def read(self, tree_size: int, root_hash: bytes) -> list[bytes]:
        """Return the entries that were kept for behind this tree; none is an empty list.

        Raises StorageError when that cannot be read.
        """
        ...


class PendingBatchFile:
    """Keeps the batch in one file; it is a `PendingBatch`, for one writer."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, tree_size: int, root_hash: bytes, entries: Sequence[bytes]) -> None:
        """Write the file and sync it. Raises StorageError."""
        body = b"".join([part for entry in entries for part in (_LENGTH.pack(len(entry)), entry)])
        data = _HEAD.pack(_MAGIC, tree_size, root_hash, len(body)) + body
        is_new = not self._path.exists()
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data + sha256(data).digest())
                file.flush()
                os.fsync(file.fileno())
            if is_new:
                sync_directory(self._path.parent)
        except OSError as error:
            raise StorageError(
                f"{self._path} cannot be written ({error.strerror}): nothing was signed or committed"
            ) from error

    def read(self, tree_size: int, root_hash: bytes) -> list[bytes]:
        """Read the file; a torn one, or one for another tree, holds nothing. Raises StorageError."""
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StorageError(f"{self._path} cannot be read: {error.strerror}") from error
        if len(data) < _HEAD.size:
            return []
        magic, base_size, base_root, body_bytes = _HEAD.unpack_from(data)
        end = _HEAD.size + body_bytes
        is_whole = sha256(data[:end]).digest() == data[end : end + _DIGEST_BYTES]
        if magic != _MAGIC or not is_whole or (base_size, base_root) != (tree_size, root_hash):
            return []
        entries: list[bytes] = []
        at = _HEAD.size
        while at < end:
            start = at + _LENGTH.size
            at = start + _LENGTH.unpack_from(data, at)[0]
            entries.append(data[start:at])
        return entries
