"""Proofs as answers carry them."""

from __future__ import annotations

from typing import Protocol

from tlog.log_view import RangeProof
from tlog.v1 import log_pb2


class ProvesConsistency(Protocol):
    """Proves one tree to be a prefix of another; a LogView, or an EdgeProver."""

    @property
    def tree_size(self) -> int:
        """Return the size of the largest tree that it proves anything of."""
        ...

    def prove_consistency(self, size1: int, size2: int) -> list[bytes]:
        """Prove a prefix."""
        ...


def consistency(prover: ProvesConsistency, trusted_tree_size: int, tree_size: int) -> list[bytes]:
    """Prove the two sizes consistent, whichever is smaller; a size this log never had gets no proof."""
    if not trusted_tree_size:
        return []
    first, second = sorted((trusted_tree_size, tree_size))
    return prover.prove_consistency(first, second) if second <= prover.tree_size else []


def fill_range(message: log_pb2.RangeProof, proof: RangeProof) -> None:
    """Fill an empty message, in its place in an answer: a message that is put there is copied."""
    message.start, message.end = proof.start, proof.end
    message.left.extend(proof.left)
    message.right.extend(proof.right)
