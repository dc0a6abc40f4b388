"""Consistency paths: consistency proofs that can also convict.

A consistency proof of RFC 9162 leaves its first node out where the smaller size is a power of two, because it
is the smaller root, which the verifier has. Whoever wants to show that this root is NOT in the larger tree
needs the node that stands in its place there, so a path always has it. A path that leads to the larger root
implies one smaller root, by the collision resistance of SHA-256; when the log signed another one, it forked.
"""

from __future__ import annotations

from collections.abc import Sequence

from tlog.errors import OutOfRangeError, ProofError
from tlog.merkle.arguments import check_hash, check_hashes, check_size
from tlog.merkle.compact_range import trailing_zeros
from tlog.merkle.hashing import node_hash
from tlog.merkle.prove import prove_consistency
from tlog.merkle.range_prover import ReadNode
from tlog.merkle.verify import root_from_inclusion_proof, roots_from_consistency_path


def prove_consistency_path(read_node: ReadNode, size1: int, size2: int) -> list[bytes]:
    """Make the whole consistency path from one size to a larger one of the tree that is read.

    Requires 0 < size1 < size2 < 2**63. Returns at most 64 hashes: `prove_consistency`, with its first node
    also where that leaves it out. Raises OutOfRangeError, and whatever `read_node` raises.
    """
    check_size(size1, "the smaller tree size", OutOfRangeError)
    check_size(size2, "the larger tree size", OutOfRangeError)
    if not 0 < size1 < size2:
        raise OutOfRangeError(
            f"there is no consistency path from size {size1} to {size2}: it needs 0 < size1 < size2"
        )
    proof = prove_consistency(read_node, size1, size2)
    level = trailing_zeros(size1)
    return [read_node(level, 0), *proof] if size1 == 1 << level else proof


def consistency_path_from_inclusion_proof(
    leaf_hash: bytes, size1: int, size2: int, proof: Sequence[bytes]
) -> list[bytes]:
    """Turn the inclusion proof of leaf `size1 - 1` in the tree of `size2` leaves into the consistency path.

    So whoever has the last leaf of the smaller tree as the larger one proves it needs nothing else. Requires
    0 < size1 < size2 < 2**63; the path leads to the same root as the proof. Raises ProofError.
    """
    check_size(size1, "the smaller tree size", ProofError)
    check_size(size2, "the larger tree size", ProofError)
    if not 0 < size1 < size2:
        raise ProofError(
            f"there is no consistency path from size {size1} to {size2}: it needs 0 < size1 < size2"
        )
    root_from_inclusion_proof(leaf_hash, size1 - 1, size2, proof)  # checks the shape
    # Below the subtree at which the path begins, every sibling of the leaf is a left one.
    level = trailing_zeros(size1)
    first = leaf_hash
    for sibling in proof[:level]:
        first = node_hash(sibling, first)
    return [first, *proof[level:]]


def verify_fork(size1: int, size2: int, path: Sequence[bytes], root1: bytes, root2: bytes) -> None:
    """Verify that NO tree of `size2` leaves with `root2` begins with the tree of `size1` leaves and `root1`.

    Requires 0 < size1 < size2 < 2**63. Raises ProofError when the path does not lead to `root2`, and then it
    says nothing, and when it shows that the two trees agree.
    """
    check_hash(root1, "the smaller tree's root hash", ProofError)
    check_hash(root2, "the larger tree's root hash", ProofError)
    check_hashes(path, "the consistency path", ProofError)
    implied, computed = roots_from_consistency_path(size1, size2, path)
    if computed != root2:
        raise ProofError(
            f"the consistency path from size {size1} to {size2} leads to root {computed.hex()}, not to "
            f"{root2.hex()}: it is not of that tree, and proves nothing about it"
        )
    if implied == root1:
        raise ProofError(f"the tree of {size2} leaves begins with the tree of {size1}: the two agree")
