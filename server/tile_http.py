"""The log's tiles over HTTP, in the server's own event loop (`tlog.tile_application` answers).

No connection can be kept busy by a client that is slow on purpose: a request head, an idle connection and the
response each have their time, and there is a most of connections.
"""

from __future__ import annotations

import ssl
from concurrent.futures import Executor

from aiohttp import web

from server.http_call_log import HttpCallLog
from server.metrics import Metrics
from server.reading_access import ReadingAccess
from tlog.errors import ConfigError
from tlog.http_listener import HttpLimits, HttpListener
from tlog.log import Log
from tlog.tile_application import TileAnswer, tile_application
from tlog.tile_source.log_view import LogTileSource

MAX_CONNECTIONS = 512
IDLE_TIMEOUT_S = 15.0
"""How long a connection may take for its next whole request head."""


class TileServer:
    """Serves one log's tiles; belongs to the event loop that starts it."""

    def __init__(
        self,
        log: Log,
        metrics: Metrics,
        access: ReadingAccess,
        *,
        reading: Executor,
        stop_timeout_s: float,
        call_log: HttpCallLog | None = None,
    ) -> None:
        """Serve a log to whom `access` lets, reading its store in `reading`.

        A stop waits so long for responses under way.
        """

        def count(answer: TileAnswer, request: web.Request) -> None:
            metrics.tile_request(
                answer.kind, answer.code, seconds=answer.seconds, body_bytes=answer.body_bytes
            )
            if call_log is not None:
                call_log.ended(request, answer.kind, answer.code, answer.seconds)

        source = LogTileSource(name=log.origin, open_view=log.view)

        def require_reader(certificate: bytes | None) -> None:
            with log.view() as view:
                access.require(view, access.uris_of_certificate(certificate))

        self._application = tile_application(
            source, reading, count, None if access.is_public else require_reader
        )
        self._stop_timeout_s = stop_timeout_s
        self._listener: HttpListener | None = None

    async def start(self, address: str, port: int, tls: ssl.SSLContext | None = None) -> int:
        """Listen, in plaintext without `tls`; returns the port. Raises ConfigError when it is taken."""
        limits = HttpLimits(
            max_connections=MAX_CONNECTIONS,
            idle_timeout_s=IDLE_TIMEOUT_S,
            stop_timeout_s=self._stop_timeout_s,
        )
        try:
            self._listener = await HttpListener.start(self._application, address, port, limits, tls=tls)
        except ConfigError as error:
            raise ConfigError(f"the tiles cannot be served: {error} (the table [tiles])") from error
        return self._listener.port

    async def stop(self) -> None:
        """Stop listening, let responses under way end, and close every connection."""
        if self._listener is not None:
            await self._listener.stop()
