"""The backlog: bounded before anything is verified, and honest about when to come again."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from server.backlog import Backlog
from server.metrics import Metrics
from tlog.errors import PushbackError


def backlog(max_entries: int = 10, max_bytes: int = 1_000) -> tuple[Backlog, Metrics]:
    metrics = Metrics()
    return Backlog(metrics, max_entries=max_entries, max_bytes=max_bytes), metrics


def value(metrics: Metrics, name: str) -> float | None:
    return metrics.registry.get_sample_value(name)


def test_calls_pass_up_to_the_limit_and_are_forgotten_when_they_end() -> None:
    waiting, metrics = backlog()
    with ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(waiting.holding(2, 100))
        assert value(metrics, "tlog_sequencer_queue_entries") == 10
        assert value(metrics, "tlog_sequencer_queue_bytes") == 500
        with pytest.raises(PushbackError, match="10 entries wait"), waiting.holding(1, 1):
            raise AssertionError("never reached")
    assert value(metrics, "tlog_sequencer_queue_entries") == 0
    assert value(metrics, "tlog_append_pushback_calls_total") == 1
    with waiting.holding(10, 1_000):
        pass


def test_bytes_are_bounded_as_entries_are() -> None:
    waiting, _ = backlog()
    with (
        waiting.holding(1, 900),
        pytest.raises(PushbackError, match="1000 bytes"),
        waiting.holding(1, 101),
    ):
        raise AssertionError("never reached")


def test_a_call_that_fails_gives_its_place_back() -> None:
    waiting, metrics = backlog()
    with pytest.raises(ValueError, match="refused"), waiting.holding(10, 10):
        raise ValueError("refused")
    assert value(metrics, "tlog_sequencer_queue_entries") == 0


def test_a_call_larger_than_the_limits_passes_when_nothing_waits() -> None:
    waiting, _ = backlog()
    with waiting.holding(1_000, 4 * 2**20), pytest.raises(PushbackError), waiting.holding(1, 1):
        raise AssertionError("never reached")


def delay_s(waiting: Backlog) -> float:
    with pytest.raises(PushbackError) as caught, waiting.holding(1_000, 1):
        raise AssertionError("never reached")
    return caught.value.retry_after_s


def test_the_delay_follows_from_what_waits_and_from_the_rate_and_not_from_one_lone_commit() -> None:
    waiting, _ = backlog(max_entries=1_000)
    for _ in range(20):
        waiting.committed(1_000, 0.5)
    with waiting.holding(1_000, 1):
        busy_s = delay_s(waiting)
        assert 0.3 < busy_s < 0.7
        waiting.committed(1, 0.01)
        assert delay_s(waiting) < 2 * busy_s
        for _ in range(100):
            waiting.committed(1, 10.0)
        assert delay_s(waiting) == 5.0
