"""The tiles of one source as an aiohttp application (C2SP tlog-tiles): checkpoint, hash tiles, entry bundles.

The source is read, and bundles are compressed, in threads. What one connection holds is one response, at most
an entry bundle of the longest entries, 16 MiB; what all of them hold together is bounded too, and so is the
time that a client may take to receive one. `tlog.http_listener` bounds the connections themselves.
"""

from __future__ import annotations

import asyncio
import gzip
import logging
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import TypeAlias

from aiohttp import web

from tlog.errors import AccessError, MalformedError, NotFoundError, StorageError
from tlog.tile_source.base import CHECKPOINT_PATH, TileSource
from tlog.tiles import ENTRIES_LEVEL, TILE_WIDTH, parse_tile_path

RESPONSE_TIMEOUT_S = 120.0
"""How long a client may take to receive one response."""
MAX_HELD_BYTES = 128 * 2**20
"""How much all responses that are being sent may hold; sending them takes about as much again."""
SMALL_BYTES = 2**16
"""What every connection may hold besides, so that checkpoints and hash tiles are always answered."""
READS_AT_ONCE = 2
"""How many threads are used at once: who else reads in them does not stand in line behind all requests."""
GZIP_LEVEL = 4

# tlog-tiles: the checkpoint's "headers SHOULD prevent caching beyond a few seconds", those of tiles "SHOULD
# be long-lived". A partial never changes either, but nobody asks for it for long.
CHECKPOINT_CACHING = "max-age=2"
FULL_TILE_CACHING = "max-age=31536000, immutable"
PARTIAL_TILE_CACHING = "max-age=604800, immutable"
ERROR_CACHING = "no-store"

TEXT = "text/plain; charset=utf-8"
BINARY = "application/octet-stream"

RequiresReader: TypeAlias = Callable[[bytes | None], None]
"""Requires that whoever showed this certificate (DER) may read; in a thread. Raises AccessError."""

_LOGGER = logging.getLogger(__name__)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class TileAnswer:
    """Says what became of one request: `kind` is checkpoint, tile, entries or other."""

    kind: str
    code: str
    """The status, or `aborted` where the client went away or was too slow."""
    seconds: float
    body_bytes: int
    """How much was sent."""


HearsOfAnswers: TypeAlias = Callable[[TileAnswer, web.Request], None]


def tile_application(
    source: TileSource,
    reading: Executor,
    on_answer: HearsOfAnswers = lambda *_: None,
    require_reader: RequiresReader | None = None,
) -> web.Application:
    """Make the application that serves a source, which any number of threads may read at once.

    `reading` runs what blocks; `on_answer` hears of every answer. Without `require_reader` everybody reads.
    """
    # One handler for every path and method, so that every answer is counted and timed in one place.
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", _Tiles(source, reading, on_answer, require_reader).answer)
    return application


class _Tiles:
    def __init__(
        self,
        source: TileSource,
        reading: Executor,
        on_answer: HearsOfAnswers,
        require_reader: RequiresReader | None,
    ) -> None:
        self._source = source
        self._reading = reading
        self._on_answer = on_answer
        self._require_reader = require_reader
        self._held_bytes = 0
        self._turns = asyncio.Semaphore(READS_AT_ONCE)

    async def answer(self, request: web.Request) -> web.StreamResponse:
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
        self._on_answer(
            TileAnswer(
                kind=resource.kind,
                code=str(resource.status) if sent else "aborted",
                seconds=perf_counter() - started,
                body_bytes=len(resource.body) if sent and request.method != "HEAD" else 0,
            ),
            request,
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
        accepts = prefers_gzip(",".join(request.headers.getall("Accept-Encoding", [])))
        loop = asyncio.get_running_loop()
        try:
            async with self._turns:
                return await loop.run_in_executor(
                    self._reading, self._read, path, accepts, shown_certificate(request)
                )
        except AccessError as error:
            return _Resource.error(403, str(error), kind=_kind(path))
        except NotFoundError as error:
            return _Resource.error(404, str(error), kind=_kind(path))
        except MalformedError:
            return _Resource.error(404, "this log has checkpoint, tile/<L>/<N>[.p/<W>] and tile/entries/…")
        except StorageError as error:
            return _Resource.error(503, str(error), kind=_kind(path), headers={"Retry-After": "5"})
        except Exception:
            _LOGGER.exception("a request for %r failed with a bug", path)
            return _Resource.error(500, "internal error: the server's log has the details", kind=_kind(path))

    def _read(self, path: str, gzip_accepted: bool, certificate: bytes | None) -> _Resource:
        """Read one resource from the store, for whoever may; runs in a thread."""
        if self._require_reader is None:
            return self._readable(path, gzip_accepted)
        self._require_reader(certificate)
        resource = self._readable(path, gzip_accepted)
        # RFC 9111: no cache that others share may keep it.
        return replace(resource, caching=f"private, {resource.caching}")

    def _readable(self, path: str, gzip_accepted: bool) -> _Resource:
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


def prefers_gzip(accept_encoding: str) -> bool:
    """Tell whether an Accept-Encoding header takes gzip, and not identity rather (RFC 9110, 12.5.3)."""
    qualities: dict[str, float] = {}
    for item in accept_encoding.split(","):
        coding, *parameters = (part.strip().lower() for part in item.split(";"))
        quality = next((value[2:] for value in parameters if value.startswith("q=")), "1")
        try:
            qualities[coding] = float(quality)
        except ValueError:
            qualities[coding] = 0.0
    gzip_quality = qualities.get("gzip", qualities.get("*", 0.0))
    return gzip_quality > 0.0 and gzip_quality >= qualities.get("identity", 0.0)


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


def shown_certificate(request: web.Request) -> bytes | None:
    """Return the certificate (DER) that a client showed, and the handshake checked; None without one."""
    tls = None if request.transport is None else request.transport.get_extra_info("ssl_object")
    return None if tls is None else tls.getpeercert(binary_form=True)


def _kind(path: str) -> str:
    """Sort a path into the few kinds that metrics tell apart."""
    if path == CHECKPOINT_PATH:
        return "checkpoint"
    if path.startswith("tile/entries/"):
        return "entries"
    return "tile" if path.startswith("tile/") else "other"
