"""Make proofs out of a tree's complete subtrees: inclusion, consistency, range.

Whoever stores the tree hands in one function that reads the root of a complete subtree. Such a node never
changes once it is there, so a proof for any size up to the newest one comes from the same nodes. The nodes
on the right edge, which change with every leaf, are never stored: they are hashed from complete ones here.
"""

from __future__ import annotations

from tlog.errors import OutOfRangeError
from tlog.merkle.arguments import check_size
from tlog.merkle.compact_range import compact_range_nodes, fold_right_edge, trailing_zeros
from tlog.merkle.range_prover import RangeProver, ReadNode


def prove_inclusion(read_node: ReadNode, leaf_index: int, tree_size: int) -> list[bytes]:
    """Prove that leaf `leaf_index` is in the tree of `tree_size` leaves: PATH of RFC 9162, 2.1.3.1.

    Requires 0 <= leaf_index < tree_size < 2**63. Returns at most 63 hashes, the deepest first. Raises
    OutOfRangeError, and whatever `read_node` raises.
    """
    check_size(leaf_index, "the leaf index", OutOfRangeError)
    check_size(tree_size, "the tree size", OutOfRangeError)
    if leaf_index >= tree_size:
        raise OutOfRangeError(
            f"leaf {leaf_index} is not in a tree of {tree_size} leaves: ask for an index below the size"
        )
    return _siblings(read_node, 0, leaf_index, tree_size)


def prove_consistency(read_node: ReadNode, size1: int, size2: int) -> list[bytes]:
    """Prove that the tree of `size2` leaves begins with the tree of `size1`: PROOF of RFC 9162, 2.1.4.1.

    Requires 0 <= size1 <= size2 < 2**63. The proof is empty when size1 is 0 or equal to size2. Returns at
    most 64 hashes. Raises OutOfRangeError, and whatever `read_node` raises.
    """
    check_size(size1, "the smaller tree size", OutOfRangeError)
    check_size(size2, "the larger tree size", OutOfRangeError)
    if size1 > size2:
        raise OutOfRangeError(
            f"a tree of {size1} leaves is no prefix of one of {size2}: give the smaller size first"
        )
    if size1 in (0, size2):
        return []
    # The walk starts at the largest subtree that ends with the smaller tree. When that is the whole smaller
    # tree, size1 being a power of two, the verifier has its hash already: it is root1.
    level = trailing_zeros(size1)
    index = (size1 >> level) - 1
    first = [] if index == 0 else [read_node(level, index)]
    return first + _siblings(read_node, level, index, size2)


def prove_range(read_node: ReadNode, start: int, end: int, tree_size: int) -> tuple[list[bytes], list[bytes]]:
    """Prove that leaves `[start, end)` are in the tree of `tree_size` leaves, all of them at once.

    Requires 0 <= start < end <= tree_size < 2**63. Returns the compact ranges of `[0, start)` and of
    `[end, tree_size)` as two lists of hashes in increasing leaf order, together O(log n). Raises
    OutOfRangeError, and whatever `read_node` raises.
    """
    left, right = RangeProver(read_node, tree_size).prove(start, end)
    return list(left), list(right)


def subtree_root(read_node: ReadNode, level: int, index: int, tree_size: int) -> bytes:
    """Compute the root of subtree `index` of a level, the last of which the tree's right edge may cut short.

    Requires 0 <= index << level < tree_size < 2**63. Raises OutOfRangeError, and whatever `read_node` raises.
    """
    if (index + 1) << level <= tree_size:
        return read_node(level, index)
    nodes = compact_range_nodes(index << level, tree_size)
    return fold_right_edge([read_node(*node) for node in nodes])


def _siblings(read_node: ReadNode, level: int, index: int, tree_size: int) -> list[bytes]:
    """Collect the hashes of all siblings on the way up from one complete subtree to the root."""
    siblings: list[bytes] = []
    last = (tree_size - 1) >> level
    while last > 0:
        sibling = index ^ 1
        if sibling <= last:
            siblings.append(subtree_root(read_node, level, sibling, tree_size))
        level += 1
        index >>= 1
        last >>= 1
    return siblings
