"""A malicious operator's log: any entries at all in the real store, under roots signed with the real key.

What is stored is consistent in itself, so the real server serves it like any other log.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Sequence
from pathlib import Path

from tlog.checkpoint import Checkpoint, format_checkpoint
from tlog.client.trusted_log import VerifiedCheckpoint
from tlog.envelope import decode_entry
from tlog.errors import MalformedError
from tlog.event import parse_event
from tlog.governance import is_governance
from tlog.integrate import TreeEdge, integrate
from tlog.log_view import LogView
from tlog.merkle import leaf_hash, prove_consistency_path
from tlog.monitor.source import Run
from tlog.note import Signer, sign_note
from tlog.storage.base import CommitBatch, Store
from tlog.storage.lmdb_store import LmdbStore
from tlog.storage.memory import MemoryStore


def signed(signer: Signer, edge: TreeEdge) -> bytes:
    return sign_note(format_checkpoint(Checkpoint(signer.name, edge.tree_size, edge.root_hash)), [signer])


class UncheckedLog:
    """Appends whatever it is given; is a `tlog.monitor.source.LogSource` as well, for tests without sockets.

    `governance` names the indices that count as governance for the server's start; by default those whose
    events say so.
    """

    may_be_stale = False
    name = "an unchecked log"

    def __init__(self, store: Store, signer: Signer) -> None:
        self.store = store
        self.signer = signer
        self.edge = TreeEdge.EMPTY
        self.note = signed(signer, self.edge)
        self.run_entries = 100
        self.calls = 0
        store.commit(CommitBatch.empty(), expected=None, new=self.note, publish=True)

    @classmethod
    def in_memory(cls, signer: Signer, entries: Sequence[bytes] = ()) -> UncheckedLog:
        log = cls(MemoryStore(signer.name, signer.vkey), signer)
        if entries:
            log.append(entries)
        return log

    @classmethod
    def on_disk(
        cls, path: Path, signer: Signer, entries: Sequence[bytes], *, not_governance: Sequence[bytes] = ()
    ) -> None:
        """Fill a store and close it. `not_governance` are entries that the server's fold must not see."""
        log = cls(LmdbStore.create(path, signer.name, signer.vkey), signer)
        log.append(entries, not_governance=not_governance)
        log.close()

    def append(self, entries: Sequence[bytes], *, not_governance: Sequence[bytes] = ()) -> None:
        start = self.edge.tree_size
        self.edge, tiles = integrate(self.edge, [leaf_hash(entry) for entry in entries])
        new = signed(self.signer, self.edge)
        batch = CommitBatch(
            start=start,
            entries=entries,
            identities=[hashlib.sha256(b"any %d" % (start + at)).digest() for at in range(len(entries))],
            business_keys=[()] * len(entries),
            governance_indices=[
                start + at
                for at, entry in enumerate(entries)
                if _says_governance(entry) and entry not in not_governance
            ],
            tiles=tiles,
        )
        self.store.commit(batch, expected=self.note, new=new, publish=True)
        self.note = new

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
        self.store.close()


def _says_governance(entry: bytes) -> bool:
    try:
        return is_governance(parse_event(decode_entry(entry).payload))
    except MalformedError:
        return False
