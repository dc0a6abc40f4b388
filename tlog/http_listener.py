"""Serve an aiohttp application to strangers: as many connections as were agreed, none that dawdles.

aiohttp closes a connection that does not complete the head of its next request in time (the first one too,
since 3.14.4), and bounds the size of a head. Added here: beyond a number of connections, of all or of one
host, new ones are turned away at once, before any TLS handshake, for who never ends that one has a connection
too; nothing is decompressed on the application's behalf, and no name of a host in a request line can end the
handling of its connection, which would never be closed then. The time and the size of a body are the
application's to bound, for it reads the body.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

from aiohttp import web
from aiohttp.http import HttpProcessingError, RawRequestMessage

from tlog.errors import ConfigError
from tlog.peer_host import host_of_address

_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 5\r\nConnection: close\r\n\r\n"
)

_GOODBYE_S = 2.0
"""How long the other side may take to agree that a TLS connection ends."""


_FEW_CONNECTIONS = 8
"""So many are nobody's too many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimits:
    """Bounds what connections may hold."""

    max_connections: int = 500
    """Of all hosts; of one host half as many, so that nobody takes all of them."""
    idle_timeout_s: float = 30.0
    """How long a connection may take until the head of its next request is complete."""
    stop_timeout_s: float = 10.0
    """How long `stop` waits for requests in flight."""

    @property
    def max_connections_of_host(self) -> int:
        """Return how many connections one host may have."""
        return min(self.max_connections, max(_FEW_CONNECTIONS, self.max_connections // 2))


class HttpListener:
    """Listens on one address for one application; belongs to the event loop that made it."""

    def __init__(self, runner: web.AppRunner, limits: HttpLimits, tls: ssl.SSLContext | None) -> None:
        """Take over a runner that is set up; use `start`."""
        self._runner = runner
        self._limits = limits
        self._tls = tls
        self._greeted: dict[asyncio.Transport, asyncio.Task[None]] = {}
        self._listening: asyncio.Server | None = None
        self.port = 0
        """The port that is listened on, which the system may have chosen."""

    @classmethod
    async def start(
        cls,
        application: web.Application,
        host: str,
        port: int,
        limits: HttpLimits | None = None,
        *,
        tls: ssl.SSLContext | None = None,
    ) -> Self:
        """Start to serve; port 0 lets the system choose, and without `tls` it is plaintext.

        Raises ConfigError when nothing can listen there.
        """
        limits = limits or HttpLimits()
        application.on_response_prepare.append(_name_server)
        runner = web.AppRunner(
            application,
            access_log=None,
            logger=_QuietLogger(logging.getLogger(__name__)),
            auto_decompress=False,
            keepalive_timeout=limits.idle_timeout_s,
            lingering_time=1.0,
            shutdown_timeout=limits.stop_timeout_s,
        )
        await runner.setup()
        assert runner.server is not None  # after `setup`
        runner.server.request_factory = _HostlessRequests(runner.server.request_factory)
        self = cls(runner, limits, tls)
        try:
            self._listening = await asyncio.get_running_loop().create_server(
                lambda: _Door(self._enter), host, port
            )
        except (OSError, OverflowError, UnicodeError) as error:
            await runner.cleanup()
            raise ConfigError(
                f"nothing can listen on {host}, port {port}: {error}; is another program there? "
                "Stop it, or choose a free port (0: let the system choose)"
            ) from error
        self.port = int(self._listening.sockets[0].getsockname()[1])
        return self

    async def stop(self) -> None:
        """Take no new connections, let the requests in flight end, then close all connections."""
        if self._listening is not None:
            self._listening.close()
        for transport, greeting in self._greeted.items():
            greeting.cancel()
            transport.abort()
        await self._runner.cleanup()

    def _enter(self, door: _Door, transport: asyncio.Transport) -> None:
        """Hand a new connection on to aiohttp, after its TLS handshake if there is one, or turn it away."""
        server = self._runner.server
        if server is None or not self._has_room(server, _host(transport)):
            if self._tls is None:
                transport.write(_BUSY)
            transport.close()
        elif self._tls is None:
            _hand_over(transport, server())
        else:
            transport.pause_reading()  # until `start_tls` reads: none of the handshake is for the door
            greeting = asyncio.get_running_loop().create_task(self._greet(door, transport, server, self._tls))
            self._greeted[transport] = greeting
            greeting.add_done_callback(lambda _: self._greeted.pop(transport))

    def _has_room(self, server: web.Server, host: str | None) -> bool:
        others = [connection.transport for connection in server.connections]
        hosts = [_host(other) for other in (*others, *self._greeted) if other is not None]
        return (
            len(hosts) < self._limits.max_connections
            and hosts.count(host) < self._limits.max_connections_of_host
        )

    async def _greet(
        self, door: _Door, transport: asyncio.Transport, server: web.Server, tls: ssl.SSLContext
    ) -> None:
        """Shake hands in the time that the head of a request has, then hand the connection on."""
        try:
            secured = await asyncio.get_running_loop().start_tls(
                transport,
                door,
                tls,
                server_side=True,
                ssl_handshake_timeout=self._limits.idle_timeout_s,
                ssl_shutdown_timeout=_GOODBYE_S,
            )
        except OSError:  # no TLS, no certificate that is believed, or too late
            transport.abort()
            return
        if secured is None or door.is_closed:
            transport.abort()
            return
        protocol = server()
        _hand_over(secured, protocol)
        for data in door.early:
            protocol.data_received(data)


class _HostlessRequests:
    """Makes requests; of a target whose host cannot be read only the path counts, as it does of any other."""

    def __init__(self, make: Callable[..., web.BaseRequest]) -> None:
        self._make = make

    def __call__(self, message: RawRequestMessage, *rest: Any) -> web.BaseRequest:  # noqa: ANN401 - aiohttp's
        try:
            return self._make(message, *rest)
        except ValueError:  # `GET http://xn--a/ HTTP/1.1`: it parses, but its host has no name
            return self._make(message._replace(url=message.url.relative()), *rest)


class _QuietLogger(logging.LoggerAdapter[logging.Logger]):
    """Logs bugs; broken HTTP only when debugging, for any stranger could fill the disk with it."""

    def log(self, level: int, msg: object, *args: object, **kwargs: object) -> None:
        """Log, but what a stranger's broken HTTP has caused only as a detail."""
        broken = isinstance(kwargs.get("exc_info"), HttpProcessingError)
        self.logger.log(logging.DEBUG if broken else level, msg, *args, **kwargs)  # type: ignore[arg-type]


class _Door(asyncio.Protocol):
    """Has a connection until aiohttp gets it, and keeps what comes meanwhile."""

    def __init__(self, enter: Callable[[_Door, asyncio.Transport], None]) -> None:
        self._enter = enter
        self.early: list[bytes] = []
        """What came between the end of the handshake and the handing over: a turn of the event loop."""
        self.is_closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._enter(self, transport)

    def data_received(self, data: bytes) -> None:
        self.early.append(data)

    def connection_lost(self, _: Exception | None) -> None:
        self.is_closed = True


def _hand_over(transport: asyncio.Transport, protocol: asyncio.Protocol) -> None:
    transport.set_protocol(protocol)
    protocol.connection_made(transport)


def _host(transport: asyncio.BaseTransport) -> str | None:
    address = transport.get_extra_info("peername")
    return host_of_address(str(address[0])) if address else None


async def _name_server(_: web.Request, response: web.StreamResponse) -> None:
    """Tell nobody the versions of Python and aiohttp."""
    response.headers["Server"] = "tlog"
