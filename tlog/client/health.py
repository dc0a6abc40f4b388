"""Is a log's server there, and does it serve? Its own word only: nothing here can be verified."""

from __future__ import annotations

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tlog.errors import RemoteError
from tlog.grpc_tls import channel_credentials
from tlog.tls import ClientTls
from tlog.v1 import log_pb2, log_pb2_grpc

SERVICE_NAME = "tlog.v1.LogService"


def check_health(address: str, timeout_s: float, tls: ClientTls | None = None) -> str:
    """Ask grpc.health.v1 for the log's status, such as SERVING; without `tls` in plaintext.

    Raises RemoteError.
    """
    with _open_channel(address, tls) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            request = health_pb2.HealthCheckRequest(service=SERVICE_NAME)
            answer = stub.Check(request, timeout=timeout_s)  # type: ignore[attr-defined]
        except grpc.RpcError as error:
            raise RemoteError(
                f"{address} does not answer as a log does ({error.code().name}): is it running, is this its "
                "address (`tlog serve` prints it), and is it behind TLS (--tls-ca, and where it asks who "
                "calls --tls-cert and --tls-key), with a certificate for this name?"
            ) from error
    try:
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))
    except ValueError as error:
        raise RemoteError(
            f"{address} answered with health status {answer.status}, which grpc.health.v1 does not have: "
            "is this the log's address?"
        ) from error


def ask_frozen(address: str, timeout_s: float, tls: ClientTls | None = None) -> bool:
    """Ask a log whether it is frozen, and takes no new entry; its own word. Raises RemoteError."""
    with _open_channel(address, tls) as channel:
        stub = log_pb2_grpc.LogServiceStub(channel)  # type: ignore[no-untyped-call]
        try:
            answer = stub.GetCheckpoint(log_pb2.GetCheckpointRequest(), timeout=timeout_s)
        except grpc.RpcError as error:
            raise RemoteError(
                f"{address} does not tell whether it is frozen ({error.code().name}): is it running?"
            ) from error
    return bool(answer.frozen)


def _open_channel(address: str, tls: ClientTls | None) -> grpc.Channel:
    if tls is None:
        return grpc.insecure_channel(address)
    return grpc.secure_channel(address, channel_credentials(tls))
