"""What an event takes on the disk beyond its entry, and how much is written to put it there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import lmdb

from bench import targets
from bench.measure import written_bytes
from bench.prefilled import LIB_VERSION, MAP_BYTES, SMALL_BATCH, open_log, prefilled_log, working_copy
from bench.progress import Progress
from bench.result import Result, Row
from bench.settings import Settings
from bench.workload import ENTRY_BYTES, fillers
from tlog.log import Log
from tlog.storage.lmdb_header import DATA_FILE_NAME

QUESTION = "What does an event take on the disk, and how much is written to put it there?"

BATCHES = (1, 16, 256, 4_000)
KEYS_AN_EVENT = 1  # bench/workload.py
COUNTS_FROM = 1_000_000
"""The size from which on the targets speak of a log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """Holds bytes per event: of the tables, and of the file that holds them."""

    entries: float
    tiles: float
    identities: float
    business_keys: float
    others: float
    file: float

    @property
    def slack(self) -> float:
        """Return the pages that are free, to be used by later commits."""
        return self.file - self.entries - self.tiles - self.identities - self.business_keys - self.others

    @property
    def beyond_entry(self) -> float:
        """Return everything but the entry itself and the business keys: what the target is about."""
        return self.file - ENTRY_BYTES - self.business_keys


def run(settings: Settings, progress: Progress) -> Result:
    """Look at the tables of logs, and commit to them."""
    rows: list[Row] = []
    if settings.is_full:
        # Grown by a server's commits from its first entry on, to see that the prefilled ones are like it.
        grown = prefilled_log(settings, COUNTS_FROM, progress, largest_batch=SMALL_BATCH)
        rows += _disk_rows(disk_use(grown / "store"), COUNTS_FROM, f"in commits of {SMALL_BATCH}")
    for size in settings.tree_sizes:
        original = prefilled_log(settings, size, progress)
        rows += _disk_rows(disk_use(original / "store"), size, "as bench/prefilled.py does")
        rows += _written_rows(settings, size, original, progress)
    return Result(
        question=QUESTION,
        rows=rows,
        notes=[
            f"Entries have {ENTRY_BYTES} bytes and {KEYS_AN_EVENT} business key. Tables count all their "
            "pages, the file its whole length; slack is the pages that are free: a few times as many as a "
            "commit replaces, so that it counts for little in a large log.",
            "Written is what the store hands to write calls: every page that a commit touches, once, so it "
            "is by how much a disk's wear exceeds the entries' own bytes.",
        ],
    )


def disk_use(store: Path) -> Disk:
    """Measure what the tables of a store take. Requires a store with entries."""
    with lmdb.open(
        os.fsencode(store),
        readonly=True,
        lock=False,
        max_dbs=16,
        map_size=MAP_BYTES,
        lib_version=LIB_VERSION,
    ) as environment:
        with environment.begin() as transaction, transaction.cursor() as cursor:
            names = [bytes(name) for name in cursor.iternext(values=False)]
        table_bytes = {}
        for name in names:
            table = environment.open_db(name, create=False)
            with environment.begin() as transaction:
                stat = transaction.stat(table)
            pages = stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
            table_bytes[name] = pages * stat["psize"]
            if name == b"entries":
                count = stat["entries"]
    shares = {
        name: table_bytes.pop(name.encode()) / count
        for name in ("entries", "tiles", "identities", "business_keys")
    }
    file = (store / DATA_FILE_NAME).stat().st_size / count
    return Disk(**shares, others=sum(table_bytes.values()) / count, file=file)


def _disk_rows(disk: Disk, size: int, grown: str) -> list[Row]:
    at: dict[str, int | str] = {"tree_size": size, "grown": grown}
    counts = size >= COUNTS_FROM
    per_key = disk.business_keys / KEYS_AN_EVENT

    def row(name: str, value: float) -> Row:
        return Row(name=name, value=value, unit="bytes/event", at=at)

    return [
        row("entries, beyond their own bytes", disk.entries - ENTRY_BYTES),
        row("tiles", disk.tiles),
        row("uniqueness", disk.identities),
        row("governance and checkpoints", disk.others),
        row("slack", disk.slack),
        Row(
            name="beyond the entry and its business key",
            value=disk.beyond_entry,
            unit="bytes/event",
            at=at,
            target=targets.DISK if counts else None,
        ),
        Row(
            name="business key",
            value=per_key,
            unit="bytes/key",
            at=at,
            target=targets.DISK_KEY if counts else None,
        ),
    ]


def _written_rows(settings: Settings, size: int, original: Path, progress: Progress) -> list[Row]:
    rows = []
    with (
        _opened_copy(settings, original) as log,
        progress.running(f"writing to {size:,} entries", len(BATCHES)) as advance,
    ):
        entries = fillers(size, size + sum(_written_events(settings, batch) for batch in BATCHES))
        for batch in BATCHES:
            events = _written_events(settings, batch)
            before = written_bytes(os.getpid())
            for _ in range(events // batch):
                log.commit([list(islice(entries, batch))])
            per_event = (written_bytes(os.getpid()) - before) / events
            at = {"tree_size": size, "batch": batch}
            rows += [
                Row(name="written", value=per_event, unit="bytes/event", at=at),
                Row(name="write amplification", value=per_event / ENTRY_BYTES, unit="x", at=at),
            ]
            advance(1)
    return rows


def _written_events(settings: Settings, batch: int) -> int:
    """Return how many events are committed in batches of that size."""
    if settings.profile == "tiny":
        return 2 * batch
    return max(20 * min(batch, 256), 3 * batch)


@contextmanager
def _opened_copy(settings: Settings, original: Path) -> Iterator[Log]:
    with working_copy(settings, original) as directory, open_log(directory) as log:
        yield log
