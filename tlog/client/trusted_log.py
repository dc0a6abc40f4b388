"""What one client trusts of one log, and the rule by which that trust moves. Pure: no I/O, no clock.

Two kinds of checkpoint reach a client. The *published* ones meet the whole policy, witnesses included. The
one in an append reply leaves at commit, before any witness saw it, so that only the log's own signature can
be asked of it. `TrustedLog` holds both rules; nothing else in the client decides who must have signed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from tlog.checkpoint import Checkpoint
from tlog.errors import (
    ConfigError,
    ConsistencyUnprovenError,
    MalformedError,
    PolicyError,
    ProofError,
    RemoteError,
    SplitViewError,
)
from tlog.merkle import EMPTY_ROOT, verify_consistency
from tlog.policy import Policy, open_checkpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedCheckpoint:
    """Holds a checkpoint whose signatures were verified, with the exact signed bytes."""

    note: bytes
    checkpoint: Checkpoint

    @property
    def tree_size(self) -> int:
        """Return the number of leaves under this checkpoint."""
        return self.checkpoint.tree_size

    @property
    def root_hash(self) -> bytes:
        """Return the root hash, 32 bytes."""
        return self.checkpoint.root_hash


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedLog:
    """Holds the newest checkpoint that is trusted, and accepts only what is consistent with it.

    `newest` is None before the first contact; that is the empty tree, with which every log is consistent.
    `policy` names this one log only (`for_origin`).
    """

    policy: Policy
    origin: str
    newest: VerifiedCheckpoint | None = None

    @classmethod
    def for_origin(cls, policy: Policy, origin: str | None) -> Self:
        """Begin with nothing trusted; `origin` may be None when the policy names logs of one origin only.

        Raises ConfigError when the policy names no log, not this one, or several to choose from.
        """
        origins = sorted({log.origin for log in policy.logs})
        if origin is None:
            if len(origins) != 1:
                raise ConfigError(
                    f"the policy names {len(origins)} origins ({', '.join(origins) or 'none'}): say which "
                    "of them the log at this address has"
                )
            origin = origins[0]
        if origin not in origins:
            raise ConfigError(
                f"the policy names no log {origin!r}, only {', '.join(origins) or 'none'}: add its `log` line"
            )
        logs = tuple(log for log in policy.logs if log.origin == origin)
        return cls(policy=replace(policy, logs=logs), origin=origin)

    @property
    def tree_size(self) -> int:
        """Return the size that is trusted; 0 when nothing is."""
        return 0 if self.newest is None else self.newest.tree_size

    def open_published(self, note: bytes) -> VerifiedCheckpoint:
        """Verify a checkpoint against the whole policy: the log's signature and the witness quorum.

        Raises SignatureError or PolicyError, SplitViewError for an impossible root, and RemoteError for
        bytes that are no checkpoint.
        """
        return _open(note, self.policy)

    def open_committed(self, note: bytes) -> VerifiedCheckpoint:
        """Verify a checkpoint that left the log at commit: the log's signature, as no witness saw it yet.

        Raises what `open_published` raises.
        """
        return _open(note, replace(self.policy, quorum=None))

    def accept(self, candidate: VerifiedCheckpoint, consistency_proof: Sequence[bytes]) -> TrustedLog:
        """Return the state after seeing a verified checkpoint; self, when it says nothing newer.

        `consistency_proof` is between `self.tree_size` and the candidate's size, whichever is smaller first
        (RFC 9162 section 2.1.4), and empty where the sizes are equal or one is 0. A smaller candidate that
        is proven consistent is stale, not a lie.
        Raises SplitViewError for another root at the same size, and ConsistencyUnprovenError when the proof
        does not lead from one to the other; both carry both notes.
        """
        size, root_hash = self.tree_size, EMPTY_ROOT if self.newest is None else self.newest.root_hash
        notes = (candidate.note,) if self.newest is None else (self.newest.note, candidate.note)
        if candidate.checkpoint.origin != self.origin:
            raise PolicyError(f"a checkpoint of {candidate.checkpoint.origin!r} came for {self.origin!r}")
        if candidate.tree_size == size and candidate.root_hash != root_hash:
            raise SplitViewError(
                f"{self.origin} signed two trees of size {size}: root {root_hash.hex()}, trusted before, "
                f"and {candidate.root_hash.hex()}: keep both checkpoints, they are evidence",
                checkpoints=notes,
            )
        smaller, larger = sorted([(size, root_hash), (candidate.tree_size, candidate.root_hash)])
        try:
            verify_consistency(smaller[0], larger[0], consistency_proof, smaller[1], larger[1])
        except ProofError as error:
            raise ConsistencyUnprovenError(
                f"{self.origin} did not prove its tree of size {candidate.tree_size} consistent with the "
                f"trusted one of size {size} ({error}): trust neither, keep both checkpoints, ask other "
                "members which one they saw",
                checkpoints=notes,
            ) from error
        stale = self.newest is not None and candidate.tree_size <= size
        return self if stale else replace(self, newest=candidate)

    def accept_stored(self, stored: VerifiedCheckpoint) -> TrustedLog:
        """Return the state after reading a checkpoint that was trusted before, here or by a process alike.

        Requires stored.tree_size >= self.tree_size. No proof is asked for: whoever stored it had one.
        Raises SplitViewError for another root at the same size, with both notes.
        """
        assert stored.tree_size >= self.tree_size
        if stored.tree_size == self.tree_size:
            self.accept(stored, ())
        return replace(self, newest=stored)


def _open(note: bytes, policy: Policy) -> VerifiedCheckpoint:
    try:
        checkpoint = open_checkpoint(note, policy)
    except MalformedError as error:
        raise RemoteError(f"what came as a checkpoint is none: {error}") from error
    if checkpoint.tree_size == 0 and checkpoint.root_hash != EMPTY_ROOT:
        raise SplitViewError(
            f"{checkpoint.origin} signed an empty tree with root {checkpoint.root_hash.hex()}: no such tree "
            "exists; keep the checkpoint, it is evidence",
            checkpoints=(note,),
        )
    return VerifiedCheckpoint(note=note, checkpoint=checkpoint)
