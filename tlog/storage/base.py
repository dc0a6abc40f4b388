"""The storage contract, written from the sequencer's side: load, commit, publish, read one snapshot.

A store holds one log: its entries, its hash tiles, its indexes, and two slots for signed checkpoints.
*Committed* is durable and never goes back; *published* is what may be shown. The store reads none of these
notes, it only compares them as bytes.

Nothing here needs LMDB. An object store keeps the same contract with a staged upload and one compare-and-swap
on the committed checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, Self

from tlog.errors import StorageError
from tlog.integrate import TILE_HEIGHT, TILE_WIDTH, stored_tile_bytes, tile_width

IDENTITY_BYTES = 32
"""The length of an event's identity (tlog.event.identity)."""

BUSINESS_KEY_BYTES = 16
"""The length of a business key in its index form (tlog.validate)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitBatch:
    """Holds what one commit adds: entries [start, start + len(entries)), their index rows, the changed tiles.

    `identities` and `business_keys` run parallel to `entries`. `governance_indices` are the leaf indices of
    those entries that are governance, ascending. `tiles` are all stored hash tiles that the entries change,
    by (level, index), as `tlog.integrate.integrate` returns them. An empty batch starts a log: its first
    commit may be a signed checkpoint of size 0.
    """

    start: int
    entries: Sequence[bytes]
    identities: Sequence[bytes]
    business_keys: Sequence[tuple[bytes, ...]]
    governance_indices: Sequence[int]
    tiles: Mapping[tuple[int, int], bytes]

    @classmethod
    def empty(cls) -> Self:
        """Make the batch of a log's first checkpoint, of size 0."""
        return cls(start=0, entries=(), identities=(), business_keys=(), governance_indices=(), tiles={})

    @property
    def tree_size(self) -> int:
        """Return the committed size after this batch."""
        return self.start + len(self.entries)


class Reader(Protocol):
    """Reads one consistent snapshot of a store.

    A reader belongs to one thread at a time and lives as long as its `with` block. Hold it for one answer,
    not for one conversation: an old snapshot keeps the store from re-using space, and from growing its map.

    Every method raises CorruptionError when what it finds is not what a commit writes, and StorageError when
    the store cannot be read or the block has ended.
    """

    def committed(self) -> bytes | None:
        """Return the committed checkpoint note, or None before the first commit."""
        ...

    def published(self) -> bytes | None:
        """Return the published checkpoint note, or None before the first."""
        ...

    @property
    def tree_size(self) -> int:
        """Return the committed size; 0 before the first commit."""
        ...

    def read_tile(self, level: int, index: int) -> bytes:
        """Return a stored hash tile, as wide as the committed size makes it.

        Raises OutOfRangeError when the tree of that size has no such tile.
        """
        ...

    def read_node(self, level: int, index: int) -> bytes:
        """Return the hash of the complete subtree of leaves [index << level, (index + 1) << level).

        Raises OutOfRangeError when those leaves are not all committed.
        """
        ...

    def read_siblings(self, level: int, index: int) -> tuple[bytes, ...]:
        """Return the siblings of hash `index` of a level's tiles, and of its seven ancestors in its tile.

        They are in `tlog.integrate.tile_siblings`' order, and the same as eight times `read_node`, read at
        once. Raises OutOfRangeError when the committed tree does not fill that tile.
        """
        ...

    def read_entry(self, leaf_index: int) -> bytes:
        """Return one entry. Requires 0 <= leaf_index < tree_size, else OutOfRangeError."""
        ...

    def read_entries(self, start: int, end: int) -> list[bytes]:
        """Return entries [start, end). Requires 0 <= start <= end <= tree_size, else OutOfRangeError."""
        ...

    def find_leaf_index(self, identity: bytes) -> int | None:
        """Return the leaf index of the event with that identity (32 bytes, else MalformedError), or None."""
        ...

    def find_business_key(self, key: bytes, start: int, limit: int) -> list[int]:
        """Return the first `limit` leaf indices >= start, ascending, of entries that carry a business key.

        Requires len(key) == 16, else MalformedError; start >= 0 and limit >= 0, else OutOfRangeError.
        """
        ...

    def governance_indices(self) -> list[int]:
        """Return the leaf indices of all governance entries, ascending."""
        ...

    def is_frozen(self) -> bool:
        """Return whether the log is frozen: what is committed is its end."""
        ...

    def is_restored(self) -> bool:
        """Return whether the store was made from a backup, and nobody has vouched for it yet."""
        ...

    def is_marked(self) -> bool:
        """Return whether a high-water mark is kept of this log: where there is none, it was lost."""
        ...

    def previous_size(self) -> int | None:
        """Return the size that the last commit with entries built upon; None where it was not recorded."""
        ...


class Store(Protocol):
    """Holds one log durably. Its methods may be called from any thread of the process that opened it.

    `commit` and `publish` raise StorageError in a thread that has a reader open: a store that has to grow
    waits for its readers, and would wait for that one for ever.
    """

    @property
    def origin(self) -> str:
        """Return the origin of the log that this store is bound to."""
        ...

    @property
    def log_vkey(self) -> str:
        """Return the verifier key of the log that this store is bound to."""
        ...

    def load(self) -> bytes | None:
        """Return the committed checkpoint note, or None before the first commit. Raises StorageError."""
        ...

    def commit(self, batch: CommitBatch, *, expected: bytes | None, new: bytes, publish: bool) -> None:
        """Write a batch and the checkpoint that covers it, all or nothing; durable when this returns.

        `expected` is the committed checkpoint that the batch builds upon, None for a log's first commit. With
        `publish` the new checkpoint becomes the published one in the same step. Raises ConflictError when
        another checkpoint is committed; StateUnknownError when the write broke off where nobody can say
        whether it is on the disk: the store then takes no further commit until it is opened anew; and
        StorageError on anything else. Except after StateUnknownError, nothing was written.
        """
        ...

    def publish(self, checkpoint: bytes) -> None:
        """Make a checkpoint note the published one; durable when this returns.

        Raises StorageError, also before the first commit, and StateUnknownError as `commit` does.
        """
        ...

    def rebind(self, log_vkey: str, *, expected: bytes, new: bytes, publish: bool) -> None:
        """Bind the store to another key of its log, and replace the committed note by one of that key.

        `new` is over the same tree as `expected`, the committed note; with `publish` it becomes the published
        one as well. All or nothing, and durable when this returns. Raises as `commit` does.
        """
        ...

    def set_frozen(self, frozen: bool) -> None:
        """Mark the log as frozen, or take the mark away; durable when this returns.

        A frozen store takes no batch: `commit` raises StorageError. Raises as `publish` does.
        """
        ...

    def set_restored(self, restored: bool) -> None:
        """Mark the store as made from a backup, or take the mark away; durable when this returns.

        Raises as `publish` does.
        """
        ...

    def set_marked(self) -> None:
        """Note for good that a high-water mark is kept of this log; durable when this returns.

        Raises as `publish` does.
        """
        ...

    def reader(self) -> AbstractContextManager[Reader]:
        """Open a snapshot of the last commit; later commits do not show in it. Raises StorageError."""
        ...

    def reader_before_mark(self) -> AbstractContextManager[Reader]:
        """Open a snapshot as `reader` does, but wait for no high-water mark.

        It may hold a commit that nobody may hear of yet: for those who show nothing of it. Raises
        StorageError.
        """
        ...

    def close(self) -> None:
        """Wait for open readers and release everything; a second call does nothing.

        Raises StorageError when a reader stays open: the store is then still open.
        """
        ...


def check_batch(batch: CommitBatch, *, committed: bytes | None, committed_size: int, is_frozen: bool) -> None:
    """Check that a batch is whole and continues the committed tree, before anything of it is written.

    `is_frozen` is the store's mark. Raises StorageError. That its hashes are right is not checked
    here: whoever made them signed them.
    """
    count = len(batch.entries)
    if is_frozen:
        raise StorageError(f"this log is frozen at size {committed_size}: nothing was written")
    if batch.start != committed_size:
        raise StorageError(
            f"the batch starts at index {batch.start}, the store holds {committed_size} entries: "
            "nothing was written; build the batch upon the committed checkpoint"
        )
    if count == 0 and committed is not None:
        raise StorageError("an empty batch may only be a log's first commit: nothing was written")
    if len(batch.identities) != count or len(batch.business_keys) != count:
        raise StorageError(
            f"{count} entries come with {len(batch.identities)} identities and {len(batch.business_keys)} "
            "tuples of business keys: give one of each for every entry; nothing was written"
        )
    if set(map(len, batch.identities)) - {IDENTITY_BYTES}:
        raise StorageError(f"an identity is not {IDENTITY_BYTES} bytes long: nothing was written")
    if {len(key) for keys in batch.business_keys for key in keys} - {BUSINESS_KEY_BYTES}:
        raise StorageError(f"a business key is not {BUSINESS_KEY_BYTES} bytes long: nothing was written")
    governance = list(batch.governance_indices)
    if governance != sorted(set(governance)) or not all(
        batch.start <= index < batch.tree_size for index in governance
    ):
        raise StorageError(
            f"governance indices {governance} are not ascending indices of [{batch.start}, "
            f"{batch.tree_size}): nothing was written"
        )
    _check_tiles(batch)


def _check_tiles(batch: CommitBatch) -> None:
    """Check that exactly those tiles are there which the batch changes, as wide as the new size says."""
    expected = {
        (level, index): stored_tile_bytes(tile_width(batch.tree_size, level, index))
        for level, index in changed_tiles(batch.start, batch.tree_size)
    }
    found = {coordinates: len(stored) for coordinates, stored in batch.tiles.items()}
    if found != expected:
        wrong = sorted(
            coordinates
            for coordinates in found.keys() | expected.keys()
            if found.get(coordinates) != expected.get(coordinates)
        )
        raise StorageError(
            f"stored tile {wrong[0]} is not what growing from {batch.start} to {batch.tree_size} leaves "
            f"makes: {found.get(wrong[0], 'no')} bytes instead of {expected.get(wrong[0], 'none')}; "
            "nothing was written"
        )


def changed_tiles(old_size: int, new_size: int) -> list[tuple[int, int]]:
    """List the (level, index) of every stored tile that growing from old_size to new_size leaves changes.

    Requires 0 <= old_size <= new_size.
    """
    changed: list[tuple[int, int]] = []
    level = 0
    while old_size < new_size:
        changed += [(level, i) for i in range(old_size // TILE_WIDTH, (new_size - 1) // TILE_WIDTH + 1)]
        level, old_size, new_size = level + 1, old_size >> TILE_HEIGHT, new_size >> TILE_HEIGHT
    return changed
