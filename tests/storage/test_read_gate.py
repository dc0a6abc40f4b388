from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tlog.errors import StorageError
from tlog.storage.read_gate import ReadGate


def test_a_reader_that_stays_open_is_told_to_whoever_waits_for_it() -> None:
    gate = ReadGate(timeout_s=0.05)
    opened, go_on = threading.Event(), threading.Event()

    def read() -> None:
        with gate.reading():
            opened.set()
            assert go_on.wait(timeout=30)

    def enter() -> None:
        with gate.exclusive():
            pass

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read)
        assert opened.wait(timeout=30)
        with pytest.raises(StorageError, match=r"still open after 0\.05 s"):
            enter()
        with gate.quiet(0.05) as alone:
            assert not alone
        go_on.set()
        reading.result(timeout=30)
    enter()  # the gate works on after it gave up
    with gate.reading():
        pass


def test_a_thread_does_not_wait_for_its_own_reader() -> None:
    gate = ReadGate(timeout_s=30)
    with gate.reading(), pytest.raises(StorageError, match="reader open"), gate.exclusive():
        pass


def test_new_readers_wait_while_the_gate_is_held_and_none_is_refused() -> None:
    gate = ReadGate()
    entered: list[int] = []

    def read(number: int) -> None:
        with gate.reading():
            entered.append(number)

    with ThreadPoolExecutor(8) as pool:
        with gate.exclusive():
            readers = [pool.submit(read, number) for number in range(8)]
            with pytest.raises(TimeoutError):
                readers[0].result(timeout=0.1)
            assert entered == []
        for reader in readers:
            reader.result(timeout=30)
    assert sorted(entered) == list(range(8))


def test_a_thread_with_a_reader_may_open_another_while_somebody_waits() -> None:
    gate = ReadGate()
    opened, waiting = threading.Event(), threading.Event()

    def read_twice() -> None:
        with gate.reading():
            opened.set()
            assert waiting.wait(timeout=30)
            # Were this one made to wait, it would wait for whoever waits for the first one.
            with gate.reading():
                pass

    def enter() -> None:
        with gate.exclusive():
            pass

    with ThreadPoolExecutor(2) as pool:
        reading = pool.submit(read_twice)
        assert opened.wait(timeout=30)
        entering = pool.submit(enter)
        with pytest.raises(TimeoutError):
            entering.result(timeout=0.1)
        waiting.set()
        reading.result(timeout=30)
        entering.result(timeout=30)


def test_only_one_thread_at_a_time_is_alone() -> None:
    gate = ReadGate()
    inside = 0
    most = 0

    def enter() -> None:
        nonlocal inside, most
        for _ in range(200):
            with gate.exclusive():
                inside += 1
                most = max(most, inside)
                inside -= 1
            with gate.reading():
                assert inside == 0

    with ThreadPoolExecutor(6) as pool:
        for future in [pool.submit(enter) for _ in range(6)]:
            future.result(timeout=60)
    assert most == 1
