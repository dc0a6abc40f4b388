"""The mirror of a monitor as C2SP tlog-tiles over HTTP, for when the log itself is gone.

It reads the monitor's store beside the monitor, or without one. The checkpoint is the newest one whose whole
tree was checked, with all its signatures, so a reader needs to trust nobody here.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from tlog.errors import ConfigError
from tlog.http_listener import HttpListener
from tlog.log_view import LogView
from tlog.monitor.cursor import BINDING, HASHES_NAME, MIRROR_NAME
from tlog.storage.lmdb_store import LmdbStore
from tlog.tile_application import tile_application
from tlog.tile_source.log_view import LogTileSource

READING_THREADS = 4


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
    mirror: LogTileSource,
    host: str,
    port: int,
    *,
    stop: asyncio.Event,
    started: Callable[[int], None],
    tls: ssl.SSLContext | None = None,
) -> None:
    """Serve until `stop` is set; `started` is told the port. Raises ConfigError when nothing can listen."""
    with ThreadPoolExecutor(READING_THREADS, "mirror") as reading:
        listener = await HttpListener.start(tile_application(mirror, reading), host, port, tls=tls)
        try:
            started(listener.port)
            await stop.wait()
        finally:
            await listener.stop()
