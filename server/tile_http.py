"""The log as static resources over HTTP (C2SP tlog-tiles): checkpoint, hash tiles, entry bundles.

Plain aiohttp in the server's own event loop; the store is read, and bundles are compressed, in threads. No
connection can be kept busy by a client that is slow on purpose: a request head, an idle connection and the
response each have their time, and there is a most of connections. What one connection holds is one response,
at most an entry bundle of the longest entries, 16 MiB; and what all of them hold together is bounded too.
"""

from __future__ import annotations

import asyncio
import gzip
import logging
from concurrent.futures import Executor
from dataclasses import dataclass, field
from time import perf_counter

from aiohttp import web

from server.metrics import Metrics
from tlog.errors import ConfigError, MalformedError, NotFoundError, StorageError
from tlog.http_listener import HttpLimits, HttpListener
from tlog.log import Log
from tlog.tile_source.base import CHECKPOINT_PATH
from tlog.tile_source.log_view import LogTileSource
from tlog.tiles import ENTRIES_LEVEL, TILE_WIDTH, parse_tile_path

MAX_CONNECTIONS = 512
IDLE_TIMEOUT_S = 15.0
"""How long a connection may take for its next whole request head."""
RESPONSE_TIMEOUT_S = 120.0
"""How long a client may take to receive one response."""
MAX_HELD_BYTES = 128 * 2**20
"""How much all responses that are being sent may hold; sending them takes about as much again."""
SMALL_BYTES = 2**16
"""What every connection may hold besides, so that checkpoints and hash tiles are always answered."""
GZIP_LEVEL = 4

# tlog-tiles: the checkpoint's "headers SHOULD prevent caching beyond a few seconds", those of tiles "SHOULD
# be long-lived". A partial never changes either, but nobody asks for it for long.
CHECKPOINT_CACHING = "max-age=2"
FULL_TILE_CACHING = "max-age=31536000, immutable"
PARTIAL_TILE_CACHING = "max-age=604800, immutable"
ERROR_CACHING = "no-store"

TEXT = "text/plain; charset=utf-8"
BINARY = "application/octet-stream"

_LOGGER = logging.getLogger("tlog.server")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Resource:
    """Holds one answer before it becomes an HTTP response."""

    kind: str
    status: int
    body: bytes
    content_type: str
    caching: str
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def error(
        cls, status: int, message: str, *, kind: str = "other", headers: dict[str, str] | None = None
    ) -> _Resource:
        return cls(
            kind=kind,
            status=status,
            body=f"{message}\n".encode(),
            content_type=TEXT,
            caching=ERROR_CACHING,
            headers=headers or {},
        )


class TileServer:
    """Serves one log's tiles; belongs to the event loop that starts it."""

    def __init__(self, log: Log, metrics: Metrics, *, reading: Executor, stop_timeout_s: float) -> None:
        """Serve a log, reading its store in `reading`; a stop waits so long for responses under way."""
        self._source = LogTileSource(name=log.origin, open_view=log.view)
        self._metrics = metrics
        self._reading = reading
        # One handler for every path and method, so that every answer is counted and timed in one place.
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._answer)
        self._application = application
        self._stop_timeout_s = stop_timeout_s
        self._listener: HttpListener | None = None
        self._held_bytes = 0

    async def start(self, address: str, port: int) -> int:
        """Listen; returns the port. Raises ConfigError when the address is taken."""
        limits = HttpLimits(
            max_connections=MAX_CONNECTIONS,
            idle_timeout_s=IDLE_TIMEOUT_S,
            stop_timeout_s=self._stop_timeout_s,
        )
        try:
            self._listener = await HttpListener.start(self._application, address, port, limits)
        except ConfigError as error:
            raise ConfigError(f"the tiles cannot be served: {error} (the table [tiles])") from error
        return self._listener.port

    async def stop(self) -> None:
        """Stop listening, let responses under way end, and close every connection."""
        if self._listener is not None:
            await self._listener.stop()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        started = perf_counter()
        resource = self._affordable(await self._resource(request))
        response = web.Response(
            status=resource.status,
            body=resource.body,
            headers={
                "Content-Type": resource.content_type,
                "Cache-Control": resource.caching,
                "X-Content-Type-Options": "nosniff",
                **resource.headers,
            },
        )
        self._held_bytes += len(resource.body)
        try:
            sent = await _send(request, response)
        finally:
            self._held_bytes -= len(resource.body)
        self._metrics.tile_request(
            resource.kind,
            str(resource.status) if sent else "aborted",
            seconds=perf_counter() - started,
            body_bytes=len(resource.body) if sent and request.method != "HEAD" else 0,
        )
        return response

    def _affordable(self, resource: _Resource) -> _Resource:
        """Return a resource, or what puts its reader off while slow ones hold too much."""
        size = len(resource.body)
        if size <= SMALL_BYTES or self._held_bytes + size <= MAX_HELD_BYTES:
            return resource
        return _Resource.error(
            503,
            "too many large responses are being sent: ask again in a few seconds",
            kind=resource.kind,
            headers={"Retry-After": "5"},
        )

    async def _resource(self, request: web.Request) -> _Resource:
        if request.method not in {"GET", "HEAD"}:
            return _Resource.error(
                405, f"{request.method} is not allowed here: GET or HEAD", headers={"Allow": "GET, HEAD"}
            )
        path = request.rel_url.raw_path.removeprefix("/")
        accepts = accepts_gzip(",".join(request.headers.getall("Accept-Encoding", [])))
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._reading, self._read, path, accepts)
        except NotFoundError as error:
            return _Resource.error(404, str(error), kind=_kind(path))
        except MalformedError:
            return _Resource.error(404, "this log has checkpoint, tile/<L>/<N>[.p/<W>] and tile/entries/…")
        except StorageError as error:
            return _Resource.error(503, str(error), kind=_kind(path), headers={"Retry-After": "5"})
        except Exception:
            _LOGGER.exception("a request for %r failed with a bug", path)
            return _Resource.error(500, "internal error: the server's log has the details", kind=_kind(path))

    def _read(self, path: str, gzip_accepted: bool) -> _Resource:
        """Read one resource from the store; runs in a thread."""
        if path == CHECKPOINT_PATH:
            return _Resource(
                kind="checkpoint",
                status=200,
                body=self._source.checkpoint(),
                content_type=TEXT,
                caching=CHECKPOINT_CACHING,
            )
        tile = parse_tile_path(path)
        body = self._source.tile(tile)
        headers = {}
        if tile.level == ENTRIES_LEVEL:
            # tlog-tiles: "Entry bundles SHOULD be compressed at the HTTP layer."
            headers["Vary"] = "Accept-Encoding"
            if gzip_accepted and len(packed := gzip.compress(body, GZIP_LEVEL, mtime=0)) < len(body):
                body = packed
                headers["Content-Encoding"] = "gzip"
        return _Resource(
            kind=_kind(path),
            status=200,
            body=body,
            content_type=BINARY,
            caching=FULL_TILE_CACHING if tile.width == TILE_WIDTH else PARTIAL_TILE_CACHING,
            headers=headers,
        )


def accepts_gzip(accept_encoding: str) -> bool:
    """Tell whether an Accept-Encoding header lets a response be gzip (RFC 9110 section 12.5.3)."""
    qualities: dict[str, float] = {}
    for item in accept_encoding.split(","):
        coding, *parameters = (part.strip().lower() for part in item.split(";"))
        quality = next((value[2:] for value in parameters if value.startswith("q=")), "1")
        try:
            qualities[coding] = float(quality)
        except ValueError:
            qualities[coding] = 0.0
    return qualities.get("gzip", qualities.get("*", 0.0)) > 0.0


async def _send(request: web.Request, response: web.Response) -> bool:
    """Send a whole response in its time; False when the client went away, or was too slow and is cut off."""
    transport = request.transport
    if transport is None:
        return False
    # Without a buffer of its own, all of the response is with the system when the write returns: a
    # connection that is closed later then closes at once, and does not wait for its client.
    transport.set_write_buffer_limits(high=0)
    try:
        async with asyncio.timeout(RESPONSE_TIMEOUT_S):
            await response.prepare(request)
            await response.write_eof()
    except TimeoutError:
        transport.abort()
        return False
    except ConnectionError:
        return False
    return True


def _kind(path: str) -> str:
    """Sort a path into the few kinds that metrics tell apart."""
    if path == CHECKPOINT_PATH:
        return "checkpoint"
    if path.startswith("tile/entries/"):
        return "entries"
    return "tile" if path.startswith("tile/") else "other"
