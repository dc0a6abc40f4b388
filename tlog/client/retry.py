"""When to try again, and after how long: exponential backoff with full jitter, inside one overall deadline.

Trying again is safe for every call of the service: reads change nothing, and an append of the same entries
answers with the same leaf indices for ever.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import tenacity

from tlog.errors import TlogError

T = TypeVar("T")


class CallFailed(Exception):  # noqa: N818 - never leaves the client: `error` is what the caller gets
    """Carries what one attempt failed with, and whether another attempt makes sense."""

    def __init__(self, error: TlogError, *, retry: bool, retry_after_s: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.retry = retry
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Says how long to go on. Requires 0 <= first_delay_s <= max_delay_s and deadline_s >= 0, in seconds.

    After failure n the delay is drawn evenly from 0 to min(max_delay_s, first_delay_s * 2**(n-1)), on top of
    the delay that the log asked for. `clock` (seconds, monotonic), `sleep` and `draw` (0 <= value < 1) are
    for tests.
    """

    deadline_s: float = 60.0
    first_delay_s: float = 0.05
    max_delay_s: float = 5.0
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    draw: Callable[[], float] = random.random

    def run(self, attempt: Callable[[float], T]) -> T:
        """Call `attempt(seconds_left)` until it returns, fails for good, or the deadline leaves no time.

        Raises the TlogError of the last failure; its notes say how often it was tried.
        """
        end_s = self.clock() + self.deadline_s
        try:
            return attempt(self.deadline_s)
        except CallFailed as failed:
            return self._go_on(attempt, end_s, failed)

    def _go_on(self, attempt: Callable[[float], T], end_s: float, first: CallFailed) -> T:
        """Do what is left of `run` when the first attempt has failed."""
        failures = [first]

        def next_attempt() -> T:
            if failures:
                raise failures.pop()
            return attempt(max(0.0, end_s - self.clock()))

        def delay_s(state: tenacity.RetryCallState) -> float:
            ceiling_s = min(self.max_delay_s, self.first_delay_s * 2.0 ** min(state.attempt_number - 1, 60))
            return self.draw() * ceiling_s + (_failure(state).retry_after_s or 0.0)

        def is_too_late(state: tenacity.RetryCallState) -> bool:
            return self.clock() + state.upcoming_sleep >= end_s

        retrying = tenacity.Retrying(
            sleep=self.sleep,
            wait=delay_s,
            stop=is_too_late,
            retry=tenacity.retry_if_exception(lambda error: isinstance(error, CallFailed) and error.retry),
            reraise=True,
        )
        try:
            return retrying(next_attempt)
        except CallFailed as failed:
            if failed.retry:
                attempts = retrying.statistics["attempt_number"]
                failed.error.add_note(f"tried {attempts} times within {self.deadline_s} s")
            raise failed.error from failed.__cause__


def _failure(state: tenacity.RetryCallState) -> CallFailed:
    assert state.outcome is not None
    failure = state.outcome.exception()
    assert isinstance(failure, CallFailed)
    return failure
