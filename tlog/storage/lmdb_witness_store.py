"""A witness's records in LMDB: two tables, one transaction a record.

Table           key                             value
records         origin hash (32 bytes)          the record
meta            a name                          format

A replacement compares and writes in one write transaction, and LMDB has one of those at a time: no other
record comes in between. A crash leaves either the whole old or the whole new record.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

import lmdb

from tlog.errors import ConflictError, CorruptionError, StorageError
from tlog.storage.lmdb_environment import LmdbEnvironment, WriteTransaction
from tlog.storage.witness_base import check_origin_hash, check_record

FORMAT = b"tlog-witness/1"
"""Names the tables and their encoding; a store with another name is refused."""

DEFAULT_MAP_BYTES = 2**26
"""How much of the file is mapped at first; it grows by itself. A record takes a few kilobytes."""

_TABLES = (b"records", b"meta")


class LmdbWitnessStore:
    """Holds a witness's records in an LMDB directory; it is a `tlog.storage.witness_base.WitnessStore`."""

    def __init__(self, environment: LmdbEnvironment) -> None:
        """Take over an open environment; use `create` or `open`."""
        self._environment = environment
        self._records = environment.tables[b"records"]
        self._meta = environment.tables[b"meta"]

    @classmethod
    def create(cls, path: Path | str, *, map_size_bytes: int = DEFAULT_MAP_BYTES) -> Self:
        """Make an empty store, and its directory where only the parent exists, and open it for writing.

        Raises ConfigError for a bad map size, StorageError when the directory holds a database already or
        cannot be used, StoreInUseError.
        """
        environment = LmdbEnvironment.create(Path(path), tables=_TABLES, map_size_bytes=map_size_bytes)

        def fill(transaction: WriteTransaction) -> None:
            transaction.put(b"format", FORMAT, db=environment.tables[b"meta"])

        try:
            environment.make_tables(_TABLES, fill)
            return cls(environment)
        except BaseException:
            environment.close()
            raise

    @classmethod
    def open(
        cls, path: Path | str, *, map_size_bytes: int = DEFAULT_MAP_BYTES, read_only: bool = False
    ) -> Self:
        """Open a store; any number of processes may read beside the one that writes. It is never made here.

        Raises NotFoundError when there is none; StoreInUseError when another one writes to it;
        CorruptionError when it is damaged; StorageError when it cannot be used or is no witness's;
        ConfigError for a bad map size.
        """
        environment = LmdbEnvironment.open(
            Path(path), tables=_TABLES, map_size_bytes=map_size_bytes, read_only=read_only
        )
        try:
            store = cls(environment)
            store._require_format()
        except BaseException:
            environment.close()
            raise
        return store

    def load(self, origin_hash: bytes) -> bytes | None:
        """Return the record of a log, or None before the first. Raises as the contract says."""
        check_origin_hash(origin_hash)
        with self._environment.reading() as transaction:
            try:
                record = transaction.get(origin_hash, db=self._records)
            except lmdb.Error as error:
                raise _unreadable(error) from error
            return None if record is None else bytes(record)

    def replace(self, origin_hash: bytes, *, expected: bytes | None, new: bytes) -> None:
        """Put `new` in the place of `expected` in one durable transaction. Raises as the contract says."""
        check_origin_hash(origin_hash)
        check_record(new)

        def apply(transaction: WriteTransaction) -> None:
            if transaction.get(origin_hash, db=self._records) != expected:
                raise ConflictError("another record of this log is stored by now: nothing was written")
            transaction.put(origin_hash, new, db=self._records)

        self._environment.write(apply)

    def origin_hashes(self) -> list[bytes]:
        """Return the origin hashes of all records, ascending. Raises StorageError."""
        with self._environment.reading() as transaction:
            try:
                with transaction.cursor(self._records) as cursor:
                    return [bytes(key) for key in cursor.iternext(values=False)]
            except lmdb.Error as error:
                raise _unreadable(error) from error

    def close(self) -> None:
        """Release everything; a second call does nothing. Raises StorageError."""
        self._environment.close()

    def _require_format(self) -> None:
        with self._environment.reading() as transaction:
            found = bytes(transaction.get(b"format", b"", db=self._meta))
        if found != FORMAT:
            raise StorageError(
                f"{self._environment.path} has the format {found!r}, this release reads {FORMAT!r}: use the "
                "release that wrote it"
            )


def _unreadable(error: lmdb.Error) -> StorageError:
    return CorruptionError(f"the witness's records cannot be read ({error}): stop the witness")
