"""One consistent snapshot of a log, and everything that can be proven from it. No writing, no gRPC.

A view belongs to the thread that opened it and lives as long as its `with` block: the store's snapshot pins
old pages, so hold it for one answer, not for one conversation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tlog.checkpoint import Checkpoint, parse_checkpoint
from tlog.errors import NotFoundError, OutOfRangeError
from tlog.event import identity
from tlog.integrate import tile_width
from tlog.leaf_prover import LeafProver
from tlog.merkle import (
    HASH_BYTES,
    CompactRange,
    RangeProver,
    compact_range_nodes,
    prove_consistency,
)
from tlog.note import parse_note
from tlog.receipt import Receipt, format_receipt
from tlog.storage.base import Reader


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeProof:
    """Proves leaves [start, end): the compact ranges left and right of them (docs/formats.md)."""

    start: int
    end: int
    left: tuple[bytes, ...]
    right: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedCheckpoint:
    """Holds a checkpoint with the exact signed bytes that it was read from."""

    note: bytes
    checkpoint: Checkpoint

    @classmethod
    def read(cls, note: bytes) -> SignedCheckpoint:
        """Parse a note that this log signed itself; the signature is not checked again."""
        text, _ = parse_note(note)
        return cls(note=note, checkpoint=parse_checkpoint(text))

    @property
    def tree_size(self) -> int:
        """Return the number of leaves under this checkpoint."""
        return self.checkpoint.tree_size


class LogView:
    """Answers questions about one snapshot of a log."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._prover: LeafProver | None = None  # for the tree that was asked about last
        self._ranges: RangeProver | None = None  # likewise
        self._nodes: dict[tuple[int, int], bytes] = {}  # proofs about the right edge share most of theirs

    @property
    def tree_size(self) -> int:
        """Return the committed size: proofs and entries are given for every size up to this one."""
        return self._reader.tree_size

    def committed(self) -> SignedCheckpoint:
        """Return the newest durable checkpoint. Raises NotFoundError in a store that holds none."""
        return _read_slot(self._reader.committed(), "committed")

    def is_frozen(self) -> bool:
        """Return whether the log has ended: what is committed is all there will be."""
        return self._reader.is_frozen()

    def is_restored(self) -> bool:
        """Return whether the store was made from a backup, and nobody has vouched for it yet."""
        return self._reader.is_restored()

    def is_marked(self) -> bool:
        """Return whether a high-water mark is kept of this log: where there is none, it was lost."""
        return self._reader.is_marked()

    def previous_size(self) -> int | None:
        """Return the size that the last commit with entries built upon; None where it was not recorded."""
        return self._reader.previous_size()

    def published(self) -> SignedCheckpoint:
        """Return the newest checkpoint that may be shown. Raises NotFoundError before the first."""
        return _read_slot(self._reader.published(), "published")

    def entries(self, start: int, end: int) -> list[bytes]:
        """Return entries [start, end). Requires 0 <= start <= end <= tree_size, else OutOfRangeError."""
        return self._reader.read_entries(start, end)

    def hash_tile(self, level: int, index: int) -> bytes:
        """Return the hashes of one hash tile, 32 bytes each: as many as the committed size has, 1 to 256.

        Raises OutOfRangeError when a tree of that size has no such tile.
        """
        stored = self._reader.read_tile(level, index)
        return stored[: HASH_BYTES * tile_width(self.tree_size, level, index)]

    def stored_tile(self, level: int, index: int) -> bytes:
        """Return a tile as it is stored, with its inner nodes (tlog.integrate). Raises OutOfRangeError."""
        return self._reader.read_tile(level, index)

    def node(self, level: int, index: int) -> bytes:
        """Return the hash of a complete subtree as it is stored. Raises OutOfRangeError."""
        return self._reader.read_node(level, index)

    def leaf_index(self, source: str, event_id: str) -> int | None:
        """Return the leaf index of the event named (source, id), or None; that None proves nothing."""
        return self._reader.find_leaf_index(identity(source, event_id))

    def index_of(self, identity: bytes, leaf_hash: bytes) -> int | None:
        """Return the leaf index of the entry with this identity if it is just the one of this leaf hash."""
        index = self._reader.find_leaf_index(identity)
        return index if index is not None and self._reader.read_node(0, index) == leaf_hash else None

    def find(self, business_key: bytes, start: int, limit: int) -> list[int]:
        """Return up to `limit` leaf indices >= start whose events carry the (hashed) business key."""
        return self._reader.find_business_key(business_key, start, limit)

    def governance_indices(self) -> Sequence[int]:
        """Return the leaf indices of all governance entries, ascending."""
        return self._reader.governance_indices()

    def prove_inclusion(self, leaf_index: int, tree_size: int) -> list[bytes]:
        """Prove one leaf. Requires 0 <= leaf_index < tree_size <= self.tree_size, else OutOfRangeError."""
        self._require_size(tree_size)
        if self._prover is None or self._prover.tree_size != tree_size:
            self._prover = LeafProver(self._reader, tree_size)
        return self._prover.prove(leaf_index)

    def prove_consistency(self, size1: int, size2: int) -> list[bytes]:
        """Prove a prefix. Requires 0 <= size1 <= size2 <= self.tree_size, else OutOfRangeError."""
        self._require_size(size2)
        return prove_consistency(self._node, size1, size2)

    def prove_range(self, start: int, end: int, tree_size: int) -> RangeProof:
        """Prove leaves [start, end). Requires 0 <= start < end <= tree_size <= self.tree_size."""
        self._require_size(tree_size)
        if self._ranges is None or self._ranges.tree_size != tree_size:
            self._ranges = RangeProver(self._node, tree_size)
        left, right = self._ranges.prove(start, end)
        return RangeProof(start=start, end=end, left=left, right=right)

    def root_hash(self, tree_size: int) -> bytes:
        """Return the root of an earlier tree. Requires 0 <= tree_size <= self.tree_size."""
        self._require_size(tree_size)
        nodes = compact_range_nodes(0, tree_size)
        hashes = tuple(self._reader.read_node(level, index) for level, index in nodes)
        return CompactRange(start=0, end=tree_size, hashes=hashes).root_hash()

    def receipt(self, leaf_index: int, under: SignedCheckpoint) -> bytes:
        """Make the C2SP tlog-proof of one entry under a checkpoint of this log.

        Requires 0 <= leaf_index < under.tree_size, else OutOfRangeError.
        """
        proof = self.prove_inclusion(leaf_index, under.tree_size)
        return format_receipt(
            Receipt(leaf_index=leaf_index, proof=tuple(proof), checkpoint=under.note, extra=None)
        )

    def entries_in_runs(
        self, start: int, end: int, *, max_entries: int, max_bytes: int
    ) -> Iterator[tuple[int, list[bytes]]]:
        """Yield (first index, entries) for [start, end) in runs of bounded count and size in bytes."""
        while start < end:
            run: list[bytes] = []
            size = 0
            for entry in self._reader.read_entries(start, min(end, start + max_entries)):
                if run and size + len(entry) > max_bytes:
                    break
                run.append(entry)
                size += len(entry)
            yield start, run
            start += len(run)

    def _node(self, level: int, index: int) -> bytes:
        node = self._nodes.get((level, index))
        if node is None:
            node = self._nodes[level, index] = self._reader.read_node(level, index)
        return node

    def _require_size(self, tree_size: int) -> None:
        if not 0 <= tree_size <= self.tree_size:
            raise OutOfRangeError(
                f"tree size {tree_size} is asked for, and this log has {self.tree_size} entries: "
                "ask for a size up to that"
            )


def _read_slot(note: bytes | None, slot: str) -> SignedCheckpoint:
    if note is None:
        raise NotFoundError(f"the store holds no {slot} checkpoint yet: wait for the first one")
    return SignedCheckpoint.read(note)
