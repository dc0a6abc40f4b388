"""What every store's reader has in common: ranges are checked, and nothing unchecked is handed out.

A store implements `Snapshot`, the bare look-up of rows; `SnapshotReader` makes a `Reader` of it. So a missing
tile or a row of the wrong length is the same CorruptionError whatever the rows are kept in.
"""

from __future__ import annotations

from typing import Protocol

from tlog.encoding import MAX_SIZE
from tlog.errors import CorruptionError, MalformedError, OutOfRangeError, StorageError
from tlog.integrate import (
    TILE_HEIGHT,
    TILE_WIDTH,
    node_coordinates,
    stored_tile_bytes,
    tile_node,
    tile_siblings,
    tile_width,
)
from tlog.storage.base import BUSINESS_KEY_BYTES, IDENTITY_BYTES


class Snapshot(Protocol):
    """Looks rows up in one consistent state of a store, without checking them."""

    @property
    def committed(self) -> bytes | None:
        """Return the committed checkpoint note, or None."""
        ...

    @property
    def published(self) -> bytes | None:
        """Return the published checkpoint note, or None."""
        ...

    @property
    def tree_size(self) -> int:
        """Return the committed size."""
        ...

    def tile(self, level: int, index: int) -> bytes | memoryview | None:
        """Return the stored tile, or None; a memoryview lives only as long as the snapshot."""
        ...

    def entries(self, start: int, end: int) -> list[bytes]:
        """Return entries [start, end) in order, or fewer where some are missing."""
        ...

    def leaf_index(self, identity: bytes) -> int | None:
        """Return the leaf index stored for an identity, or None."""
        ...

    def business_key(self, key: bytes, start: int, limit: int) -> list[int]:
        """Return the first `limit` leaf indices >= start that are stored for a business key, ascending."""
        ...

    def governance(self) -> list[int]:
        """Return the leaf indices of all governance entries, ascending."""
        ...

    @property
    def frozen(self) -> bool:
        """Return whether the log is marked as frozen."""
        ...

    @property
    def restored(self) -> bool:
        """Return whether the store is marked as made from a backup."""
        ...

    @property
    def marked(self) -> bool:
        """Return whether a high-water mark is kept of the log."""
        ...

    @property
    def previous_size(self) -> int | None:
        """Return the size that the last commit built upon, or None."""
        ...


class SnapshotReader:
    """Reads a snapshot and checks every answer against the committed size; a `tlog.storage.base.Reader`."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._open: Snapshot | None = snapshot
        # By level, the tile that was read last: neighbours' proofs need the same ones.
        self._tiles: dict[int, tuple[int, bytes | memoryview]] = {}

    def end(self) -> None:
        """Let go of the snapshot: every later call raises StorageError."""
        self._open = None
        self._tiles.clear()

    @property
    def _snapshot(self) -> Snapshot:
        if self._open is None:
            raise StorageError("this reader's block has ended: open another reader")
        return self._open

    def committed(self) -> bytes | None:
        """Return the committed checkpoint note, or None before the first commit."""
        return self._snapshot.committed

    def published(self) -> bytes | None:
        """Return the published checkpoint note, or None before the first."""
        return self._snapshot.published

    @property
    def tree_size(self) -> int:
        """Return the committed size; 0 before the first commit."""
        return self._snapshot.tree_size

    def read_tile(self, level: int, index: int) -> bytes:
        """Return a stored hash tile, as wide as the committed size makes it. Raises OutOfRangeError."""
        snapshot = self._snapshot
        width = tile_width(snapshot.tree_size, level, index) if level >= 0 and index >= 0 else 0
        if width == 0:
            raise OutOfRangeError(
                f"a tree of {snapshot.tree_size} leaves has no tile {index} at level {level}"
            )
        return bytes(self._tile(snapshot, level, index, width))

    def read_node(self, level: int, index: int) -> bytes:
        """Return the hash of the complete subtree of leaves [index << level, (index + 1) << level).

        Raises OutOfRangeError when those leaves are not all committed.
        """
        snapshot = self._snapshot
        if level < 0 or index < 0 or index >= snapshot.tree_size >> level:
            raise OutOfRangeError(
                f"a tree of {snapshot.tree_size} leaves has no complete subtree {index} at level {level}"
            )
        tile_level, tile_index, height, offset = node_coordinates(level, index)
        width = min(TILE_WIDTH, (snapshot.tree_size >> (level - height)) - tile_index * TILE_WIDTH)
        return tile_node(self._tile(snapshot, tile_level, tile_index, width), width, height, offset)

    def read_siblings(self, level: int, index: int) -> tuple[bytes, ...]:
        """Return the siblings of hash `index` of a level's tiles, and of its seven ancestors in its tile.

        Raises OutOfRangeError when the committed tree does not fill that tile.
        """
        snapshot = self._snapshot
        tile_index, offset = divmod(index, TILE_WIDTH)
        if level < 0 or index < 0 or tile_index >= snapshot.tree_size >> (TILE_HEIGHT * (level + 1)):
            raise OutOfRangeError(
                f"a tree of {snapshot.tree_size} leaves has no full tile {tile_index} at level {level}"
            )
        return tile_siblings(self._tile(snapshot, level, tile_index, TILE_WIDTH), offset)

    def read_entry(self, leaf_index: int) -> bytes:
        """Return one entry. Requires 0 <= leaf_index < tree_size, else OutOfRangeError."""
        size = self._snapshot.tree_size
        if not 0 <= leaf_index < size:
            raise OutOfRangeError(f"entry {leaf_index} is asked for, and {size} entries are committed")
        return self.read_entries(leaf_index, leaf_index + 1)[0]

    def read_entries(self, start: int, end: int) -> list[bytes]:
        """Return entries [start, end). Requires 0 <= start <= end <= tree_size, else OutOfRangeError."""
        snapshot = self._snapshot
        if not 0 <= start <= end <= snapshot.tree_size:
            raise OutOfRangeError(
                f"entries [{start}, {end}) are asked for, and {snapshot.tree_size} entries are committed"
            )
        entries = snapshot.entries(start, end)
        if len(entries) != end - start:
            raise CorruptionError(
                f"entries [{start}, {end}) are not all in the store: restore it from a backup"
            )
        return entries

    def find_leaf_index(self, identity: bytes) -> int | None:
        """Return the leaf index of the event with that identity (32 bytes, else MalformedError), or None."""
        if len(identity) != IDENTITY_BYTES:
            raise MalformedError(f"an identity is {IDENTITY_BYTES} bytes long, not {len(identity)}")
        index = self._snapshot.leaf_index(identity)
        if index is not None:
            self._require_committed([index], "an identity")
        return index

    def find_business_key(self, key: bytes, start: int, limit: int) -> list[int]:
        """Return the first `limit` leaf indices >= start, ascending, of entries that carry a business key.

        Requires len(key) == 16, else MalformedError; start >= 0 and limit >= 0, else OutOfRangeError.
        """
        if len(key) != BUSINESS_KEY_BYTES:
            raise MalformedError(
                f"an indexed business key is {BUSINESS_KEY_BYTES} bytes long, not {len(key)}"
            )
        if not 0 <= start <= MAX_SIZE or limit < 0:
            raise OutOfRangeError(
                f"cannot list {limit} entries from index {start} on: start is from 0 to {MAX_SIZE}, limit "
                "from 0 on"
            )
        if limit == 0:
            return []
        indices = self._snapshot.business_key(key, start, limit)
        self._require_committed(indices, "a business key")
        return indices

    def governance_indices(self) -> list[int]:
        """Return the leaf indices of all governance entries, ascending."""
        indices = self._snapshot.governance()
        self._require_committed(indices, "the governance list")
        return indices

    def is_frozen(self) -> bool:
        """Return whether the log is frozen: what is committed is its end."""
        return self._snapshot.frozen

    def is_restored(self) -> bool:
        """Return whether the store was made from a backup, and nobody has vouched for it yet."""
        return self._snapshot.restored

    def is_marked(self) -> bool:
        """Return whether a high-water mark is kept of this log: where there is none, it was lost."""
        return self._snapshot.marked

    def previous_size(self) -> int | None:
        """Return the size that the last commit with entries built upon; None where it was not recorded."""
        return self._snapshot.previous_size

    def _tile(self, snapshot: Snapshot, level: int, index: int, width: int) -> bytes | memoryview:
        kept = self._tiles.get(level)
        if kept is not None and kept[0] == index:
            return kept[1]
        stored = snapshot.tile(level, index)
        if stored is None or len(stored) != stored_tile_bytes(width):
            found = "is missing" if stored is None else f"has {len(stored)} bytes"
            raise CorruptionError(
                f"stored tile {index} of level {level} {found}, a width of {width} makes "
                f"{stored_tile_bytes(width)} bytes: restore the store from a backup"
            )
        self._tiles[level] = (index, stored)
        return stored

    def _require_committed(self, indices: list[int], what: str) -> None:
        size = self._snapshot.tree_size
        if indices and max(indices) >= size:
            raise CorruptionError(
                f"{what} is stored for entry {max(indices)}, and only {size} entries are committed: "
                "restore the store from a backup"
            )
