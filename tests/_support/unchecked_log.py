"""A malicious operator's log: any entries at all in the real store, under roots signed with the real key.

What is stored is consistent in itself, so the real server serves it like any other log.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path

from examples.attack.double import UncheckedStore
from tlog.checkpoint import Checkpoint
from tlog.client.trusted_log import VerifiedCheckpoint
from tlog.log_view import LogView
from tlog.merkle import prove_consistency_path
from tlog.monitor.source import Run
from tlog.note import Signer
from tlog.storage.lmdb_store import LmdbStore
from tlog.storage.memory import MemoryStore


class UncheckedLog:
    """Shows an unchecked store as a `tlog.monitor.source.LogSource`, for tests without sockets.

    `note` is what it shows; a test may put anything there.
    """

    may_be_stale = False
    name = "an unchecked log"

    def __init__(self, filled: UncheckedStore) -> None:
        self.filled = filled
        self.store = filled.store
        self.signer = filled.signer
        self.note = filled.note
        self.run_entries = 100
        self.calls = 0

    @classmethod
    def in_memory(cls, signer: Signer, entries: Sequence[bytes] = ()) -> UncheckedLog:
        log = cls(UncheckedStore(MemoryStore(signer.name, signer.vkey), signer))
        if entries:
            log.append(entries)
        return log

    @staticmethod
    def on_disk(
        path: Path, signer: Signer, entries: Sequence[bytes], *, not_governance: Sequence[bytes] = ()
    ) -> None:
        """Fill a store and close it. `not_governance` are entries that the server's fold must not see."""
        filled = UncheckedStore(LmdbStore.create(path, signer.name, signer.vkey), signer)
        filled.append(entries, not_governance=not_governance)
        filled.close()

    def append(self, entries: Sequence[bytes], *, not_governance: Sequence[bytes] = ()) -> None:
        self.filled.append(entries, not_governance=not_governance)
        self.note = self.filled.note

    def checkpoint(self) -> bytes:
        self.calls += 1
        return self.note

    def runs(self, start: int, under: VerifiedCheckpoint) -> Generator[Run, None, None]:
        with self.store.reader() as reader:
            view = LogView(reader)
            found = []
            for first, entries in view.entries_in_runs(
                start, under.tree_size, max_entries=self.run_entries, max_bytes=1 << 20
            ):
                proof = view.prove_range(first, first + len(entries), under.tree_size)
                found.append(Run(start=first, entries=entries, right=proof.right, note=under.note))
        yield from found

    def prove_consistency(self, smaller: Checkpoint, larger: Checkpoint) -> Sequence[bytes]:
        with self.store.reader() as reader:
            return LogView(reader).prove_consistency(smaller.tree_size, larger.tree_size)

    def fork_path(self, tree_size: int) -> tuple[bytes, Sequence[bytes]]:
        with self.store.reader() as reader:
            return self.note, prove_consistency_path(reader.read_node, tree_size, reader.tree_size)

    def close(self) -> None:
        self.filled.close()
