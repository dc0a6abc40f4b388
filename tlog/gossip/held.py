"""A checkpoint that is worth keeping, and how two of them relate. Pure.

What is kept and passed on is never what came in, but the checkpoint's text with those signatures that were
verified: a peer cannot make anybody store, or spread, a line that no known key has signed.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

from tlog.checkpoint import Checkpoint, parse_checkpoint
from tlog.encoding import shown
from tlog.errors import PolicyError, ProofError
from tlog.gossip.message import ConsistencyPath
from tlog.merkle import EMPTY_ROOT, ReadNode, prove_consistency_path, roots_from_consistency_path
from tlog.note import Signature, format_note, open_note, parse_note
from tlog.policy import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldCheckpoint:
    """Holds a checkpoint that the log signed, as a note with its verified signatures only."""

    note: bytes
    checkpoint: Checkpoint
    signatures: tuple[Signature, ...]

    @property
    def origin(self) -> str:
        """Return the log's origin."""
        return self.checkpoint.origin

    @property
    def tree_size(self) -> int:
        """Return the number of leaves under this checkpoint."""
        return self.checkpoint.tree_size

    @property
    def root_hash(self) -> bytes:
        """Return the root hash, 32 bytes."""
        return self.checkpoint.root_hash

    def with_cosignatures_of(self, other: HeldCheckpoint) -> HeldCheckpoint:
        """Add the signatures by keys that have not signed this one; self when there are none.

        Only for the same text: requires other.checkpoint == self.checkpoint.
        """
        assert other.checkpoint == self.checkpoint
        present = {(signature.name, signature.key_id) for signature in self.signatures}
        added = [one for one in other.signatures if (one.name, one.key_id) not in present]
        if not added:
            return self
        signatures = (*self.signatures, *added)
        return replace(self, note=format_note(parse_note(self.note)[0], signatures), signatures=signatures)


def hold_checkpoint(note: bytes, policy: Policy) -> HeldCheckpoint:
    """Verify a signed note, and keep of it what a key of the policy has signed.

    The log has to have signed it; its quorum is not asked for, because two signatures of a log over two
    histories are a lie whoever cosigned them. Raises MalformedError; PolicyError when the policy lists no
    key of that origin, or none that is said to have signed; SignatureError when a known key's signature is
    false.
    """
    text, signatures = parse_note(note)
    checkpoint = parse_checkpoint(text)
    log_keys = {
        (log.verifier.name, log.verifier.key_id) for log in policy.logs if log.origin == checkpoint.origin
    }
    if not log_keys:
        raise PolicyError(f"this is a checkpoint of {shown(checkpoint.origin)}, a log not followed here")
    if not any((signature.name, signature.key_id) in log_keys for signature in signatures):
        raise PolicyError(f"this checkpoint of {shown(checkpoint.origin)} carries no signature of the log")
    opened = open_note(note, policy.verifiers)
    return HeldCheckpoint(
        note=format_note(opened.text, opened.signatures), checkpoint=checkpoint, signatures=opened.signatures
    )


class Relation(enum.Enum):
    """Names what two signed checkpoints of one log, and perhaps a path, say about each other."""

    CONSISTENT = "consistent"
    """The smaller tree is the beginning of the larger one."""
    CONTRADICTORY = "contradictory"
    """It is not: the log has signed two histories."""
    UNPROVEN = "unproven"
    """Nothing follows: there is no path, or it is not one of the larger tree."""


def relate(smaller: HeldCheckpoint, larger: HeldCheckpoint, path: ConsistencyPath | None) -> Relation:
    """Judge two checkpoints of one log. Requires smaller.tree_size <= larger.tree_size.

    A path convicts only when it reproduces the root of the larger tree, so that a wrong path, whoever gave
    it, says nothing about the log.
    """
    assert smaller.tree_size <= larger.tree_size
    if smaller.tree_size == larger.tree_size:
        same = smaller.root_hash == larger.root_hash
        return Relation.CONSISTENT if same else Relation.CONTRADICTORY
    if smaller.tree_size == 0:
        # Every tree begins with the empty one; that the root is the empty one's was checked on the way in.
        return Relation.CONSISTENT
    if path is None or (path.start_size, path.end_size) != (smaller.tree_size, larger.tree_size):
        return Relation.UNPROVEN
    try:
        root1, root2 = roots_from_consistency_path(path.start_size, path.end_size, path.hashes)
    except ProofError:
        return Relation.UNPROVEN
    if root2 != larger.root_hash:
        return Relation.UNPROVEN
    return Relation.CONSISTENT if root1 == smaller.root_hash else Relation.CONTRADICTORY


def ordered(one: HeldCheckpoint, other: HeldCheckpoint) -> tuple[HeldCheckpoint, HeldCheckpoint]:
    """Return two checkpoints, the one of the smaller tree first."""
    return (one, other) if one.tree_size <= other.tree_size else (other, one)


def is_impossible(held: HeldCheckpoint) -> bool:
    """Whether this is an empty tree with a root that the empty tree does not have: a lie by itself."""
    return held.tree_size == 0 and held.root_hash != EMPTY_ROOT


def prove_path(read_node: ReadNode, start_size: int, end_size: int) -> ConsistencyPath:
    """Make the whole consistency path between two sizes out of a tree's complete subtrees.

    Requires 0 < start_size < end_size. Raises OutOfRangeError, and whatever `read_node` raises.
    """
    hashes = prove_consistency_path(read_node, start_size, end_size)
    return ConsistencyPath(start_size=start_size, end_size=end_size, hashes=tuple(hashes))
