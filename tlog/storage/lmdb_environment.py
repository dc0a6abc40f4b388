"""Open one LMDB environment safely, and run transactions in it: locking, growth, failures, forks.

What LMDB leaves to its caller is done here. The map grows by itself: the gate waits for this process's
readers, the file is remapped, the transaction runs again. One environment is open once in a process and never
used across a fork; one process writes. No lmdb exception gets out.

A crash leaves the last committed transaction: pages are written and synced first, then one meta page is
switched and synced. Why these settings: docs/decisions/0002-lmdb-settings.md.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self, TypeAlias

import lmdb

from tlog.errors import (
    ConfigError,
    NotFoundError,
    StateUnknownError,
    StorageError,
    StoreInUseError,
)
from tlog.storage.directory import sync_directory
from tlog.storage.headroom import StoreUsage, require_address_space
from tlog.storage.lmdb_errors import MAX_READERS, is_broken_disk, translated
from tlog.storage.lmdb_header import DATA_FILE_NAME, check_data_file
from tlog.storage.lmdb_lock_file import make_lock_file
from tlog.storage.page_cache import settle_data_file
from tlog.storage.read_gate import ReadGate
from tlog.storage.writer_lock import WriterLock

LIB_VERSION = 0
"""LMDB 0.9, data format v1. Always named: else LMDB_DEFAULT_LIB_VERSION in the environment would choose."""

DEFAULT_MAP_BYTES = 2**30
"""How much of the file is mapped at first. It costs address space, not memory or disk."""

MAX_MAP_BYTES = 2**46
"""The most that may be mapped: half of what a 64-bit process can address."""

_MIN_MAP_BYTES = 2**20
_FILE_MODE = 0o700  # LMDB takes the execute bits off for its files
_OPEN_ATTEMPTS = 5
_COMMITS_PER_READER_CHECK = 1_000
_UNDO_PATIENCE_S = 1.0

ReadTransaction: TypeAlias = "lmdb.Transaction[memoryview]"
WriteTransaction: TypeAlias = "lmdb.Transaction[bytes]"
Table: TypeAlias = "lmdb._Database"


class LmdbEnvironment:
    """Holds one open environment; the threads of one process may share it."""

    def __init__(
        self, path: Path, environment: lmdb.Environment, lock: WriterLock | None, gate: ReadGate
    ) -> None:
        """Take over an open environment; use `open` or `create`."""
        self.path = path
        self.tables: dict[bytes, Table] = {}
        self._environment = environment
        self._lock = lock  # None in a read-only environment
        self._gate = gate
        self._pid = os.getpid()
        self._writing = threading.Lock()
        self._commits = 0
        self._closed = False
        self._unknown: str | None = None  # why nobody may go on with this environment

    @classmethod
    def create(cls, path: Path, *, tables: tuple[bytes, ...], map_size_bytes: int) -> Self:
        """Make the directory and an empty environment in it for writing; `make_tables` follows.

        An environment without any table, left behind by a crash, is taken up. Raises StorageError when the
        directory holds a database or cannot be used, StoreInUseError, and ConfigError for a bad map size.
        """
        map_size_bytes = _checked_map_size(map_size_bytes)
        try:
            path.mkdir(mode=_FILE_MODE, exist_ok=True)
        except OSError as error:
            raise StorageError(f"cannot make the directory {path}: {error.strerror}") from error
        lock = WriterLock(path)
        try:
            data_file = path / DATA_FILE_NAME
            if data_file.exists() and data_file.stat().st_size:
                check_data_file(path)
            self = cls(
                path, _open(path, map_size_bytes, read_only=False, tables=len(tables)), lock, ReadGate()
            )
        except BaseException:
            lock.release()
            raise
        if self._environment.stat()["entries"]:
            self.close()
            raise StorageError(f"{path} holds a database already: open it, or name another directory")
        return self

    @classmethod
    def open(cls, path: Path, *, tables: tuple[bytes, ...], map_size_bytes: int, read_only: bool) -> Self:
        """Open an environment that has exactly these tables.

        Raises ConfigError for a bad map size; NotFoundError when there is none; StoreInUseError when it is
        open in this process, or another one writes to it; CorruptionError when the file is damaged;
        StorageError when it is not this kind of database or cannot be read.
        """
        map_size_bytes = _checked_map_size(map_size_bytes)
        try:
            is_directory = path.is_dir()
        except OSError as error:  # a parent that may not be searched, a name that is too long
            raise StorageError(f"cannot look for the directory {path}: {error.strerror}") from error
        if not is_directory:
            raise NotFoundError(f"{path} is not a directory: name the one that a log was created in")
        # Before the lock, so that the wrong directory is not littered with a lock file.
        check_data_file(path)
        lock = None if read_only else WriterLock(path)
        try:
            if lock is not None:
                settle_data_file(path, forget=lock.was_left)
            check_data_file(path)
            environment = _open(path, map_size_bytes, read_only=read_only, tables=len(tables))
        except BaseException:
            if lock is not None:
                # Perhaps it was the disk: then whoever opens it next is not to trust the cache either.
                lock.release(is_clean=False)
            raise
        self = cls(path, environment, lock, ReadGate())
        try:
            if lock is not None:
                # A writer that was killed within its sync left a commit that is in the page cache and perhaps
                # not on the disk. It would be shown and built upon like any other: make it durable first.
                environment.sync(True)
            # Readers that died hold on to old pages; whoever starts cleans up after them.
            environment.reader_check()
            self._open_tables(tables)
        except lmdb.Error as error:
            self._unknown = f"{path} could not be made durable, or read ({error})"
            self.close()
            raise translated(path, error) from error
        except BaseException:
            self.close()
            raise
        return self

    def make_tables(self, tables: tuple[bytes, ...], fill: Callable[[WriteTransaction], None]) -> None:
        """Make the tables and their first rows in one transaction, and make the new files durable."""

        def make(transaction: WriteTransaction) -> None:
            for name in tables:
                self.tables[name] = self._environment.open_db(name, txn=transaction)
            fill(transaction)

        self.write(make)
        # LMDB syncs its file, but neither the directory that names it nor the one that names the directory.
        for directory in (self.path, self.path.absolute().parent):
            sync_directory(directory)

    @contextmanager
    def reading(self) -> Iterator[ReadTransaction]:
        """Open one read transaction. Raises StorageError, and StateUnknownError once `write` has."""
        self._require_usable()
        while True:
            with self._gate.reading():
                self._require_usable()
                try:
                    transaction = self._begin_reading()
                except lmdb.MapResizedError:
                    transaction = None
                except lmdb.Error as error:
                    raise translated(self.path, error) from error
                if transaction is not None:
                    try:
                        yield transaction
                    except lmdb.Error as error:  # a damaged page, met by whoever reads
                        raise translated(self.path, error) from error
                    finally:
                        transaction.abort()
                    return
            self._adopt_map_size()

    def write(self, apply: Callable[[WriteTransaction], None]) -> None:
        """Run `apply` in a write transaction and commit it durably; run it again where the map had to grow.

        What `apply` raises is passed on and nothing is written. Raises StateUnknownError when nobody can say
        whether the commit is on the disk, or when the map is lost, and StorageError when it failed for sure.
        """
        self._require_usable()
        if self._lock is None:
            raise StorageError(f"{self.path} was opened read-only: nothing was written")
        self._gate.require_no_reader_here()
        with self._writing:
            self._require_usable()
            self._commits += 1
            if self._commits % _COMMITS_PER_READER_CHECK == 0:
                self._clear_dead_readers()
            while not self._try_write(apply):
                # Where a dead reader held pages back, there may be room enough without it.
                if not self._clear_dead_readers():
                    self._grow()

    def usage(self) -> StoreUsage:
        """Return what the map and the data in it take. Raises StorageError."""
        with self.reading():
            info, page_bytes = self._environment.info(), self._environment.stat()["psize"]
            return StoreUsage(map_bytes=info["map_size"], used_bytes=(info["last_pgno"] + 1) * page_bytes)

    def close(self) -> None:
        """Wait for the readers of this process, then close; a second call does nothing.

        In a forked child nothing is closed: the environment belongs to the parent.
        """
        if self._closed or os.getpid() != self._pid:
            self._closed = True
            return
        # In this order, because a writer that grows the map holds the first and waits for the second.
        with self._writing, self._gate.exclusive():
            if not self._closed:
                self._closed = True
                self._environment.close()
                if self._lock is not None:
                    self._lock.release(is_clean=self._unknown is None)

    def _open_tables(self, tables: tuple[bytes, ...]) -> None:
        try:
            # No transaction is passed: py-lmdb loses handles that were opened in a read transaction.
            for name in tables:
                self.tables[name] = self._environment.open_db(name, create=False)
        except (lmdb.NotFoundError, lmdb.IncompatibleError, lmdb.ReadonlyError) as error:
            raise StorageError(
                f"{self.path} holds a database that is not a log's, or a log whose creation broke off (it "
                f"has no table {name.decode()}): name another directory, or create the log again"
            ) from error

    def _begin_reading(self) -> ReadTransaction:
        try:
            return self._environment.begin(buffers=True)
        except lmdb.ReadersFullError:
            # Perhaps not all of them live.
            self._environment.reader_check()
            return self._environment.begin(buffers=True)

    def _clear_dead_readers(self) -> int:
        """Free the slots, and so the old pages, of readers that were killed; return how many there were."""
        try:
            return self._environment.reader_check()
        except lmdb.Error as error:
            raise translated(self.path, error, "nothing was written") from error

    def _try_write(self, apply: Callable[[WriteTransaction], None]) -> bool:
        """Run and commit one write transaction; return False, with nothing written, where the map is full."""
        try:
            transaction = self._environment.begin(write=True)
        except lmdb.Error as error:
            raise translated(self.path, error, "nothing was written") from error
        before = transaction.id() - 1
        try:
            apply(transaction)
        except lmdb.MapFullError:
            self._undo(transaction)
            return False
        except lmdb.Error as error:
            self._undo(transaction)
            raise translated(self.path, error, "nothing was written") from error
        except BaseException:
            self._undo(transaction)
            raise
        try:
            transaction.commit()
        except lmdb.MapFullError:
            return False
        except lmdb.Error as error:
            self._after_failed_commit(before, error)
        return True

    def _undo(self, transaction: WriteTransaction) -> None:
        # py-lmdb's abort waits for an instant at which no other thread is inside LMDB, and under steady
        # reading there is none: so new readers are held back for it. (Its commit does not wait.)
        with self._gate.quiet(_UNDO_PATIENCE_S):
            transaction.abort()

    def _after_failed_commit(self, before: int, error: lmdb.Error) -> None:
        """Find out what a failed commit left behind, and raise accordingly.

        Pages that could not be written or synced leave the old meta page in place: nothing was committed.
        When the meta page itself could not be written or synced, it may have reached the disk or not, and
        LMDB refuses every transaction from then on (MDB_PANIC). And after an EIO the page cache may show what
        the disk will never have: whoever opens the store anew makes sure (tlog.storage.page_cache).
        """
        after = None
        with suppress(lmdb.Error), self._environment.begin() as transaction:
            after = transaction.id()
        if after == before and not is_broken_disk(error, self.path):
            raise StorageError(
                f"nothing was committed to {self.path} ({error}): mend the disk, or make room on it"
            ) from error
        self._unknown = (
            f"a commit to {self.path} broke off ({error}), and nobody can say whether it is on the disk: "
            "stop, mend the disk, and open the store anew"
        )
        raise StateUnknownError(self._unknown) from error

    def _grow(self) -> None:
        """Double the map, after the readers of this process have ended. Raises StorageError."""
        mapped = self._environment.info()["map_size"]
        if mapped >= MAX_MAP_BYTES:
            raise StorageError(f"{self.path} cannot grow beyond {MAX_MAP_BYTES} bytes: nothing was written")
        size_bytes = min(2 * mapped, MAX_MAP_BYTES)
        require_address_space(size_bytes - mapped)
        self._remap(size_bytes)

    def _adopt_map_size(self) -> None:
        """Map what another process has grown the file to."""
        self._remap(0)

    def _remap(self, map_size_bytes: int) -> None:
        with self._gate.exclusive():
            self._require_usable()
            try:
                self._environment.set_mapsize(map_size_bytes)
            except lmdb.Error as error:
                # LMDB has let go of the old map by now, and py-lmdb has closed the environment.
                self._unknown = (
                    f"{self.path} could not be mapped anew ({error}), and can neither be read nor written: "
                    "stop, give the process more address space, and open the store anew"
                )
                raise StateUnknownError(self._unknown) from error

    def _require_usable(self) -> None:
        if os.getpid() != self._pid:
            raise StorageError(
                f"{self.path} was opened by process {self._pid} and is used in its fork {os.getpid()}: "
                "open the store in the process that uses it"
            )
        if self._closed:
            raise StorageError(f"{self.path} is closed: open the store anew")
        if self._unknown is not None:
            raise StateUnknownError(self._unknown)


def _checked_map_size(map_size_bytes: int) -> int:
    if type(map_size_bytes) is not int or not 0 < map_size_bytes <= MAX_MAP_BYTES:
        raise ConfigError(
            f"the map size is {map_size_bytes!r}, not a number of bytes from 1 to {MAX_MAP_BYTES}: it is "
            f"only a start, the map grows by itself; leave it out to begin with {DEFAULT_MAP_BYTES}"
        )
    page_bytes = os.sysconf("SC_PAGE_SIZE")
    return max(_MIN_MAP_BYTES, -(-map_size_bytes // page_bytes) * page_bytes)


def _open(path: Path, map_size_bytes: int, *, read_only: bool, tables: int) -> lmdb.Environment:
    """Open the environment. LMDB itself takes a larger map where the data needs it."""
    make_lock_file(path, max_readers=MAX_READERS)
    for attempt in range(1, _OPEN_ATTEMPTS + 1):
        try:
            return lmdb.open(
                os.fsencode(path),  # a directory's name need not be UTF-8
                map_size=map_size_bytes,
                readonly=read_only,
                create=False,
                mode=_FILE_MODE,
                max_readers=MAX_READERS,
                max_dbs=tables,
                sync=True,
                metasync=True,
                writemap=False,
                map_async=False,
                lock=True,
                lib_version=LIB_VERSION,
            )
        except lmdb.MapResizedError as error:
            # Another process has grown the file between LMDB's look at it and the first transaction.
            if attempt == _OPEN_ATTEMPTS:
                raise translated(path, error) from error
        except lmdb.Error as error:
            if "already open in this process" in str(error):
                raise StoreInUseError(f"{path} is open in this process already: share that store") from error
            raise translated(path, error) from error
    raise AssertionError("unreachable: the last attempt returns or raises")
