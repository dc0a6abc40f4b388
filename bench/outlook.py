"""Says before a run begins how long it will take, and whether the disk has room for it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Final

from bench.kept import KeptAnswers
from bench.prefilled import has_prefilled_log
from bench.settings import Settings

LOG_BYTES_AN_ENTRY: Final = 720
"""Of a log's directory: 709 at 10,000,000 entries."""
FILLED_PER_S: Final = 25_000
"""How many entries a second a prefilled log grows by, on two slow cores."""

_SMALLER: Final = 1_000_000
_COPIES: Final = {"growth": 2, "start_up": 1, "storage": 1, "proofs": 0}
"""How many copies of every log stand side by side; the other questions copy logs of up to a million."""
_COPIES_OF_SMALLER: Final = 4
_SPARE_BYTES: Final = 2**28


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """Says what a run will take: seconds for questions, for filling logs, bytes beside what is there."""

    questions_s: float
    filling_s: float
    missing: Sequence[int]
    needed_bytes: int
    free_bytes: int

    @property
    def has_room(self) -> bool:
        """Return whether the disk has room for all of it."""
        return self.needed_bytes <= self.free_bytes

    def sentence(self) -> str:
        """Say it for people."""
        filling = ""
        if self.missing:
            sizes = ", ".join(f"{size:,}" for size in self.missing)
            filling = f", {minutes(self.filling_s)} of it to make logs of {sizes} entries, once"
        return (
            f"about {minutes(self.questions_s + self.filling_s)}{filling}; up to "
            f"{self.needed_bytes / 1e9:.1f} GB more on the disk, which has {self.free_bytes / 1e9:.1f}"
        )


def look_ahead(settings: Settings, names: Sequence[str], kept: KeptAnswers) -> Outlook:
    """Look at what a run will ask, and at what it finds in its folder."""
    missing = [size for size in settings.tree_sizes if not has_prefilled_log(settings, size)]
    copied = max((_copied_entries(settings, name) for name in names), default=0)
    # While a log is filled, it is copied once without its free pages.
    entries = sum(missing) + max(copied, max(missing, default=0))
    settings.folder.mkdir(parents=True, exist_ok=True)
    return Outlook(
        questions_s=sum(kept.expected_s(name) for name in names),
        filling_s=sum(missing) / FILLED_PER_S,
        missing=missing,
        needed_bytes=entries * LOG_BYTES_AN_ENTRY + _SPARE_BYTES,
        free_bytes=shutil.disk_usage(settings.folder).free,
    )


def _copied_entries(settings: Settings, name: str) -> int:
    if name in _COPIES:
        return _COPIES[name] * sum(settings.tree_sizes)
    return _COPIES_OF_SMALLER * sum(size for size in settings.tree_sizes if size <= _SMALLER)


class Pace:
    """Tells how much of a run is done, and corrects what is left by how long the first part took."""

    def __init__(self, expected_s: Mapping[str, float], *, clock: Callable[[], float] = monotonic) -> None:
        """Begin now; `expected_s` has the questions in their order."""
        self._expected_s = expected_s
        self._clock = clock
        self._began_s = clock()

    def sentence(self, name: str) -> str:
        """Say how far the run is when this question begins."""
        names = list(self._expected_s)
        done_s = sum(self._expected_s[one] for one in names[: names.index(name)])
        left_s = sum(self._expected_s.values()) - done_s
        gone_s = self._clock() - self._began_s
        slower = gone_s / done_s if done_s else 1.0
        return f"{minutes(gone_s)} gone, about {minutes(left_s * slower)} left"


def minutes(seconds: float) -> str:
    """Format a time for people."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min"
