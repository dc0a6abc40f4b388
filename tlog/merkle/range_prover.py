"""Prove many ranges of leaves in one tree: those of neighbours share nearly all of their nodes. Pure.

A compact range of leaves `[0, n)` is that of `[0, n)` without its last subtree, and that subtree; one that
ends with the tree is its first subtree, and the rest. So each is made of another one and one node, and what
was made is kept: ranges that follow each other, as those of the calls of one commit do, take two nodes each.
"""

from __future__ import annotations

from collections.abc import Callable

from tlog.errors import OutOfRangeError
from tlog.merkle.arguments import check_size
from tlog.merkle.compact_range import trailing_zeros

ReadNode = Callable[[int, int], bytes]
"""Reads the root of a complete subtree, by level and index.

It is the subtree of leaves `[index << level, (index + 1) << level)`.
"""


class RangeProver:
    """Makes the range proofs of one tree; keeps two short tuples for each, so it is not for long lives."""

    def __init__(self, read_node: ReadNode, tree_size: int) -> None:
        """Prove in the tree of `tree_size` leaves, whose complete subtrees `read_node` reads.

        Requires 0 <= tree_size < 2**63, else OutOfRangeError.
        """
        check_size(tree_size, "the tree size", OutOfRangeError)
        self.tree_size = tree_size
        self._read_node = read_node
        self._left: dict[int, tuple[bytes, ...]] = {0: ()}
        self._right: dict[int, tuple[bytes, ...]] = {tree_size: ()}

    def prove(self, start: int, end: int) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
        """Prove that leaves `[start, end)` are in the tree, all of them at once.

        Requires 0 <= start < end <= tree_size. Returns the compact ranges of `[0, start)` and of
        `[end, tree_size)`, each in increasing leaf order, together O(log n) hashes. Raises OutOfRangeError,
        and whatever reading raises.
        """
        check_size(start, "the start of the range", OutOfRangeError)
        check_size(end, "the end of the range", OutOfRangeError)
        if not start < end <= self.tree_size:
            raise OutOfRangeError(
                f"leaves [{start}, {end}) are not a range of a tree of {self.tree_size} leaves: "
                "ask for at least one leaf, and for none beyond the size"
            )
        return self._left_of(start), self._right_of(end)

    def _left_of(self, start: int) -> tuple[bytes, ...]:
        """Return the compact range of `[0, start)`."""
        hashes = self._left.get(start)
        if hashes is None:
            level = trailing_zeros(start)
            before = start - (1 << level)
            hashes = (*self._left_of(before), self._read_node(level, before >> level))
            self._left[start] = hashes
        return hashes

    def _right_of(self, end: int) -> tuple[bytes, ...]:
        """Return the compact range of `[end, tree_size)`. Requires end >= 1."""
        hashes = self._right.get(end)
        if hashes is None:
            level = min(trailing_zeros(end), (self.tree_size - end).bit_length() - 1)
            hashes = (self._read_node(level, end >> level), *self._right_of(end + (1 << level)))
            self._right[end] = hashes
        return hashes
