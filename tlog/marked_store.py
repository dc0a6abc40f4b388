"""A store whose commits are entered into a high-water mark before anybody hears of them."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from tlog.errors import StateUnknownError, StorageError
from tlog.log_view import SignedCheckpoint
from tlog.storage.base import CommitBatch, Reader, Store
from tlog.storage.high_water_mark import Mark


class KeepsMark(Protocol):
    """Keeps a mark durably; a HighWaterMarkFile does."""

    def write(self, mark: Mark) -> None:
        """Replace the mark; durable when this returns. Raises StorageError."""
        ...


class MarkedStore:
    """Passes everything on to a store, and enters what is committed there into a mark; is a Store."""

    def __init__(self, store: Store, mark: KeepsMark) -> None:
        """Take over a store."""
        self._store = store
        self._mark = mark

    @property
    def origin(self) -> str:
        """Return the origin of the log that the store is bound to."""
        return self._store.origin

    @property
    def log_vkey(self) -> str:
        """Return the verifier key of the log that the store is bound to."""
        return self._store.log_vkey

    def load(self) -> bytes | None:
        """Return the committed checkpoint note, or None before the first commit. Raises StorageError."""
        return self._store.load()

    def commit(self, batch: CommitBatch, *, expected: bytes | None, new: bytes, publish: bool) -> None:
        """Commit, then replace the mark; both are durable when this returns. Raises as the contract says.

        StateUnknownError where only the mark failed: the entries are in the log, and nobody may hear of that
        before the mark says so; the next start goes on from there.
        """
        self._store.commit(batch, expected=expected, new=new, publish=publish)
        root_hash = SignedCheckpoint.read(new).checkpoint.root_hash
        try:
            self._mark.write(Mark(tree_size=batch.tree_size, root_hash=root_hash))
        except StorageError as error:
            raise StateUnknownError(
                f"entries [{batch.start}, {batch.tree_size}) are committed, but {error}: mend that, and "
                "start again"
            ) from error

    def publish(self, checkpoint: bytes) -> None:
        """Make a checkpoint note the published one. Raises as the contract says."""
        self._store.publish(checkpoint)

    def rebind(self, log_vkey: str, *, expected: bytes, new: bytes, publish: bool) -> None:
        """Bind the store to another key of its log; the tree stays. Raises as the contract says."""
        self._store.rebind(log_vkey, expected=expected, new=new, publish=publish)

    def set_frozen(self, frozen: bool) -> None:
        """Mark the log as frozen, or take the mark away. Raises as the contract says."""
        self._store.set_frozen(frozen)

    def set_restored(self, restored: bool) -> None:
        """Mark the store as made from a backup, or take the mark away. Raises as the contract says."""
        self._store.set_restored(restored)

    def set_marked(self) -> None:
        """Note for good that a high-water mark is kept of this log. Raises as the contract says."""
        self._store.set_marked()

    def reader(self) -> AbstractContextManager[Reader]:
        """Open a snapshot of the last commit. Raises StorageError."""
        return self._store.reader()

    def close(self) -> None:
        """Close the store. Raises StorageError when a reader stays open."""
        self._store.close()
