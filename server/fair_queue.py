"""A queue in which nobody waits behind all that another has brought.

Start-time fair queueing: each lane (a caller, a member) has a clock of its own that runs by the weight of
what it puts in, and what was due first on its lane's clock goes first. So who waits with little is behind at
most one item of each other lane, however much those have; within a lane, order is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush
from itertools import count
from typing import Generic, TypeVar

Item = TypeVar("Item")

_SPARE_LANES = 64
"""Lanes beyond those of waiting items whose clocks are kept before idle ones are looked for."""


class FairQueue(Generic[Item]):
    """Holds items by lane and weight; belongs to one thread, or to whoever holds its owner's lock."""

    __slots__ = ("_ends", "_heap", "_numbers", "_reached")

    def __init__(self) -> None:
        """Begin empty."""
        self._heap: list[tuple[int, int, int, Item]] = []
        self._ends: dict[str, int] = {}
        self._reached = 0
        self._numbers = count()

    def __len__(self) -> int:
        """Return how many items wait."""
        return len(self._heap)

    def __iter__(self) -> Iterator[Item]:
        """Yield what waits, in no order."""
        return (item for _, _, _, item in self._heap)

    def put(self, item: Item, *, weight: int, lane: str) -> None:
        """Let an item wait at the end of its lane. Requires weight >= 1."""
        due = max(self._reached, self._ends.get(lane, 0))
        self._ends[lane] = due + weight
        heappush(self._heap, (due, next(self._numbers), weight, item))
        if len(self._ends) > 2 * len(self._heap) + _SPARE_LANES:
            # A clock that is not ahead says nothing that a new one would not.
            self._ends = {lane: end for lane, end in self._ends.items() if end > self._reached}

    @property
    def next_weight(self) -> int:
        """Return the weight of the item that goes next. Requires that one waits."""
        return self._heap[0][2]

    def take(self) -> Item:
        """Take the item that goes next. Requires that one waits."""
        self._reached, _, _, item = heappop(self._heap)
        if not self._heap:
            self._reached = 0
            self._ends.clear()
        return item

    def clear(self) -> None:
        """Drop everything."""
        self._heap.clear()
        self._ends.clear()
        self._reached = 0
