"""Whose checkpoints are believed when a tiled log is read: one log key, or a whole policy."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from tlog.checkpoint import Checkpoint, parse_checkpoint
from tlog.encoding import shown
from tlog.errors import PolicyError, VerificationError
from tlog.note import NoteVerifier, open_note
from tlog.policy import Policy, build_policy, open_checkpoint

OpenCheckpoint: TypeAlias = Callable[[bytes], Checkpoint]
"""Goes from a signed note to the checkpoint to rely on; raises MalformedError or VerificationError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogKey:
    """Holds a log's key and the origin that it signs for, which need not be the key's name."""

    verifier: NoteVerifier
    origin: str

    @classmethod
    def from_vkey(cls, vkey: str, origin: str | None = None) -> LogKey:
        """Make it from a vkey of any type that can be verified; without an origin the key's name is it.

        Raises MalformedError.
        """
        verifier = build_policy([vkey]).logs[0].verifier
        return cls(verifier=verifier, origin=verifier.name if origin is None else origin)

    def open(self, note: bytes) -> Checkpoint:
        """Open a checkpoint that this key has signed for this origin.

        Raises MalformedError, SignatureError, and PolicyError for another origin.
        """
        checkpoint = parse_checkpoint(open_note(note, [self.verifier]).text)
        _require_origin(checkpoint, self.origin)
        return checkpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedByLog:
    """Says what one of a log's own keys has signed, and which one; `vkey` is that of the key."""

    note: bytes
    checkpoint: Checkpoint
    vkey: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LogKeys:
    """Holds the keys that a log signs with, or has signed with: any of them is believed, without a quorum."""

    logs: tuple[tuple[str, str], ...]
    """Origin and vkey of each; at least one."""

    @classmethod
    def of(cls, logs: Iterable[tuple[str, str]]) -> LogKeys:
        """Take (origin, vkey) pairs."""
        return cls(logs=tuple(logs))

    def read(self, note: bytes) -> SignedByLog:
        """Open a checkpoint that one of the keys has signed, and say which.

        Raises MalformedError, and what `LogKey.open` raises for the first key where none fits.
        """
        refusal: VerificationError | None = None
        for origin, vkey in self.logs:
            try:
                checkpoint = LogKey.from_vkey(vkey, origin).open(note)
            except VerificationError as error:
                refusal = refusal or error
            else:
                return SignedByLog(note=note, checkpoint=checkpoint, vkey=vkey)
        assert refusal is not None
        raise refusal

    def open(self, note: bytes) -> Checkpoint:
        """Open a checkpoint that one of the keys has signed. Raises as `read` does."""
        return self.read(note).checkpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPolicy:
    """Holds a policy, and the one origin of it that is meant where it lists several."""

    policy: Policy
    origin: str | None = None

    def open(self, note: bytes) -> Checkpoint:
        """Open a checkpoint that meets the policy. Raises MalformedError, SignatureError, PolicyError."""
        checkpoint = open_checkpoint(note, self.policy)
        if self.origin is not None:
            _require_origin(checkpoint, self.origin)
        return checkpoint


def _require_origin(checkpoint: Checkpoint, origin: str) -> None:
    if checkpoint.origin != origin:
        raise PolicyError(
            f"the checkpoint is of origin {shown(checkpoint.origin)}, not of {shown(origin)}: it is another "
            "log's, or this log's origin has to be named"
        )
