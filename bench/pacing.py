"""When calls are made, and how long they took: closed loops and open ones.

A closed loop makes the next call when an answer came, so a server that stalls is asked less: good for cost
and for peak throughput, and a lie about latency. An open loop makes each call at the time intended, whatever
became of those before, and counts from that intended time; what a stall did to the calls that should have
been made meanwhile is in its percentiles (no coordinated omission).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

Call = Callable[[int], Awaitable[None]]
"""Makes call number i, and returns when its answer is there."""


async def closed_loop(call: Call, *, calls: int, in_flight: int) -> list[float]:
    """Make calls 0 to `calls` - 1, so many at a time; return each one's seconds, by number."""
    taken_s = [0.0] * calls
    numbers = iter(range(calls))
    now_s = asyncio.get_running_loop().time

    async def caller() -> None:
        for number in numbers:  # shared: whoever is free takes the next
            started_s = now_s()
            await call(number)
            taken_s[number] = now_s() - started_s

    await asyncio.gather(*(caller() for _ in range(in_flight)))
    return taken_s


async def open_loop(call: Call, *, calls: int, rate_per_s: float) -> list[float]:
    """Make call i at i / rate seconds from now; return each one's seconds since that time, by number.

    There is no limit to how many are under way. A loop that falls behind makes its calls late, and that
    counts as well.
    """
    taken_s = [0.0] * calls
    now_s = asyncio.get_running_loop().time
    start_s = now_s()

    async def one(number: int, intended_s: float) -> None:
        await call(number)
        taken_s[number] = now_s() - intended_s

    async with asyncio.TaskGroup() as under_way:
        for number in range(calls):
            intended_s = start_s + number / rate_per_s
            wait_s = intended_s - now_s()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            elif number % 64 == 0:
                await asyncio.sleep(0)  # behind: let answers be read nevertheless
            under_way.create_task(one(number, intended_s))
    return taken_s
