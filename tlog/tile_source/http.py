"""Tiles over HTTP, from servers that may do anything: every request is bounded in time, size and tries.

The talking is done asynchronously, in one thread of its own, because only so can one deadline end a request
wherever it hangs: connecting, in the middle of a header, between two bytes of a body. Callers see
plain functions, and may call from many threads.
"""

from __future__ import annotations

import asyncio
import random
import re
import threading
import zlib
from collections.abc import Coroutine
from concurrent.futures import CancelledError as FutureCancelledError
from typing import Self, TypeVar
from urllib.parse import urlsplit

from aiohttp import ClientError, ClientResponse

from tlog.encoding import shown
from tlog.errors import AccessError, ConfigError, NotFoundError, RemoteError
from tlog.http_client import ANSWER_ERRORS, HttpClient, check_url, is_redirect
from tlog.note import MAX_NOTE_BYTES
from tlog.tile_source.base import CHECKPOINT_PATH, check_tile_bytes, max_tile_bytes
from tlog.tiles import Tile
from tlog.tls import ClientTls
from tlog.tls_config import is_loopback

DEFAULT_TIMEOUT_S = 15.0
ATTEMPTS = 3
FIRST_DELAY_S = 0.25
CONCURRENCY = 8

_GONE = frozenset({404, 410})
_WORTH_ANOTHER_TRY = frozenset({408, 425, 429, 500, 502, 503, 504})
_OK = 200
_FORBIDDEN = 403
# What zlib calls "gzip, with its header and checksum".
_GZIP_WINDOW_BITS = 31
_CHUNK_BYTES = 2**16
_PLAIN = re.compile("[!-~]+")
# tlog-tiles: "Clients SHOULD include `gzip` and `identity` in their `Accept-Encoding` headers."
_CODINGS = "gzip, identity"
# Between two processes of one machine, to pack and unpack takes longer than to send.
_CODINGS_ON_LOOPBACK = "identity, gzip;q=0.5"

T = TypeVar("T")


class _TryAgainError(Exception):
    """Carries a failure that another attempt may not meet."""


class HttpTileSource:
    """Reads a tiled log below a URL prefix; is a TileSource. Close it, or use it in a `with` block."""

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        attempts: int = ATTEMPTS,
        concurrency: int = CONCURRENCY,
        tls: ClientTls | None = None,
    ) -> None:
        """Take a prefix, with or without a slash at its end; `timeout_s` bounds each of the attempts.

        Raises ConfigError when it is no http or https URL, or has a query or a fragment.
        """
        self._prefix = checked_prefix(url)
        self._timeout_s = timeout_s
        self._attempts = attempts
        self.concurrency = concurrency
        is_near = is_loopback(urlsplit(self._prefix).hostname or "")
        self._headers = {
            "Accept-Encoding": _CODINGS_ON_LOOPBACK if is_near else _CODINGS,
            "User-Agent": "tlog",
        }
        self._client = HttpClient(self._prefix, max_connections=concurrency, tls=tls, use_proxies=True)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tiles-http", daemon=True)
        self._thread.start()
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def name(self) -> str:
        """Return the URL prefix, without its last slash."""
        return self._prefix

    def checkpoint(self) -> bytes:
        """Fetch the signed checkpoint note. Raises NotFoundError, RemoteError."""
        return self._run(self._fetch(CHECKPOINT_PATH, MAX_NOTE_BYTES))

    def tile(self, tile: Tile) -> bytes:
        """Fetch a tile of just this width. Raises NotFoundError, MalformedError, RemoteError."""
        data = self._run(self._fetch(tile.path, max_tile_bytes(tile)))
        check_tile_bytes(tile, data, self.name)
        return data

    def close(self) -> None:
        """End what is under way, and close all connections; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        asyncio.run_coroutine_threadsafe(self._shut_down(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Coroutine[None, None, T]) -> T:
        if self._closed:
            work.close()
            raise RemoteError(f"{self._prefix} is not read any more: this source was closed")
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()
        except FutureCancelledError as error:
            raise RemoteError(f"{self._prefix} was not read: this source was closed meanwhile") from error

    async def _shut_down(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._client.aclose()
        # A body that was left in the middle is a generator that somebody has to close.
        await asyncio.get_running_loop().shutdown_asyncgens()
        # A transport that was aborted closes its socket in one of the loop's next rounds.
        for _ in range(3):
            await asyncio.sleep(0)

    async def _fetch(self, path: str, max_bytes: int) -> bytes:
        """Fetch one resource, in at most so many attempts with growing pauses between them."""
        url = f"{self._prefix}/{path}"
        for attempt in range(1, self._attempts + 1):
            try:
                async with asyncio.timeout(self._timeout_s):
                    return await self._fetch_once(url, max_bytes)
            except TimeoutError:
                failure = f"{url} was not answered whole within {self._timeout_s:g} s"
            except _TryAgainError as error:
                failure = str(error)
            if attempt < self._attempts:
                # Between half and all of the pause, so that many readers do not come back together.
                pause_s = FIRST_DELAY_S * 4 ** (attempt - 1)
                await asyncio.sleep(pause_s * (1 + random.random()) / 2)  # noqa: S311 - no secret
        tried = "once" if self._attempts == 1 else f"{self._attempts} times"
        raise RemoteError(f"{failure} (tried {tried})")

    async def _fetch_once(self, url: str, max_bytes: int) -> bytes:
        try:
            async with self._client.request(
                "GET", url, headers=self._headers, timeout_s=self._timeout_s
            ) as response:
                _check_status(response, url)
                return await _read_body(response, url, max_bytes)
        except ClientError as error:
            raise _TryAgainError(f"{url} cannot be read: {_told(error)}") from error
        except ANSWER_ERRORS as error:
            raise RemoteError(f"{url} cannot be read: {_told(error)}") from error


def checked_prefix(url: str) -> str:
    """Check a log's URL prefix, and return it without the slash at its end. Raises ConfigError."""
    try:
        check_url(url)
        parts = urlsplit(url)
    except ValueError as error:
        raise ConfigError(f"{shown(url)} is no URL of a log: {error}") from error
    if parts.query or parts.fragment or not _PLAIN.fullmatch(url):
        raise ConfigError(
            f"{shown(url)} is no URL of a log: give http:// or https://, a host, and perhaps a path"
        )
    return url.rstrip("/")


def _check_status(response: ClientResponse, url: str) -> None:
    status = response.status
    if status in _GONE:
        raise NotFoundError(f"{url} does not exist (HTTP {status})")
    if status == _FORBIDDEN:
        raise AccessError(f"{url} is refused (HTTP 403): this log is not read by everybody")
    if status in _WORTH_ANOTHER_TRY:
        raise _TryAgainError(f"{url} is refused for now (HTTP {status})")
    if is_redirect(status):
        target = shown(response.headers.get("Location", "nowhere"))
        raise RemoteError(
            f"{url} redirects to {target}, which is not followed: name that place as the log's URL, if you "
            "trust it to be this log's"
        )
    if status != _OK:
        raise RemoteError(f"{url} is answered with HTTP {status}")
    media_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if media_type in {"text/html", "application/xhtml+xml"}:
        raise RemoteError(f"{url} is answered with a web page, not with a log's resource: check the URL")


async def _read_body(response: ClientResponse, url: str, max_bytes: int) -> bytes:
    """Read and unpack a body of at most `max_bytes`; nothing is ever held that is much longer."""
    coding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if coding not in {"identity", "gzip", "x-gzip"}:
        raise RemoteError(f"{url} is answered in the coding {shown(coding)}, which was not asked for")
    # Unpacked here, because this stops in the middle of a chunk, whatever comes out of it.
    unpack = None if coding == "identity" else zlib.decompressobj(_GZIP_WINDOW_BITS)
    body = bytearray()
    async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
        if unpack is None:
            body += chunk
        else:
            try:
                body += unpack.decompress(chunk, max_bytes + 1 - len(body))
            except zlib.error as error:
                raise RemoteError(f"{url} says that it is gzip, and is not: {error}") from error
            if unpack.unused_data:
                raise RemoteError(f"{url} has {len(unpack.unused_data)} bytes or more after its gzip data")
        if len(body) > max_bytes:
            raise RemoteError(f"{url} is longer than {max_bytes} bytes, so it is something else")
    if unpack is not None and not unpack.eof:
        raise _TryAgainError(f"{url} was cut off in the middle of its gzip data")
    return bytes(body)


def _told(error: Exception) -> str:
    return str(error) or type(error).__name__
