"""Together: large calls of one caller go to the sequencer at once, and nobody waits for a stranger."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine, Sequence
from typing import Any, cast

import pytest

from server.sequencer import Sequenced
from server.together import MAX_ENTRIES, MIN_CALL_ENTRIES, Together
from tlog.errors import PushbackError, QuotaError
from tlog.validate import VerifiedEntry

LARGE = 256


class Sequencing:
    """Notes the calls that are handed over, by number; each is answered, or failed, by hand."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.futures: dict[int, asyncio.Future[Sequenced]] = {}
        self.to_come: Counter[str] = Counter()
        self.refused: dict[int, Exception] = {}

    def __call__(self, entries: Sequence[VerifiedEntry]) -> asyncio.Future[Sequenced]:
        number = cast("Any", entries[0])
        if number in self.refused:
            raise self.refused[number]
        self.calls.append(number)
        self.futures[number] = asyncio.get_running_loop().create_future()
        return self.futures[number]


def call(number: int, size: int = LARGE) -> list[VerifiedEntry]:
    return cast("Any", [number] * size)


def run(scenario: Coroutine[None, None, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 20))


def made() -> tuple[Sequencing, Together]:
    sequencing = Sequencing()
    return sequencing, Together(sequencing, to_come=lambda caller: sequencing.to_come[caller])


def test_a_call_with_nothing_behind_it_is_handed_over_at_once() -> None:
    async def scenario() -> None:
        sequencing, together = made()
        sequencing.to_come["another"] = LARGE
        future = together.submit(call(1), "a")
        assert sequencing.calls == [1]
        assert future is sequencing.futures[1]

    run(scenario())


def test_large_calls_of_one_caller_go_together_and_in_order_when_the_last_one_is_there() -> None:
    async def scenario() -> None:
        sequencing, together = made()
        sequencing.to_come["a"] = 2 * LARGE
        first = together.submit(call(1), "a")
        sequencing.to_come["a"] = LARGE
        second = together.submit(call(2), "a")
        assert sequencing.calls == []
        assert together.kept_entries == 2 * LARGE
        sequencing.to_come["a"] = 0
        third = together.submit(call(3), "a")
        assert sequencing.calls == [1, 2, 3]
        assert together.kept_entries == 0
        results = {number: cast("Sequenced", object()) for number in (1, 2, 3)}
        for number, future in sequencing.futures.items():
            future.set_result(results[number])
        assert await asyncio.gather(first, second, third) == [results[1], results[2], results[3]]

    run(scenario())


def test_no_more_is_kept_back_than_makes_a_large_commit() -> None:
    async def scenario() -> None:
        sequencing, together = made()
        sequencing.to_come["a"] = 100 * LARGE
        calls = MAX_ENTRIES // LARGE
        for number in range(calls - 1):
            together.submit(call(number), "a")
        assert sequencing.calls == []
        together.submit(call(calls - 1), "a")
        assert sequencing.calls == list(range(calls))

    run(scenario())


@pytest.mark.parametrize(
    ("size", "to_come"), [(MIN_CALL_ENTRIES - 1, LARGE), (LARGE, MIN_CALL_ENTRIES - 1)], ids=str
)
def test_a_small_call_waits_for_none_and_none_waits_for_a_small_call(size: int, to_come: int) -> None:
    async def scenario() -> None:
        sequencing, together = made()
        sequencing.to_come["a"] = LARGE
        together.submit(call(1), "a")
        sequencing.to_come["a"] = to_come
        together.submit(call(2, size), "a")
        assert sequencing.calls == [1, 2]

    run(scenario())


def test_what_is_kept_back_goes_with_a_call_of_anybody_else() -> None:
    async def scenario() -> None:
        sequencing, together = made()
        sequencing.to_come["a"] = LARGE
        together.submit(call(1), "a")
        together.submit(call(2), "b")
        assert sequencing.calls == [1, 2]

    run(scenario())


def test_what_is_kept_back_goes_alone_when_nothing_is_to_come_after_all() -> None:
    async def scenario() -> None:
        sequencing, together = made()
        sequencing.to_come["a"] = LARGE
        together.submit(call(1), "a")
        together.look_again()
        assert sequencing.calls == []
        sequencing.to_come["a"] = 0  # what was to come is refused
        together.look_again()
        assert sequencing.calls == [1]

    run(scenario())


def test_an_error_of_the_sequencer_reaches_the_call_that_it_is_of() -> None:
    async def scenario() -> None:
        sequencing, together = made()
        sequencing.to_come["a"] = LARGE
        quota, stopping = QuotaError("too much", retry_after_s=1.0), PushbackError("stop", retry_after_s=1.0)
        sequencing.refused[1] = quota
        futures = [together.submit(call(number), "a") for number in (1, 2)]
        given_up = together.submit(call(3), "a")
        given_up.cancel()
        together.submit(call(4), "b")
        assert sequencing.calls == [2, 3, 4], "who gave up is carried through, as the sequencer does"
        sequencing.futures[2].set_exception(stopping)
        sequencing.futures[3].set_exception(stopping)
        found = await asyncio.gather(*futures, return_exceptions=True)
        assert found == [quota, stopping]

    run(scenario())
