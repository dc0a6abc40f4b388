"""Proofs as answers carry them."""

from __future__ import annotations

from tlog.log_view import LogView, RangeProof
from tlog.v1 import log_pb2


def consistency(view: LogView, trusted_tree_size: int, tree_size: int) -> list[bytes]:
    """Prove the two sizes consistent, whichever is smaller; a size this log never had gets no proof."""
    first, second = sorted((trusted_tree_size, tree_size))
    return view.prove_consistency(first, second) if second <= view.tree_size else []


def encode_range(proof: RangeProof) -> log_pb2.RangeProof:
    """Encode a range proof as its message."""
    return log_pb2.RangeProof(start=proof.start, end=proof.end, left=proof.left, right=proof.right)
