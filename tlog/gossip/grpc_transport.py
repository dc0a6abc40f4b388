"""Carries exchanges to peers over gRPC; a Transport. Every call has a deadline, every reply a limit."""

from __future__ import annotations

import grpc

from tlog.errors import PushbackError, RemoteError
from tlog.gossip.grpc_wire import decode_message, encode_message, parse_exchange
from tlog.gossip.message import MAX_MESSAGE_BYTES, GossipMessage
from tlog.v1 import gossip_pb2

MAX_WIRE_BYTES = MAX_MESSAGE_BYTES + 2**16
"""The largest message with what protobuf adds to its parts."""
METHOD = f"/{gossip_pb2.DESCRIPTOR.services_by_name['GossipService'].full_name}/Exchange"
_CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_WIRE_BYTES),
    ("grpc.max_send_message_length", MAX_WIRE_BYTES),
    ("grpc.max_metadata_size", 8 << 10),
    # Only "identity": grpc unpacks a compressed message before it looks at its size.
    ("grpc.compression_enabled_algorithms_bitset", 1),
    # The peer book decides when to try again; the channel should be ready by then.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)


class GrpcTransport:
    """Holds one channel for each address that was called; belongs to one event loop."""

    def __init__(self, *, timeout_s: float, credentials: grpc.ChannelCredentials | None = None) -> None:
        """Wait at most `timeout_s` for each answer; without credentials the channels are plaintext."""
        self._timeout_s = timeout_s
        self._credentials = credentials
        self._channels: dict[str, grpc.aio.Channel] = {}

    async def exchange(self, address: str, message: GossipMessage) -> GossipMessage:
        """Send what we hold and return what the peer holds.

        Raises RemoteError, PushbackError, and MalformedError for an answer that is none, or above any limit.
        """
        request = encode_message(message, gossip_pb2.ExchangeRequest())
        call: grpc.aio.UnaryUnaryMultiCallable[gossip_pb2.ExchangeRequest, bytes]
        call = self._channel(address).unary_unary(
            METHOD,
            request_serializer=gossip_pb2.ExchangeRequest.SerializeToString,
            # Read below: grpc would hand over None in place of what is no message.
            response_deserializer=None,
        )
        try:
            reply: bytes = await call(request, timeout=self._timeout_s)
        except grpc.aio.AioRpcError as error:
            said = ascii((error.details() or "no reason given")[:200])
            if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
                raise PushbackError(f"{address} takes no more now: {said}", retry_after_s=1.0) from error
            raise RemoteError(f"{address} did not exchange: {error.code().name}: {said}") from error
        except grpc.aio.UsageError as error:
            raise RemoteError(f"{address} was not asked: the transport is closed") from error
        return decode_message(parse_exchange(reply, gossip_pb2.ExchangeResponse()))

    async def close(self) -> None:
        """Close all channels; calls in flight end with RemoteError."""
        channels, self._channels = list(self._channels.values()), {}
        for channel in channels:
            await channel.close()

    def _channel(self, address: str) -> grpc.aio.Channel:
        channel = self._channels.get(address)
        if channel is None:
            channel = (
                grpc.aio.insecure_channel(address, _CHANNEL_OPTIONS)
                if self._credentials is None
                else grpc.aio.secure_channel(address, self._credentials, _CHANNEL_OPTIONS)
            )
            self._channels[address] = channel
        return channel
