"""Work for threads, gathered: whatever waits goes there in one trip, as calls go into one commit.

A trip to a thread and back costs more than most of what is done there for one small call. So there is no trip
for every call: what arrives while all trips are under way, or held, waits and goes together with the next.
Nothing here waits by the clock; a lone call is taken at once. Who brings little goes before the rest of what
another brought (`server.fair_queue`).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from functools import partial
from typing import Generic, TypeAlias, TypeVar

from server.fair_queue import FairQueue
from server.settling import settle

Item = TypeVar("Item")
Result = TypeVar("Result")

_Waiting: TypeAlias = tuple[Item, asyncio.Future[Result], int, str]
"""Is an item, the future of its result, its weight and its lane."""


class Gathering(Generic[Item, Result]):
    """Does one kind of work in an executor's threads; `put` belongs to the event loop that made it."""

    def __init__(
        self,
        executor: Executor,
        work: Callable[[Sequence[Item]], Sequence[Result | Exception]],
        *,
        trips: int,
        max_weight: int,
        hold: Callable[[int], bool] = lambda _: False,
        after_trip: Callable[[], None] = lambda: None,
    ) -> None:
        """Do `work` in at most `trips` threads at a time; it gives every item a result or an exception.

        A trip takes items of `max_weight` together, or a single one that is heavier. Requires trips >= 1.
        No trip begins while `hold`, which is told the weight that waits, says so; who makes it say otherwise
        calls `resume`. `after_trip` is called after trips and withdrawals, when `weight_of` may have fallen.
        """
        self._executor = executor
        self._work = work
        self._idle_trips = trips
        self._max_weight = max_weight
        self._hold = hold
        self._waiting_weight = 0
        self._waiting: FairQueue[_Waiting[Item, Result]] = FairQueue()
        self._after_trip = after_trip
        self._weights: Counter[str] = Counter()
        self._weight_under_way = 0
        self._starting = False
        self._loop = asyncio.get_running_loop()

    @property
    def waiting_weight(self) -> int:
        """Return the weight of what waits for a trip."""
        return self._waiting_weight

    @property
    def weight_under_way(self) -> int:
        """Return the weight of what is with the threads now."""
        return self._weight_under_way

    def weight_of(self, lane: str) -> int:
        """Return the weight of what waits of a lane, or is with the threads now."""
        return self._weights[lane]

    def put(self, item: Item, *, weight: int, lane: str = "") -> asyncio.Future[Result]:
        """Let an item of a lane wait for the next trip; the future ends with its result or exception.

        Cancelling it withdraws an item that still waits.
        """
        future: asyncio.Future[Result] = self._loop.create_future()
        self._waiting.put((item, future, weight, lane), weight=weight, lane=lane)
        self._waiting_weight += weight
        self._weights[lane] += weight
        self.resume()
        return future

    def resume(self) -> None:
        """Begin trips, unless they are held, for what waits."""
        if not self._starting:
            # Not at once: calls that arrived together are still to be heard in this turn of the loop.
            self._starting = True
            self._loop.call_soon(self._start)

    def _start(self) -> None:
        self._starting = False
        while self._idle_trips and len(self._waiting) and not self._hold(self._waiting_weight):
            weight, taken = self._take()
            if not taken:
                continue
            self._idle_trips -= 1
            self._weight_under_way += weight
            try:
                trip = self._executor.submit(self._travel, taken)
            except RuntimeError as error:  # the threads have ended, because the server stops
                self._arrive(taken, [error] * len(taken))
            else:
                trip.add_done_callback(partial(self._if_called_off, taken))
        self._after_trip()

    def _take(self) -> tuple[int, list[_Waiting[Item, Result]]]:
        taken: list[_Waiting[Item, Result]] = []
        total = 0
        while len(self._waiting):
            weight = self._waiting.next_weight
            if taken and total + weight > self._max_weight:
                break
            waiting = self._waiting.take()
            self._waiting_weight -= weight
            _, future, _, lane = waiting
            if future.done():
                self._leave(lane, weight)
            else:
                taken.append(waiting)
                total += weight
        return total, taken

    def _travel(self, taken: Sequence[_Waiting[Item, Result]]) -> None:
        results: Sequence[Result | Exception]
        try:
            results = self._work([item for item, _, _, _ in taken])
        except Exception as error:  # noqa: BLE001 - handed to everybody who waits for it
            results = [error] * len(taken)
        self._loop.call_soon_threadsafe(self._arrive, taken, results)

    def _if_called_off(self, taken: Sequence[_Waiting[Item, Result]], trip: Future[None]) -> None:
        """Let nobody wait for a trip that never began, because the threads were ended before."""
        if trip.cancelled():
            error = RuntimeError("the threads have ended: the server stops")
            self._loop.call_soon_threadsafe(self._arrive, taken, [error] * len(taken))

    def _arrive(self, taken: Sequence[_Waiting[Item, Result]], results: Sequence[Result | Exception]) -> None:
        self._idle_trips += 1
        for _, _, weight, lane in taken:
            self._weight_under_way -= weight
            self._leave(lane, weight)
        settle([future for _, future, _, _ in taken], results)
        # Not at once: who got a result now is to be heard first, for `hold` may depend on what becomes of it.
        self.resume()

    def _leave(self, lane: str, weight: int) -> None:
        self._weights[lane] -= weight
        if not self._weights[lane]:
            del self._weights[lane]
