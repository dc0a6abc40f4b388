"""How much of one caller is worked on at a time, while others bring something too; the rest of it waits here.

What a process works on shares one event loop, one verifying thread and one commit, and each of them takes
what comes as it comes. So whoever has many calls under way is in all of these places at once, and every other
call is behind all of it. Here a caller's calls beyond a few wait without cost until those few are committed.
A caller who is alone has no such limit: many at a time are cheaper.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

MAX_CALLS = 4
MAX_ENTRIES = 256
"""Of one caller's calls together; a single call may bring more."""
SHARED_S = 2.0
"""How long after its last call a caller is still one that others share with."""


@dataclass(slots=True)
class _Lane:
    calls: int = 0
    entries: int = 0
    waiting: deque[tuple[int, asyncio.Future[None]]] = field(default_factory=deque)


class Turns:
    """Lets calls go on in turn; belongs to the event loop."""

    def __init__(self, *, clock: Callable[[], float] = monotonic) -> None:
        """Begin with nobody."""
        self._clock = clock
        self._lanes: dict[str, _Lane] = {}
        self._newest = ("", float("-inf"))
        self._newest_other = ("", float("-inf"))

    @property
    def waiting(self) -> int:
        """Return how many calls wait for their turn."""
        return sum(len(lane.waiting) for lane in self._lanes.values())

    def take_at_once(self, caller: str, entries: int) -> bool:
        """Begin a call's turn, which `give_back` ends, where it need not wait; else returns False."""
        now_s = self._clock()
        if caller != self._newest[0]:
            self._newest_other = self._newest
        self._newest = (caller, now_s)
        lane = self._lanes.get(caller)
        if lane is None:
            lane = self._lanes[caller] = _Lane()
        if lane.waiting or not self._fits(caller, lane, entries):
            return False
        lane.calls += 1
        lane.entries += entries
        return True

    async def take(self, caller: str, entries: int) -> None:
        """Wait until it is a call's turn, which `give_back` ends; a call that is cancelled has none."""
        if self.take_at_once(caller, entries):
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lanes[caller].waiting.append((entries, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give_back(caller, entries)
            raise

    def give_back(self, caller: str, entries: int) -> None:
        """End a call's turn, and begin those of the same caller that fit now."""
        lane = self._lanes[caller]
        lane.calls -= 1
        lane.entries -= entries
        while lane.waiting:
            size, turn = lane.waiting[0]
            if not turn.done():
                if not self._fits(caller, lane, size):
                    return
                lane.calls += 1
                lane.entries += size
                turn.set_result(None)
            lane.waiting.popleft()
        if not lane.calls:
            del self._lanes[caller]

    def _fits(self, caller: str, lane: _Lane, entries: int) -> bool:
        if not lane.calls:
            return True
        other = self._newest_other if self._newest[0] == caller else self._newest
        if self._clock() - other[1] > SHARED_S:
            return True
        return lane.calls < MAX_CALLS and lane.entries + entries <= MAX_ENTRIES
