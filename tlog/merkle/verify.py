"""Verify inclusion, consistency and range proofs against root hashes that the caller trusts.

The indices and sizes alone say how many hashes a proof has and on which side each of them goes; nothing in a
proof steers its own verification. Every function returns when the claim is true and raises ProofError when it
is not, when an argument is no number or no hash, or when the proof has one hash too few or too many.

A proof binds leaves to a root hash, not to a size: trees of different sizes can have paths of one shape (leaf
0 of 3 and of 4 leaves). So take the size and the root hash from the same signed checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence

from tlog.errors import ProofError
from tlog.merkle.arguments import check_hash, check_hashes, check_size
from tlog.merkle.compact_range import count_compact_range_nodes, fold_right_edge, trailing_zeros
from tlog.merkle.hashing import EMPTY_ROOT, node_hash


def verify_inclusion(
    leaf_hash: bytes, leaf_index: int, tree_size: int, proof: Sequence[bytes], root_hash: bytes
) -> None:
    """Verify that `leaf_hash` is leaf `leaf_index` of the tree of `tree_size` leaves (RFC 9162, 2.1.3.2).

    Requires 0 <= leaf_index < tree_size < 2**63. Raises ProofError.
    """
    check_hash(root_hash, "the root hash", ProofError)
    computed = root_from_inclusion_proof(leaf_hash, leaf_index, tree_size, proof)
    if computed != root_hash:
        raise ProofError(
            f"the inclusion proof of leaf {leaf_index} in a tree of {tree_size} leads to root "
            f"{computed.hex()}, not to {root_hash.hex()}: "
            "the entry, its index, the proof or the checkpoint is not the log's"
        )


def root_from_inclusion_proof(
    leaf_hash: bytes, leaf_index: int, tree_size: int, proof: Sequence[bytes]
) -> bytes:
    """Compute the root hash to which an inclusion proof leads; it proves nothing until that root is trusted.

    Requires 0 <= leaf_index < tree_size < 2**63. Raises ProofError when the proof does not have exactly the
    hashes that the two numbers ask for.
    """
    check_hash(leaf_hash, "the leaf hash", ProofError)
    check_size(leaf_index, "the leaf index", ProofError)
    check_size(tree_size, "the tree size", ProofError)
    if leaf_index >= tree_size:
        raise ProofError(f"leaf {leaf_index} cannot be in a tree of {tree_size} leaves")
    inner, border = _path_shape(leaf_index, tree_size - 1)
    check_hashes(
        proof,
        f"the inclusion proof of leaf {leaf_index} in a tree of {tree_size}",
        ProofError,
        length=inner + border,
    )
    node = leaf_hash
    for height, sibling in enumerate(proof):
        if height >= inner or leaf_index >> height & 1:
            node = node_hash(sibling, node)
        else:
            node = node_hash(node, sibling)
    return node


def verify_consistency(size1: int, size2: int, proof: Sequence[bytes], root1: bytes, root2: bytes) -> None:
    """Verify that the tree of `size2` leaves begins with the tree of `size1` (RFC 9162, 2.1.4.2).

    Requires 0 <= size1 <= size2 < 2**63. Where size1 is 0 the proof must be empty and root1 EMPTY_ROOT;
    where the sizes are equal the proof must be empty and the roots equal. Every tree begins with the empty
    one, so size1 = 0 says nothing about the root2 of a size2 > 0. Raises ProofError.
    """
    check_size(size1, "the smaller tree size", ProofError)
    check_size(size2, "the larger tree size", ProofError)
    check_hash(root1, "the smaller tree's root hash", ProofError)
    check_hash(root2, "the larger tree's root hash", ProofError)
    if size1 > size2:
        raise ProofError(f"a tree of {size1} leaves cannot be the beginning of one of {size2}")
    what = f"the consistency proof from size {size1} to {size2}"
    if size1 in (0, size2):
        check_hashes(proof, what, ProofError, length=0)
        if size1 == 0 and root1 != EMPTY_ROOT:
            raise ProofError(f"the root of a tree without leaves is {EMPTY_ROOT.hex()}, not {root1.hex()}")
        if size1 == size2 and root1 != root2:
            raise ProofError(f"one size, {size1}, has two roots: {root1.hex()} and {root2.hex()}")
        return
    # A smaller tree of 2**k leaves is itself the first node of the path, and RFC 9162 leaves it out.
    omitted = 1 if size1 & (size1 - 1) == 0 else 0
    check_hashes(proof, what, ProofError, length=_consistency_path_length(size1, size2) - omitted)
    computed1, computed2 = roots_from_consistency_path(size1, size2, (root1, *proof) if omitted else proof)
    for size, computed, root in ((size1, computed1, root1), (size2, computed2, root2)):
        if computed != root:
            raise ProofError(
                f"{what} leads to root {computed.hex()} at size {size}, not to {root.hex()}: "
                "the proof is wrong, or the two checkpoints are not of one history"
            )


def roots_from_consistency_path(size1: int, size2: int, path: Sequence[bytes]) -> tuple[bytes, bytes]:
    """Compute the two root hashes to which a whole consistency path leads, the smaller tree's first.

    The path is a consistency proof with its first node always written out, also where RFC 9162 (2.1.4.1)
    omits it because size1 is a power of two: only then is the smaller root computed from the path, and not
    taken for granted. Requires 0 < size1 < size2 < 2**63. Raises ProofError when the path does not have
    exactly the hashes that the two sizes ask for.
    """
    check_size(size1, "the smaller tree size", ProofError)
    check_size(size2, "the larger tree size", ProofError)
    if not 0 < size1 < size2:
        raise ProofError(
            f"there is no consistency path from size {size1} to {size2}: it needs 0 < size1 < size2"
        )
    what = f"the consistency path from size {size1} to {size2}"
    check_hashes(path, what, ProofError, length=_consistency_path_length(size1, size2))
    level = trailing_zeros(size1)
    index = (size1 - 1) >> level
    inner, _ = _path_shape(index, (size2 - 1) >> level)
    node1 = node2 = path[0]
    for height, sibling in enumerate(path[1:]):
        if height >= inner or index >> height & 1:
            node1 = node_hash(sibling, node1)
            node2 = node_hash(sibling, node2)
        else:
            node2 = node_hash(node2, sibling)
    return node1, node2


def verify_range(
    leaf_hashes: Sequence[bytes],
    start: int,
    tree_size: int,
    left: Sequence[bytes],
    right: Sequence[bytes],
    root_hash: bytes,
) -> None:
    """Verify that `leaf_hashes` are the leaves from `start` on of the tree of `tree_size` leaves.

    Requires 0 <= start < end <= tree_size < 2**63 with end = start + len(leaf_hashes); `left` and `right` are
    the compact ranges of `[0, start)` and `[end, tree_size)` in increasing leaf order. Raises ProofError.
    """
    check_hash(root_hash, "the root hash", ProofError)
    _check_range(leaf_hashes, start, tree_size, left, right)
    levels = _levels_from_range(leaf_hashes, start, tree_size, left, right)
    _require_root(levels[-1][1][0], root_hash, len(leaf_hashes), start, tree_size)


def verified_inclusion_proofs(
    leaf_hashes: Sequence[bytes],
    start: int,
    tree_size: int,
    left: Sequence[bytes],
    right: Sequence[bytes],
    root_hash: bytes,
) -> list[list[bytes]]:
    """Do `verify_range`, and return what `inclusion_proofs_from_range` would, hashing the tree once for both.

    Raises ProofError.
    """
    check_hash(root_hash, "the root hash", ProofError)
    _check_range(leaf_hashes, start, tree_size, left, right)
    if len(leaf_hashes) == 1:  # most appends: no levels have to be made for it
        path = _path_of_one(start, tree_size, left, right)
        computed = root_from_inclusion_proof(leaf_hashes[0], start, tree_size, path)
        _require_root(computed, root_hash, 1, start, tree_size)
        return [path]
    levels = _levels_from_range(leaf_hashes, start, tree_size, left, right)
    _require_root(levels[-1][1][0], root_hash, len(leaf_hashes), start, tree_size)
    return _paths(levels, start, len(leaf_hashes))


def _require_root(computed: bytes, root_hash: bytes, count: int, start: int, tree_size: int) -> None:
    if computed != root_hash:
        raise ProofError(
            f"the range proof of {count} leaves from {start} on in a tree of {tree_size} leads to "
            f"root {computed.hex()}, not to {root_hash.hex()}: "
            "the entries, their indices, the proof or the checkpoint are not the log's"
        )


def _path_of_one(
    leaf_index: int, tree_size: int, left: Sequence[bytes], right: Sequence[bytes]
) -> list[bytes]:
    """Put the range proof of a single leaf, whose shape was checked, in the order of its inclusion proof."""
    inner, _ = _path_shape(leaf_index, tree_size - 1)
    unused_left, unused_right = list(left), list(reversed(right))
    path: list[bytes] = []
    for height in range(inner):
        if leaf_index >> height & 1:
            path.append(unused_left.pop())
        elif height < inner - 1:
            path.append(unused_right.pop())
        else:  # the last node of its level: all that remains, which the tree's right edge may cut short
            path.append(fold_right_edge(unused_right[::-1]))
    return [*path, *reversed(unused_left)]


def inclusion_proofs_from_range(
    leaf_hashes: Sequence[bytes], start: int, tree_size: int, left: Sequence[bytes], right: Sequence[bytes]
) -> list[list[bytes]]:
    """Derive every leaf's ordinary inclusion proof from a range proof, in the order of the leaves.

    Takes the arguments of `verify_range`, which is what decides whether these proofs lead to a trusted root;
    here only their shape is checked. Returns len(leaf_hashes) lists, each with the hashes that
    `prove_inclusion` would give. Raises ProofError.
    """
    _check_range(leaf_hashes, start, tree_size, left, right)
    levels = _levels_from_range(leaf_hashes, start, tree_size, left, right)
    return _paths(levels, start, len(leaf_hashes))


def _paths(levels: list[tuple[int, list[bytes]]], start: int, count: int) -> list[list[bytes]]:
    """Read the paths of `count` leaves from `start` on out of the levels above them."""
    # From the root down: a node's path is its sibling, if it has one, and then its parent's path.
    paths: list[list[bytes]] = [[]]
    parent_first = 0
    for first, nodes in reversed(levels[:-1]):
        paths = [
            [*nodes[position ^ 1 : (position ^ 1) + 1], *paths[((first + position) >> 1) - parent_first]]
            for position in range(len(nodes))
        ]
        parent_first = first
    return paths[start - parent_first :][:count]


def _path_shape(index: int, last: int) -> tuple[int, int]:
    """Count the siblings of a node's path to the root, where `last` is the last node of the same level.

    Up to the level where the paths of both nodes meet, each level has a sibling, left or right as the bits of
    `index` say. Above it the path is the tree's right edge, and has only left siblings, one for each set bit.
    """
    inner = (index ^ last).bit_length()
    return inner, (index >> inner).bit_count()


def _consistency_path_length(size1: int, size2: int) -> int:
    """Count the nodes of a consistency path, the first one included. Requires 0 < size1 < size2."""
    level = trailing_zeros(size1)
    return 1 + sum(_path_shape((size1 - 1) >> level, (size2 - 1) >> level))


def _check_range(
    leaf_hashes: Sequence[bytes], start: int, tree_size: int, left: Sequence[bytes], right: Sequence[bytes]
) -> None:
    """Check everything about a range and its proof but the root to which it leads."""
    check_size(start, "the start of the range", ProofError)
    check_size(tree_size, "the tree size", ProofError)
    check_hashes(leaf_hashes, "the range", ProofError)
    end = start + len(leaf_hashes)
    if not start < end <= tree_size:
        raise ProofError(f"leaves [{start}, {end}) are not a range of a tree of {tree_size} leaves")
    for part, part_start, part_end in ((left, 0, start), (right, end, tree_size)):
        count = count_compact_range_nodes(part_start, part_end)
        what = f"the range proof's part for leaves [{part_start}, {part_end})"
        check_hashes(part, what, ProofError, length=count)


def _levels_from_range(
    leaf_hashes: Sequence[bytes], start: int, tree_size: int, left: Sequence[bytes], right: Sequence[bytes]
) -> list[tuple[int, list[bytes]]]:
    """Hash a range and its proof, which was checked, up to the root, level by level.

    Returns for each level, the leaves first, the index of its first known node and the hashes of the known
    nodes: those above leaves of the range, and their siblings. The last level is the root.
    """
    # A left sibling is always a node of the left part, whose smallest subtree is its last. A right sibling is
    # the next node of the right part, or, as the last node of its level, all that remains of that part: the
    # tree's right edge may cut it short.
    unused_left, unused_right = list(left), list(reversed(right))
    levels: list[tuple[int, list[bytes]]] = []
    first, last, nodes = start, tree_size - 1, list(leaf_hashes)
    while last > 0:
        if first & 1:
            first -= 1
            nodes.insert(0, unused_left.pop())
        next_index = first + len(nodes)
        if next_index & 1 and next_index < last:
            nodes.append(unused_right.pop())
        elif next_index & 1 and next_index == last:
            nodes.append(fold_right_edge(unused_right[::-1]))
        levels.append((first, nodes))
        parents = [node_hash(nodes[i], nodes[i + 1]) for i in range(0, len(nodes) - 1, 2)]
        # Without a sibling the last node of a level is itself the last node of the next.
        nodes = parents + nodes[2 * len(parents) :]
        first >>= 1
        last >>= 1
    return [*levels, (0, nodes)]
