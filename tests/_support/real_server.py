"""The real server as a process of its own, on ports that the system chooses.

`start(config_dir)` runs `python -m server` on a directory made by `tlog init`, and returns when it serves.
Whatever the test does, only the process that was started here is ever signalled.
"""

from __future__ import annotations

import json
import signal
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from _support.real_program import START_TIMEOUT_S, RealProgram, started

if TYPE_CHECKING:
    from tlog.tls import ClientTls


class RealServer:
    """Is one running server process."""

    def __init__(self, program: RealProgram) -> None:
        self._program = program
        self.announced = program.announced

    def __enter__(self) -> RealServer:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        return self._program.pid

    @property
    def grpc_address(self) -> str:
        return str(self.announced["grpc"])

    @property
    def metrics_url(self) -> str:
        return str(self.announced["metrics"])

    @property
    def tiles_url(self) -> str:
        return str(self.announced["tiles"])

    @property
    def errors(self) -> str:
        """Return what the server wrote to stderr so far."""
        return self._program.errors

    def wait_to_say(self, words: str, *, timeout_s: float = 30.0) -> None:
        """Wait until stderr has these words: what a call tells is written down before or after its answer."""
        self._program.wait_to_say(words, timeout_s=timeout_s)

    @property
    def is_running(self) -> bool:
        return self._program.is_running

    def stop(self, timeout_s: float = 20.0) -> int:
        """Ask for a graceful stop, and return the exit code."""
        return self._program.end(signal.SIGTERM, timeout_s=timeout_s)

    def kill(self) -> int:
        """End it at once, as a power cut would (kill -9); does nothing when it has ended."""
        return self._program.end(signal.SIGKILL)

    def wait(self, timeout_s: float = 20.0) -> int:
        """Wait until it ends by itself, and return the exit code."""
        return self._program.wait(timeout_s)


def start(
    config_dir: Path,
    *,
    grpc_port: int = 0,
    overrides: Mapping[str, Mapping[str, object]] | None = None,
    tls: ClientTls | None = None,
) -> RealServer:
    """Start the server on a directory made by `tlog init`; returns when calls are answered.

    The directory's `tlog.toml` holds, except for the ports, which the system chooses (`grpc_port` fixes one),
    and `overrides`, table by table; `tls` is how its health is asked for.
    Raises RuntimeError, with the server's own words, when it does not start.
    """
    config = tomllib.loads((config_dir / "tlog.toml").read_text(encoding="utf-8"))
    changes: dict[str, Mapping[str, object]] = {
        "grpc": {"port": grpc_port},
        "metrics": {"port": 0},
        "tiles": {"port": 0},
    }
    for tables in (changes, overrides or {}):
        for table, values in tables.items():
            config[table] = {**config.get(table, {}), **values}
    path = config_dir / "test-server.toml"
    path.write_text(_format_toml(config), encoding="utf-8")
    return start_with_config(path, tls=tls)


def start_with_config(
    path: Path, *, tls: ClientTls | None = None, program: Sequence[str] = ("server",)
) -> RealServer:
    """Start the server with a configuration file as it is; otherwise as `start`.

    `program` is the module to run, with what it is told before the server's own arguments.
    """
    server = RealServer(started(*program, "--config", path, "--json"))
    try:
        _await_health(server, tls)
    except Exception as error:
        server.kill()
        raise RuntimeError(f"the server did not start: {error}\n{server.errors}") from error
    except BaseException:
        server.kill()
        raise
    return server


@contextmanager
def running(config_dir: Path, **options: Any) -> Iterator[RealServer]:
    """Start the server for a block, and stop it gracefully after it."""
    server = start(config_dir, **options)
    try:
        yield server
        server.stop()
    finally:
        server.kill()


def _await_health(server: RealServer, tls: ClientTls | None) -> None:
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    from tlog.grpc_tls import channel_credentials

    end_s = time.monotonic() + START_TIMEOUT_S
    request = health_pb2.HealthCheckRequest(service="tlog.v1.LogService/reads")
    channel = (
        grpc.insecure_channel(server.grpc_address)
        if tls is None
        else grpc.secure_channel(server.grpc_address, channel_credentials(tls))
    )
    with channel:
        check = health_pb2_grpc.HealthStub(channel).Check  # type: ignore[attr-defined]
        while True:
            try:
                answer = check(request, timeout=2.0, wait_for_ready=True)
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return
            except grpc.RpcError as error:
                if time.monotonic() > end_s:
                    raise RuntimeError(f"health was not answered: {error}") from error
            if time.monotonic() > end_s or not server.is_running:
                raise RuntimeError("it does not say SERVING")
            time.sleep(0.02)


def _format_toml(config: Mapping[str, Mapping[str, object]]) -> str:
    """Write tables of strings, numbers and booleans, which TOML spells as JSON does."""
    lines: list[str] = []
    for table, values in config.items():
        lines.append(f"[{table}]")
        lines += [f"{name} = {json.dumps(value)}" for name, value in values.items()]
    return "\n".join(lines) + "\n"
