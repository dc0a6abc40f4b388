"""Write single rows of a store that nobody else writes to, as whoever checked it says: for repair only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path

from tlog.errors import ConflictError
from tlog.storage.lmdb_environment import DEFAULT_MAP_BYTES, LmdbEnvironment, WriteTransaction
from tlog.storage.lmdb_layout import META, TABLES

ROWS_AT_ONCE = 1_000

Change = tuple[bytes, bytes, bytes | None]
"""Table, key, and the value to put; None: the row is to go."""


def mend_rows(
    directory: Path,
    changes: Iterable[Change],
    *,
    committed: bytes | None,
    on_step: Callable[[int], None] = lambda _: None,
) -> int:
    """Make rows what they have to be, a thousand in one transaction; returns how many there were.

    Each transaction is durable when it ends, so what is broken off is gone on with by starting again.
    `committed` is the committed note of the store that was checked. Requires that the pages of the file are
    sound. Raises ConflictError when another note is there meanwhile, StoreInUseError, and StorageError.
    """
    environment = LmdbEnvironment.open(
        directory, tables=TABLES, map_size_bytes=DEFAULT_MAP_BYTES, read_only=False
    )
    try:
        with environment.reading() as transaction:
            found = transaction.get(b"committed", db=environment.tables[META])
            if (None if found is None else bytes(found)) != committed:
                raise ConflictError(
                    f"{directory} was written to since it was checked: nothing was mended; check it again"
                )
        done = 0
        for step in _steps(changes):
            environment.write(partial(_apply, environment, step))
            done += len(step)
            on_step(len(step))
        return done
    finally:
        environment.close()


def _apply(environment: LmdbEnvironment, step: list[Change], transaction: WriteTransaction) -> None:
    for table, key, value in step:
        if value is None:
            transaction.delete(key, db=environment.tables[table])
        else:
            transaction.put(key, value, db=environment.tables[table])


def _steps(changes: Iterable[Change]) -> Iterator[list[Change]]:
    iterator = iter(changes)
    while step := list(islice(iterator, ROWS_AT_ONCE)):
        yield step
