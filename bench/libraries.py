"""Libraries that keep entries in a file, without a server: what bare storage and another Merkle tree cost.

pymerkle is GPL-3.0: it is asked here, in the bench, for comparison, and nothing that is shipped uses it.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import lmdb
from pymerkle import SqliteTree

from bench.peer_adapters.adapter import Work
from bench.prefilled import LIB_VERSION, MAP_BYTES

_NUMBER = struct.Struct(">Q")
_LEAF_PREFIX = b"\x00"


class Library(Protocol):
    """Appends entries to a file of its own."""

    def append(self, entries: Sequence[bytes]) -> None:
        """Append entries in one durable transaction."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...


class HashedLmdb:
    """Is the floor `hash`: SHA-256 of every entry, and both into a bare LMDB. No proof, no index."""

    name = "SHA-256 + LMDB"
    work = Work(signatures="no", duplicates="no", proof="no", durable="yes", in_tree="no tree")

    def __init__(self, folder: Path) -> None:
        """Open the LMDB of an existing folder, or make one there."""
        self._environment = lmdb.open(
            os.fsencode(folder), map_size=MAP_BYTES, max_dbs=1, lib_version=LIB_VERSION
        )
        self._table = self._environment.open_db(b"entries")
        with self._environment.begin() as transaction:
            self.size = int(transaction.stat(self._table)["entries"])

    def append(self, entries: Sequence[bytes]) -> None:
        """Append entries in one durable transaction."""
        with (
            self._environment.begin(write=True) as transaction,
            transaction.cursor(self._table) as cursor,
        ):
            cursor.putmulti(
                (
                    (_NUMBER.pack(number), hashlib.sha256(_LEAF_PREFIX + entry).digest() + entry)
                    for number, entry in enumerate(entries, self.size)
                ),
                append=True,
            )
        self.size += len(entries)

    def close(self) -> None:
        """Close the environment."""
        self._environment.close()


class PymerkleTree:
    """Is pymerkle's tree in SQLite; after each batch its root is asked for, as a log signs one."""

    name = "pymerkle, SQLite"
    work = Work(signatures="no", duplicates="no", proof="no, the root", durable="yes", in_tree="yes")

    def __init__(self, folder: Path) -> None:
        """Open the tree of an existing folder, or make one there."""
        self._tree = SqliteTree(str(folder / "tree.sqlite"))
        self.root_hash = b""

    @property
    def size(self) -> int:
        """Return how many entries it holds."""
        return int(self._tree.get_size())

    def append(self, entries: Sequence[bytes]) -> None:
        """Append entries in one durable transaction, and compute the root."""
        self._tree.append_entries(entries)
        self.root_hash = bytes(self._tree.get_root())

    def close(self) -> None:
        """Close the database."""
        self._tree.close()
