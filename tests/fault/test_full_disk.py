"""A real filesystem that fills up: appends end before it does, reading goes on, and room mends it."""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from _support.alliance import Alliance
from _support.log_directory import COSIGNED_CONFIG, make_log_directory, serving
from _support.real_server import RealServer
from _support.small_disk import mounted
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tlog.client import LogClient, RetryPolicy
from tlog.errors import RemoteError, TlogError
from tlog.policy import build_policy

ALLIANCE = Alliance()
DISK_BYTES = 24 * 2**20
FLOOR_BYTES = 12 * 2**20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a filesystem of 24 MiB."""
    with mounted(tmp_path / "disk", size_bytes=DISK_BYTES) as disk:
        yield disk


def ready(server: RealServer) -> tuple[int, dict[str, str]]:
    """Return what /readyz says: its status, and every reason by check."""
    url = server.metrics_url.replace("/metrics", "/readyz")
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            status, body = response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            status, body = error.code, error.read()
    checks = json.loads(body)["checks"]
    return status, {check["check"]: check["reason"] for check in checks if not check["ok"]}


def health(server: RealServer, name: str) -> int:
    with grpc.insecure_channel(server.grpc_address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)  # type: ignore[no-untyped-call]
        return int(stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=5).status)


def wait_until(is_so: Callable[[], bool], timeout_s: float = 15.0) -> None:
    end_s = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < end_s, "it did not come to be"
        time.sleep(0.05)


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.nightly)])
def test_appends_end_at_the_floor_reading_goes_on_and_room_mends_it(small_disk: Path, workers: int) -> None:
    serving_status = health_pb2.HealthCheckResponse
    config = COSIGNED_CONFIG + (
        f"[server]\nworkers = {workers}\n[store]\nmap_size_bytes = 1048576\nmin_free_bytes = {FLOOR_BYTES}\n"
    )
    directory = small_disk / "log"
    policy = build_policy([ALLIANCE.signer.vkey])
    little_patience = RetryPolicy(deadline_s=3.0)
    with (
        serving(make_log_directory(directory, ALLIANCE, config=config)) as server,
        LogClient(server.grpc_address, policy, checkpoint_file=None, retry=little_patience) as client,
    ):
        wait_until(lambda: ready(server)[0] == 200)
        client.append(ALLIANCE.entries(0, 100))
        ballast = small_disk / "ballast"
        free = os.statvfs(small_disk)
        ballast.write_bytes(bytes(free.f_bavail * free.f_frsize - FLOOR_BYTES - 2**19))
        size = client.checkpoint().tree_size
        with pytest.raises(TlogError, match="make room"):
            client.append(ALLIANCE.entries(100, 110))
        # What is there already is answered for, what is asked for is shown, and it is still cosigned anew.
        assert client.checkpoint().tree_size == size
        assert len(list(client.entries(0, size))) == size
        wait_until(lambda: ready(server)[0] == 503)
        assert "make room" in ready(server)[1]["disk"]
        wait_until(lambda: health(server, "tlog.v1.LogService") == serving_status.NOT_SERVING)
        assert health(server, "tlog.v1.LogService/reads") == serving_status.SERVING
        with urllib.request.urlopen(server.metrics_url, timeout=10) as response:
            page = response.read().decode()
        assert "tlog_disk_horizon_seconds 0.0" in page
        assert "tlog_ready 0.0" in page
        ballast.unlink()
        wait_until(lambda: health(server, "tlog.v1.LogService") == serving_status.SERVING)
        client.append(ALLIANCE.entries(100, 110))
        assert client.checkpoint().tree_size == size + 10


def test_a_disk_that_is_full_without_a_floor_loses_nothing_and_says_so(small_disk: Path) -> None:
    config = COSIGNED_CONFIG + "[store]\nmap_size_bytes = 1048576\nmin_free_bytes = 0\n"
    little_patience = RetryPolicy(deadline_s=3.0)
    policy = build_policy([ALLIANCE.signer.vkey])
    with (
        serving(make_log_directory(small_disk / "log", ALLIANCE, config=config)) as server,
        LogClient(server.grpc_address, policy, checkpoint_file=None, retry=little_patience) as client,
    ):
        client.append(ALLIANCE.entries(0, 100))
        size = client.checkpoint().tree_size
        ballast = small_disk / "ballast"
        try:
            with ballast.open("wb") as file:
                while True:
                    file.write(bytes(2**16))
        except OSError:
            pass
        with pytest.raises(RemoteError):
            for number in range(100, 2_000, 100):
                client.append(ALLIANCE.entries(number, number + 100))
                size += 100
        assert client.checkpoint().tree_size == size
        status, reasons = ready(server)
        assert (status, reasons.keys()) == (503, {"store"})
        ballast.unlink()
        client.append(ALLIANCE.entries(2_000, 2_010))
        assert client.checkpoint().tree_size == size + 10
        wait_until(lambda: ready(server)[0] == 200)
