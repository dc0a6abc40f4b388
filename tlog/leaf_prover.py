"""Prove many leaves of one tree out of stored hash tiles. Pure.

Every tile left of the tree's right edge is full, and gives eight hashes of a proof at once. What stands above
them lies in the last tile of each level, which all proofs of one tree share: so those paths are put together
once and kept. They are at most 510 a level, however many leaves are proven.
"""

from __future__ import annotations

from typing import Protocol

from tlog.errors import OutOfRangeError
from tlog.integrate import TILE_HEIGHT, TILE_WIDTH
from tlog.merkle.arguments import check_size
from tlog.merkle.prove import subtree_root


class ReadsNodes(Protocol):
    """Reads the complete nodes of a tree that has at least the leaves to be proven."""

    def read_node(self, level: int, index: int) -> bytes:
        """Return the root of a complete subtree."""
        ...

    def read_siblings(self, level: int, index: int) -> tuple[bytes, ...]:
        """Return the siblings of a full tile's hash and of its seven ancestors, the deepest first."""
        ...


class LeafProver:
    """Makes the inclusion proofs of one tree (RFC 9162 section 2.1.3.1), as `merkle.prove_inclusion` does."""

    def __init__(self, nodes: ReadsNodes, tree_size: int) -> None:
        """Prove in the tree of `tree_size` leaves, all of which `nodes` has.

        Requires 0 <= tree_size < 2**63, else OutOfRangeError.
        """
        check_size(tree_size, "the tree size", OutOfRangeError)
        self.tree_size = tree_size
        self._nodes = nodes
        self._paths: dict[tuple[int, int], tuple[bytes, ...]] = {}

    def prove(self, leaf_index: int) -> list[bytes]:
        """Prove one leaf; returns at most 63 hashes, the deepest first.

        Requires 0 <= leaf_index < tree_size. Raises OutOfRangeError, and whatever reading raises.
        """
        check_size(leaf_index, "the leaf index", OutOfRangeError)
        if leaf_index >= self.tree_size:
            raise OutOfRangeError(
                f"leaf {leaf_index} is not in a tree of {self.tree_size} leaves: ask for an index below "
                "the size"
            )
        proof: list[bytes] = []
        level, index, last = 0, leaf_index, self.tree_size - 1
        while index // TILE_WIDTH < last // TILE_WIDTH:
            proof += self._nodes.read_siblings(level, index)
            level, index, last = level + 1, index >> TILE_HEIGHT, last >> TILE_HEIGHT
        proof += self._path(TILE_HEIGHT * level, index)
        return proof

    def _path(self, level: int, index: int) -> tuple[bytes, ...]:
        """Return the siblings on the way up from a node in the last tile of its level."""
        last = (self.tree_size - 1) >> level
        if last == 0:
            return ()
        path = self._paths.get((level, index))
        if path is None:
            path = self._path(level + 1, index >> 1)
            sibling = index ^ 1
            if sibling <= last:
                root = subtree_root(self._nodes.read_node, level, sibling, self.tree_size)
                path = (root, *path)
            self._paths[level, index] = path
        return path
