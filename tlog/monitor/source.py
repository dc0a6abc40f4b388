"""What a monitor reads a log from. Nothing that a source says is believed: the replay checks all of it."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Protocol

from tlog.checkpoint import Checkpoint
from tlog.client.trusted_log import VerifiedCheckpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Holds entries [start, start + len(entries)) and what leads from them to a signed root.

    `right` is the compact range of the leaves behind them, in the tree of the checkpoint in `note`. What lies
    before them is the reader's own: he has checked it already.
    """

    start: int
    entries: Sequence[bytes]
    right: Sequence[bytes]
    note: bytes

    @property
    def end(self) -> int:
        """Return one past the last leaf index."""
        return self.start + len(self.entries)


class LogSource(Protocol):
    """Reads one log from somewhere; raises RemoteError, PushbackError or StorageError when it cannot.

    Raises VerificationError, OutOfRangeError or MalformedError when what came cannot be right, as far as
    they look.
    """

    @property
    def name(self) -> str:
        """Return where this reads from, for messages."""
        ...

    @property
    def may_be_stale(self) -> bool:
        """Return whether a copy stands in between (a cache, an export), which may lag behind the log."""
        ...

    def checkpoint(self) -> bytes:
        """Return the newest checkpoint note that is published."""
        ...

    def runs(self, start: int, under: VerifiedCheckpoint) -> Generator[Run, None, None]:
        """Yield entries [start, under.tree_size) in order, in runs of bounded size.

        Requires start < under.tree_size. A run's note may be newer than `under`.
        """
        ...

    def prove_consistency(self, smaller: Checkpoint, larger: Checkpoint) -> Sequence[bytes]:
        """Return the path from one tree to the other, for the caller to verify.

        Requires 0 < smaller.tree_size < larger.tree_size.
        """
        ...

    def fork_path(self, tree_size: int) -> tuple[bytes, Sequence[bytes]]:
        """Return a newer checkpoint note, and the whole consistency path to it from `tree_size` leaves.

        The path has its first node always written out (`tlog.merkle.consistency_path`), so that it can show
        that another tree of that size was signed. Requires tree_size > 0.
        """
        ...

    def close(self) -> None:
        """Release connections; calls in flight end with RemoteError."""
        ...
