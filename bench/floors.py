"""The floors: what the least conceivable work costs, measured in the same run as what is compared to it.

V      one bare PyNaCl `VerifyKey.verify` of a message as long as an event's
S      a bare loop that puts the same rows (entry, identity -> leaf index, business key + leaf index ->
       nothing) into an LMDB that holds as many already: sorted, in bulk, one durable transaction a batch
hash   SHA-256 of every entry, and both into LMDB in the same way: a log without any proof or index
       (bench/libraries.py)
echo   an empty gRPC server (bench/echo_server.py)
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from time import perf_counter

import lmdb
from nacl.signing import VerifyKey

from bench.measure import Cost, cpu_of
from bench.prefilled import (
    LIB_VERSION,
    MAP_BYTES,
    SMALL_BATCH,
    batch_sizes,
    drop_free_pages,
    made_once,
    working_copy,
)
from bench.progress import Progress
from bench.settings import Settings
from bench.workload import ENTRY_BYTES, IndexRows, fillers, index_rows
from tlog.envelope import decode_entry, pae

_RECIPE = 3
_NUMBER = struct.Struct(">Q")
_NOTHING = b""
_TABLES = (b"entries", b"identities", b"business_keys")


def verification_cost(entries: Sequence[bytes]) -> Cost:
    """Measure V: verify every signature of some entries with bare PyNaCl. Requires entries."""
    checks = []
    for entry in entries:
        envelope = decode_entry(entry)
        message = pae(envelope.payload)
        checks += [(VerifyKey(key), message, signature) for key, signature in envelope.signatures]

    def verify() -> None:
        for key, message, signature in checks:
            key.verify(message, signature)

    return cpu_of(verify).per(len(checks))


class StorageFloor:
    """Is an LMDB with so many rows, and the barest loop that adds to it."""

    def __init__(self, path: Path, size: int) -> None:
        """Open what `storage_floor` copied; `size` is how many entries it holds."""
        self._environment = lmdb.open(
            os.fsencode(path),
            map_size=MAP_BYTES,
            max_dbs=len(_TABLES),
            sync=True,
            metasync=True,
            writemap=False,
            lib_version=LIB_VERSION,
        )
        self._tables = [self._environment.open_db(name) for name in _TABLES]
        self.size = size

    def append_cost(self, rows: Sequence[IndexRows], batch: int) -> Cost:
        """Measure S: the CPU of one row's share, when rows are put in batches. Requires rows."""
        return cpu_of(lambda: self._append_all(rows, batch)).per(len(rows))

    def commit_times_s(self, rows: Sequence[IndexRows]) -> list[float]:
        """Return how long each row takes when it is committed durably by itself, seconds of wall time."""
        times_s = []
        for row in rows:
            started_s = perf_counter()
            self._append_all([row], 1)
            times_s.append(perf_counter() - started_s)
        return times_s

    def row_counts(self) -> list[int]:
        """Return how many rows each table holds: entries, identities, business keys."""
        with self._environment.begin() as transaction:
            return [int(transaction.stat(table)["entries"]) for table in self._tables]

    def close(self) -> None:
        """Close the environment."""
        self._environment.close()

    def _append_all(self, rows: Sequence[IndexRows], batch: int) -> None:
        for start in range(0, len(rows), batch):
            self.append(rows[start : start + batch])

    def append(self, rows: Sequence[IndexRows]) -> None:
        """Put rows in one durable transaction."""
        indices = [_NUMBER.pack(index) for index in range(self.size, self.size + len(rows))]
        entries, identities, business_keys = self._tables
        with self._environment.begin(write=True) as transaction:
            with transaction.cursor(entries) as cursor:
                cursor.putmulti(zip(indices, (row.entry for row in rows), strict=True), append=True)
            with transaction.cursor(identities) as cursor:
                cursor.putmulti(sorted(zip((row.identity for row in rows), indices, strict=True)))
            with transaction.cursor(business_keys) as cursor:
                cursor.putmulti(
                    sorted(
                        (row.business_key + index, _NOTHING) for row, index in zip(rows, indices, strict=True)
                    )
                )
        self.size += len(rows)


@contextmanager
def storage_floor(settings: Settings, size: int, progress: Progress) -> Iterator[StorageFloor]:
    """Give a storage floor that holds `size` entries, while the block runs."""
    recipe: dict[str, object] = {"floor": _RECIPE, "size": size, "entry_bytes": ENTRY_BYTES}

    def fill(directory: Path) -> None:
        filled = 0
        with progress.running(f"filling a bare LMDB with {size:,} entries", size) as advance:
            for large, part in groupby(batch_sizes(size), key=lambda count: count > SMALL_BATCH):
                floor = StorageFloor(directory, filled)
                for count in part:
                    floor.append(index_rows(list(fillers(floor.size, floor.size + count))))
                    advance(count)
                filled = floor.size
                floor.close()
                if large:
                    drop_free_pages(directory)

    with working_copy(settings, made_once(settings, f"floor-{size}", recipe, fill)) as directory:
        floor = StorageFloor(directory, size)
        try:
            yield floor
        finally:
            floor.close()
