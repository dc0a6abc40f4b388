"""A Merkle tree in memory that grows leaf by leaf, and forks: the trees of simulated logs."""

from __future__ import annotations

from tlog.merkle import EMPTY_ROOT, compact_range_nodes, leaf_hash, node_hash
from tlog.merkle.compact_range import fold_right_edge


class GrowingTree:
    """Keeps the root of every complete subtree, level by level; knows the root of every size it had."""

    def __init__(self) -> None:
        self._levels: list[list[bytes]] = [[]]

    @property
    def size(self) -> int:
        """Return the number of leaves."""
        return len(self._levels[0])

    def append(self, entry: bytes) -> None:
        """Add one leaf."""
        node, level = leaf_hash(entry), 0
        while True:
            if level == len(self._levels):
                self._levels.append([])
            nodes = self._levels[level]
            nodes.append(node)
            if len(nodes) % 2:
                return
            node, level = node_hash(nodes[-2], nodes[-1]), level + 1

    def read_node(self, level: int, index: int) -> bytes:
        """Return the root of a complete subtree."""
        return self._levels[level][index]

    def root(self, size: int) -> bytes:
        """Return the root of the first `size` leaves."""
        assert size <= self.size
        nodes = [self.read_node(*place) for place in compact_range_nodes(0, size)]
        return fold_right_edge(nodes) if nodes else EMPTY_ROOT

    def fork(self, size: int) -> GrowingTree:
        """Return another tree that begins with the first `size` leaves of this one."""
        assert size <= self.size
        tree = GrowingTree()
        tree._levels = [nodes[: size >> level] for level, nodes in enumerate(self._levels)]
        return tree
