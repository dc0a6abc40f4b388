"""From a failed gRPC call to this project's errors: the client's side of the table in docs/errors.md."""

from __future__ import annotations

from typing import TypeVar, cast

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from tlog.client.retry import CallFailed
from tlog.client.wire import decode_refusal, printable
from tlog.errors import (
    AccessError,
    MalformedError,
    NotFoundError,
    OutOfRangeError,
    PushbackError,
    QuotaError,
    RemoteError,
    TlogError,
)
from tlog.v1 import log_pb2

MAX_STATUS_CHARACTERS = 2000
"""How much of what a log says of a failed call is shown: a refusal with its way out has to be in it whole."""

M = TypeVar("M", bound=Message)

_RETRIED = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.ABORTED,
        # A server that stops cancels what it serves; calls that this side cancels do not come here.
        grpc.StatusCode.CANCELLED,
    }
)
_PLAIN: dict[grpc.StatusCode, type[TlogError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: MalformedError,
    grpc.StatusCode.OUT_OF_RANGE: OutOfRangeError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.PERMISSION_DENIED: AccessError,
}
_NEXT_STEP = {
    grpc.StatusCode.UNAVAILABLE: (
        "check that the log runs and listens there, and whether it is behind TLS (--tls-ca), with a "
        "certificate for this name"
    ),
    grpc.StatusCode.DEADLINE_EXCEEDED: "it is overloaded, or the deadline is too short",
    grpc.StatusCode.UNIMPLEMENTED: "what answers there is not a log of this version",
    grpc.StatusCode.INTERNAL: "this is a bug in the log; its operator has the details",
    grpc.StatusCode.DATA_LOSS: "the log's store is damaged; tell its operator",
}


def decode_call_error(error: grpc.RpcError, *, address: str, entries_sent: int | None = None) -> CallFailed:
    """Decode how a call failed, and whether it may be tried again.

    A refusal (only an append of `entries_sent` entries has one) becomes BatchRefusedError; a retry delay
    PushbackError; INVALID_ARGUMENT, OUT_OF_RANGE and NOT_FOUND their namesakes; PERMISSION_DENIED of a
    reader AccessError; all else RemoteError.
    """
    code, text = error.code(), printable(error.details() or "no reason given", MAX_STATUS_CHARACTERS)
    try:
        status = _rich_status(error)
        retry_info = None if status is None else _unpack(status, error_details_pb2.RetryInfo())
        refusal = None if status is None else _unpack(status, log_pb2.AppendRefusal())
        if refusal is not None and entries_sent is not None:
            return CallFailed(decode_refusal(refusal, entries_sent), retry=False)
    except RemoteError as unreadable:
        return CallFailed(unreadable, retry=False)
    if retry_info is not None and code in _RETRIED | {grpc.StatusCode.RESOURCE_EXHAUSTED}:
        # A negative delay is nonsense, and no reason to try sooner.
        retry_after_s = max(0.0, retry_info.retry_delay.ToNanoseconds() / 1e9)
        kind = QuotaError if code is grpc.StatusCode.RESOURCE_EXHAUSTED else PushbackError
        return CallFailed(
            kind(f"the log at {address} cannot take more now: {text}", retry_after_s=retry_after_s),
            retry=True,
            retry_after_s=retry_after_s,
        )
    if code in _PLAIN:
        return CallFailed(_PLAIN[code](f"the log at {address} answered: {text}"), retry=False)
    step = f"; {_NEXT_STEP[code]}" if code in _NEXT_STEP else ""
    return CallFailed(RemoteError(f"the log at {address}: {code.name}: {text}{step}"), retry=code in _RETRIED)


def _rich_status(error: grpc.RpcError) -> status_pb2.Status | None:
    try:
        # Every error that a call raises is that call itself; the type stubs do not say so.
        status: status_pb2.Status | None = rpc_status.from_call(cast("grpc.Call", error))
    except (ValueError, DecodeError) as problem:
        raise RemoteError(f"the log's error details cannot be read: {printable(str(problem))}") from problem
    return status


def _unpack(status: status_pb2.Status, message: M) -> M | None:
    for detail in status.details:
        try:
            if detail.Unpack(message):
                return message
        except DecodeError as problem:
            raise RemoteError(f"the log's error details cannot be read: {problem}") from problem
    return None
