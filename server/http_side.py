"""What the server shows over HTTP beside gRPC, the page of metrics and the tiles: started and announced."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack

from server.call_log import CallLog
from server.config import Config
from server.grpc_server import format_address
from server.health import Health
from server.http_call_log import HttpCallLog
from server.metrics import Metrics
from server.metrics_http import serve_metrics
from server.reading_access import ReadingAccess
from server.threads import Threads, open_pool
from server.tile_http import TileServer
from server.wire import Sample
from tlog.log import Log
from tlog.tls import ServerTls


async def serve_http(
    stack: AsyncExitStack,
    config: Config,
    tls: ServerTls | None,
    log: Log,
    metrics: Metrics,
    health: Health,
    threads: Threads,
    others: Callable[[], Sequence[Sample]],
) -> dict[str, str | None]:
    """Serve what the configuration enables until `stack` ends; returns the URLs by name.

    What `others` returns is added to the page of metrics; it is called in a thread. Raises ConfigError.
    """
    scheme = "http" if tls is None else "https"
    call_log = HttpCallLog(CallLog.for_log(config.logging.calls, log.origin, log.view_before_mark))
    urls: dict[str, str | None] = {"metrics": None, "tiles": None}
    if config.metrics.enabled:
        listener = await serve_metrics(
            lambda accept: metrics.page(accept, others),
            health,
            open_pool(stack, 1, "metrics"),
            config.metrics.listen_address,
            config.metrics.port,
            None if tls is None else tls.http_context(asks_clients=True),
            call_log,
        )
        stack.push_async_callback(listener.stop)
        place = format_address(config.metrics.listen_address, listener.port)
        urls["metrics"] = f"{scheme}://{place}/metrics"
    if config.tiles.enabled:
        access = ReadingAccess.of(config, log.origin)
        tiles = TileServer(
            log,
            metrics,
            access,
            reading=threads.reading,
            stop_timeout_s=config.grpc.stop_timeout_s,
            call_log=call_log,
        )
        port = await tiles.start(
            config.tiles.listen_address,
            config.tiles.port,
            None if tls is None else tls.http_context(asks_clients=not access.is_public),
        )
        stack.push_async_callback(tiles.stop)
        urls["tiles"] = f"{scheme}://{format_address(config.tiles.listen_address, port)}"
    return urls
