"""Fetching ahead: in order, never more than allowed at once, and nobody waits for what is not needed."""

from __future__ import annotations

import threading
import time

import pytest

from tlog.tile_source.fetching import fetch_ahead


@pytest.mark.parametrize("concurrency", [1, 2, 8])
def test_results_come_in_order_and_never_too_many_are_under_way(concurrency: int) -> None:
    lock = threading.Lock()
    taken = yielded = most = 0

    def items():
        nonlocal taken
        for item in range(50):
            taken += 1
            yield item

    def fetch(item: int) -> int:
        nonlocal most
        with lock:
            most = max(most, taken - yielded)
        time.sleep(0.001 * (item % 3))
        return item * item

    for position, (item, result) in enumerate(fetch_ahead(items(), fetch, concurrency)):
        assert (item, result) == (position, position * position)
        yielded += 1
    assert yielded == 50
    assert most <= concurrency + 1


@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_failure_comes_at_its_item(concurrency: int) -> None:
    def fetch(item: int) -> int:
        if item == 5:
            raise ValueError("five")
        return item

    got: list[int] = []
    with pytest.raises(ValueError, match="five"):
        for item, _ in fetch_ahead(range(100), fetch, concurrency):
            got.append(item)
    assert got == [0, 1, 2, 3, 4]


def test_nobody_waits_for_what_hangs_when_the_reader_goes_away() -> None:
    release = threading.Event()

    def fetch(item: int) -> int:
        if item:
            release.wait(120)
        return item

    reading = fetch_ahead(range(100), fetch, 4)
    assert next(reading) == (0, 0)
    started = time.monotonic()
    reading.close()
    assert time.monotonic() - started < 60
    release.set()


def test_nothing_is_fetched_before_it_is_asked_for() -> None:
    fetched: list[int] = []
    fetch_ahead(range(10), fetched.append, 4)
    assert fetched == []
