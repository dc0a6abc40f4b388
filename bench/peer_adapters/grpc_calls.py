"""Calls of a peer that speaks gRPC, with requests and replies as bytes."""

from __future__ import annotations

from collections.abc import Sequence

import grpc

from bench.peer_adapters.adapter import PeerError

TIMEOUT_S = 60.0
_OPTIONS = [("grpc.max_receive_message_length", 16 * 2**20)]

CallMetadata = Sequence[tuple[str, str]]


class GrpcCalls:
    """Is a connection without TLS to one service; open it where an event loop runs."""

    def __init__(self, address: str, service: str) -> None:
        self._channel = grpc.aio.insecure_channel(address, options=_OPTIONS)
        self._service = service
        self._methods: dict[str, grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]] = {}

    async def call(self, method: str, request: bytes, metadata: CallMetadata = ()) -> bytes:
        """Call a method. Raises PeerError with the status that came instead of a reply."""
        if method not in self._methods:
            self._methods[method] = self._channel.unary_unary(f"/{self._service}/{method}")
        try:
            return await self._methods[method](request, metadata=tuple(metadata), timeout=TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise PeerError(f"{method}: {error.code().name}: {error.details()}") from error

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()
