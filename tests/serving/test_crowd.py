"""Who was answered is waited for where many are under way, and nowhere else."""

from __future__ import annotations

import pytest

from server.crowd import MAX_WAIT_S, MIN_CROWD, Crowd


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_before_anybody_was_answered_nobody_is_waited_for(clock: Clock) -> None:
    assert not Crowd(clock=clock).is_awaited(0)


@pytest.mark.parametrize("calls", range(MIN_CROWD))
def test_with_fewer_calls_than_a_crowd_nobody_waits(clock: Clock, calls: int) -> None:
    crowd = Crowd(clock=clock)
    for answered in range(calls + 1):
        assert crowd.answered(answered, calls - answered) == 0.0
        assert not crowd.is_awaited(calls - answered)


def test_a_crowd_is_waited_for_until_nearly_all_of_it_waits(clock: Clock) -> None:
    crowd = Crowd(clock=clock)
    assert crowd.answered(32, 32) == MAX_WAIT_S
    assert crowd.is_awaited(32)
    assert crowd.is_awaited(57)
    assert not crowd.is_awaited(58)


def test_a_crowd_is_waited_for_no_longer_than_it_was_said(clock: Clock) -> None:
    crowd = Crowd(clock=clock)
    wait_s = crowd.answered(64, 0)
    clock.now_s += wait_s * 0.99
    assert crowd.is_awaited(1)
    clock.now_s += wait_s * 0.01
    assert not crowd.is_awaited(1)


def test_a_crowd_that_went_is_forgotten_with_the_next_answers(clock: Clock) -> None:
    crowd = Crowd(clock=clock)
    crowd.answered(64, 0)
    assert crowd.answered(3, 0) == 0.0
    assert not crowd.is_awaited(0)
