"""What a server says of its health: a name that grpc.health.v1 has, or an error of the remote side."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tlog.client.health import check_health
from tlog.errors import RemoteError


class Health(health_pb2_grpc.HealthServicer):
    """Answers every question with one number."""

    def __init__(self, status: int) -> None:
        self.status = status

    def Check(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext
    ) -> health_pb2.HealthCheckResponse:
        return health_pb2.HealthCheckResponse(status=self.status)  # type: ignore[arg-type]


def ask(status: int) -> str:
    server = grpc.server(ThreadPoolExecutor(max_workers=1))
    health_pb2_grpc.add_HealthServicer_to_server(Health(status), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        return check_health(f"127.0.0.1:{port}", 5.0)
    finally:
        server.stop(None).wait()


@pytest.mark.parametrize(("status", "name"), [(1, "SERVING"), (2, "NOT_SERVING"), (0, "UNKNOWN")])
def test_a_status_is_told_by_its_name(status: int, name: str) -> None:
    assert ask(status) == name


@pytest.mark.parametrize("status", [4, 99, -1])
def test_a_status_that_has_no_name_breaks_the_protocol(status: int) -> None:
    with pytest.raises(RemoteError, match=f"health status {status}"):
        ask(status)
