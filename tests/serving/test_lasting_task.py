"""A task that must not end by itself stops the server when it does."""

from __future__ import annotations

import asyncio

from server.lasting_task import start_lasting


def test_an_error_is_told_and_neither_a_stop_nor_an_end() -> None:
    told: list[BaseException] = []

    async def fail() -> None:
        raise ZeroDivisionError("a bug")

    async def end() -> None:
        return

    async def run() -> None:
        cancelled = start_lasting(asyncio.Event().wait(), "waiter", told.append)  # type: ignore[arg-type]
        await asyncio.sleep(0)
        cancelled.cancel()
        tasks = [cancelled, start_lasting(end(), "worker", told.append)]
        await asyncio.gather(*tasks, return_exceptions=True)
        assert told == []
        await asyncio.gather(start_lasting(fail(), "failing", told.append), return_exceptions=True)

    asyncio.run(run())
    assert [str(error) for error in told] == ["a bug"]
