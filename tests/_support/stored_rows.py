"""Batches for the stores' tests, and everything that a store holds as one value to compare.

Every row follows from its leaf index, so a test that knows a size knows all that must be in the store. Notes
name the size they cover and the root, which is all that a store's test needs of a signed checkpoint.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

from tlog.integrate import TreeEdge, integrate
from tlog.merkle import leaf_hash
from tlog.storage.base import CommitBatch, Reader, Store

GOVERNANCE_EVERY = 7
"""Every seventh entry, the first one included, counts as governance."""

ORIGIN = "log.example.org/trade"
LOG_VKEY = "log.example.org/trade+0a1b2c3d+AQIDBAUG"


def entry(index: int) -> bytes:
    """An entry of 20 to 3,000 bytes: some fit a page many times, some take pages of their own."""
    return (b"entry %d " % index) * (2 + (index * 37) % 200)


def identity(index: int) -> bytes:
    return hashlib.sha256(b"identity %d" % index).digest()


def shared_key(group: int) -> bytes:
    return hashlib.sha256(b"business key %d" % group).digest()[:16]


def business_keys(index: int) -> tuple[bytes, ...]:
    """None for every fifth entry, else one of three that many entries share, and one of the entry's own."""
    return () if index % 5 == 0 else (shared_key(index % 3), shared_key(1000 + index))


def is_governance(index: int) -> bool:
    return index % GOVERNANCE_EVERY == 0


def note(edge: TreeEdge) -> bytes:
    return b"size %d root %s\n" % (edge.tree_size, edge.root_hash.hex().encode())


def size_of(checkpoint: bytes | None) -> int:
    return 0 if checkpoint is None else int(checkpoint.split()[1])


def batch_of(edge: TreeEdge, count: int) -> tuple[TreeEdge, CommitBatch]:
    """The next `count` rows after a tree's edge."""
    indices = range(edge.tree_size, edge.tree_size + count)
    entries = [entry(index) for index in indices]
    grown, tiles = integrate(edge, [leaf_hash(e) for e in entries])
    return grown, CommitBatch(
        start=edge.tree_size,
        entries=entries,
        identities=[identity(index) for index in indices],
        business_keys=[business_keys(index) for index in indices],
        governance_indices=[index for index in indices if is_governance(index)],
        tiles=tiles,
    )


def load_edge(store: Store) -> TreeEdge:
    with store.reader() as reader:
        return TreeEdge.load(reader.tree_size, reader.read_tile)


def commit_rows(
    store: Store, counts: Iterable[int], *, publish: bool = True, edge: TreeEdge | None = None
) -> TreeEdge:
    """Commit batches of the given sizes on top of what is there; return the tree's new edge."""
    edge = load_edge(store) if edge is None else edge
    for count in counts:
        grown, batch = batch_of(edge, count)
        store.commit(batch, expected=store.load(), new=note(grown), publish=publish)
        edge = grown
    return edge


def contents(reader: Reader) -> dict[str, Any]:
    """Everything that a snapshot shows."""
    size = reader.tree_size
    tiles = {}
    level = 0
    while nodes := size >> (8 * level):
        for index in range((nodes + 255) // 256):
            tiles[level, index] = reader.read_tile(level, index)
        level += 1
    return {
        "committed": reader.committed(),
        "published": reader.published(),
        "size": size,
        "entries": reader.read_entries(0, size),
        "identities": [reader.find_leaf_index(identity(index)) for index in range(size + 300)],
        "shared": [reader.find_business_key(shared_key(group), 0, 10**6) for group in range(4)],
        "own": [reader.find_business_key(shared_key(1000 + index), 0, 2) for index in range(size + 300)],
        "governance": reader.governance_indices(),
        "tiles": tiles,
    }


def contents_of(store: Store) -> dict[str, Any]:
    with store.reader() as reader:
        return contents(reader)


def expected_contents(size: int, *, committed: bytes | None, published: bytes | None) -> dict[str, Any]:
    """What a snapshot of that size must show, worked out without any store."""
    _, batch = batch_of(TreeEdge.EMPTY, size)
    beyond = range(size, size + 300)
    return {
        "committed": committed,
        "published": published,
        "size": size,
        "entries": [entry(index) for index in range(size)],
        "identities": [*range(size), *(None for _ in beyond)],
        "shared": [
            [index for index in range(size) if index % 5 and index % 3 == group] for group in range(4)
        ],
        "own": [[index] if index % 5 else [] for index in range(size)] + [[] for _ in beyond],
        "governance": [index for index in range(size) if is_governance(index)],
        "tiles": dict(batch.tiles),
    }
