"""One process's gRPC server: transport limits, health, reflection, and how it ends."""

from __future__ import annotations

import asyncio

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection

from server.answers import CallLimit, Counted
from server.config import GrpcSection
from server.health_service import HEALTH_SERVICE, HealthService
from server.registration import register
from server.unknown_methods import UnknownMethods
from tlog.errors import ConfigError
from tlog.grpc_tls import server_credentials
from tlog.tls import ServerTls
from tlog.v1 import gossip_pb2, log_pb2

LOG_SERVICE: ServiceDescriptor = log_pb2.DESCRIPTOR.services_by_name["LogService"]
GOSSIP_SERVICE: ServiceDescriptor = gossip_pb2.DESCRIPTOR.services_by_name["GossipService"]
READS_HEALTH = f"{LOG_SERVICE.full_name}/reads"
"""What to ask health for to hear whether calls are answered at all, also where no entry is taken."""

# Above the 4 MiB that an Append may hold, so that our own error answers, not the transport's.
MAX_RECEIVE_BYTES = 5 * 2**20
GRPC_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_RECEIVE_BYTES),
    ("grpc.max_send_message_length", 16 * 2**20),
    ("grpc.max_metadata_size", 16 * 2**10),
    # Only "identity": grpc unpacks a compressed message before it looks at its size.
    ("grpc.compression_enabled_algorithms_bitset", 1),
    ("grpc.max_concurrent_streams", 512),  # of one connection
    # A client that vanished without a word is noticed, and its streams end.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.server_handshake_timeout_ms", 15_000),
)

HANGING_UP_S = 0.25
"""How long connections get, once a stop has begun and no call is under way: for the last answers to leave,
and for clients to hear of the end. (Not by callbacks on calls that are done: with one on every call, grpc.aio
refuses other calls under load.)"""


class GrpcServer:
    """Serves what was added; belongs to the event loop that made it."""

    def __init__(self, config: GrpcSection, *, shares_port: bool, tls: ServerTls | None) -> None:
        """Make a server; with `shares_port` other processes may listen on the same port.

        Without `tls` it is plaintext.
        """
        # grpc shares a port by default: a second server would silently take half of the calls.
        options = (
            ("grpc.so_reuseport", int(shares_port)),
            ("grpc.max_allowed_incoming_connections", config.max_connections),
            ("grpc.max_connection_idle_ms", int(config.idle_timeout_s * 1e3)),
            *GRPC_OPTIONS,
        )
        self._server = grpc.aio.server(options=options)
        self._stop_timeout_s = config.stop_timeout_s
        self._tls = tls
        self._reflected = config.reflection
        self._names: list[str] = []
        self._limits: list[CallLimit] = []
        self._healths: HealthService | None = None
        self._unknown: UnknownMethods | None = None
        self._is_open = False
        self._is_ready = False

    def add(self, descriptor: ServiceDescriptor, service: Counted) -> None:
        """Add a service, before `listen`; health is charged to callers as the first one is."""
        register(self._server, descriptor, service)
        self._limits += [service.calls, service.streams]
        if self._healths is None:
            self._unknown = UnknownMethods(service)
            self._healths = HealthService(service)
            register(self._server, HEALTH_SERVICE, self._healths)
        self._names.append(descriptor.full_name)

    async def listen(self, address: str, port: int) -> int:
        """Bind an address, and return its port. Raises ConfigError when somebody else listens there."""
        if self._reflected:
            names = (*self._names, HEALTH_SERVICE.full_name, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, self._server)
        if self._unknown is not None:
            self._server.add_generic_rpc_handlers((self._unknown,))  # the last: others are asked first
        try:
            if self._tls is None:
                return self._server.add_insecure_port(format_address(address, port))
            return self._server.add_secure_port(format_address(address, port), server_credentials(self._tls))
        except RuntimeError as error:
            raise taken_address_error(address, port) from error

    async def open(self) -> None:
        """Answer calls."""
        await self._server.start()
        self._is_open = True
        self._say(READS_HEALTH, health_pb2.HealthCheckResponse.SERVING)
        await self.show_ready(self._is_ready)

    async def show_ready(self, is_ready: bool) -> None:
        """Let health say whether entries are taken, and what is published is fresh."""
        self._is_ready = is_ready
        if not self._is_open:
            return
        answer = health_pb2.HealthCheckResponse
        status = answer.SERVING if is_ready else answer.NOT_SERVING
        for name in ("", LOG_SERVICE.full_name):
            self._say(name, status)

    async def stop_taking(self) -> None:
        """Let health say NOT_SERVING, for good; calls are still answered."""
        if self._healths is not None:
            self._healths.end()

    async def close(self) -> None:
        """Take no new calls, and end when those under way have, or when their time is over."""
        if not self._is_open:
            return
        stopping = asyncio.create_task(self._server.stop(self._stop_timeout_s))
        # grpc waits for its connections to end. Clients that have something to do hang up at once when they
        # are told; an idle one looks at its connection only every five seconds.
        answering = asyncio.create_task(self._all_answered())
        await asyncio.wait([stopping, answering], return_when=asyncio.FIRST_COMPLETED)
        answering.cancel()
        await self._server.stop(None)
        await stopping

    def _say(self, name: str, status: int) -> None:
        if self._healths is not None:
            self._healths.say(name, status)

    async def _all_answered(self) -> None:
        """Wait until no call is under way, and until the last answers and the end have been heard."""
        for limit in self._limits:
            await limit.none_under_way()
        await asyncio.sleep(HANGING_UP_S)


def taken_address_error(address: str, port: int) -> ConfigError:
    """Make the error that says that gRPC cannot listen there."""
    return ConfigError(
        f"gRPC cannot listen on {format_address(address, port)}: is another server running there? "
        "Stop it, or set [grpc] port to a free one (0: let the system choose)"
    )


def format_address(host: str, port: int) -> str:
    """Format a host and port; an IPv6 address gets its brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
