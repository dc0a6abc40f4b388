"""Members that append to a real server while something befalls it, and keep what they were answered."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import grpc
from _support.real_server import RealServer, start_with_config
from fault.promises import ALLIANCE, BrokenPromise, Promises

from tlog.v1 import log_pb2, log_pb2_grpc

WRITERS = 3
PROMISED = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.DATA_LOSS,
}
"""How a call may end that was not answered: any other status is a bug."""


@contextmanager
def calling(server: RealServer) -> Iterator[log_pb2_grpc.LogServiceStub]:
    with grpc.insecure_channel(server.grpc_address) as channel:
        yield log_pb2_grpc.LogServiceStub(channel)  # type: ignore[no-untyped-call]


def start_with(config: Path, **plan: object) -> RealServer | None:
    """Start the server with a plan for its disk and clock; None where that ended it before it served."""
    told = json.dumps({"directory": str(config.parent), **plan})
    try:
        return start_with_config(config, program=("tests.fault.served", told))
    except RuntimeError:
        return None


class Load:
    """Appends small batches from several threads until it is told to end, or the server is gone."""

    def __init__(self, server: RealServer, promises: Promises, numbers: count[int]) -> None:
        self._server = server
        self._promises = promises
        self._numbers = numbers
        self._ends = threading.Event()
        self.statuses: Counter[str] = Counter()
        self.broken: list[BaseException] = []
        self._threads = [threading.Thread(target=self._run) for _ in range(WRITERS)]
        for thread in self._threads:
            thread.start()

    def wait_for(self, more: int, timeout_s: float = 60.0) -> bool:
        """Wait until so many more entries were acknowledged; False where the server ended before."""
        wanted, end_s = len(self._promises.kept) + more, time.monotonic() + timeout_s
        while len(self._promises.kept) < wanted and not self.broken:
            if not self._server.is_running or time.monotonic() > end_s:
                return False
            time.sleep(0.005)
        return True

    def end(self) -> None:
        """Let the writers end, and raise what they met that must not be."""
        self._ends.set()
        for thread in self._threads:
            thread.join(40)
            assert not thread.is_alive()
        if self.broken:
            raise self.broken[0]

    def _run(self) -> None:
        try:
            with calling(self._server) as stub:
                self._append(stub)
        except (BrokenPromise, AssertionError, Exception) as error:  # noqa: BLE001 - told by `end`
            self.broken.append(error)

    def _append(self, stub: log_pb2_grpc.LogServiceStub) -> None:
        while not self._ends.is_set():
            entries = [ALLIANCE.entry(next(self._numbers)) for _ in range(5)]
            try:
                reply = stub.Append(log_pb2.AppendRequest(entries=entries), timeout=20)
            except grpc.RpcError as error:
                self.statuses[error.code().name] += 1
                assert error.code() in PROMISED, (error.code(), error.details())
                if not self._server.is_running:
                    return
                self._ends.wait(0.02)
                continue
            self._promises.take_reply(time.monotonic_ns(), entries, reply)
