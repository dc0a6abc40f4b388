"""Constructors of evidence: they take parts in any order, and put them into the one order of the format.

They look at the form only. Whether what they made convicts anybody is for `verify_evidence` to say, and worth
asking before anybody is accused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tlog.errors import RefusalReason
from tlog.evidence.kinds import (
    EmptyEvidence,
    LeafEvidence,
    LoggedEntry,
    ProvenLeaf,
    RuleEvidence,
    SameSizeEvidence,
    SizesEvidence,
    stated_checkpoint,
    stated_pair,
)
from tlog.merkle import EMPTY_ROOT
from tlog.receipt import format_receipt, parse_receipt


def make_same_size(note: bytes, other: bytes) -> SameSizeEvidence:
    """Make evidence of two checkpoint notes of one size. Raises MalformedError unless their roots differ."""
    first, second = sorted((note, other))
    return SameSizeEvidence(first=first, second=second)


def make_sizes(note: bytes, other: bytes, path: Sequence[bytes]) -> SizesEvidence:
    """Make evidence of two checkpoint notes of different sizes, in either order, and the path between them.

    `path` is a whole one, as `tlog.merkle.prove_consistency_path` makes it. Raises MalformedError when there
    is no path between such sizes, or it has another length; `verify_evidence` says whether it convicts.
    """
    smaller, larger = sorted((note, other), key=lambda data: stated_checkpoint(data).tree_size)
    return SizesEvidence(smaller=smaller, larger=larger, path=tuple(path))


def make_empty(note: bytes) -> EmptyEvidence:
    """Make evidence of a checkpoint of size 0 with an impossible root. Raises MalformedError for others."""
    return EmptyEvidence(checkpoint=note)


def make_from_checkpoints(
    notes: Sequence[bytes], path: Sequence[bytes] | None = None
) -> SameSizeEvidence | SizesEvidence | EmptyEvidence | None:
    """Make the evidence that checkpoint notes which contradict each other are enough for, if they are.

    Takes the `checkpoints` of a SplitViewError or ConsistencyUnprovenError: one note or two. Returns None for
    two sizes without a path, and for notes that do not contradict each other. Raises MalformedError.
    """
    for note in notes:
        stated = stated_checkpoint(note)
        if stated.tree_size == 0 and stated.root_hash != EMPTY_ROOT:
            return make_empty(note)
    if len(notes) != 2:
        return None
    one, other = stated_pair(notes[0], notes[1])
    if one.tree_size == other.tree_size:
        return None if one.root_hash == other.root_hash else make_same_size(notes[0], notes[1])
    if path is None or 0 in (one.tree_size, other.tree_size):
        return None
    return make_sizes(notes[0], notes[1], path)


def make_leaf(leaf_hash: bytes, receipt: bytes, other_leaf_hash: bytes, other_receipt: bytes) -> LeafEvidence:
    """Make evidence of two receipts that prove two leaf hashes at one index. Raises MalformedError."""
    leaves = (
        ProvenLeaf(leaf_hash=hashed, receipt=format_receipt(replace(parse_receipt(data), extra=None)))
        for hashed, data in ((leaf_hash, receipt), (other_leaf_hash, other_receipt))
    )
    first, second = sorted(leaves, key=lambda leaf: leaf.leaf_hash)
    return LeafEvidence(first=first, second=second)


def make_rule(
    reason: RefusalReason,
    accused: LoggedEntry,
    *,
    other: LoggedEntry | None = None,
    governance: Sequence[LoggedEntry] = (),
) -> RuleEvidence:
    """Make evidence of an entry that breaks a rule; of two with one (source, id) the later is accused.

    `governance` may be all governance entries of the log, in any order: what the proof does not need is left
    out. Raises MalformedError.
    """
    if other is not None and other.leaf_index > accused.leaf_index:
        accused, other = other, accused
    ordered = sorted(governance, key=lambda logged: logged.leaf_index)
    before = [logged for logged in ordered if logged.leaf_index < accused.leaf_index]
    after = [logged for logged in ordered if logged.leaf_index > accused.leaf_index]
    return RuleEvidence(reason=reason, accused=accused, other=other, governance=(*before, *after[:1]))
