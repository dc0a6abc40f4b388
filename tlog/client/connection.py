"""The gRPC channel to one log: typed methods, deadlines, retries. What the replies say is checked elsewhere.

Every call and every stream has a deadline, so that a log which hangs is noticed without pings.
"""

from __future__ import annotations

import threading
from typing import TypeVar

import grpc
from google.protobuf.message import Message

from tlog.client.call_errors import decode_call_error
from tlog.client.retry import CallFailed, RetryPolicy
from tlog.errors import RemoteError
from tlog.v1 import log_pb2

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)

_SERVICE = "/tlog.v1.LogService/"
CHANNEL_OPTIONS = (
    # Above the largest honest reply; a larger one fails the call before it is in memory whole.
    ("grpc.max_receive_message_length", 16 << 20),
    # The refusal of a batch of 1,000 entries travels in the trailing metadata.
    ("grpc.max_metadata_size", 64 << 10),
    # Pings run only under a call that stays silent this long; servers punish more frequent ones.
    ("grpc.keepalive_time_ms", 120_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # By default a channel to a log that restarts would wait up to two minutes before it looks again.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)


class ClientClosedError(RemoteError):
    """Says that this side closed the client: nothing is wrong with the log."""


class Connection:
    """Owns the channel to the log at `address`. Safe to use from many threads."""

    def __init__(
        self,
        address: str,
        *,
        credentials: grpc.ChannelCredentials | None,
        timeout_s: float,
        retry: RetryPolicy,
    ) -> None:
        self.address = address
        self.retry = retry
        self.timeout_s = timeout_s
        self._closed = threading.Event()
        self._channel = (
            grpc.insecure_channel(address, CHANNEL_OPTIONS)
            if credentials is None
            else grpc.secure_channel(address, credentials, CHANNEL_OPTIONS)
        )
        self.append = self._unary("Append", log_pb2.AppendRequest, log_pb2.AppendResponse)
        self.get_checkpoint = self._unary(
            "GetCheckpoint", log_pb2.GetCheckpointRequest, log_pb2.GetCheckpointResponse
        )
        self.get_inclusion_proofs = self._unary(
            "GetInclusionProofs", log_pb2.GetInclusionProofsRequest, log_pb2.GetInclusionProofsResponse
        )
        self.get_consistency_proof = self._unary(
            "GetConsistencyProof", log_pb2.GetConsistencyProofRequest, log_pb2.GetConsistencyProofResponse
        )
        self.get_receipts = self._unary(
            "GetReceipts", log_pb2.GetReceiptsRequest, log_pb2.GetReceiptsResponse
        )
        self.lookup = self._unary("Lookup", log_pb2.LookupRequest, log_pb2.LookupResponse)
        self.get_entries = self._stream("GetEntries", log_pb2.GetEntriesRequest, log_pb2.GetEntriesResponse)
        self.watch_checkpoints = self._stream(
            "WatchCheckpoints", log_pb2.WatchCheckpointsRequest, log_pb2.WatchCheckpointsResponse
        )

    @property
    def is_closed(self) -> bool:
        """Return whether `close` was called."""
        return self._closed.is_set()

    def close(self) -> None:
        """Close the channel; calls in flight end with RemoteError."""
        self._closed.set()
        self._channel.close()

    def call(
        self,
        method: grpc.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        *,
        entries_sent: int | None = None,
    ) -> Response:
        """Call a unary method until it answers, as the retry policy allows.

        Raises RemoteError, PushbackError, BatchRefusedError (`entries_sent` is for its positions),
        MalformedError, OutOfRangeError or NotFoundError.
        """

        def attempt(seconds_left: float) -> Response:
            self.require_open()
            try:
                return method(request, timeout=min(self.timeout_s, seconds_left))
            except grpc.RpcError as error:
                self.require_open()
                raise self.failure(error, entries_sent=entries_sent) from error
            except ValueError as error:  # what a channel says that another thread closed
                self.require_open()
                raise RemoteError(f"the call to {self.address} could not be made: {error}") from error

        return self.retry.run(attempt)

    def failure(self, error: grpc.RpcError, *, entries_sent: int | None = None) -> CallFailed:
        """Decode a failed call."""
        return decode_call_error(error, address=self.address, entries_sent=entries_sent)

    def require_open(self) -> None:
        """Raise ClientClosedError when the client was closed."""
        if self.is_closed:
            raise ClientClosedError(f"the client of {self.address} is closed: make a new one")

    def _unary(
        self, name: str, request: type[Request], response: type[Response]
    ) -> grpc.UnaryUnaryMultiCallable[Request, Response]:
        return self._channel.unary_unary(
            _SERVICE + name,
            request_serializer=request.SerializeToString,
            response_deserializer=response.FromString,
        )

    def _stream(
        self, name: str, request: type[Request], response: type[Response]
    ) -> grpc.UnaryStreamMultiCallable[Request, Response]:
        return self._channel.unary_stream(
            _SERVICE + name,
            request_serializer=request.SerializeToString,
            response_deserializer=response.FromString,
        )
