"""Several calls in flight, replies in any order, several processes on one file: trust still never splits."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from _support.lying_log import LyingLog

from tlog.client import LogClient, RetryPolicy
from tlog.errors import (
    ConsistencyUnprovenError,
    CorruptionError,
    RemoteError,
    SplitViewError,
    VerificationError,
)
from tlog.policy import Policy
from tlog.receipt import verify_receipt

Connect = Callable[..., LogClient]


def entries(start: int, end: int) -> list[bytes]:
    return [b"entry %d" % number for number in range(start, end)]


class Gate:
    """Holds back the replies to appends until they are let go one by one, in any order."""

    def __init__(self, log: LyingLog) -> None:
        self._released: dict[bytes, threading.Event] = {}
        self._arrived: dict[bytes, threading.Event] = {}
        self._lock = threading.Lock()
        log.lies["Append"] = self._hold

    def _events(self, entry: bytes) -> tuple[threading.Event, threading.Event]:
        with self._lock:
            return (
                self._arrived.setdefault(entry, threading.Event()),
                self._released.setdefault(entry, threading.Event()),
            )

    def _hold(self, reply: Any, request: Any) -> None:
        arrived, released = self._events(request.entries[0])
        arrived.set()
        assert released.wait(30)

    def wait_for(self, entry: bytes) -> None:
        assert self._events(entry)[0].wait(30)

    def release(self, entry: bytes) -> None:
        self._events(entry)[1].set()


def test_replies_out_of_order_are_proven_against_each_other(
    connect: Connect, log: LyingLog, state_file: Path
) -> None:
    log.add(*entries(0, 3))
    client = connect()
    client.checkpoint()
    gate = Gate(log)
    with ThreadPoolExecutor(3) as pool:
        futures = []
        for entry in (b"first", b"second", b"third"):
            futures.append(pool.submit(client.append, [entry]))
            gate.wait_for(entry)
        for entry, future in zip(
            (b"third", b"first", b"second"), (futures[2], futures[0], futures[1]), strict=True
        ):
            gate.release(entry)
            future.result(30)
    # All three asked with size 3. The third came first; the other two are older, and need a bridge each.
    asked = [(r.first_tree_size, r.second_tree_size) for r in log.calls_of("GetConsistencyProof")]
    assert asked == [(4, 6), (5, 6)]
    assert state_file.read_bytes() == log.note(6)


def test_replies_in_order_are_bridged_forward(connect: Connect, log: LyingLog, state_file: Path) -> None:
    log.add(*entries(0, 3))
    client = connect()
    client.checkpoint()
    gate = Gate(log)
    with ThreadPoolExecutor(2) as pool:
        futures = []
        for entry in (b"first", b"second"):
            futures.append(pool.submit(client.append, [entry]))
            gate.wait_for(entry)
        for entry, future in zip((b"first", b"second"), futures, strict=True):
            gate.release(entry)
            future.result(30)
    asked = [(r.first_tree_size, r.second_tree_size) for r in log.calls_of("GetConsistencyProof")]
    assert asked == [(4, 5)]
    assert state_file.read_bytes() == log.note(5)


def _split_between_two_calls(client: LogClient, log: LyingLog) -> tuple[list[Exception | None], list[bytes]]:
    """Answer two appends, both asked with size 3, from two trees that agree on the first three entries."""
    gate = Gate(log)
    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(client.append, [b"one", b"same size"])
        gate.wait_for(b"one")
        notes = [log.note(log.size)]
        log.fork_to([*entries(0, 3)])
        two = pool.submit(client.append, [b"two", b"another history"])
        gate.wait_for(b"two")
        notes.append(log.note(log.size))
        gate.release(b"one")
        outcomes = [one.exception(30)]
        gate.release(b"two")
        outcomes.append(two.exception(30))
    return [error if isinstance(error, Exception) else None for error in outcomes], notes


def test_two_checkpoints_consistent_with_an_older_one_are_not_thereby_consistent(
    connect: Connect, log: LyingLog, state_file: Path
) -> None:
    log.add(*entries(0, 3))
    client = connect()
    client.checkpoint()
    (first, second), notes = _split_between_two_calls(client, log)
    assert first is None
    assert isinstance(second, SplitViewError)
    assert second.checkpoints == tuple(notes)
    assert state_file.read_bytes() == notes[0]


def test_a_split_over_different_sizes_cannot_be_bridged(
    connect: Connect, log: LyingLog, state_file: Path
) -> None:
    log.add(*entries(0, 3))
    client = connect()
    client.checkpoint()
    gate = Gate(log)
    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(client.append, [b"one"])
        gate.wait_for(b"one")
        first_note = log.note(4)
        log.fork_to(entries(0, 3))
        two = pool.submit(client.append, [b"two", b"and more"])
        gate.wait_for(b"two")
        gate.release(b"one")
        one.result(30)
        gate.release(b"two")
        # No path is to be had, and none is needed: entry 3 is "one", and "two" as well.
        with pytest.raises(SplitViewError, match="entry 3") as caught:
            two.result(30)
    assert caught.value.checkpoints == (first_note, log.note(5))
    assert state_file.read_bytes() == first_note


@pytest.mark.parametrize(
    "escape",
    [
        None,  # it denies the size
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.UNAVAILABLE,
    ],
)
def test_a_log_that_gets_out_of_proving_two_of_its_checkpoints_raises_the_alarm(
    connect: Connect, log: LyingLog, state_file: Path, escape: grpc.StatusCode | None
) -> None:
    log.add(*entries(0, 3))
    client = connect(retry=RetryPolicy(deadline_s=0.2, first_delay_s=0.001))
    client.checkpoint()
    gate = Gate(log)
    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(client.append, [b"one"])
        gate.wait_for(b"one")
        two = pool.submit(client.append, [b"two"])
        gate.wait_for(b"two")
        notes = (log.note(5), log.note(4))
        gate.release(b"two")
        two.result(30)
        if escape is None:
            log.fork_to(entries(0, 3))
        else:
            log.fail_next("GetConsistencyProof", escape, times=1_000)
        gate.release(b"one")
        with pytest.raises(ConsistencyUnprovenError, match="does not prove") as caught:
            one.result(30)
    assert caught.value.checkpoints == notes
    assert state_file.read_bytes() == notes[0]


def test_a_client_that_is_closed_while_it_asks_raises_no_alarm(client: LogClient, log: LyingLog) -> None:
    log.add(*entries(0, 5))
    client.checkpoint()
    receipt = log.receipt(2, 3)
    log.lies["GetReceipts"] = lambda reply, request: setattr(reply.results[0], "receipt", receipt)
    log.lies["GetConsistencyProof"] = lambda reply, request: client.close()
    with pytest.raises(RemoteError, match="is closed"):
        client.receipts([b"entry 2"], leaf_indices=[2])


def test_many_threads_append_through_one_client(
    client: LogClient, log: LyingLog, policy: Policy, state_file: Path
) -> None:
    def work(worker: int) -> None:
        for number in range(12):
            entry = b"worker %d, entry %d" % (worker, number)
            (appended,) = client.append([entry])
            verify_receipt(entry, appended.receipt, policy)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    assert log.size == 72
    assert state_file.read_bytes() == log.note(72)
    assert client.trusted is not None
    assert client.trusted.tree_size == 72


def test_two_clients_on_one_file_take_over_from_each_other(
    connect: Connect, log: LyingLog, state_file: Path
) -> None:
    one, two = connect(), connect()
    for number in range(6):
        client = (one, two)[number % 2]
        client.append([b"entry %d" % number])
        assert state_file.read_bytes() == log.note(number + 1)
        assert client.trusted is not None
        assert client.trusted.tree_size == number + 1
    # What only the other one saw is defended as well.
    log.fork_to([*entries(0, 4), b"forged", b"history"])
    with pytest.raises(VerificationError):
        one.append([b"more"])
    assert state_file.read_bytes() == two.trusted.note  # type: ignore[union-attr]


def test_many_threads_with_clients_of_their_own_share_one_file(
    connect: Connect, log: LyingLog, state_file: Path
) -> None:
    clients = [connect() for _ in range(4)]

    def work(client: LogClient) -> None:
        for number in range(8):
            client.append([b"%d %d" % (id(client), number)])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, clients))
    assert state_file.read_bytes() == log.note(32)


def test_a_file_that_goes_back_under_a_running_client_stops_it(
    connect: Connect, log: LyingLog, state_file: Path
) -> None:
    client = connect()
    client.append(entries(0, 3))
    client.append(entries(3, 6))
    state_file.write_bytes(log.note(3))
    with pytest.raises(CorruptionError, match="held 6 before"):
        client.append([b"more"])
    assert state_file.read_bytes() == log.note(3)
    # A file that was removed is written again: what is in memory was verified.
    state_file.unlink()
    client.append([b"more"])
    assert state_file.read_bytes() == log.note(7)
