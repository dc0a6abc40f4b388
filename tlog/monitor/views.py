"""Every checkpoint that is seen, held against everything that was seen before.

The newest checkpoint ever accepted (the anchor) is on the disk before anything relies on it. What comes next
has to be signed as the policy asks, and consistent with it: by the path that the source gives when it reaches
beyond what we have checked, by our own tiles when it does not. What contradicts it is an `AlarmError`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tlog.client.checkpoint_file import CheckpointFile
from tlog.client.trusted_log import TrustedLog, VerifiedCheckpoint
from tlog.errors import (
    MalformedError,
    NotFoundError,
    OutOfRangeError,
    PolicyError,
    ProofError,
    PushbackError,
    RemoteError,
    SignatureError,
    SplitViewError,
    StorageError,
    VerificationError,
)
from tlog.merkle import prove_consistency_path, verify_consistency, verify_fork
from tlog.monitor.alerts import Alert, AlertKind
from tlog.monitor.cursor import Cursor
from tlog.monitor.evidence import contradiction_evidence
from tlog.monitor.prefix_tree import root_at
from tlog.monitor.source import LogSource
from tlog.policy import Policy

ANCHOR_NAME = "newest.checkpoint"


class AlarmError(VerificationError):
    """Carries the alert that ends a pass: what the source shows cannot be gone on with."""

    def __init__(self, alert: Alert) -> None:
        super().__init__(alert.message)
        self.alert = alert


class Views:
    """Judges checkpoints of one log. Belongs to one thread."""

    def __init__(self, policy: Policy, cursor: Cursor, directory: Path) -> None:
        """Take up the anchor that was kept. Raises ConfigError, CorruptionError and StorageError."""
        self._log = TrustedLog.for_origin(policy, cursor.origin)
        self._cursor = cursor
        self._file = CheckpointFile(directory / ANCHOR_NAME, cursor.origin)
        stored = self._file.load()
        self.anchor: VerifiedCheckpoint | None = None
        if stored is not None:
            try:
                self.anchor = self._log.open_committed(stored)
            except VerificationError as error:
                raise self._file.corruption(f"{error}; if the log's key changed, mend the policy") from error
        self._accepted: VerifiedCheckpoint | None = self.anchor

    @property
    def policy(self) -> Policy:
        """Return the policy, of this one log."""
        return self._log.policy

    def see(self, note: bytes, source: LogSource) -> VerifiedCheckpoint:
        """Accept a checkpoint that is signed as it has to be and contradicts nothing, or raise.

        The newest one accepted becomes the anchor, durably. Raises AlarmError, what the source raises when
        it has to be asked, and StorageError.
        """
        if self._accepted is not None and note == self._accepted.note:
            return self._accepted
        seen = self._open(note)
        anchor = self.anchor
        if anchor is not None:
            if seen.tree_size == anchor.tree_size:
                if seen.root_hash != anchor.root_hash:
                    raise self._contradiction(anchor, seen, ())
            elif seen.tree_size > anchor.tree_size:
                self._require_path(anchor, seen, source)
            elif seen.tree_size > self._cursor.position:
                self._require_path(seen, anchor, source)
            else:
                self._require_checked_root(seen, anchor, source)
        if anchor is None or seen.tree_size > anchor.tree_size:
            self._file.advance(expected=None if anchor is None else anchor.note, new=note)
            self.anchor = seen
        self._accepted = seen
        return seen

    def _open(self, note: bytes) -> VerifiedCheckpoint:
        try:
            return self._log.open_published(note)
        except (SignatureError, PolicyError) as error:
            raise AlarmError(
                Alert(
                    kind=AlertKind.CHECKPOINT_REFUSED,
                    subject=str(error),
                    message=f"the checkpoint that is shown does not meet the policy: {error}",
                    facts={"checkpoint": _text(note)},
                )
            ) from error
        except SplitViewError as error:
            raise AlarmError(
                Alert(
                    kind=AlertKind.SPLIT_VIEW,
                    subject="an empty tree with a root",
                    message=str(error),
                    facts={"checkpoint": _text(note)},
                    evidence=contradiction_evidence(self._log.policy, [note], None),
                )
            ) from error

    def _require_path(
        self, smaller: VerifiedCheckpoint, larger: VerifiedCheckpoint, source: LogSource
    ) -> None:
        """Require the source to show the path between two checkpoints. Raises AlarmError."""
        path: Sequence[bytes] = ()
        try:
            if smaller.tree_size > 0:
                path = source.prove_consistency(smaller.checkpoint, larger.checkpoint)
        except (ProofError, OutOfRangeError, NotFoundError, MalformedError) as error:
            # A copy that is behind, or damaged, says nothing about what the log would show.
            if source.may_be_stale:
                raise
            raise self._unproven(smaller, larger, path, error, source) from error
        try:
            verify_consistency(smaller.tree_size, larger.tree_size, path, smaller.root_hash, larger.root_hash)
        except ProofError as error:
            raise self._unproven(smaller, larger, path, error, source) from error

    def _unproven(
        self,
        smaller: VerifiedCheckpoint,
        larger: VerifiedCheckpoint,
        path: Sequence[bytes],
        error: Exception,
        source: LogSource,
    ) -> AlarmError:
        return self._convict(smaller, source) or self._contradiction(smaller, larger, path, error)

    def _convict(self, smaller: VerifiedCheckpoint, source: LogSource) -> AlarmError | None:
        """Ask the source for a path that shows its history of now to be another one; None when it does not.

        The consistency proof that failed often cannot: it leaves out its first node where the smaller size is
        a power of two, and whoever lies need not send one.
        """
        try:
            note, path = source.fork_path(smaller.tree_size)
            larger = self._log.open_published(note)
            verify_fork(smaller.tree_size, larger.tree_size, path, smaller.root_hash, larger.root_hash)
        except (VerificationError, OutOfRangeError, StorageError, RemoteError, PushbackError, ValueError):
            return None
        return self._contradiction(smaller, larger, path)

    def _require_checked_root(
        self, seen: VerifiedCheckpoint, anchor: VerifiedCheckpoint, source: LogSource
    ) -> None:
        """Hold a checkpoint against our own tree, whose beginning it has to be. Raises AlarmError."""
        with self._cursor.lookups() as lookups:
            read_node = lookups.node_reader()
            if root_at(read_node, seen.tree_size) == seen.root_hash:
                return
            if self._cursor.position >= anchor.tree_size:
                path = prove_consistency_path(read_node, seen.tree_size, anchor.tree_size)
                raise self._contradiction(seen, anchor, path)
        # The path to the anchor goes beyond what we have checked: only others can show it.
        self._require_path(seen, anchor, source)

    def _contradiction(
        self,
        smaller: VerifiedCheckpoint,
        larger: VerifiedCheckpoint,
        path: Sequence[bytes],
        error: Exception | None = None,
    ) -> AlarmError:
        """Say what two checkpoints that do not agree amount to: a conviction, or an alarm."""
        evidence = contradiction_evidence(self.policy, [smaller.note, larger.note], path)
        sizes = (
            f"two trees of size {larger.tree_size}"
            if smaller.tree_size == larger.tree_size
            else f"trees of sizes {smaller.tree_size} and {larger.tree_size}"
        )
        roots = f"roots {smaller.root_hash.hex()} and {larger.root_hash.hex()}"
        facts: dict[str, str | int] = {
            "smaller_size": smaller.tree_size,
            "larger_size": larger.tree_size,
            "smaller_checkpoint": _text(smaller.note),
            "larger_checkpoint": _text(larger.note),
        }
        subject = f"sizes {smaller.tree_size} and {larger.tree_size}, {roots}"
        if evidence is not None:
            return AlarmError(
                Alert(
                    kind=AlertKind.SPLIT_VIEW,
                    subject=subject,
                    message=f"{self._cursor.origin} signed {sizes} that contradict each other ({roots})",
                    facts=facts,
                    evidence=evidence,
                )
            )
        return AlarmError(
            Alert(
                kind=AlertKind.CONSISTENCY_UNPROVEN,
                subject=subject,
                message=f"{self._cursor.origin} signed {sizes} ({roots}), and nobody shows that one begins "
                f"with the other: {error or 'there is no path'}",
                facts=facts,
            )
        )


def _text(note: bytes) -> str:
    return note.decode("utf-8", "backslashreplace")
