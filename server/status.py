"""One table from exceptions to gRPC status, and the rich details that go with them.

docs/errors.md shows the same table to users; a test holds the two together. INTERNAL always means a bug.
"""

from __future__ import annotations

from collections.abc import Mapping

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from tlog.errors import (
    AccessError,
    BatchRefusedError,
    CorruptionError,
    MalformedError,
    NotCheckedError,
    NotFoundError,
    OutOfRangeError,
    PushbackError,
    QuotaError,
    ReadOnlyError,
    RefusalReason,
    RefusedError,
    SignerAwayError,
    SignerRefusedError,
    StateUnknownError,
    StorageError,
    StoreFullError,
)
from tlog.v1 import log_pb2

# gRPC metadata is limited to 8 KiB by default on the receiving side, and details travel as base64: refusals
# are told in full while they fit here, then by position and reason only. 1,000 positions and reasons take
# 3 KB, so that every bad entry of the largest batch is always named.
MAX_FULL_REFUSAL_BYTES = 1_500
MAX_MESSAGE_CHARACTERS = 300
DETAILS_KEY = "grpc-status-details-bin"

STATUS_OF: Mapping[type[Exception], grpc.StatusCode] = {
    MalformedError: grpc.StatusCode.INVALID_ARGUMENT,
    OutOfRangeError: grpc.StatusCode.OUT_OF_RANGE,
    NotFoundError: grpc.StatusCode.NOT_FOUND,
    AccessError: grpc.StatusCode.PERMISSION_DENIED,
    PushbackError: grpc.StatusCode.UNAVAILABLE,
    QuotaError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    CorruptionError: grpc.StatusCode.DATA_LOSS,
    StateUnknownError: grpc.StatusCode.UNAVAILABLE,
    ReadOnlyError: grpc.StatusCode.FAILED_PRECONDITION,
    NotCheckedError: grpc.StatusCode.UNAVAILABLE,
    SignerAwayError: grpc.StatusCode.UNAVAILABLE,
    SignerRefusedError: grpc.StatusCode.FAILED_PRECONDITION,
    StoreFullError: grpc.StatusCode.UNAVAILABLE,
    StorageError: grpc.StatusCode.UNAVAILABLE,
}
"""The most specific class of an exception decides."""

_PERMISSION = grpc.StatusCode.PERMISSION_DENIED
_INVALID = grpc.StatusCode.INVALID_ARGUMENT
STATUS_OF_REFUSAL: Mapping[RefusalReason, grpc.StatusCode] = {
    RefusalReason.MALFORMED_ENVELOPE: _INVALID,
    RefusalReason.MALFORMED_EVENT: _INVALID,
    RefusalReason.TOO_LARGE: _INVALID,
    RefusalReason.WRONG_ORIGIN: _INVALID,
    RefusalReason.BAD_SIGNATURE: _INVALID,
    RefusalReason.WRONG_SIGNATURE_COUNT: _INVALID,
    RefusalReason.UNKNOWN_KEY: _PERMISSION,
    RefusalReason.REVOKED_KEY: _PERMISSION,
    RefusalReason.KEY_OF_ANOTHER_MEMBER: _PERMISSION,
    RefusalReason.UNKNOWN_SOURCE: _PERMISSION,
    RefusalReason.MEMBER_NOT_ACTIVE: _PERMISSION,
    RefusalReason.TYPE_NOT_ALLOWED: _PERMISSION,
    RefusalReason.GOVERNANCE_REFUSED: _PERMISSION,
    RefusalReason.SOURCE_ID_CONFLICT: grpc.StatusCode.ALREADY_EXISTS,
    RefusalReason.LOG_FROZEN: grpc.StatusCode.FAILED_PRECONDITION,
}
"""A batch takes the status of its first bad entry."""


def status_code(error: Exception) -> grpc.StatusCode:
    """Look up the gRPC status of an exception; INTERNAL for everything that the table does not hold."""
    if isinstance(error, BatchRefusedError):
        return STATUS_OF_REFUSAL[next(iter(error.refusals.values())).reason]
    for kind in type(error).__mro__:
        if kind in STATUS_OF:
            return STATUS_OF[kind]
    return grpc.StatusCode.INTERNAL


def status_message(error: Exception) -> str:
    """Return the text of a status; a bug's own text stays inside the server."""
    if status_code(error) is grpc.StatusCode.INTERNAL:
        return "internal error: this is a bug in the server; its log has the details"
    return str(error)


def status_details(error: Exception) -> bytes | None:
    """Encode the google.rpc.Status of a refusal or a pushback; None where the message says everything."""
    if isinstance(error, BatchRefusedError):
        detail = any_pb2.Any()
        detail.Pack(encode_refusals(error))
    elif isinstance(error, PushbackError):
        retry_delay = duration_pb2.Duration()
        retry_delay.FromNanoseconds(int(error.retry_after_s * 1e9))
        detail = any_pb2.Any()
        detail.Pack(error_details_pb2.RetryInfo(retry_delay=retry_delay))
    else:
        return None
    status = status_pb2.Status(
        code=status_code(error).value[0], message=status_message(error), details=[detail]
    )
    return bytes(status.SerializeToString())


def encode_refusals(error: BatchRefusedError) -> log_pb2.AppendRefusal:
    """Encode every bad position of a batch, the first ones with their full message."""
    refusal = log_pb2.AppendRefusal()
    for position, refused in error.refusals.items():
        entry = _encode_refusal(position, refused)
        if not refusal.other_positions and refusal.ByteSize() + entry.ByteSize() <= MAX_FULL_REFUSAL_BYTES:
            refusal.refusals.append(entry)
        else:
            refusal.other_positions.append(position)
            refusal.other_reasons.append(entry.reason)
    return refusal


def _encode_refusal(position: int, refused: RefusedError) -> log_pb2.EntryRefusal:
    return log_pb2.EntryRefusal(
        position=position,
        reason=f"REFUSAL_REASON_{refused.reason.name}",
        message=refused.message[:MAX_MESSAGE_CHARACTERS],
        existing_leaf_index=refused.existing_leaf_index,
    )
