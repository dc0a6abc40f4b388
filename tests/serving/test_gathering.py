"""Gathering: one trip to a thread for everything that waits."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from server.gathering import Gathering

MAX_WEIGHT = 10


class Work:
    """Doubles numbers, notes every trip, fails odd ones, and waits at a gate."""

    def __init__(self) -> None:
        self.trips: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.arrived = threading.Semaphore(0)

    def __call__(self, items: Sequence[int]) -> list[int | Exception]:
        self.trips.append(list(items))
        self.arrived.release()
        assert self.gate.wait(30)
        if 99 in items:
            raise RuntimeError("the whole trip failed")
        return [ValueError(f"{item} is odd") if item % 2 else 2 * item for item in items]


def run(scenario: Coroutine[None, None, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 20))


def gathering(executor: ThreadPoolExecutor, work: Work, *, trips: int = 1) -> Gathering[int, int]:
    return Gathering(executor, work, trips=trips, max_weight=MAX_WEIGHT)


async def until_arrived(work: Work) -> None:
    assert await asyncio.to_thread(work.arrived.acquire, timeout=10)


def test_a_lone_item_goes_at_once_and_those_that_come_meanwhile_go_together() -> None:
    async def scenario() -> None:
        work = Work()
        with ThreadPoolExecutor(1) as executor:
            gather = gathering(executor, work)
            work.gate.clear()
            first = gather.put(2, weight=1)
            await until_arrived(work)
            rest = [gather.put(item, weight=1) for item in (4, 6, 8)]
            await asyncio.sleep(0.02)
            assert work.trips == [[2]]
            work.gate.set()
            assert [await future for future in (first, *rest)] == [4, 8, 12, 16]
            assert work.trips == [[2], [4, 6, 8]]

    run(scenario())


def test_items_put_in_one_turn_of_the_loop_go_together() -> None:
    async def scenario() -> None:
        work = Work()
        with ThreadPoolExecutor(2) as executor:
            gather = gathering(executor, work, trips=2)
            assert await asyncio.gather(*(gather.put(item, weight=1) for item in (2, 4, 6))) == [4, 8, 12]
            assert work.trips == [[2, 4, 6]]

    run(scenario())


def test_a_trip_takes_no_more_than_its_weight_but_always_something() -> None:
    async def scenario() -> None:
        work = Work()
        with ThreadPoolExecutor(1) as executor:
            gather = gathering(executor, work)
            futures = [gather.put(item, weight=weight) for item, weight in ((2, 50), (4, 6), (6, 4), (8, 1))]
            assert [await future for future in futures] == [4, 8, 12, 16]
            assert work.trips == [[2], [4, 6], [8]]

    run(scenario())


def test_several_trips_are_under_way_at_a_time_and_never_more() -> None:
    async def scenario() -> None:
        work = Work()
        with ThreadPoolExecutor(4) as executor:
            gather = gathering(executor, work, trips=2)
            work.gate.clear()
            futures = [gather.put(item, weight=MAX_WEIGHT) for item in (2, 4, 6)]
            await until_arrived(work)
            await until_arrived(work)
            await asyncio.sleep(0.02)
            assert sorted(work.trips) == [[2], [4]]
            work.gate.set()
            assert [await future for future in futures] == [4, 8, 12]

    run(scenario())


def test_an_item_fails_by_itself_and_a_broken_trip_fails_everybody_in_it() -> None:
    async def scenario() -> None:
        work = Work()
        with ThreadPoolExecutor(1) as executor:
            gather = gathering(executor, work)
            even, odd = gather.put(2, weight=1), gather.put(3, weight=1)
            assert await even == 4
            with pytest.raises(ValueError, match="3 is odd"):
                await odd
            broken = [gather.put(item, weight=1) for item in (4, 99)]
            for future in broken:
                with pytest.raises(RuntimeError, match="the whole trip failed"):
                    await future
            assert await gather.put(6, weight=1) == 12, "the next trip is another one"

    run(scenario())


def test_what_was_cancelled_while_it_waited_is_not_worked_on() -> None:
    async def scenario() -> None:
        work = Work()
        with ThreadPoolExecutor(1) as executor:
            gather = gathering(executor, work)
            work.gate.clear()
            first = gather.put(2, weight=1)
            await until_arrived(work)
            given_up, kept = gather.put(4, weight=1), gather.put(6, weight=1)
            given_up.cancel()
            first.cancel()
            work.gate.set()
            assert await kept == 12
            assert work.trips == [[2], [6]]

    run(scenario())


def test_threads_that_have_ended_are_an_error_for_everybody_who_comes() -> None:
    async def scenario() -> None:
        executor = ThreadPoolExecutor(1)
        gather = gathering(executor, Work())
        executor.shutdown()
        for _ in range(2):
            with pytest.raises(RuntimeError, match="shutdown"):
                await gather.put(2, weight=1)

    run(scenario())


def test_nobody_waits_for_a_trip_that_was_called_off() -> None:
    async def scenario() -> None:
        work = Work()
        executor = ThreadPoolExecutor(1)
        gather = gathering(executor, work, trips=2)
        work.gate.clear()
        under_way = gather.put(2, weight=MAX_WEIGHT)
        await until_arrived(work)
        called_off = gather.put(4, weight=MAX_WEIGHT)
        await asyncio.sleep(0.02)
        executor.shutdown(wait=False, cancel_futures=True)
        with pytest.raises(RuntimeError, match="the server stops"):
            await called_off
        work.gate.set()
        assert await under_way == 4

    run(scenario())


def test_who_brings_little_does_not_wait_for_all_that_another_has_brought() -> None:
    async def scenario() -> None:
        work = Work()
        with ThreadPoolExecutor(1) as executor:
            gather = gathering(executor, work)
            work.gate.clear()
            flood = [gather.put(item, weight=MAX_WEIGHT, lane="flood") for item in range(0, 40, 2)]
            await until_arrived(work)
            assert gather.weight_under_way == MAX_WEIGHT
            steady = gather.put(98, weight=1, lane="steady")
            work.gate.set()
            assert await steady == 196
            assert len(work.trips) <= 3
            await asyncio.gather(*flood)
            assert gather.weight_under_way == 0

    run(scenario())


def test_what_is_held_waits_until_it_may_go_and_goes_together_however_much_is_never_held() -> None:
    async def scenario() -> None:
        work = Work()
        held = True
        with ThreadPoolExecutor(1) as executor:
            gather: Gathering[int, int] = Gathering(
                executor, work, trips=1, max_weight=MAX_WEIGHT, hold=lambda weight: held and weight < 4
            )
            little = [gather.put(item, weight=1) for item in (2, 4)]
            await asyncio.sleep(0.02)
            gather.resume()
            await asyncio.sleep(0.02)
            assert work.trips == []
            held = False
            gather.resume()
            assert [await future for future in little] == [4, 8]
            assert work.trips == [[2, 4]]
            held = True
            much = [gather.put(item, weight=2) for item in (6, 8)]
            assert [await future for future in much] == [12, 16]
            withdrawn = gather.put(10, weight=3)
            withdrawn.cancel()
            assert await gather.put(12, weight=1) == 24, "a withdrawn item weighs until it is taken"
            assert work.trips == [[2, 4], [6, 8], [12]]

    run(scenario())


def test_who_got_a_result_is_heard_before_the_next_trip() -> None:
    async def scenario() -> None:
        work = Work()
        committing = 0
        with ThreadPoolExecutor(1) as executor:
            gather: Gathering[int, int] = Gathering(
                executor, work, trips=1, max_weight=MAX_WEIGHT, hold=lambda _: committing > 0
            )

            async def goes_on(item: int) -> int:
                nonlocal committing
                result = await gather.put(item, weight=1)
                committing += 1
                return result

            work.gate.clear()
            first = asyncio.ensure_future(goes_on(2))
            await until_arrived(work)
            second = asyncio.ensure_future(goes_on(4))
            await asyncio.sleep(0.02)
            work.gate.set()
            assert await first == 4
            await asyncio.sleep(0.02)
            assert work.trips == [[2]]
            committing = 0
            gather.resume()
            assert await second == 8

    run(scenario())


def test_a_lane_weighs_what_waits_and_what_is_with_the_threads_and_who_asks_hears_when_that_falls() -> None:
    async def scenario() -> None:
        work = Work()
        seen: list[int] = []
        with ThreadPoolExecutor(1) as executor:
            gather: Gathering[int, int] = Gathering(
                executor,
                work,
                trips=1,
                max_weight=MAX_WEIGHT,
                after_trip=lambda: seen.append(gather.weight_of("a")),
            )
            work.gate.clear()
            first = gather.put(2, weight=6, lane="a")
            await until_arrived(work)
            others = [gather.put(item, weight=5, lane=lane) for item, lane in ((3, "a"), (6, "b"))]
            given_up = gather.put(8, weight=7, lane="a")
            assert (gather.weight_of("a"), gather.weight_of("b"), gather.weight_of("c")) == (18, 5, 0)
            given_up.cancel()
            work.gate.set()
            await asyncio.gather(first, *others, return_exceptions=True)
            async with asyncio.timeout(10):
                while seen[-1]:
                    await asyncio.sleep(0)
            assert seen[0] == 6
            assert (gather.weight_of("a"), gather.weight_of("b")) == (0, 0)

    run(scenario())


def test_a_lane_weighs_nothing_once_the_threads_have_ended() -> None:
    async def scenario() -> None:
        executor = ThreadPoolExecutor(1)
        gather = gathering(executor, Work())
        executor.shutdown()
        with pytest.raises(RuntimeError):
            await gather.put(2, weight=6, lane="a")
        assert gather.weight_of("a") == 0

    run(scenario())
