"""A log in a store of its own, with what a backup and a restore of it need."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from _support.alliance import Alliance

from tlog.backup.copy import Copy, copy_of_store, copy_of_tiles
from tlog.backup.write import WrittenBackup, write_backup
from tlog.fsck.findings import Report
from tlog.fsck.store_check import check_store
from tlog.log import Log
from tlog.storage.lmdb_store import LmdbStore
from tlog.tile_source.directory import DirectoryTileSource
from tlog.tile_source.paced import Pace
from tlog.tile_source.trust import LogKeys


class Silent:
    """Shows nothing of how far the work is."""

    def advance(self, count: int = 1) -> None:
        pass


@contextmanager
def silent(label: str, total: int | None) -> Iterator[Silent]:
    yield Silent()


@dataclass
class BackedUpLog:
    """Holds a directory with a log's store in it; `entries` are those in the log, `grow` adds some."""

    directory: Path
    alliance: Alliance = field(default_factory=Alliance)
    entries: list[bytes] = field(default_factory=list)
    taken_s: int = 1_700_000_000

    def __post_init__(self) -> None:
        self.store_path.parent.mkdir(parents=True, exist_ok=True)
        with Log.create(self.store_path, self.alliance.signer) as log:
            log.append(self.alliance.governance)
        self.entries += self.alliance.governance

    @property
    def store_path(self) -> Path:
        return self.directory / "store"

    @property
    def keys(self) -> LogKeys:
        return LogKeys.of([(self.alliance.origin, self.alliance.signer.vkey)])

    @contextmanager
    def store(self) -> Iterator[LmdbStore]:
        store = LmdbStore.open(self.store_path, None, None, read_only=True)
        try:
            yield store
        finally:
            store.close()

    def grow(self, size: int, *, publish: bool = True) -> None:
        """Append entries until the log has `size`, in one commit."""
        start = len(self.entries)
        added = self.alliance.entries(start, size)
        store = LmdbStore.open(self.store_path, None, None)
        with Log(store, self.alliance.signer, publish_at_commit=publish) as log:
            log.append(added)
        self.entries += added

    def back_up(
        self, directory: Path, *, pace: Pace | None = None, verify_all: bool = False
    ) -> WrittenBackup:
        with self.store() as store:
            copy = copy_of_store(store, "the store", self.keys, now_s=self.taken_s)
            return write_backup(
                copy, directory, self.keys, pace=pace or Pace(None), verify_all=verify_all, show=silent
            )

    def copy_in(self, directory: Path) -> Copy:
        return copy_of_tiles(DirectoryTileSource(path=directory), self.keys, directory)

    def check(self, store_path: Path) -> Report:
        return check_store(store_path, self.keys.logs).report
