"""The roles that a pool stands on: what it remembers across restarts, and the trees that are kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from tlog.errors import CorruptionError, MalformedError, VerificationError
from tlog.gossip.held import HeldCheckpoint
from tlog.gossip.message import ConsistencyPath
from tlog.policy import Policy

Kept = TypeVar("Kept")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredView:
    """Holds what is remembered of one log: the newest checkpoint, and those that nobody could prove."""

    newest: bytes | None = None
    unproven: tuple[bytes, ...] = ()


class GossipState(Protocol):
    """Remembers views and evidence; whatever it was given is durable when the call returns.

    All methods raise StorageError when they cannot do it; then nothing was changed.
    """

    def load(self, origin: str) -> StoredView:
        """Return what was saved last for a log; an empty view before that. Raises CorruptionError."""
        ...

    def save(self, origin: str, view: StoredView) -> None:
        """Replace what is remembered of a log, all or nothing."""
        ...

    def evidence(self) -> list[bytes]:
        """Return all evidence, in the order in which it was kept."""
        ...

    def keep_evidence(self, evidence: bytes) -> None:
        """Keep a piece of evidence for ever; keeping it twice is once."""
        ...


class KeptTrees(Protocol):
    """Gives consistency paths out of trees that are kept here: the tiles of a node, or the log itself.

    Its answers come from local state, at once. None means: not from here.
    """

    def anchor(self, origin: str) -> HeldCheckpoint | None:
        """Return the newest checkpoint whose whole tree is kept, and was verified, here."""
        ...

    def path(self, origin: str, start_size: int, end_size: int) -> ConsistencyPath | None:
        """Return the path between two sizes of the kept tree. Requires 0 < start_size < end_size."""
        ...


class NoTrees:
    """Keeps no tree: the member that holds checkpoints only."""

    def anchor(self, origin: str) -> HeldCheckpoint | None:
        """Return None."""
        return None

    def path(self, origin: str, start_size: int, end_size: int) -> ConsistencyPath | None:
        """Return None."""
        return None


class MemoryState:
    """Remembers as long as it lives; in a simulation that is longer than the node."""

    def __init__(self) -> None:
        self._views: dict[str, StoredView] = {}
        self._evidence: dict[bytes, None] = {}

    def load(self, origin: str) -> StoredView:
        """Return what was saved last."""
        return self._views.get(origin, StoredView())

    def save(self, origin: str, view: StoredView) -> None:
        """Remember a view."""
        self._views[origin] = view

    def evidence(self) -> list[bytes]:
        """Return all evidence."""
        return list(self._evidence)

    def keep_evidence(self, evidence: bytes) -> None:
        """Remember a piece of evidence."""
        self._evidence[evidence] = None


def verify_stored(data: bytes, policy: Policy, verify: Callable[[bytes, Policy], Kept]) -> Kept:
    """Verify again what was remembered: a disk is not believed more than a peer. Raises CorruptionError."""
    try:
        return verify(data, policy)
    except (MalformedError, VerificationError) as error:
        raise CorruptionError(
            f"what this node remembered does not verify any more ({error}): restore its state directory from "
            "a backup, or its policy file, if a key was taken out of that"
        ) from error
