"""How much of one caller is worked on at a time, while others bring something too; the rest of it waits here.

What a process works on shares one event loop, one verifying thread and one commit, and each of them takes
what comes as it comes. So whoever has many calls under way is in all of these places at once, and every other
call is behind all of it. Here a caller's calls beyond a few wait without cost until those few are committed,
and twice as long again, so that two thirds of the time are the others', and 50 ms at least: each of many
small commits would hold up whoever comes meanwhile, and calls of a turn share theirs. Who sends one call
after the other never waits here. A caller who is alone has no such limit: many at a time are cheaper.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

MAX_CALLS = 16
MAX_ENTRIES = 64
"""Of one caller's calls together; a single call may bring more."""
PAUSE = 2.0
"""How often the time that a caller's calls took passes before the next of those that wait."""
MIN_PAUSE_S = 0.05
"""So a caller that floods has twenty turns a second at most, however short its calls are."""
MAX_PAUSE_S = 0.5
SHARED_S = 2.0
"""How long after its last call a caller is still one that others share with."""


@dataclass(slots=True)
class _Lane:
    calls: int = 0
    entries: int = 0
    began_s: float = 0.0
    is_pausing: bool = False
    waiting: deque[tuple[int, asyncio.Future[None]]] = field(default_factory=deque)


class Turns:
    """Lets calls go on in turn; belongs to the event loop."""

    def __init__(self, *, clock: Callable[[], float] = monotonic) -> None:
        """Begin with nobody."""
        self._clock = clock
        self._lanes: dict[str, _Lane] = {}
        self._newest = ("", float("-inf"))
        self._newest_other = ("", float("-inf"))
        self._waiting = 0

    @property
    def waiting(self) -> int:
        """Return how many calls wait for their turn."""
        return self._waiting

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
        self._begin(lane, entries)
        return True

    async def take(self, caller: str, entries: int) -> None:
        """Wait until it is a call's turn, which `give_back` ends; a call that is cancelled has none."""
        if self.take_at_once(caller, entries):
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lanes[caller].waiting.append((entries, turn))
        self._waiting += 1
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give_back(caller, entries)
            raise

    def give_back(self, caller: str, entries: int) -> None:
        """End a call's turn, and begin those of the same caller that wait when it is their time."""
        lane = self._lanes[caller]
        lane.calls -= 1
        lane.entries -= entries
        if not lane.waiting or not self._is_shared(caller):
            self._go_on(caller, lane)
        elif not lane.calls and not lane.is_pausing:
            lane.is_pausing = True
            took_s = self._clock() - lane.began_s
            pause_s = min(MAX_PAUSE_S, max(MIN_PAUSE_S, PAUSE * took_s))
            asyncio.get_running_loop().call_later(pause_s, self._end_pause, caller)

    def _end_pause(self, caller: str) -> None:
        lane = self._lanes[caller]
        lane.is_pausing = False
        self._go_on(caller, lane)

    def _go_on(self, caller: str, lane: _Lane) -> None:
        """Begin what waits, as far as it fits."""
        while lane.waiting:
            size, turn = lane.waiting[0]
            if not turn.done():
                if not self._fits(caller, lane, size):
                    return
                self._begin(lane, size)
                turn.set_result(None)
            lane.waiting.popleft()
            self._waiting -= 1
        if not lane.calls and not lane.is_pausing:
            del self._lanes[caller]

    def _begin(self, lane: _Lane, entries: int) -> None:
        if not lane.calls:
            lane.began_s = self._clock()
        lane.calls += 1
        lane.entries += entries

    def _fits(self, caller: str, lane: _Lane, entries: int) -> bool:
        if lane.is_pausing:
            return False
        if not lane.calls or not self._is_shared(caller):
            return True
        return lane.calls < MAX_CALLS and lane.entries + entries <= MAX_ENTRIES

    def _is_shared(self, caller: str) -> bool:
        """Return whether another caller has brought something lately."""
        other = self._newest_other if self._newest[0] == caller else self._newest
        return self._clock() - other[1] <= SHARED_S
