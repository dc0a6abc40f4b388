"""A witness's store in memory: for tests, and never for a key that outlives the process."""

from __future__ import annotations

import threading

from tlog.errors import ConflictError, StorageError
from tlog.storage.witness_base import check_origin_hash, check_record


class MemoryWitnessStore:
    """Holds records in memory; keeps the contract of `tlog.storage.witness_base` but for durability."""

    def __init__(self) -> None:
        self._records: dict[bytes, bytes] = {}
        self._writing = threading.Lock()
        self._closed = False

    def load(self, origin_hash: bytes) -> bytes | None:
        """Return the record of a log, or None before the first. Raises as the contract says."""
        check_origin_hash(origin_hash)
        self._require_open()
        return self._records.get(origin_hash)

    def replace(self, origin_hash: bytes, *, expected: bytes | None, new: bytes) -> None:
        """Put `new` in the place of `expected`. Raises as the contract says."""
        check_origin_hash(origin_hash)
        check_record(new)
        with self._writing:
            self._require_open()
            if self._records.get(origin_hash) != expected:
                raise ConflictError("another record of this log is stored by now: nothing was written")
            self._records[origin_hash] = new

    def origin_hashes(self) -> list[bytes]:
        """Return the origin hashes of all records, ascending."""
        self._require_open()
        with self._writing:
            return sorted(self._records)

    def close(self) -> None:
        """Refuse everything from here on."""
        self._closed = True

    def _require_open(self) -> None:
        if self._closed:
            raise StorageError("this store is closed: what it held is gone")
