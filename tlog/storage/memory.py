"""A store in memory: for tests, for examples, and for whoever wants a log that ends with its process."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace

from tlog.errors import ConflictError, StorageError
from tlog.integrate import TILE_WIDTH, tile_width
from tlog.storage.base import CommitBatch, Reader, check_batch
from tlog.storage.read_gate import ReadGate
from tlog.storage.snapshot import SnapshotReader


@dataclass(slots=True)
class _Rows:
    """Holds the rows of all commits. They are only ever added to; those beyond the size do not count yet."""

    entries: list[bytes] = field(default_factory=list)
    full_tiles: dict[tuple[int, int], bytes] = field(default_factory=dict)
    identities: dict[bytes, int] = field(default_factory=dict)
    business_keys: dict[bytes, list[int]] = field(default_factory=dict)
    governance: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class _MemorySnapshot:
    """Shows the rows below one committed size, which never change: taking a snapshot costs nothing."""

    rows: _Rows
    committed: bytes | None
    published: bytes | None
    tree_size: int
    partial_tiles: dict[tuple[int, int], bytes]
    frozen: bool = False
    restored: bool = False
    marked: bool = False
    previous_size: int | None = None

    def tile(self, level: int, index: int) -> bytes | None:
        return self.partial_tiles.get((level, index)) or self.rows.full_tiles.get((level, index))

    def entries(self, start: int, end: int) -> list[bytes]:
        return self.rows.entries[start:end]

    def leaf_index(self, identity: bytes) -> int | None:
        index = self.rows.identities.get(identity)
        return None if index is None or index >= self.tree_size else index

    def business_key(self, key: bytes, start: int, limit: int) -> list[int]:
        indices = self.rows.business_keys.get(key, [])
        first = bisect_left(indices, start)
        return indices[first : min(first + limit, bisect_left(indices, self.tree_size))]

    def governance(self) -> list[int]:
        return self.rows.governance[: bisect_left(self.rows.governance, self.tree_size)]


class MemoryStore:
    """Holds one log in memory; it keeps the contract of `tlog.storage.base.Store` but for durability."""

    def __init__(self, origin: str, log_vkey: str) -> None:
        self._origin = origin
        self._log_vkey = log_vkey
        self._writing = threading.Lock()
        self._gate = ReadGate()
        self._state = _MemorySnapshot(
            rows=_Rows(), committed=None, published=None, tree_size=0, partial_tiles={}
        )
        self._closed = False

    @property
    def origin(self) -> str:
        """Return the origin of the log that this store is bound to."""
        return self._origin

    @property
    def log_vkey(self) -> str:
        """Return the verifier key of the log that this store is bound to."""
        return self._log_vkey

    def load(self) -> bytes | None:
        """Return the committed checkpoint note, or None before the first commit."""
        self._require_open()
        return self._state.committed

    def commit(self, batch: CommitBatch, *, expected: bytes | None, new: bytes, publish: bool) -> None:
        """Write a batch and the checkpoint that covers it, all or nothing. Raises as the contract says."""
        self._gate.require_no_reader_here()
        with self._writing:
            self._require_open()
            state = self._state
            if state.committed != expected:
                raise ConflictError(
                    f"another checkpoint is committed, of size {state.tree_size}: nothing was written"
                )
            check_batch(
                batch,
                committed=state.committed,
                committed_size=state.tree_size,
                is_frozen=state.frozen,
            )
            _require_new_identities(batch, state.rows.identities)
            _add(state.rows, batch)
            self._state = _MemorySnapshot(
                rows=state.rows,
                committed=new,
                published=new if publish else state.published,
                tree_size=batch.tree_size,
                partial_tiles=_partial_tiles(state, batch),
                restored=state.restored,
                marked=state.marked,
                previous_size=state.tree_size,
            )

    def rebind(self, log_vkey: str, *, expected: bytes, new: bytes, publish: bool) -> None:
        """Bind the store to another key of its log. Raises as the contract says."""
        self._gate.require_no_reader_here()
        with self._writing:
            self._require_open()
            if self._state.committed != expected:
                raise ConflictError("another checkpoint is committed: nothing was written")
            self._log_vkey = log_vkey
            published = new if publish else self._state.published
            self._state = replace(self._state, committed=new, published=published)

    def set_frozen(self, frozen: bool) -> None:
        """Mark the log as frozen, or take the mark away. Raises as the contract says."""
        self._gate.require_no_reader_here()
        with self._writing:
            self._require_open()
            if self._state.committed is None:
                raise StorageError("nothing is committed yet, so there is no log to freeze: commit first")
            self._state = replace(self._state, frozen=frozen)

    def set_restored(self, restored: bool) -> None:
        """Mark the store as made from a backup, or take the mark away. Raises as the contract says."""
        self._gate.require_no_reader_here()
        with self._writing:
            self._require_open()
            if self._state.committed is None:
                raise StorageError("nothing is committed yet, so there is no log to mark: commit first")
            self._state = replace(self._state, restored=restored)

    def set_marked(self) -> None:
        """Note for good that a high-water mark is kept of this log. Raises as the contract says."""
        self._gate.require_no_reader_here()
        with self._writing:
            self._require_open()
            if self._state.committed is None:
                raise StorageError("nothing is committed yet, so there is no log to mark: commit first")
            self._state = replace(self._state, marked=True)

    def publish(self, checkpoint: bytes) -> None:
        """Make a checkpoint note the published one. Raises StorageError before the first commit."""
        self._gate.require_no_reader_here()
        with self._writing:
            self._require_open()
            if self._state.committed is None:
                raise StorageError("nothing is committed yet, so nothing can be published: commit first")
            self._state = replace(self._state, published=checkpoint)

    def reader_before_mark(self) -> AbstractContextManager[Reader]:
        """Open a snapshot of the last commit: no mark is kept here. Raises StorageError."""
        return self.reader()

    @contextmanager
    def reader(self) -> Iterator[Reader]:
        """Open a snapshot of the last commit. Raises StorageError when the store is closed."""
        with self._gate.reading():
            self._require_open()
            reader = SnapshotReader(self._state)
            try:
                yield reader
            finally:
                reader.end()

    def close(self) -> None:
        """Wait for open readers and refuse everything from here on."""
        with self._writing, self._gate.exclusive():
            self._closed = True

    def _require_open(self) -> None:
        if self._closed:
            raise StorageError("this store is closed: what it held is gone")


def _require_new_identities(batch: CommitBatch, stored: dict[bytes, int]) -> None:
    if len(set(batch.identities)) != len(batch.identities) or not stored.keys().isdisjoint(batch.identities):
        raise StorageError("an identity of the batch is in the store already: nothing was written")


def _add(rows: _Rows, batch: CommitBatch) -> None:
    """Add checked rows; readers do not look at them before the new state is in place."""
    rows.entries.extend(batch.entries)
    rows.identities.update(zip(batch.identities, range(batch.start, batch.tree_size), strict=True))
    for index, keys in enumerate(batch.business_keys, batch.start):
        for key in set(keys):
            rows.business_keys.setdefault(key, []).append(index)
    rows.governance.extend(batch.governance_indices)
    rows.full_tiles.update(
        (at, tile) for at, tile in batch.tiles.items() if tile_width(batch.tree_size, *at) == TILE_WIDTH
    )


def _partial_tiles(state: _MemorySnapshot, batch: CommitBatch) -> dict[tuple[int, int], bytes]:
    """Return the tile at the right edge of every level, for the size after the batch."""
    return {
        at: tile
        for at, tile in (state.partial_tiles | dict(batch.tiles)).items()
        if tile_width(batch.tree_size, *at) < TILE_WIDTH
    }
