"""Token buckets and accounts: what passes, what is refused, and when it may come again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.admission import Account, Accounts, Limits, TokenBucket
from tlog.errors import QuotaError

LIMITS = Limits(events_per_s=10.0, bytes_per_s=1_000.0, burst_events=20.0, outstanding_events=50)


def account() -> Account:
    return Account("member a", LIMITS, 0.0)


def test_a_burst_passes_at_once_and_then_the_rate_holds() -> None:
    bucket = TokenBucket(rate_per_s=10.0, burst=20.0, now_s=0.0)
    assert bucket.wait_s(20, 0.0) == 0.0
    bucket.take(20, 0.0)
    assert bucket.wait_s(1, 0.0) == pytest.approx(0.1)
    assert bucket.wait_s(10, 0.5) == pytest.approx(0.5)
    assert bucket.wait_s(10, 1.0) == 0.0


def test_what_is_larger_than_the_burst_passes_when_the_bucket_is_full_and_is_paid_for_later() -> None:
    bucket = TokenBucket(rate_per_s=10.0, burst=20.0, now_s=0.0)
    assert bucket.wait_s(100, 0.0) == 0.0
    bucket.take(100, 0.0)
    assert bucket.wait_s(1, 0.0) == pytest.approx(8.1)
    assert bucket.wait_s(1, 8.1) == pytest.approx(0.0)


@given(
    st.floats(0.1, 1e6),
    st.floats(1, 1e6),
    st.lists(st.tuples(st.floats(0, 10), st.integers(1, 2_000)), max_size=40),
)
def test_no_more_passes_than_the_burst_and_the_rate_and_one_call(
    rate_per_s: float, burst: float, calls: list[tuple[float, int]]
) -> None:
    bucket = TokenBucket(rate_per_s=rate_per_s, burst=burst, now_s=0.0)
    now_s = passed = 0.0
    for pause_s, amount in calls:
        now_s += pause_s
        if bucket.wait_s(amount, now_s) == 0.0:
            bucket.take(amount, now_s)
            passed += amount
        assert passed <= (burst + rate_per_s * now_s) * (1 + 1e-9) + 2_000


@given(st.floats(0.1, 1e6), st.floats(1, 1e6), st.integers(1, 5_000), st.integers(1, 5_000))
def test_whoever_waits_as_long_as_was_said_passes(
    rate_per_s: float, burst: float, first: int, second: int
) -> None:
    bucket = TokenBucket(rate_per_s=rate_per_s, burst=burst, now_s=0.0)
    bucket.take(first, 0.0)
    wait_s = bucket.wait_s(second, 0.0)
    assert bucket.wait_s(second, wait_s * (1 + 1e-9) + 1e-9) <= 1e-6 * max(1.0, wait_s)


def test_refusals_name_the_limit_and_the_wait() -> None:
    one = account()
    one.take(20, 100, 0.0)
    one.settle(20)
    with pytest.raises(QuotaError, match=r"member a .* 10 events/s: send the call again in 0\.50 s") as told:
        one.require(5, 1, 0.0)
    assert told.value.retry_after_s == pytest.approx(0.5)
    other = account()
    other.take(1, 2_000, 0.0)
    with pytest.raises(QuotaError, match="1000 bytes/s"):
        other.require(1, 500, 0.0)
    waiting = account()
    waiting.take(15, 10, 0.0)
    waiting.take(15, 10, 100.0)
    waiting.take(15, 10, 200.0)
    with pytest.raises(QuotaError, match="45 events outstanding, and may have 50"):
        waiting.require(10, 1, 300.0)
    waiting.settle(15)
    waiting.require(10, 1, 300.0)


def test_one_call_larger_than_what_may_be_outstanding_passes_when_nothing_else_is() -> None:
    account().require(1_000, 1, 0.0)


def test_what_came_to_nothing_is_given_back() -> None:
    one = account()
    one.take(20, 2_000, 0.0)
    one.settle(20, unused_events=20, unused_bytes=2_000)
    one.require(20, 2_000, 0.0)
    assert one.is_idle(0.0)


def test_a_change_of_limits_holds_at_once() -> None:
    accounts = Accounts()
    accounts.of("a", LIMITS, 0.0).require(20, 1, 0.0)
    smaller = Limits(events_per_s=1.0, bytes_per_s=1_000.0, burst_events=2.0, outstanding_events=50)
    one = accounts.of("a", smaller, 0.0)
    one.take(2, 1, 0.0)
    one.settle(2)
    with pytest.raises(QuotaError, match="1 events/s"):
        one.require(1, 1, 0.5)


def test_strangers_fill_no_memory_and_nobody_escapes_a_debt_by_calling_under_many_names() -> None:
    accounts = Accounts(max_kept=10)
    accounts.of("flooder", LIMITS, 0.0).take(20, 1, 0.0)
    for number in range(1_000):
        accounts.of(f"stranger {number}", LIMITS, 0.0)
    assert len(accounts) <= 12
    with pytest.raises(QuotaError):
        accounts.of("flooder", LIMITS, 0.0).require(1, 1, 0.0)
