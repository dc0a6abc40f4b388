"""The real server, `tlog serve`, as a process of its own on a prefilled directory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bench.measure import CpuTime, cpu_time
from tlog.v1 import log_pb2

REPOSITORY = Path(__file__).resolve().parents[1]
START_TIMEOUT_S = 60.0

_SERVICE = log_pb2.DESCRIPTOR.services_by_name["LogService"].full_name


class Served:
    """Is one running server: where it listens, and what it and all its processes have used."""

    def __init__(
        self, process: subprocess.Popen[str], announced: Mapping[str, object], start_s: float
    ) -> None:
        self._process = process
        self.pid = process.pid
        self.address = str(announced["grpc"])
        self.metrics_url = str(announced["metrics"])
        self.tiles_url = str(announced["tiles"])
        self.start_s = start_s
        """How long it took from the start of the process until it said SERVING, seconds."""

    def cpu(self) -> CpuTime:
        """Return the CPU time of all its processes up to now."""
        return cpu_time(self.pid)


@contextmanager
def serving(
    directory: Path,
    overrides: Mapping[str, Mapping[str, object]] | None = None,
    *,
    credentials: grpc.ChannelCredentials | None = None,
) -> Iterator[Served]:
    """Serve a log's directory while the block runs; `overrides` change its configuration, table by table.

    With `credentials` it is asked over TLS whether it serves. Raises RuntimeError, with the server's own
    words, when it does not start or does not stop in order.
    """
    original = directory / "tlog.toml"
    config = tomllib.loads(original.read_text())
    for table, values in (overrides or {}).items():
        config[table] = {**config.get(table, {}), **values}
    original.write_text(format_toml(config))
    errors_path = directory / "server.stderr"
    with errors_path.open("w") as errors:
        started_s = monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "tlog", "serve", str(directory.absolute()), "--json"],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        try:
            announced = read_line(process, START_TIMEOUT_S)
            _await_health(str(announced["grpc"]), credentials)
            yield Served(process, announced, monotonic() - started_s)
            process.send_signal(signal.SIGTERM)
            code = process.wait(60)
        except BaseException as error:
            error.add_note(f"the server wrote: {errors_path.read_text(errors='replace')[-2_000:]}")
            raise
        finally:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
    if code:
        raise RuntimeError(
            f"the server stopped with {code}: {errors_path.read_text(errors='replace')[-2_000:]}"
        )


def read_line(process: subprocess.Popen[str], timeout_s: float) -> dict[str, object]:
    """Read one line of JSON from a process, which is ended when it says nothing for too long."""
    assert process.stdout is not None
    watchdog = threading.Timer(timeout_s, process.kill)
    # Where the run is ended just now, nobody cancels it, and it would keep the interpreter for all its time.
    watchdog.daemon = True
    watchdog.start()
    try:
        line = process.stdout.readline()
    finally:
        watchdog.cancel()
    if not line:
        raise RuntimeError(f"{process.args!r} ended, or said nothing for {timeout_s} s")
    return dict(json.loads(line))


def format_toml(config: Mapping[str, Mapping[str, object]]) -> str:
    """Write tables of strings, numbers and booleans, which TOML spells as JSON does."""
    lines: list[str] = []
    for table, values in config.items():
        lines.append(f"[{table}]")
        lines += [f"{name} = {json.dumps(value)}" for name, value in values.items()]
    return "\n".join(lines) + "\n"


def _await_health(address: str, credentials: grpc.ChannelCredentials | None) -> None:
    end_s = monotonic() + START_TIMEOUT_S
    request = health_pb2.HealthCheckRequest(service=_SERVICE)
    opened = (
        grpc.insecure_channel(address) if credentials is None else grpc.secure_channel(address, credentials)
    )
    with opened as channel:
        check = health_pb2_grpc.HealthStub(channel).Check  # type: ignore[attr-defined]
        while True:
            try:
                if check(request, timeout=5.0, wait_for_ready=True).status == 1:
                    return
            except grpc.RpcError:
                if monotonic() > end_s:
                    raise
            if monotonic() > end_s:
                raise RuntimeError("the server does not say SERVING")
            sleep(0.005)
