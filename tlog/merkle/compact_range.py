"""Compact ranges: the few complete subtrees that cover a run of leaves.

The compact range of leaves `[start, end)` is the shortest list of complete subtrees that cover just these.
It has O(log n) hashes, grows by appending leaves, merges with the range that begins where it ends, and gives
the root hash when it begins at leaf 0. It is all the state that whoever follows a log needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tlog.errors import MalformedError, OutOfRangeError
from tlog.merkle.arguments import check_hash, check_hashes, check_size
from tlog.merkle.hashing import EMPTY_ROOT, node_hash


def compact_range_nodes(start: int, end: int) -> list[tuple[int, int]]:
    """List the compact range of leaves `[start, end)` as `(level, index)` pairs in increasing leaf order.

    A pair names the complete subtree of leaves `[index << level, (index + 1) << level)`. Requires
    0 <= start <= end < 2**63. Raises OutOfRangeError.
    """
    _check_range(start, end)
    nodes: list[tuple[int, int]] = []
    while start < end:
        level = (end - start).bit_length() - 1
        if start:
            level = min(level, trailing_zeros(start))
        nodes.append((level, start >> level))
        start += 1 << level
    return nodes


def count_compact_range_nodes(start: int, end: int) -> int:
    """Count the nodes of the compact range of leaves `[start, end)` without listing them.

    Requires 0 <= start <= end < 2**63. Raises OutOfRangeError.
    """
    _check_range(start, end)
    if start == 0:
        return end.bit_count()
    # They grow up to the leaf of the range whose index has most zeros at its end: one for each one bit of the
    # way there. From there on they shrink: one for each one bit of the rest.
    below = (1 << ((start - 1) ^ end).bit_length() - 1) - 1
    return (-start & below).bit_count() + (end & below).bit_count()


def _check_range(start: int, end: int) -> None:
    check_size(start, "the start of a range", OutOfRangeError)
    check_size(end, "the end of a range", OutOfRangeError)
    if start > end:
        raise OutOfRangeError(f"a range cannot start at leaf {start} and end at {end}, before it")


def trailing_zeros(number: int) -> int:
    """Count the zero bits below the lowest one bit. Requires number > 0."""
    return (number & -number).bit_length() - 1


def fold_right_edge(hashes: Sequence[bytes]) -> bytes:
    """Hash complete subtrees of falling size, left to right, into the root of the tree that they make up.

    Requires len(hashes) > 0, and that the subtrees are a compact range that starts at leaf 0 or at a subtree
    that only the tree's right edge cuts short. The smallest are joined first (RFC 9162 section 2.1.1).
    """
    node = hashes[-1]
    for position in range(len(hashes) - 2, -1, -1):
        node = node_hash(hashes[position], node)
    return node


@dataclass(frozen=True, slots=True)
class CompactRange:
    """Holds the compact range of leaves `[start, end)`: one 32-byte hash for each of `compact_range_nodes`.

    Requires 0 <= start <= end < 2**63. Raises OutOfRangeError on other numbers, MalformedError when there are
    not exactly the hashes that the numbers ask for.
    """

    start: int
    end: int
    hashes: tuple[bytes, ...]

    def __post_init__(self) -> None:
        count = count_compact_range_nodes(self.start, self.end)
        what = f"the compact range of leaves [{self.start}, {self.end})"
        check_hashes(self.hashes, what, MalformedError, length=count)

    @classmethod
    def empty(cls, at: int = 0) -> CompactRange:
        """Make the range without leaves that starts, and ends, at leaf `at`. Raises OutOfRangeError."""
        return cls(at, at, ())

    def append(self, leaf_hash: bytes) -> CompactRange:
        """Add one leaf on the right.

        Raises MalformedError when it is not a hash, OutOfRangeError when the range would end above 2**63 - 1.
        """
        check_hash(leaf_hash, f"the leaf hash at index {self.end}", MalformedError)
        hashes = list(self.hashes)
        node, level, index = leaf_hash, 0, self.end
        # A right child joins its left sibling, as long as the whole sibling lies in the range.
        while index & 1 and (index - 1) << level >= self.start:
            node = node_hash(hashes.pop(), node)
            level += 1
            index >>= 1
        return CompactRange(self.start, self.end + 1, (*hashes, node))

    def extend(self, leaf_hashes: Sequence[bytes]) -> CompactRange:
        """Add many leaves on the right, in less time than one by one takes.

        Raises MalformedError when one is not a hash, OutOfRangeError when the range would end above
        2**63 - 1.
        """
        check_hashes(leaf_hashes, f"the leaves from index {self.end} on", MalformedError)
        if len(leaf_hashes) == 1:
            return self.append(leaf_hashes[0])
        first, nodes = self.end, list(leaf_hashes)
        # At every level the outermost nodes stay behind when their parent would reach beyond the new leaves.
        left: list[bytes] = []
        right: list[bytes] = []
        while nodes:
            if (first + len(nodes)) & 1:
                right.append(nodes.pop())
            if first & 1:
                left.append(nodes.pop(0))
                first += 1
            nodes = [node_hash(nodes[i], nodes[i + 1]) for i in range(0, len(nodes), 2)]
            first >>= 1
        added = CompactRange(self.end, self.end + len(leaf_hashes), (*left, *reversed(right)))
        return self.merge(added)

    def merge(self, right: CompactRange) -> CompactRange:
        """Join this range and the one that starts where it ends.

        Requires right.start == self.end. Raises OutOfRangeError.
        """
        if right.start != self.end:
            raise OutOfRangeError(
                f"leaves [{self.start}, {self.end}) and [{right.start}, {right.end}) are not neighbours: "
                f"the right range must start at {self.end}"
            )
        nodes, hashes = compact_range_nodes(self.start, self.end), list(self.hashes)
        rest = iter(zip(compact_range_nodes(right.start, right.end), right.hashes, strict=True))
        for (level, index), node in rest:
            joined = False
            # Siblings meet only where the two ranges touch, and then their parents may meet as well.
            while index & 1 and nodes and nodes[-1] == (level, index - 1):
                nodes.pop()
                node = node_hash(hashes.pop(), node)
                level, index, joined = level + 1, index >> 1, True
            nodes.append((level, index))
            hashes.append(node)
            if not joined:
                break  # what follows has its sibling neither here nor further left
        hashes += [node for _, node in rest]
        return CompactRange(self.start, right.end, tuple(hashes))

    def root_hash(self) -> bytes:
        """Compute the root hash of the tree of `end` leaves (32 bytes; EMPTY_ROOT without leaves).

        Requires start == 0. Raises OutOfRangeError.
        """
        if self.start != 0:
            raise OutOfRangeError(
                f"leaves [{self.start}, {self.end}) have no root of their own: merge the range of leaves "
                f"[0, {self.start}) in front of them first"
            )
        return fold_right_edge(self.hashes) if self.hashes else EMPTY_ROOT
