"""How much of one caller is worked on while others bring something too."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

from server.turns import MAX_CALLS, MAX_ENTRIES, MIN_PAUSE_S, PAUSE, SHARED_S, Turns


def run(scenario: Coroutine[None, None, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 20))


async def begun(turns: Turns, caller: str, entries: int = 1) -> asyncio.Task[None]:
    """Let a call come; it has its turn when the task is done."""
    task = asyncio.create_task(turns.take(caller, entries))
    await asyncio.sleep(0)
    return task


def test_who_is_alone_has_as_many_turns_as_it_has_calls() -> None:
    async def scenario() -> None:
        turns = Turns()
        tasks = [await begun(turns, "flood") for _ in range(100)]
        assert all(task.done() for task in tasks)
        for _ in tasks:
            turns.give_back("flood", 1)
        assert not turns._lanes

    run(scenario())


def test_beside_another_a_flood_has_few_turns_and_the_other_never_waits() -> None:
    async def scenario() -> None:
        turns = Turns()
        assert (await begun(turns, "steady")).done()
        turns.give_back("steady", 1)
        flood = [await begun(turns, "flood") for _ in range(100)]
        assert sum(task.done() for task in flood) == MAX_CALLS
        assert turns.waiting == 100 - MAX_CALLS
        assert (await begun(turns, "steady")).done()
        # In their order, as many again when those have ended and the others had their time.
        for done in range(MAX_CALLS, 100, MAX_CALLS):
            for _ in range(MAX_CALLS):
                assert [task.done() for task in flood] == [True] * done + [False] * (100 - done)
                turns.give_back("flood", 1)
            await flood[min(done + MAX_CALLS, 100) - 1]
        assert turns.waiting == 0

    run(scenario())


def test_after_its_turn_a_flood_waits_and_who_has_one_call_at_a_time_does_not() -> None:
    async def scenario() -> None:
        now_s = 0.0
        turns = Turns(clock=lambda: now_s)
        assert turns.take_at_once("steady", 1)
        assert turns.take_at_once("flood", MAX_ENTRIES)
        waiting = await begun(turns, "flood", MAX_ENTRIES)
        loop = asyncio.get_running_loop()
        # Twice as long as its turn took, and no turn is too short for a pause.
        for took_s, pause_s in ((MIN_PAUSE_S, PAUSE * MIN_PAUSE_S), (0.001, MIN_PAUSE_S)):
            now_s += took_s
            began_s = loop.time()
            turns.give_back("flood", MAX_ENTRIES)
            assert not turns.take_at_once("flood", 1)
            await waiting
            assert loop.time() - began_s >= pause_s - 0.005
            waiting = await begun(turns, "flood", MAX_ENTRIES)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        # One call after the other: there is no pause.
        for _ in range(3):
            turns.give_back("steady", 1)
            assert turns.take_at_once("steady", 1)

    run(scenario())


def test_entries_count_and_a_single_large_call_still_has_its_turn() -> None:
    async def scenario() -> None:
        turns = Turns()
        await begun(turns, "steady")
        large = await begun(turns, "flood", 10 * MAX_ENTRIES)
        small = await begun(turns, "flood", 1)
        assert (large.done(), small.done()) == (True, False)
        turns.give_back("flood", 10 * MAX_ENTRIES)
        await small
        fitting = await begun(turns, "flood", MAX_ENTRIES - 1)
        beyond = await begun(turns, "flood", 1)
        assert (fitting.done(), beyond.done()) == (True, False)

        beyond.cancel()
        await asyncio.gather(beyond, return_exceptions=True)

    run(scenario())


def test_a_call_whose_client_went_away_leaves_no_turn_taken() -> None:
    async def scenario() -> None:
        now_s = 0.0
        turns = Turns(clock=lambda: now_s)
        await begun(turns, "steady")
        under_way = [await begun(turns, "flood") for _ in range(MAX_CALLS)]
        gone, at_once, last = [await begun(turns, "flood") for _ in range(3)]
        gone.cancel()
        await asyncio.sleep(0)
        now_s = 2 * SHARED_S
        # Its turn comes, and it goes away, in the same moment.
        turns.give_back("flood", 1)
        at_once.cancel()
        await asyncio.gather(gone, at_once, return_exceptions=True)
        await last
        for _ in under_way:
            turns.give_back("flood", 1)
        turns.give_back("steady", 1)
        assert not turns._lanes

    run(scenario())


def test_when_the_other_has_been_silent_for_a_while_the_limit_is_gone() -> None:
    async def scenario() -> None:
        now_s = 0.0
        turns = Turns(clock=lambda: now_s)
        await begun(turns, "steady")
        turns.give_back("steady", 1)
        flood = [await begun(turns, "flood") for _ in range(20)]
        assert turns.waiting == 20 - MAX_CALLS
        now_s = SHARED_S + 0.1
        turns.give_back("flood", 1)
        await asyncio.gather(*flood)

    run(scenario())
