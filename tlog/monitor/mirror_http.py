"""The mirror of a monitor as C2SP tlog-tiles over HTTP, for when the log itself is gone.

It reads the monitor's store beside the monitor, or without one. The checkpoint is the newest one whose whole
tree was checked, with all its signatures, so a reader needs to trust nobody here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from aiohttp import web

from tlog.errors import ConfigError, MalformedError, NotFoundError, StorageError
from tlog.http_listener import HttpListener
from tlog.log_view import LogView
from tlog.monitor.cursor import BINDING, HASHES_NAME, MIRROR_NAME
from tlog.storage.lmdb_store import LmdbStore
from tlog.tile_source.base import CHECKPOINT_PATH
from tlog.tile_source.log_view import LogTileSource
from tlog.tiles import TILE_WIDTH, parse_tile_path

READING_THREADS = 4

# tlog-tiles: the checkpoint's headers "SHOULD prevent caching beyond a few seconds", those of tiles "SHOULD
# be long-lived".
_CHECKPOINT_CACHING = "max-age=2"
_FULL_TILE_CACHING = "max-age=31536000, immutable"
_PARTIAL_TILE_CACHING = "max-age=604800, immutable"


@contextmanager
def open_mirror(directory: Path, origin: str) -> Iterator[LogTileSource]:
    """Open the mirror in a monitor's state directory for reading.

    Raises ConfigError when that monitor keeps no entries, NotFoundError, CorruptionError, StorageError.
    """
    path = directory / MIRROR_NAME
    if not path.exists() and (directory / HASHES_NAME).exists():
        raise ConfigError(
            f"{directory} keeps no entries, so there is nothing to serve: make a monitor with `mirror = true`"
        )
    store = LmdbStore.open(path, origin, BINDING, read_only=True)

    @contextmanager
    def open_view() -> Iterator[LogView]:
        with store.reader() as reader:
            yield LogView(reader)

    view: Callable[[], AbstractContextManager[LogView]] = open_view
    try:
        yield LogTileSource(name=origin, open_view=view)
    finally:
        store.close()


async def serve_mirror(
    mirror: LogTileSource, host: str, port: int, *, stop: asyncio.Event, started: Callable[[int], None]
) -> None:
    """Serve until `stop` is set; `started` is told the port. Raises ConfigError when nothing can listen."""
    with ThreadPoolExecutor(READING_THREADS, "mirror") as reading:

        async def answer(request: web.Request) -> web.Response:
            if request.method not in {"GET", "HEAD"}:
                return _refusal(405, "GET or HEAD", {"Allow": "GET, HEAD"})
            path = request.rel_url.raw_path.removeprefix("/")
            try:
                return await asyncio.get_running_loop().run_in_executor(reading, _read, mirror, path)
            except (NotFoundError, MalformedError) as error:
                return _refusal(404, str(error), {})
            except StorageError as error:
                return _refusal(503, str(error), {"Retry-After": "5"})

        application = web.Application()
        application.router.add_route("*", "/{path:.*}", answer)
        listener = await HttpListener.start(application, host, port)
        try:
            started(listener.port)
            await stop.wait()
        finally:
            await listener.stop()


def _read(mirror: LogTileSource, path: str) -> web.Response:
    if path == CHECKPOINT_PATH:
        return _resource(mirror.checkpoint(), "text/plain; charset=utf-8", _CHECKPOINT_CACHING)
    tile = parse_tile_path(path)
    caching = _FULL_TILE_CACHING if tile.width == TILE_WIDTH else _PARTIAL_TILE_CACHING
    return _resource(mirror.tile(tile), "application/octet-stream", caching)


def _resource(body: bytes, content_type: str, caching: str) -> web.Response:
    headers = {
        "Content-Type": content_type,
        "Cache-Control": caching,
        "X-Content-Type-Options": "nosniff",
    }
    return web.Response(body=body, headers=headers)


def _refusal(status: int, message: str, headers: dict[str, str]) -> web.Response:
    return web.Response(status=status, text=f"{message}\n", headers={"Cache-Control": "no-store", **headers})
