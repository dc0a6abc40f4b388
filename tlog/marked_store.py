"""A store whose commits are in a high-water mark before anybody hears of them, or can read them."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from tlog.errors import StateUnknownError, StorageError
from tlog.log_view import SignedCheckpoint
from tlog.storage.base import CommitBatch, Reader, Store
from tlog.storage.high_water_mark import Mark
from tlog.storage.marked_size import MarkedSize, marked_reader


class KeepsMark(Protocol):
    """Keeps a mark durably; a HighWaterMarkFile does."""

    def write(self, mark: Mark) -> None:
        """Replace the mark; durable when this returns. Raises StorageError."""
        ...


class MarkedStore:
    """Passes everything on to a store, and enters what is committed there into a mark; is a Store."""

    def __init__(self, store: Store, mark: KeepsMark, marked_size: MarkedSize | None = None) -> None:
        """Take over a store; what is in it now may be read, for its owner holds it against the mark.

        Readers wait for `marked_size`, which other processes may share; it stays the caller's, who closes it
        after the store. Without it there is one of the store's own. Raises StorageError.
        """
        self._store = store
        self._mark = mark
        self._owns_size = marked_size is None
        self._marked_size = MarkedSize.create() if marked_size is None else marked_size
        with store.reader() as reader:
            self._marked_size.set(reader.tree_size)

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
        try:
            self._store.commit(batch, expected=expected, new=new, publish=publish)
            self._write_mark(batch, SignedCheckpoint.read(new).checkpoint.root_hash)
        except BaseException:
            # Whatever is in the store now, nobody who reads need wait for its mark.
            self._marked_size.give_up()
            raise
        self._marked_size.set(batch.tree_size)

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
        """Open a snapshot of the last commit, once its mark is durable. Raises StorageError."""
        return marked_reader(self._store, self._marked_size)

    def reader_before_mark(self) -> AbstractContextManager[Reader]:
        """Open a snapshot of the last commit, whether its mark is durable or not. Raises StorageError."""
        return self._store.reader()

    def close(self) -> None:
        """Close the store. Raises StorageError when a reader stays open."""
        self._store.close()
        if self._owns_size:
            self._marked_size.close()

    def _write_mark(self, batch: CommitBatch, root_hash: bytes) -> None:
        try:
            self._mark.write(Mark(tree_size=batch.tree_size, root_hash=root_hash))
        except StorageError as error:
            raise StateUnknownError(
                f"entries [{batch.start}, {batch.tree_size}) are committed, but {error}: mend that, and "
                "start again"
            ) from error
