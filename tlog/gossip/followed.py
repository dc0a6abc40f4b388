"""What a pool holds of one log: the newest checkpoint, and those that nobody could prove. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from tlog.gossip.held import HeldCheckpoint

MAX_DOUBTS = 8
"""Most checkpoints in doubt for one log."""


@dataclass(slots=True, kw_only=True)
class Doubt:
    """Is a signed checkpoint that nobody has proven yet; `alarmed` ones are remembered across restarts."""

    held: HeldCheckpoint
    since_s: float
    alarmed: bool = False


@dataclass(slots=True, kw_only=True)
class FollowedLog:
    """Holds the state of one log; belongs to its pool.

    The doubts that came first stay, so that a log that signs ever new ones cannot outrun the alarm.
    """

    newest: HeldCheckpoint | None = None
    doubts: list[Doubt] = field(default_factory=list)

    @property
    def is_full(self) -> bool:
        """Whether no more doubts are kept."""
        return len(self.doubts) >= MAX_DOUBTS

    def find(self, held: HeldCheckpoint) -> Doubt | None:
        """Return the doubt about a checkpoint."""
        return next((doubt for doubt in self.doubts if doubt.held.checkpoint == held.checkpoint), None)

    def make_room(self) -> None:
        """Where no more are kept, forget the newest that is not alarmed, for what is worse than a doubt."""
        silent = [doubt for doubt in self.doubts if not doubt.alarmed]
        if self.is_full and silent:
            self.doubts.remove(silent[-1])

    def settle(self, held: HeldCheckpoint) -> bool:
        """Forget the doubt about a checkpoint; returns whether it had been alarmed."""
        doubt = self.find(held)
        if doubt is None:
            return False
        self.doubts.remove(doubt)
        return doubt.alarmed
