"""RFC 6962 / RFC 9162 Merkle trees over SHA-256: hashing, compact ranges, and proofs made and verified.

Everything here is pure: a tree is read through one function that returns the root of a complete subtree.
"""

from tlog.merkle.compact_range import CompactRange, compact_range_nodes
from tlog.merkle.consistency_path import (
    consistency_path_from_inclusion_proof,
    prove_consistency_path,
    verify_fork,
)
from tlog.merkle.hashing import EMPTY_ROOT, HASH_BYTES, leaf_hash, node_hash
from tlog.merkle.prove import prove_consistency, prove_inclusion, prove_range
from tlog.merkle.range_prover import RangeProver, ReadNode
from tlog.merkle.verify import (
    inclusion_proofs_from_range,
    root_from_inclusion_proof,
    roots_from_consistency_path,
    verified_inclusion_proofs,
    verify_consistency,
    verify_inclusion,
    verify_range,
)

__all__ = [
    "EMPTY_ROOT",
    "HASH_BYTES",
    "CompactRange",
    "RangeProver",
    "ReadNode",
    "compact_range_nodes",
    "consistency_path_from_inclusion_proof",
    "inclusion_proofs_from_range",
    "leaf_hash",
    "node_hash",
    "prove_consistency",
    "prove_consistency_path",
    "prove_inclusion",
    "prove_range",
    "root_from_inclusion_proof",
    "roots_from_consistency_path",
    "verified_inclusion_proofs",
    "verify_consistency",
    "verify_fork",
    "verify_inclusion",
    "verify_range",
]
