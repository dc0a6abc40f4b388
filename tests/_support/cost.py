"""What code costs, held against a yardstick of the same run: seconds say nothing about a machine."""

from __future__ import annotations

import time
from collections.abc import Callable

SHORTEST_S = 0.002
"""Below this a cost is noise."""


def cpu_s(work: Callable[[], object], *, rounds: int = 3) -> float:
    """Return the least CPU seconds of this thread in a few rounds: a busy machine only adds to them."""
    costs_s = []
    for _ in range(rounds):
        started_s = time.thread_time()
        work()
        costs_s.append(time.thread_time() - started_s)
    return min(costs_s)


def assert_no_more_than_linear(work: Callable[[int], Callable[[], object]], size: int) -> None:
    """Hold the cost at a size against that at an eighth of it: quadratic would be 64 times as dear.

    `work` makes what is measured, of a size. A machine that is slow at one of the two is no failure: the cost
    of the whole is looked at again.
    """
    for left in (2, 1, 0):
        small_s, large_s = cpu_s(work(size // 8)), cpu_s(work(size))
        if large_s <= 24 * max(small_s, SHORTEST_S):
            return
        assert left, f"{size // 8} cost {small_s:.4f} s, and {size} {large_s:.4f} s"
