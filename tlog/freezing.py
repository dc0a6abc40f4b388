"""Freeze a log by its directory: at once where no server runs on it, else by a request to the server.

Whoever may write to the store's directory runs the log, so there is nothing else to prove. The request is an
empty file beside the store, which the server looks for and takes away when the log is frozen.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from tlog.errors import StorageError, StoreInUseError
from tlog.log_view import LogView, SignedCheckpoint
from tlog.storage.lmdb_store import LmdbStore
from tlog.storage.pending_batch import PENDING_NAME, PendingBatchFile

REQUEST_NAME = "freeze-requested"


def freeze_store(path: Path) -> bool:
    """Freeze the log in a store; returns False where a server runs on it, which is asked to do so.

    Raises NotFoundError when there is no store, StorageError when it cannot be written, or when a signer was
    about to sign more: what it has signed has to be committed before.
    """
    try:
        store = LmdbStore.open(path, None, None)
    except StoreInUseError:
        _request(path)
        return False
    try:
        _require_nothing_pending(store, path)
        store.set_frozen(True)
        withdraw_request(path)
    finally:
        store.close()
    return True


def thaw_store(path: Path) -> None:
    """Take the mark away again. Raises StoreInUseError while a server runs on the store, and StorageError."""
    store = LmdbStore.open(path, None, None)
    try:
        store.set_frozen(False)
        withdraw_request(path)
    finally:
        store.close()


def look_at(path: Path) -> tuple[bool, SignedCheckpoint, SignedCheckpoint]:
    """Return whether the log in a store is frozen, its committed checkpoint, and the published one.

    A server may run on it. Raises StorageError.
    """
    store = LmdbStore.open(path, None, None, read_only=True)
    try:
        with store.reader() as reader:
            view = LogView(reader)
            return view.is_frozen(), view.committed(), view.published()
    finally:
        store.close()


def _require_nothing_pending(store: LmdbStore, path: Path) -> None:
    with store.reader() as reader:
        committed = LogView(reader).committed().checkpoint
    pending = PendingBatchFile(path / PENDING_NAME)
    if entries := pending.read(committed.tree_size, committed.root_hash):
        raise StorageError(
            f"{len(entries)} entries in {path / PENDING_NAME} were about to be signed when the server ended, "
            "and the signer may have signed them: start the server, and freeze the log beside it: it commits "
            "them before"
        )


def is_requested(path: Path) -> bool:
    """Return whether somebody asks the server of this store to freeze its log."""
    return (path / REQUEST_NAME).exists()


def withdraw_request(path: Path) -> None:
    """Take the request away, if there is one."""
    with suppress(OSError):
        (path / REQUEST_NAME).unlink()


def _request(path: Path) -> None:
    try:
        (path / REQUEST_NAME).touch()
    except OSError as error:
        raise StorageError(f"{path} cannot be written ({error.strerror}): nothing was asked for") from error
