"""How a caller that does not wait is made to."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import cast
from unittest.mock import patch

import pytest

from server.call_log import CallLog
from server.caller_gate import (
    APART_S,
    MAX_HELD_BYTES,
    MAX_HELD_OF_ONE,
    MAX_HELD_S,
    MAX_LATE_S,
    CallerGate,
)
from server.callers import Caller, Context
from server.config import parse_config
from tlog.errors import QuotaError, StorageError
from tlog.log_view import LogView

FLOOD, STEADY = Caller(name="host flood"), Caller(name="host steady")
CONFIG = parse_config('[log]\nstore_path = "s"\nkey_path = "k"\n')


class _Named:
    """Is a call that brings an id, and counts how often anybody looks."""

    def __init__(self, request_id: str) -> None:
        self._request_id = request_id
        self.looks = 0

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        self.looks += 1
        return (("x-request-id", self._request_id),)

    @property
    def context(self) -> Context:
        return cast(Context, self)


class Rig:
    """A gate under a clock of the test's, in which waiting takes no time."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.held_s: list[float] = []
        self.gate = CallerGate(CONFIG, CallLog("none", lambda _: None), clock=lambda: self.now_s)

    async def refuse(self, caller: Caller, *, came_s: float, retry_s: float = 0.1, size: int = 0) -> float:
        """Refuse a call that came then; returns how long it was held back, and lets that time pass."""
        before = len(self.held_s)
        with self._clock():
            await self.gate.hold_back(
                caller,
                QuotaError("too much", retry_after_s=retry_s),
                took_s=self.now_s - came_s,
                request_bytes=size,
            )
        return sum(self.held_s[before:])

    @contextmanager
    def _clock(self) -> Iterator[None]:
        async def pass_by(seconds: float) -> None:
            self.held_s.append(seconds)
            self.now_s += seconds

        with patch("server.caller_gate.asyncio.sleep", pass_by):
            yield


def test_who_comes_again_at_once_waits_longer_each_time_and_who_waited_does_not() -> None:
    async def scenario() -> None:
        rig = Rig()
        held = [await rig.refuse(FLOOD, came_s=rig.now_s) for _ in range(8)]
        assert held[0] == 0.0
        assert 0.1 <= held[1] < held[2] < held[3] < held[4]
        assert all(MAX_HELD_S <= seconds <= 1.5 * MAX_HELD_S for seconds in held[-3:])
        assert await rig.refuse(STEADY, came_s=rig.now_s) == 0.0
        rig.now_s += 0.2
        assert await rig.refuse(FLOOD, came_s=rig.now_s) == 0.0

    asyncio.run(scenario())


def test_calls_that_were_under_way_when_the_first_was_refused_could_not_know() -> None:
    async def scenario() -> None:
        rig = Rig()
        rig.now_s = 1.0
        assert [await rig.refuse(FLOOD, came_s=0.9) for _ in range(5)] == [0.0] * 5

    asyncio.run(scenario())


def test_refusals_of_calls_that_came_together_are_told_one_after_the_other() -> None:
    """Else they would come again together, and be in front of everybody else's."""

    async def scenario() -> None:
        rig = Rig()
        told_s = []
        for _ in range(MAX_HELD_OF_ONE):
            rig.now_s = came_s = 1.0
            told_s.append(came_s + await rig.refuse(FLOOD, came_s=came_s, retry_s=0.05))
        first, *held = sorted(told_s)
        assert first == 1.0, "the first one is told at once"
        assert held[0] >= 1.05
        assert held[-1] <= 1.0 + MAX_LATE_S
        apart_s = [later - earlier for earlier, later in itertools.pairwise(held)]
        assert min(apart_s) >= 0.99 * APART_S
        rig.now_s = 1.0
        assert await rig.refuse(STEADY, came_s=1.0) == 0.0

    asyncio.run(scenario())


def test_a_flood_with_many_calls_in_flight_ends_at_one_refusal_a_second_for_each() -> None:
    """What it costs is refusals: 64 calls in flight, each sent again as soon as it is refused."""

    async def scenario() -> None:
        rig = Rig()
        due = [(0.0, 0.0)] * 64
        refusals = []
        while rig.now_s < 20.0:
            due.sort()
            now_s, _ = due.pop(0)
            rig.now_s = now_s
            before_s = rig.now_s
            held_s = await rig.refuse(FLOOD, came_s=now_s)
            rig.now_s = before_s
            refusals.append(now_s)
            due.append((now_s + held_s + 0.001, 0.0))
        late = [second for second in refusals if second >= 10.0]
        assert len(late) / 10.0 <= 64.0

    asyncio.run(scenario())


def test_no_more_is_held_back_than_there_is_room_for() -> None:
    async def scenario() -> None:
        gate = CallerGate(CONFIG, CallLog("none", lambda _: None), clock=lambda: 5.0)
        error = QuotaError("too much", retry_after_s=30.0)

        async def refuse(caller: Caller, size: int) -> bool:
            """Return whether a refusal is held back."""
            task = asyncio.create_task(gate.hold_back(caller, error, took_s=0.0, request_bytes=size))
            tasks.append(task)
            for _ in range(3):
                await asyncio.sleep(0)
            return not task.done()

        tasks: list[asyncio.Task[None]] = []
        assert [await refuse(FLOOD, MAX_HELD_BYTES) for _ in range(3)] == [False, True, False]
        held = [await refuse(STEADY, 0) for _ in range(MAX_HELD_OF_ONE + 10)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert sum(held) == MAX_HELD_OF_ONE
        assert held[:2] == [False, True], "the first one is told at once"
        assert not gate._held
        assert not gate._held_bytes

    asyncio.run(scenario())


def test_strangers_who_call_once_fill_no_memory_and_one_who_called_too_often_is_not_forgotten() -> None:
    rig = Rig()
    limit = int(CONFIG.quotas.caller_calls_per_s)
    for number in range(5_000):
        with rig.gate.call(Caller(name=f"stranger {number}")):
            rig.now_s += 0.0001  # over before its place in the bucket is full again
        rig.now_s += 0.01
    assert len(rig.gate._calls) < 100
    for _ in range(limit):
        with rig.gate.call(FLOOD):
            pass
    for number in range(100):
        with rig.gate.call(Caller(name=f"another {number}")):
            pass
    with pytest.raises(QuotaError, match="calls/s"), rig.gate.call(FLOOD):
        pass
    assert len(rig.gate._calls) >= 100, "nobody who has called just now is forgotten"


def test_each_call_that_ends_well_or_not_makes_room_for_another_of_its_caller() -> None:
    rig = Rig()
    most = int(CONFIG.quotas.caller_concurrent_calls)
    with ExitStack() as under_way:
        for _ in range(most):
            rig.now_s += 1.0
            under_way.enter_context(rig.gate.call(FLOOD))
        for _ in range(2):
            with pytest.raises(QuotaError, match=f"{most} calls under way"), rig.gate.call(FLOOD):
                pass
        with rig.gate.call(STEADY):
            rig.now_s += 1.0
    for _ in range(most + 1):
        rig.now_s += 1.0
        with pytest.raises(KeyError), rig.gate.call(FLOOD):
            raise KeyError
    with rig.gate.call(FLOOD):
        rig.now_s += 1.0
    assert not rig.gate._calls, "whose calls are over, and who may make as many again, is forgotten"


def test_no_caller_takes_more_than_half_of_the_room_that_calls_wait_in() -> None:
    rig = Rig()
    gate = rig.gate
    most = CONFIG.limits.max_queued_bytes // 2
    with gate.entries(FLOOD, 1, most):
        rig.now_s += 60.0  # its rate allows more again, and what it brought still waits
        with pytest.raises(QuotaError, match="bytes outstanding") as refused, gate.entries(FLOOD, 1, 1):
            pass
        assert refused.value.retry_after_s > 0
        with gate.entries(STEADY, 1, 1):
            pass
    with gate.entries(FLOOD, 1, 1):
        pass
    assert not gate._entry_bytes


def test_a_call_is_answered_also_when_nobody_can_say_whose_it_was(caplog: pytest.LogCaptureFixture) -> None:
    def unreadable() -> AbstractContextManager[LogView]:
        raise StorageError("the store cannot be read")

    caller = Caller(name="certificate 1", uris=("https://exporter.example",))
    config = parse_config('[log]\nstore_path = "s"\nkey_path = "k"\n[logging]\ncalls = "all"\n')
    gate = CallerGate.for_log(config, "log.example", unreadable)
    with caplog.at_level(logging.INFO, logger="tlog.calls"):
        assert gate.ended(_Named("1").context, "Append", caller, "OK", 0.1) == "1"
    (record,) = caplog.records
    assert record.__dict__["member"] is None
    # Also without JSON a line has all that it takes to find a call again.
    assert record.getMessage() == "Append OK in 100.0 ms for certificate 1, request 1"


def test_a_call_that_nobody_is_told_of_is_not_even_asked_for_its_id() -> None:
    def gate(calls: str) -> CallerGate:
        table = f'[log]\nstore_path = "s"\nkey_path = "k"\n[logging]\ncalls = "{calls}"\n'
        return CallerGate(parse_config(table), CallLog(parse_config(table).logging.calls, lambda _: None))

    named = _Named("1")
    assert gate("failed").ended(named.context, "Append", STEADY, "OK", 0.1) == ""
    assert gate("none").ended(named.context, "Append", STEADY, "OK", 0.1) == ""
    assert gate("all").ended(named.context, "Check", STEADY, "OK", 0.1) == ""
    assert named.looks == 0
    # Whoever failed is told its id, also where no line is written.
    assert gate("none").ended(named.context, "Append", STEADY, "INTERNAL", 0.1) == "1"
