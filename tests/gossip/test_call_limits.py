"""Callers get what they are granted, and however many there are, the table stays small."""

from __future__ import annotations

from tlog.gossip.call_limits import CallLimits


def test_a_burst_goes_ahead_and_then_only_the_rate() -> None:
    limits = CallLimits(per_s=2.0, burst=3)
    assert [limits.wait_s("a", 10.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert limits.wait_s("a", 10.4) > 0
    assert limits.wait_s("a", 10.5) == 0.0
    granted = sum(limits.wait_s("a", 11.0 + step / 100) == 0.0 for step in range(1_000))
    assert 20 <= granted <= 22


def test_one_caller_does_not_slow_another() -> None:
    limits = CallLimits(per_s=1.0, burst=1)
    assert limits.wait_s("a", 0.0) == 0.0
    assert limits.wait_s("a", 0.0) > 0.0
    assert limits.wait_s("b", 0.0) == 0.0


def test_a_call_that_cost_more_is_paid_for_in_time() -> None:
    limits = CallLimits(per_s=2.0, burst=3)
    assert limits.wait_s("a", 0.0) == 0.0
    limits.charge("a", 0.0, 10.0)
    assert limits.wait_s("a", 0.0) == 9.5
    assert limits.wait_s("b", 0.0) == 0.0
    assert limits.wait_s("a", 9.5) == 0.0


def test_a_blocked_caller_waits_until_the_end_of_it() -> None:
    limits = CallLimits(per_s=1.0, burst=5)
    limits.block("a", 0.0, 60.0)
    assert limits.wait_s("a", 1.0) == 59.0
    assert limits.wait_s("a", 60.0) == 0.0


def test_a_clock_that_stands_still_grants_nothing() -> None:
    limits = CallLimits(per_s=1_000.0, burst=1)
    assert limits.wait_s("a", 5.0) == 0.0
    assert limits.wait_s("a", 4.0) > 0.0


def test_the_table_does_not_grow_with_the_names_of_callers() -> None:
    limits = CallLimits(per_s=1.0, burst=1, most_callers=10)
    limits.block("liar", 0.0, 1_000.0)
    for number in range(1_000):
        limits.wait_s(f"stranger-{number}", 0.0)
        limits.wait_s("liar", 0.0)
    assert len(limits) == 10
    assert limits.wait_s("liar", 1.0) > 0.0
