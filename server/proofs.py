"""Proofs as answers carry them."""

from __future__ import annotations

from tlog.log_view import LogView, RangeProof
from tlog.v1 import log_pb2


def consistency(view: LogView, trusted_tree_size: int, tree_size: int) -> list[bytes]:
    """Prove the two sizes consistent, whichever is smaller; a size this log never had gets no proof."""
    first, second = sorted((trusted_tree_size, tree_size))
    return view.prove_consistency(first, second) if second <= view.tree_size else []


def fill_range(message: log_pb2.RangeProof, proof: RangeProof) -> None:
    """Fill an empty message, in its place in an answer: a message that is put there is copied."""
    message.start, message.end = proof.start, proof.end
    message.left.extend(proof.left)
    message.right.extend(proof.right)
