"""A stop lasts as long as the calls that are under way, and no longer."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from _support.alliance import Alliance
from _support.log_directory import CONFIG, make_log_directory, serving

from tlog.v1 import log_pb2, log_pb2_grpc

IDLE_CLIENT = """
import sys, time, grpc
from tlog.v1 import log_pb2, log_pb2_grpc
channel = grpc.insecure_channel(sys.argv[1])
log_pb2_grpc.LogServiceStub(channel).GetCheckpoint(log_pb2.GetCheckpointRequest())
print("connected", flush=True)
time.sleep(60)
"""


@contextmanager
def idle_client(address: str) -> Iterator[None]:
    """Keep the connection of another process open, which has nothing to do any more."""
    process = subprocess.Popen(
        [sys.executable, "-c", IDLE_CLIENT, address], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "connected\n"
        yield
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_client_that_only_holds_its_connection_does_not_hold_up_a_stop(
    tmp_path: Path, workers: int
) -> None:
    config = make_log_directory(
        tmp_path / "log", Alliance(), config=CONFIG + f"[server]\nworkers = {workers}\n"
    )
    taken_s: list[float] = []
    while not taken_s or taken_s[-1] >= 4.0:  # grpc's client looks at its connection every 5 s
        assert len(taken_s) < 3, taken_s  # a busy machine may hold it up as well, but not every time
        with serving(config) as server, idle_client(server.grpc_address):
            started = time.monotonic()
            assert server.stop() == 0
            taken_s.append(time.monotonic() - started)


@pytest.mark.parametrize("workers", [0, 1])
def test_calls_that_come_up_to_the_stop_are_answered_whole_or_turned_away(
    tmp_path: Path, workers: int
) -> None:
    alliance = Alliance()
    config = CONFIG + f"[server]\nworkers = {workers}\n"
    statuses: set[grpc.StatusCode] = set()
    answered: list[log_pb2.GetEntriesResponse] = []

    def ask(address: str) -> None:
        with grpc.insecure_channel(address) as channel:
            stub = log_pb2_grpc.LogServiceStub(channel)  # type: ignore[no-untyped-call]
            try:
                while True:
                    answered.extend(stub.GetEntries(log_pb2.GetEntriesRequest()))
            except grpc.RpcError as error:
                statuses.add(error.code())

    with serving(make_log_directory(tmp_path / "log", alliance, config=config)) as server:
        asking = [threading.Thread(target=ask, args=(server.grpc_address,)) for _ in range(3)]
        for thread in asking:
            thread.start()
        while len(answered) < 20:
            time.sleep(0.01)
        assert server.stop() == 0
        for thread in asking:
            thread.join(20)
    # CANCELLED is what grpc says of a call that came in after the stop began, and that nobody here saw.
    assert statuses <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
    assert {len(response.entries) for response in answered} == {len(alliance.governance)}
