"""Serves Exchange on a port: bounded in calls, in message size, and in what a connection may hold."""

from __future__ import annotations

import grpc

from tlog.errors import ConfigError
from tlog.gossip.grpc_service import ExchangeDesk, GossipServicer
from tlog.gossip.grpc_transport import MAX_WIRE_BYTES
from tlog.grpc_tls import server_credentials
from tlog.tls import ServerTls

_OPTIONS = (
    # grpc shares a port by default: a second node would silently take half of the calls.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", MAX_WIRE_BYTES),
    ("grpc.max_send_message_length", MAX_WIRE_BYTES),
    ("grpc.max_metadata_size", 8 << 10),
    # Only "identity": grpc unpacks a compressed message before it looks at its size.
    ("grpc.compression_enabled_algorithms_bitset", 1),
    ("grpc.max_concurrent_streams", 16),  # of one connection
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.max_connection_idle_ms", 120_000),
)


class GossipServer:
    """Listens for other nodes; belongs to one event loop."""

    def __init__(self, desk: ExchangeDesk, *, max_concurrent_calls: int) -> None:
        """Serve a desk; calls beyond `max_concurrent_calls` are turned away by grpc."""
        self._server = grpc.aio.server(options=_OPTIONS, maximum_concurrent_rpcs=max_concurrent_calls)
        GossipServicer(desk).add_to(self._server)

    async def start(self, host: str, port: int, tls: ServerTls | None = None) -> str:
        """Begin to listen; returns host:port, where port 0 let the system choose. Raises ConfigError.

        Without `tls` it is plaintext.
        """
        name = f"[{host}]" if ":" in host else host
        try:
            chosen = (
                self._server.add_insecure_port(f"{name}:{port}")
                if tls is None
                else self._server.add_secure_port(f"{name}:{port}", server_credentials(tls))
            )
        except RuntimeError as error:
            raise ConfigError(
                f"gossip cannot listen on {name}:{port}: is another node running there? Stop it, or set "
                "[gossip] port to a free one (0: let the system choose)"
            ) from error
        await self._server.start()
        return f"{name}:{chosen}"

    async def stop(self, grace_s: float) -> None:
        """Take no more calls, and wait so long for those under way."""
        await self._server.stop(grace_s)
