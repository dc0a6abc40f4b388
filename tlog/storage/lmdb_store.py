"""A log in LMDB: six tables (tlog.storage.lmdb_layout), one transaction a commit.

So a crash leaves either the whole old or the whole new commit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import islice
from pathlib import Path
from typing import Self

import lmdb

from tlog.errors import ConfigError, ConflictError, CorruptionError, StorageError
from tlog.merkle import leaf_hash
from tlog.storage.base import BUSINESS_KEY_BYTES, CommitBatch, Reader, check_batch
from tlog.storage.headroom import StoreUsage
from tlog.storage.lmdb_environment import (
    DEFAULT_MAP_BYTES,
    LmdbEnvironment,
    ReadTransaction,
    Table,
    WriteTransaction,
)
from tlog.storage.lmdb_layout import FORMAT, GOVERNANCE_HEAD, NO_VALUE, NUMBER, TABLES, TILE_KEY
from tlog.storage.snapshot import SnapshotReader


class LmdbStore:
    """Holds one log in an LMDB directory; it is a `tlog.storage.base.Store`."""

    def __init__(self, environment: LmdbEnvironment, origin: str, log_vkey: str) -> None:
        """Take over an open environment; use `create` or `open`."""
        self._environment = environment
        self._origin = origin
        self._log_vkey = log_vkey
        tables = environment.tables
        self._entries = tables[b"entries"]
        self._tiles = tables[b"tiles"]
        self._identities = tables[b"identities"]
        self._business_keys = tables[b"business_keys"]
        self._governance = tables[b"governance"]
        self._meta = tables[b"meta"]

    @classmethod
    def create(
        cls, path: Path | str, origin: str, log_vkey: str, *, map_size_bytes: int = DEFAULT_MAP_BYTES
    ) -> Self:
        """Make an empty store, and its directory where only the parent exists, and open it for writing.

        `map_size_bytes` is where the map starts; it grows by itself. Raises ConfigError when it is not from 1
        to 2**46, StorageError when the directory holds a store already or cannot be used, StoreInUseError.
        """
        environment = LmdbEnvironment.create(Path(path), tables=TABLES, map_size_bytes=map_size_bytes)

        def fill(transaction: WriteTransaction) -> None:
            meta = environment.tables[b"meta"]
            transaction.put(b"format", FORMAT, db=meta)
            transaction.put(b"origin", origin.encode(), db=meta)
            transaction.put(b"vkey", log_vkey.encode(), db=meta)

        try:
            environment.make_tables(TABLES, fill)
            return cls(environment, origin, log_vkey)
        except BaseException:
            environment.close()
            raise

    @classmethod
    def open(
        cls,
        path: Path | str,
        origin: str | None,
        log_vkey: str | None,
        *,
        map_size_bytes: int = DEFAULT_MAP_BYTES,
        read_only: bool = False,
    ) -> Self:
        """Open the store of this log; any number of processes may read beside the one that writes.

        With None for `origin` or `log_vkey` it may be bound to any, which the properties then tell. A map
        size below what the data needs is raised to it. Raises ConfigError when the map size is not from 1 to
        2**46, or the store is another log's; NotFoundError when there is no store; StoreInUseError when
        another one writes to it; CorruptionError when it is damaged; StorageError when it cannot be used.
        """
        environment = LmdbEnvironment.open(
            Path(path), tables=TABLES, map_size_bytes=map_size_bytes, read_only=read_only
        )
        try:
            return cls(environment, *_read_binding(environment, origin, log_vkey))
        except BaseException:
            environment.close()
            raise

    @property
    def origin(self) -> str:
        """Return the origin of the log that this store is bound to."""
        return self._origin

    @property
    def log_vkey(self) -> str:
        """Return the verifier key of the log that this store is bound to."""
        return self._log_vkey

    def load(self) -> bytes | None:
        """Return the committed checkpoint note, or None before the first commit. Raises StorageError."""
        with self.reader() as reader:
            return reader.committed()

    def commit(self, batch: CommitBatch, *, expected: bytes | None, new: bytes, publish: bool) -> None:
        """Write a batch and the checkpoint that covers it in one transaction. Raises as the contract says."""

        def apply(transaction: WriteTransaction) -> None:
            committed = transaction.get(b"committed", db=self._meta)
            committed_size = _committed_size(transaction.get(b"committed_size", db=self._meta), committed)
            if committed != expected:
                raise ConflictError(
                    f"another checkpoint is committed, of size {committed_size}: nothing was written"
                )
            is_frozen = transaction.get(b"frozen", db=self._meta) is not None
            check_batch(batch, committed=committed, committed_size=committed_size, is_frozen=is_frozen)
            self._put_rows(transaction, batch)
            transaction.put(b"committed", new, db=self._meta)
            transaction.put(b"committed_size", NUMBER.pack(batch.tree_size), db=self._meta)
            transaction.put(b"previous_size", NUMBER.pack(batch.start), db=self._meta)
            if publish:
                transaction.put(b"published", new, db=self._meta)

        self._environment.write(apply)

    def publish(self, checkpoint: bytes) -> None:
        """Make a checkpoint note the published one, in its own transaction. Raises as the contract says."""

        def apply(transaction: WriteTransaction) -> None:
            self._require_commit(transaction, "nothing can be published")
            transaction.put(b"published", checkpoint, db=self._meta)

        self._environment.write(apply)

    def rebind(self, log_vkey: str, *, expected: bytes, new: bytes, publish: bool) -> None:
        """Bind the store to another key of its log, in one transaction. Raises as the contract says."""

        def apply(transaction: WriteTransaction) -> None:
            if transaction.get(b"committed", db=self._meta) != expected:
                raise ConflictError("another checkpoint is committed: nothing was written")
            transaction.put(b"vkey", log_vkey.encode(), db=self._meta)
            transaction.put(b"committed", new, db=self._meta)
            if publish:
                transaction.put(b"published", new, db=self._meta)

        self._environment.write(apply)
        self._log_vkey = log_vkey

    def set_frozen(self, frozen: bool) -> None:
        """Mark the log as frozen, or take the mark away. Raises as the contract says."""
        self._set_flag(b"frozen", frozen)

    def set_restored(self, restored: bool) -> None:
        """Mark the store as made from a backup, or take the mark away. Raises as the contract says."""
        self._set_flag(b"restored", restored)

    def set_marked(self) -> None:
        """Note for good that a high-water mark is kept of this log. Raises as the contract says."""
        self._set_flag(b"marked", True)

    def reader_before_mark(self) -> AbstractContextManager[Reader]:
        """Open a snapshot of the last commit: no mark is kept here. Raises StorageError."""
        return self.reader()

    @contextmanager
    def reader(self) -> Iterator[Reader]:
        """Open a snapshot of the last commit. Raises StorageError."""
        with self._environment.reading() as transaction:
            reader = SnapshotReader(_LmdbSnapshot(transaction, self._environment.tables))
            try:
                yield reader
            finally:
                reader.end()

    def usage(self) -> StoreUsage:
        """Return what the store's map and the data in it take. Raises StorageError."""
        return self._environment.usage()

    def close(self) -> None:
        """Wait for open readers and release everything; a second call does nothing. Raises StorageError."""
        self._environment.close()

    def _require_commit(self, transaction: WriteTransaction, so: str) -> None:
        if transaction.get(b"committed", db=self._meta) is None:
            raise StorageError(f"nothing is committed yet, so {so}: commit first")

    def _set_flag(self, name: bytes, there: bool) -> None:
        def apply(transaction: WriteTransaction) -> None:
            self._require_commit(transaction, f"there is no log to mark as {name.decode()}")
            if there:
                transaction.put(name, NO_VALUE, db=self._meta)
            else:
                transaction.delete(name, db=self._meta)

        self._environment.write(apply)

    def _put_rows(self, transaction: WriteTransaction, batch: CommitBatch) -> None:
        indices = [NUMBER.pack(index) for index in range(batch.start, batch.tree_size)]
        _append(transaction, self._entries, zip(indices, batch.entries, strict=True))
        _append(transaction, self._governance, [(NUMBER.pack(i), NO_VALUE) for i in batch.governance_indices])
        if batch.governance_indices:
            last = batch.governance_indices[-1]
            count = _governance_count(transaction.get(b"governance_head", db=self._meta))
            head = GOVERNANCE_HEAD.pack(
                count + len(batch.governance_indices), last, leaf_hash(batch.entries[last - batch.start])
            )
            transaction.put(b"governance_head", head, db=self._meta)
        for (level, index), stored in batch.tiles.items():
            transaction.put(TILE_KEY.pack(level, index), stored, db=self._tiles)
        # Sorted, because neighbours share pages.
        identities = sorted(zip(batch.identities, indices, strict=True))
        with transaction.cursor(self._identities) as cursor:
            consumed, added = cursor.putmulti(identities, overwrite=False)
        if added != consumed:
            raise StorageError("an identity of the batch is in the store already: nothing was written")
        keys = sorted(
            (key + index, NO_VALUE)
            for index, keys in zip(indices, batch.business_keys, strict=True)
            for key in keys
        )
        with transaction.cursor(self._business_keys) as cursor:
            cursor.putmulti(keys)


class _LmdbSnapshot:
    """Looks rows up in one read transaction, which must outlive it; a `tlog.storage.snapshot.Snapshot`."""

    def __init__(self, transaction: ReadTransaction, tables: dict[bytes, Table]) -> None:
        self._transaction = transaction
        self._tables = tables
        self.tree_size = _committed_size(
            self._get(b"meta", b"committed_size"), self._get(b"meta", b"committed")
        )

    @property
    def committed(self) -> bytes | None:
        return _copied(self._get(b"meta", b"committed"))

    @property
    def published(self) -> bytes | None:
        return _copied(self._get(b"meta", b"published"))

    def tile(self, level: int, index: int) -> memoryview | None:
        return self._get(b"tiles", TILE_KEY.pack(level, index))

    def entries(self, start: int, end: int) -> list[bytes]:
        if start == end:
            return []
        try:
            with self._transaction.cursor(self._tables[b"entries"]) as cursor:
                if not cursor.set_key(NUMBER.pack(start)):
                    return []
                found = [bytes(entry) for entry in islice(cursor.iternext(keys=False), end - start)]
                # Keys ascend, so the right number of rows up to the right key is every row.
                return found if cursor.key() == NUMBER.pack(end - 1) else []
        except lmdb.Error as error:
            raise _unreadable("entries", error) from error

    def leaf_index(self, identity: bytes) -> int | None:
        index = self._get(b"identities", identity)
        return None if index is None else _number(index)

    def business_key(self, key: bytes, start: int, limit: int) -> list[int]:
        return [_number(row[BUSINESS_KEY_BYTES:]) for row in self._keys(b"business_keys", key, start, limit)]

    def governance(self) -> list[int]:
        indices = [_number(row) for row in self._keys(b"governance", b"", 0, None)]
        found = None
        if indices:
            entry = _copied(self._get(b"entries", NUMBER.pack(indices[-1])))
            found = GOVERNANCE_HEAD.pack(len(indices), indices[-1], leaf_hash(entry or b""))
        head = _copied(self._get(b"meta", b"governance_head"))
        if found != head:
            raise CorruptionError(
                f"the list of {len(indices)} governance entries is not the one of {_governance_count(head)} "
                "that was committed: restore the store from a backup"
            )
        return indices

    @property
    def frozen(self) -> bool:
        return self._get(b"meta", b"frozen") is not None

    @property
    def restored(self) -> bool:
        return self._get(b"meta", b"restored") is not None

    @property
    def marked(self) -> bool:
        return self._get(b"meta", b"marked") is not None

    @property
    def previous_size(self) -> int | None:
        size = self._get(b"meta", b"previous_size")
        return None if size is None else _number(size)

    def _get(self, table: bytes, key: bytes) -> memoryview | None:
        try:
            return self._transaction.get(key, db=self._tables[table])
        except lmdb.Error as error:
            raise _unreadable(table.decode(), error) from error

    def _keys(self, table: bytes, prefix: bytes, start: int, limit: int | None) -> list[bytes]:
        """Return up to `limit` keys that begin with a prefix, from that prefix and number on."""
        found: list[bytes] = []
        try:
            with self._transaction.cursor(self._tables[table]) as cursor:
                if not cursor.set_range(prefix + NUMBER.pack(start)):
                    return found
                for key in islice(map(bytes, cursor.iternext(values=False)), limit):
                    if not key.startswith(prefix):
                        break
                    found.append(key)
        except lmdb.Error as error:
            raise _unreadable(table.decode(), error) from error
        return found


def _read_binding(environment: LmdbEnvironment, origin: str | None, log_vkey: str | None) -> tuple[str, str]:
    """Read which log a store is of, and check its format. Raises ConfigError for another log's."""
    meta = environment.tables[b"meta"]
    with environment.reading() as transaction:
        format_name, *bound = (
            bytes(transaction.get(name, b"", db=meta)) for name in (b"format", b"origin", b"vkey")
        )
    path = environment.path
    if format_name != FORMAT:
        raise StorageError(
            f"{path} has the format {format_name!r}, this release reads {FORMAT!r}: use the release "
            "that wrote it"
        )
    for what, found, wanted in zip(("origin", "key"), bound, (origin, log_vkey), strict=True):
        if wanted is not None and found != wanted.encode():
            raise ConfigError(
                f"{path} holds the log with {what} {found.decode(errors='replace')!r}, not {wanted!r}: "
                "name that log's directory, or use that log's key"
            )
    try:
        return bound[0].decode(), bound[1].decode()
    except UnicodeDecodeError as error:
        raise CorruptionError(f"{path} is bound to a log whose name is damaged: restore it") from error


def _append(transaction: WriteTransaction, table: Table, rows: Iterable[tuple[bytes, bytes]]) -> None:
    """Add rows behind the last one of a table. Raises CorruptionError when a row there has a higher key."""
    with transaction.cursor(table) as cursor:
        consumed, added = cursor.putmulti(rows, append=True)
    if added != consumed:
        raise CorruptionError(
            "the store holds rows beyond its committed size: nothing was written; restore it from a backup"
        )


def _committed_size(stored: bytes | memoryview | None, committed: bytes | memoryview | None) -> int:
    if (stored is None) != (committed is None):
        raise CorruptionError("the store holds a committed checkpoint without its size: restore a backup")
    return 0 if stored is None else _number(stored)


def _governance_count(head: bytes | None) -> int:
    if head is None:
        return 0
    if len(head) != GOVERNANCE_HEAD.size:
        raise CorruptionError(
            f"the stored governance head has {len(head)} bytes, not {GOVERNANCE_HEAD.size}: "
            "restore the store from a backup"
        )
    count: int = GOVERNANCE_HEAD.unpack(head)[0]
    return count


def _number(stored: bytes | memoryview) -> int:
    if len(stored) != NUMBER.size:
        raise CorruptionError(
            f"a stored number has {len(stored)} bytes, not {NUMBER.size}: restore from a backup"
        )
    number: int = NUMBER.unpack(stored)[0]
    return number


def _copied(stored: memoryview | None) -> bytes | None:
    return None if stored is None else bytes(stored)


def _unreadable(table: str, error: lmdb.Error) -> StorageError:
    return CorruptionError(f"the table {table} cannot be read ({error}): restore the store from a backup")
