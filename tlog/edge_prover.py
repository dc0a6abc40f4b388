"""Prove what was appended last, out of memory: the right edge of the tree holds nearly all that takes. Pure.

Whoever is told of a commit gets the range proof of its entries, and mostly a consistency proof from a tree
that is a little smaller. Their nodes are roots of the compact range of all leaves, or lie to the right of the
last full tile; so the store is asked only where a tile was filled since.
"""

from __future__ import annotations

from tlog.errors import OutOfRangeError
from tlog.integrate import TreeEdge
from tlog.log_view import RangeProof
from tlog.merkle import RangeProver, ReadNode, prove_consistency


class EdgeProver:
    """Proves in the tree of one edge, as a LogView does; belongs to one thread, until the next commit."""

    def __init__(self, edge: TreeEdge, read_node: ReadNode) -> None:
        """Prove in the tree of `edge`; `read_node` reads what is not there, of this tree or a larger one."""
        self.edge = edge
        self.tree_size = edge.tree_size
        self._read_node = read_node
        self._ranges = RangeProver(self._node, edge.tree_size)

    def prove_range(self, start: int, end: int, tree_size: int) -> RangeProof:
        """Prove leaves [start, end) in this tree. Requires 0 <= start < end <= tree_size.

        Raises OutOfRangeError, for another tree's size too.
        """
        if tree_size != self.tree_size:
            raise OutOfRangeError(f"the edge of {self.tree_size} leaves is asked about a tree of {tree_size}")
        left, right = self._ranges.prove(start, end)
        return RangeProof(start=start, end=end, left=left, right=right)

    def prove_consistency(self, size1: int, size2: int) -> list[bytes]:
        """Prove a prefix. Requires 0 <= size1 <= size2 <= tree_size, else OutOfRangeError."""
        return prove_consistency(self._node, size1, size2)

    def _node(self, level: int, index: int) -> bytes:
        node = self.edge.node(level, index)
        return self._read_node(level, index) if node is None else node
