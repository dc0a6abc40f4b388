from __future__ import annotations

import asyncio

import pytest
from _support.skipped_time import now_s, run, spend

from bench.measure import percentile
from bench.pacing import closed_loop, open_loop


class StallingServer:
    """Answers at once, but for one stall, in which nothing is answered."""

    def __init__(self, stall_after: int, stall_s: float) -> None:
        self._stall_after = stall_after
        self._stall_s = stall_s
        self._free = asyncio.Event()
        self._free.set()
        self.seen: list[int] = []

    async def call(self, number: int) -> None:
        self.seen.append(number)
        if len(self.seen) == self._stall_after:
            self._free.clear()
            asyncio.get_running_loop().call_later(self._stall_s, self._free.set)
        await self._free.wait()


def test_a_stall_shows_in_the_percentiles_of_an_open_loop() -> None:
    async def measure() -> list[float]:
        server = StallingServer(stall_after=100, stall_s=0.4)
        return await open_loop(server.call, calls=400, rate_per_s=400)

    latencies_s = run(measure())
    # In 0.4 of the 1.0 seconds nothing was answered: 160 of the 400 calls waited, 0.2 s in the middle.
    assert sum(latency_s > 0.02 for latency_s in latencies_s) >= 140
    assert percentile(latencies_s, 0.99) > 0.3
    assert percentile(latencies_s, 0.80) > 0.15
    assert percentile(latencies_s, 0.50) < 0.1


def test_a_closed_loop_hides_that_stall_which_is_why_latency_is_not_measured_by_one() -> None:
    async def measure() -> list[float]:
        server = StallingServer(stall_after=100, stall_s=0.4)
        return await closed_loop(server.call, calls=400, in_flight=1)

    latencies_s = run(measure())
    assert max(latencies_s) > 0.3
    assert percentile(latencies_s, 0.99) < 0.1


def test_an_open_loop_that_falls_behind_counts_from_the_intended_time() -> None:
    async def slow_to_start(_number: int) -> None:
        spend(0.002)

    # 100 calls of 2 ms at 1,000 a second: the last one ends 100 ms after it should have begun.
    latencies_s = run(open_loop(slow_to_start, calls=100, rate_per_s=1_000))
    assert latencies_s[-1] > 0.08
    assert percentile(latencies_s, 0.5) > 0.03


def test_an_open_loop_waits_for_no_answer() -> None:
    started: list[float] = []

    async def slow(_number: int) -> None:
        started.append(now_s())
        await asyncio.sleep(1.0)

    latencies_s = run(open_loop(slow, calls=20, rate_per_s=400))
    assert started[-1] - started[0] < 0.9
    assert min(latencies_s) >= 0.99


@pytest.mark.parametrize("in_flight", [1, 3, 8])
def test_a_closed_loop_makes_every_call_once_and_no_more_than_allowed_at_a_time(in_flight: int) -> None:
    under_way = most = 0
    seen: list[int] = []

    async def call(number: int) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        seen.append(number)
        await asyncio.sleep(0.001)
        under_way -= 1

    latencies_s = run(closed_loop(call, calls=24, in_flight=in_flight))
    assert sorted(seen) == list(range(24))
    assert most == in_flight
    assert len(latencies_s) == 24
    assert min(latencies_s) > 0
