"""Measure several things in turn, so that a slow minute of the machine hits all of them alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from bench.progress import Progress

T = TypeVar("T")


def interleaved(
    measurements: Mapping[str, Callable[[], T]], *, rounds: int, progress: Progress, what: str
) -> dict[str, list[T]]:
    """Run every measurement once a round, each round beginning with another one; samples by name and round.

    Sample i of one name belongs to the same round as sample i of another: take ratios round by round.
    """
    names = list(measurements)
    samples: dict[str, list[T]] = {name: [] for name in names}
    with progress.running(what, rounds * len(names)) as advance:
        for number in range(rounds):
            shift = number % len(names)
            for name in names[shift:] + names[:shift]:
                samples[name].append(measurements[name]())
                advance(1)
    return samples
