"""How much a run measures: the three sizes of a run, and where its files are.

A question reads its sizes from here, so that `make bench` takes minutes as a whole, not hours, and tests can
run any question in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

Profile = Literal["tiny", "short", "full"]

FOLDER = Path("build/bench")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Says how much to measure. `tiny` is for tests: it shows that things run, and no number of it counts.

    `tree_sizes` are the sizes of the prefilled logs, ascending; `rounds` how often everything is measured, in
    turn; `window_events` how many events one measurement of an append takes. `peers` are other logs that the
    user has running (bench/peer_adapters/given.py).
    """

    profile: Profile
    folder: Path
    tree_sizes: tuple[int, ...]
    rounds: int
    window_events: int
    peers: tuple[str, ...] = ()

    @classmethod
    def for_profile(cls, profile: Profile, folder: Path = FOLDER) -> Self:
        """Return the settings of a profile."""
        match profile:
            case "tiny":
                return cls(profile=profile, folder=folder, tree_sizes=(600,), rounds=1, window_events=512)
            case "short":
                return cls(
                    profile=profile,
                    folder=folder,
                    tree_sizes=(10_000, 1_000_000),
                    rounds=5,
                    window_events=5_120,
                )
            case "full":
                return cls(
                    profile=profile,
                    folder=folder,
                    tree_sizes=(10_000, 100_000, 1_000_000, 10_000_000),
                    rounds=9,
                    window_events=10_240,
                )

    @property
    def few_rounds(self) -> int:
        """Return the rounds of what takes long and spreads little: three in a short run."""
        return 5 if self.is_full else min(self.rounds, 3)

    def sizes_up_to(self, largest: int) -> tuple[int, ...]:
        """Return the sizes that a question is asked at which no target speaks of a small log in.

        All of them in a full run, the largest in a short one.
        """
        sizes = tuple(size for size in self.tree_sizes if size <= largest)
        return sizes if self.is_full else sizes[-1:]

    @property
    def is_full(self) -> bool:
        """Return whether time does not matter."""
        return self.profile == "full"
