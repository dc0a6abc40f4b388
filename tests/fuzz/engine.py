"""Runs one target on damaged input until its time is over, and makes what it finds small."""

from __future__ import annotations

import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from types import FrameType

from fuzz.mutate import mutate

SLOW_S = 2.0
"""CPU time of one execution above which it is a finding: no input of 64 KiB is worth so much."""
HANG_S = 30.0
"""Time after which one execution is broken off."""
REDUCTION_S = 20.0
MAX_DAMAGED_BYTES = 16_384


class HangError(BaseException):
    """Says that an execution did not end; no `except Exception` of the code under test can take it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Is one thing to feed bytes to.

    `run` may end (what it returns as text is counted), or raise an exception of `allowed`; all else is a
    finding, and so is what takes more than SLOW_S. `seeds` are valid input, which raises nothing, and `nasty`
    is what parsers have stumbled over. `weight` says how many times more than most an execution costs.
    What makes other seeds every time, of drawn keys for one, is not `is_repeatable`: they are not committed.
    """

    name: str
    seeds: Sequence[bytes]
    run: Callable[[bytes], object]
    allowed: tuple[type[Exception], ...]
    nasty: Sequence[bytes] = ()
    max_bytes: int = 2**16
    weight: int = 1
    is_repeatable: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Holds an input that a target did not deal with, and what happened."""

    target: str
    data: bytes
    told: str

    def __str__(self) -> str:
        shown = self.data if len(self.data) <= 400 else self.data[:400] + b"..."
        return f"{self.target}: {self.told}\non {len(self.data)} bytes: {shown!r}"


@dataclass(slots=True)
class Report:
    """Counts the executions of one target, and how they ended."""

    target: str
    executions: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    slowest_s: float = 0.0
    finding: Finding | None = None


def execute(target: Target, data: bytes, report: Report | None = None) -> Finding | None:
    """Run a target once. Returns None when it behaved."""
    started = time.thread_time()
    outcome = "accepted"
    finding = None
    try:
        told = target.run(data)
        outcome = told if isinstance(told, str) else outcome
    except target.allowed as error:
        outcome = type(error).__name__
    except (Exception, HangError) as error:  # noqa: BLE001 - that is what is looked for
        trace = "".join(traceback.format_exception(error)[-4:])
        finding = Finding(target=target.name, data=data, told=trace)
    spent_s = time.thread_time() - started
    if finding is None and spent_s > SLOW_S:
        finding = Finding(target=target.name, data=data, told=f"it took {spent_s:.1f} s of CPU time")
    if report is not None:
        report.executions += 1
        report.outcomes[outcome] += 1
        report.slowest_s = max(report.slowest_s, spent_s)
    return finding


def fuzz(
    target: Target,
    inputs: Sequence[bytes],
    random: Random,
    *,
    executions: int | None = None,
    seconds: float | None = None,
    progress: Callable[[Report], None] | None = None,
) -> Report:
    """Run a target on its inputs, then on damaged ones, up to a number or a time, or the first finding."""
    report = Report(target.name)
    end_s = None if seconds is None else time.monotonic() + seconds
    next_s = time.monotonic() + 1.0
    for data in _inputs(target, inputs, random):
        if report.executions >= (executions or 2**62) or (end_s is not None and time.monotonic() >= end_s):
            break
        finding = execute(target, data, report)
        if finding is not None:
            report.finding = reduce(target, finding)
            break
        if progress is not None and time.monotonic() >= next_s:
            progress(report)
            next_s = time.monotonic() + 1.0
    return report


def _inputs(target: Target, inputs: Sequence[bytes], random: Random) -> Iterator[bytes]:
    yield from inputs
    # Long ones take all the time, and are seldom damaged where it matters.
    damaged = [data for data in inputs if len(data) <= MAX_DAMAGED_BYTES] or inputs
    while True:
        yield mutate(random, damaged, max_bytes=target.max_bytes)


def reduce(target: Target, finding: Finding) -> Finding:
    """Cut stretches out of an input for as long as it fails in the same way, down to single bytes."""
    best, kind = finding, finding.told.splitlines()[-1].partition(":")[0]
    end_s = time.monotonic() + REDUCTION_S
    length = len(best.data)
    while length and time.monotonic() < end_s:
        start = 0
        while start < len(best.data) and time.monotonic() < end_s:
            smaller = execute(target, best.data[:start] + best.data[start + length :])
            if smaller is not None and smaller.told.splitlines()[-1].partition(":")[0] == kind:
                best = smaller
            else:
                start += length
        length //= 2
    return best


@contextmanager
def hangs_end(seconds: float = HANG_S) -> Iterator[Callable[[], None]]:
    """Break off what takes longer; yields what starts the clock anew. For the main thread only."""

    def break_off(number: int, frame: FrameType | None) -> None:
        raise HangError(f"it did not end within {seconds} s")

    def start_anew() -> None:
        signal.setitimer(signal.ITIMER_REAL, seconds)

    before = signal.signal(signal.SIGALRM, break_off)
    try:
        yield start_anew
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
