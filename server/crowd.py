"""Where many calls are under way, the next commit waits a moment for those that were just answered.

Clients that each wait for their answer before they send the next event fall into two halves: while one half
is committed the other one waits, and then goes at once, for ever. Both would fit into one commit, at half the
price (docs/performance.md). So where a crowd is there, the next signature checks begin only when nearly all
of it waits again, or a moment has passed. With fewer calls under way nobody waits: a commit for each few of
them costs more, but there is time for it.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

MIN_CROWD = 40
"""So many that were answered together, or wait already, are a crowd: more than are under way at rates that
leave time to spare, up to 1,200 calls a second where 64 in flight made 2,000."""
MAX_WAIT_S = 0.012
"""A third of what a call takes where 64 are under way."""
NEARLY_ALL = 0.9


class Crowd:
    """Says how long to wait for those who were answered; belongs to one event loop."""

    def __init__(self, *, clock: Callable[[], float] = monotonic) -> None:
        """Begin with nobody."""
        self._clock = clock
        self._expected = 0.0
        self._until_s = 0.0

    def answered(self, calls: int, waiting: int) -> float:
        """Take note that so many calls are answered now, while so many entries wait; return what to wait.

        That is in seconds, and 0.0 where there is no crowd. Who waits asks `is_awaited` again after it.
        """
        self._expected = NEARLY_ALL * (calls + waiting)
        wait_s = MAX_WAIT_S if calls + waiting >= MIN_CROWD else 0.0
        self._until_s = self._clock() + wait_s
        return wait_s

    def is_awaited(self, waiting: int) -> bool:
        """Return whether others than the entries that wait are to be waited for."""
        return waiting < self._expected and self._clock() < self._until_s
