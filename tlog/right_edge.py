"""What is looked at before every signature: that memory, the stored tiles and the bytes to be stored agree.

A flipped bit is signed when the only copy that is looked at is the one that it hit. So every hash that the
next root is made of is held against a second copy of it:

- the edge in memory, which the next leaves are joined to, against the stored tiles: a flip in either, in
  memory, in the page cache or on the disk, sets the two apart (`check_stored_edge`; some microseconds);
- the newest stored entry against its leaf hash;
- the tree that is about to be signed against one that is rebuilt from the very bytes that are about to be
  stored, on another way through the hashes (`check_grown_edge`; 1 to 2 microseconds an entry): a flip after
  an entry was verified, or in the hashing itself.

Entries and tiles left of the edge are looked at by the scrub (server.scrub) and by `tlog fsck`.
"""

from __future__ import annotations

from collections.abc import Sequence

from tlog.errors import CorruptionError
from tlog.integrate import TILE_HEIGHT, TILE_WIDTH, TreeEdge
from tlog.merkle import leaf_hash
from tlog.storage.base import Reader

_WAY_OUT = "nothing is signed on top of it: check memory and disk, then run `tlog fsck`"


def check_stored_edge(edge: TreeEdge, reader: Reader) -> None:
    """Check that the edge in memory is the stored one, and that the newest stored entry is its last leaf.

    `reader` shows the store as of `edge`. Raises CorruptionError, and StorageError when it cannot be read.
    """
    if reader.tree_size != edge.tree_size:
        raise CorruptionError(
            f"the tree in memory has {edge.tree_size} leaves, and the store holds {reader.tree_size}: "
            f"{_WAY_OUT}"
        )
    for level, heights in enumerate(edge.tiles):
        if heights[0]:
            index = (edge.tree_size >> (TILE_HEIGHT * level)) // TILE_WIDTH
            if b"".join(heights) != reader.read_tile(level, index):
                raise CorruptionError(
                    f"tile {index} of level {level}, at the right edge of the tree of {edge.tree_size} "
                    f"leaves, is not the same in memory and in the store: {_WAY_OUT}"
                )
    if edge.tree_size:
        last = edge.tree_size - 1
        stored, leaf = leaf_hash(reader.read_entry(last)), reader.read_node(0, last)
        if stored != leaf:
            raise CorruptionError(
                f"the newest stored entry, {last}, hashes to {stored.hex()}, and the tree has {leaf.hex()} "
                f"there: {_WAY_OUT}"
            )


def check_grown_edge(edge: TreeEdge, entries: Sequence[bytes], grown: TreeEdge) -> None:
    """Check that a tree has grown by just these entries, hashing them anew. Raises CorruptionError."""
    if edge.compact_range.extend([leaf_hash(entry) for entry in entries]) != grown.compact_range:
        raise CorruptionError(
            f"the {len(entries)} entries from index {edge.tree_size} on do not make the tree that was about "
            f"to be signed: a bit flipped in memory, or the processor erred; {_WAY_OUT}"
        )
