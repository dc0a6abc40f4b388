"""The tree of a checkpoint as its reader knows it: a checked prefix, and a compact range behind it. Pure.

Whoever verified a run holds every node of the leaves up to its end, and of the rest just what the range proof
gave. That is enough for any inclusion proof of a checked leaf, and for the path from any checked size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tlog.errors import OutOfRangeError
from tlog.integrate import TreeEdge
from tlog.merkle import CompactRange, ReadNode, compact_range_nodes, node_hash, prove_consistency
from tlog.merkle import prove_inclusion as prove_leaf


def join(edge: TreeEdge, right: Sequence[bytes], tree_size: int) -> bytes:
    """Compute the root of the tree of `tree_size` leaves that begins with `edge` and goes on with `right`.

    Raises MalformedError when `right` is not the compact range of [edge.tree_size, tree_size).
    """
    return edge.compact_range.merge(CompactRange(edge.tree_size, tree_size, tuple(right))).root_hash()


@dataclass(frozen=True, slots=True)
class PrefixTree:
    """Proves leaves [0, checked_size) of a tree of `tree_size` leaves; `read_node` reads checked nodes.

    `right` is the compact range of [checked_size, tree_size). Requires checked_size <= tree_size.
    """

    read_node: ReadNode
    checked_size: int
    tree_size: int
    right: tuple[bytes, ...]
    _right_nodes: dict[tuple[int, int], bytes] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        nodes = compact_range_nodes(self.checked_size, self.tree_size)
        object.__setattr__(self, "_right_nodes", dict(zip(nodes, self.right, strict=True)))

    def prove_inclusion(self, leaf_index: int) -> tuple[bytes, ...]:
        """Prove one checked leaf. Requires 0 <= leaf_index < checked_size, else OutOfRangeError."""
        if leaf_index >= self.checked_size:
            raise OutOfRangeError(f"leaf {leaf_index} is not checked yet: {self.checked_size} are")
        return tuple(prove_leaf(self._node, leaf_index, self.tree_size))

    def prove_consistency(self, size: int) -> tuple[bytes, ...]:
        """Prove the tree of `size` leaves to be a prefix of this one; for checked sizes."""
        if size > self.checked_size:
            raise OutOfRangeError(f"size {size} is not checked yet: {self.checked_size} leaves are")
        return tuple(prove_consistency(self._node, size, self.tree_size))

    def _node(self, level: int, index: int) -> bytes:
        if (index + 1) << level <= self.checked_size:
            return self.read_node(level, index)
        known = self._right_nodes.get((level, index))
        if known is not None:
            return known
        # Across the border: one such node a level, so this goes at most 63 deep, and never branches.
        return node_hash(self._node(level - 1, 2 * index), self._node(level - 1, 2 * index + 1))


def root_at(read_node: ReadNode, tree_size: int) -> bytes:
    """Compute the root of the first `tree_size` leaves from their nodes."""
    hashes = tuple(read_node(level, index) for level, index in compact_range_nodes(0, tree_size))
    return CompactRange(0, tree_size, hashes).root_hash()
