"""The log as a worker process sees it: its origin, and its store, read-only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from tlog.errors import StateUnknownError
from tlog.log_view import LogView
from tlog.storage.base import Reader, Store
from tlog.storage.lmdb_store import LmdbStore
from tlog.storage.marked_size import MarkedSize, marked_reader


class RemoteLog:
    """Reads a log that another process writes; views may be opened in any thread."""

    def __init__(
        self, store: Store, marked_size: MarkedSize, on_lost: Callable[[BaseException], None]
    ) -> None:
        """Take over a store; `on_lost` is told, in any thread, when it cannot be read any more.

        Views wait for `marked_size`, which the process that writes raises.
        """
        self._store = store
        self._marked_size = marked_size
        self._on_lost = on_lost

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        origin: str,
        map_size_bytes: int,
        marked_size: MarkedSize,
        on_lost: Callable[[BaseException], None],
    ) -> RemoteLog:
        """Open the store for reading. Raises StorageError and ConfigError as `LmdbStore.open` does."""
        # Of any key: the process that writes may be about to move the log to another one.
        store = LmdbStore.open(
            path, origin=origin, log_vkey=None, map_size_bytes=map_size_bytes, read_only=True
        )
        return cls(store, marked_size, on_lost)

    @property
    def origin(self) -> str:
        """Return the log's origin."""
        return self._store.origin

    @contextmanager
    def view(self) -> Iterator[LogView]:
        """Open one consistent snapshot; it holds every commit that was answered for before.

        And none whose high-water mark is not durable. Raises StorageError.
        """
        with self._view_of(marked_reader(self._store, self._marked_size)) as view:
            yield view

    @contextmanager
    def view_before_mark(self) -> Iterator[LogView]:
        """Open one consistent snapshot at once, as `Log.view_before_mark` does. Raises StorageError."""
        with self._view_of(self._store.reader_before_mark()) as view:
            yield view

    def close(self) -> None:
        """Close the store; no view may be open."""
        self._store.close()

    @contextmanager
    def _view_of(self, opening: AbstractContextManager[Reader]) -> Iterator[LogView]:
        try:
            with opening as reader:
                yield LogView(reader)
        except StateUnknownError as error:
            self._on_lost(error)
            raise
