"""Evidence: portable proof of misbehaviour, verified offline against a policy by whoever was not there.

`make_…` a piece of evidence, `format_evidence` it, hand it on; whoever has a policy calls `parse_evidence`
and `verify_evidence`, and learns which keys it convicts. Format and worked example: docs/evidence.md.
"""

from tlog.evidence.kinds import (
    EmptyEvidence,
    Evidence,
    EvidenceKind,
    LeafEvidence,
    LoggedEntry,
    ProvenLeaf,
    RuleEvidence,
    SameSizeEvidence,
    SizesEvidence,
    stated_checkpoint,
    stated_origin,
)
from tlog.evidence.make import (
    make_empty,
    make_from_checkpoints,
    make_leaf,
    make_rule,
    make_same_size,
    make_sizes,
)
from tlog.evidence.text import MAX_EVIDENCE_BYTES, MAX_SPREAD_BYTES, format_evidence, parse_evidence
from tlog.evidence.verdict import ConvictedKey, KeyRole, Verdict, verify_evidence

__all__ = [
    "MAX_EVIDENCE_BYTES",
    "MAX_SPREAD_BYTES",
    "ConvictedKey",
    "EmptyEvidence",
    "Evidence",
    "EvidenceKind",
    "KeyRole",
    "LeafEvidence",
    "LoggedEntry",
    "ProvenLeaf",
    "RuleEvidence",
    "SameSizeEvidence",
    "SizesEvidence",
    "Verdict",
    "format_evidence",
    "make_empty",
    "make_from_checkpoints",
    "make_leaf",
    "make_rule",
    "make_same_size",
    "make_sizes",
    "parse_evidence",
    "stated_checkpoint",
    "stated_origin",
    "verify_evidence",
]
