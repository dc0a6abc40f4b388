"""Serve an aiohttp application to strangers: as many connections as were agreed, none that dawdles.

aiohttp closes a connection that does not complete the head of its next request in time (the first one too,
since 3.14.4), and bounds the size of a head. Added here: beyond a number of connections, of all or of one
host, new ones are turned away at once, nothing is decompressed on the application's behalf, and no name of a
host in a request line can end the handling of its connection, which would never be closed then. The time and
the size of a body are the application's to bound, for it reads the body.
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

    def __init__(self, runner: web.AppRunner, limits: HttpLimits) -> None:
        """Take over a runner that is set up; use `start`."""
        self._runner = runner
        self._limits = limits
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
        self = cls(runner, limits)
        try:
            self._listening = await asyncio.get_running_loop().create_server(
                self._accept,
                host,
                port,
                ssl=tls,
                ssl_handshake_timeout=None if tls is None else limits.idle_timeout_s,
                ssl_shutdown_timeout=None if tls is None else _GOODBYE_S,
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
        await self._runner.cleanup()

    def _accept(self) -> asyncio.Protocol:
        server = self._runner.server
        if server is None or len(server.connections) >= self._limits.max_connections:
            return _Busy()
        return _Door(server, self._limits.max_connections_of_host)


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
    """Looks who comes, and hands the connection on to aiohttp, unless that host has enough of them."""

    def __init__(self, server: web.Server, max_of_host: int) -> None:
        self._server = server
        self._max_of_host = max_of_host

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        host = _host(transport)
        others = (connection.transport for connection in self._server.connections)
        of_host = sum(other is not None and _host(other) == host for other in others)
        protocol = _Busy() if of_host >= self._max_of_host else self._server()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)


def _host(transport: asyncio.BaseTransport) -> str | None:
    address = transport.get_extra_info("peername")
    return host_of_address(str(address[0])) if address else None


class _Busy(asyncio.Protocol):
    """Answers a connection over the limit at once, and closes it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(_BUSY)
        transport.close()


async def _name_server(_: web.Request, response: web.StreamResponse) -> None:
    """Tell nobody the versions of Python and aiohttp."""
    response.headers["Server"] = "tlog"
