"""The one place where a running client's trust moves: in memory, and on disk before anyone relies on it.

Several calls are in flight at once and their replies come in any order. Two checkpoints that are each
consistent with an older trusted one are NOT thereby consistent with each other: so when the trusted
checkpoint moved while a reply was on its way, the log must also prove the two against each other.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from tlog.client.checkpoint_file import CheckpointFile
from tlog.client.connection import ClientClosedError
from tlog.client.trusted_log import TrustedLog, VerifiedCheckpoint
from tlog.errors import ConsistencyUnprovenError, RemoteError, TlogError, VerificationError
from tlog.freshness import VerifiesFreshness

AskConsistency = Callable[[int, int], Sequence[bytes]]
"""Asks the log for the consistency proof from a smaller tree size to a larger one. Raises any TlogError."""
ConfirmGenesis = Callable[[VerifiedCheckpoint], None]
"""Verifies entry 0 of a checkpoint's tree, of one leaf or more, to be the pinned one; raises if it is not."""


class TrustKeeper:
    """Holds a TrustedLog for many threads, and for other processes through the file that they share.

    With `confirm_genesis` nothing is taken in before it has returned once: all that is consistent with that
    first checkpoint then begins with the same entry. With `freshness` a published checkpoint that is too old
    is an error, though what it proves is trusted all the same.
    """

    def __init__(
        self,
        start: TrustedLog,
        file: CheckpointFile | None,
        ask: AskConsistency,
        confirm_genesis: ConfirmGenesis | None = None,
        freshness: VerifiesFreshness | None = None,
    ) -> None:
        self._freshness = freshness
        self._file = file
        self._ask = ask
        self._confirm_genesis = confirm_genesis
        self._lock = threading.Lock()
        self._state = start
        stored = None if file is None else file.load()
        if stored is not None:
            self._state = start.accept_stored(self._open_stored(stored))

    @property
    def state(self) -> TrustedLog:
        """Return what is trusted at this moment."""
        return self._state

    def accept(
        self, anchor: TrustedLog, candidate: VerifiedCheckpoint, consistency_proof: Sequence[bytes]
    ) -> None:
        """Take in a checkpoint that a reply proved consistent with `anchor`, the state it was asked with.

        Returns when the candidate is consistent with everything trusted so far and, if it is newer, stored.
        Raises what `TrustedLog.accept` raises, ConsistencyUnprovenError also when the log did not answer
        for a proof between two checkpoints that it signed, what the confirmation of the pinned genesis
        raises, and the errors of `CheckpointFile`; then nothing has moved.
        """
        self._settle(anchor, anchor.accept(candidate, consistency_proof), candidate)

    def accept_proven(
        self, anchor: TrustedLog, proven: TrustedLog, candidate: VerifiedCheckpoint, *, published: bool
    ) -> None:
        """Take in a checkpoint for which `anchor.accept` returned `proven`, fresh where it is `published`.

        Raises as `accept` does, and as `accept_published` does.
        """
        self._settle(anchor, proven, candidate)
        if published:
            self._verify_freshness(candidate)

    def accept_published(
        self, anchor: TrustedLog, candidate: VerifiedCheckpoint, consistency_proof: Sequence[bytes]
    ) -> None:
        """Take in a checkpoint that meets the whole policy, as `accept` does, and verify that it is fresh.

        Raises what `accept` raises, and then StaleCheckpointError.
        """
        self.accept(anchor, candidate, consistency_proof)
        self._verify_freshness(candidate)

    def accept_unaccompanied(self, candidate: VerifiedCheckpoint) -> None:
        """Take in a published checkpoint that came without a consistency proof: ask for one.

        Raises as `accept_published`.
        """
        current = self._state
        self._settle(current, current.accept(candidate, self._bridge(current, candidate)), candidate)
        self._verify_freshness(candidate)

    def _settle(self, known: TrustedLog, proven: TrustedLog, candidate: VerifiedCheckpoint) -> None:
        while True:
            current = self._state
            if current.newest != known.newest:
                known, proven = current, current.accept(candidate, self._bridge(current, candidate))
            # After the proofs: whoever forked the history must not choose the milder error.
            confirm_genesis = self._confirm_genesis
            if confirm_genesis is not None and candidate.tree_size:
                confirm_genesis(candidate)
                self._confirm_genesis = None
            # A stale candidate is a prefix of `known`, hence of all that came after it: nothing to move.
            if proven is known or self._replace(known, proven):
                return

    def _verify_freshness(self, candidate: VerifiedCheckpoint) -> None:
        if self._freshness is not None:
            self._freshness.verify(candidate.note, self._state.policy)

    def _bridge(self, current: TrustedLog, candidate: VerifiedCheckpoint) -> Sequence[bytes]:
        smaller, larger = sorted((current.tree_size, candidate.tree_size))
        if smaller in (0, larger):
            return ()
        try:
            return self._ask(smaller, larger)
        except ClientClosedError:
            raise
        except TlogError as error:
            # However the log gets out of answering: it signed both trees, and owes the proof between them.
            notes = () if current.newest is None else (current.newest.note,)
            raise ConsistencyUnprovenError(
                f"{current.origin} signed trees of sizes {smaller} and {larger}, and does not prove that "
                f"they agree ({error}): it may have been rolled back, or show another history to others; "
                "trust neither, keep both checkpoints, ask other members which one they saw",
                checkpoints=(*notes, candidate.note),
            ) from error

    def _replace(self, known: TrustedLog, proven: TrustedLog) -> bool:
        """Move from one state to another; False when somebody else moved it first, `state` shows where."""
        assert proven.newest is not None
        with self._lock:
            if self._state.newest != known.newest:
                return False
            if self._file is not None:
                expected = None if known.newest is None else known.newest.note
                stored = self._file.advance(expected=expected, new=proven.newest.note)
                if stored != proven.newest.note:
                    self._state = self._adopt(known, stored)
                    return False
            self._state = proven
            return True

    def _adopt(self, known: TrustedLog, stored: bytes) -> TrustedLog:
        """Take over what another process stored; it got there from `known`, which the file held before."""
        assert self._file is not None
        other = self._open_stored(stored)
        if other.tree_size < known.tree_size:
            raise self._file.corruption(
                f"it holds size {other.tree_size}, and held {known.tree_size} before in this process"
            )
        return known.accept_stored(other)

    def _open_stored(self, note: bytes) -> VerifiedCheckpoint:
        assert self._file is not None
        try:
            return self._state.open_committed(note)
        except (VerificationError, RemoteError) as error:
            raise self._file.corruption(
                f"{error}; if the log's key changed, mend the policy instead"
            ) from error
