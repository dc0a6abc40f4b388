"""The page of metrics over HTTP, in the server's own event loop; the page itself is made in a thread."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from concurrent.futures import Executor

from aiohttp import web

from tlog.errors import ConfigError
from tlog.http_listener import HttpLimits, HttpListener

MAX_CONNECTIONS = 64
IDLE_TIMEOUT_S = 15.0

MakesPage = Callable[[str], tuple[bytes, str]]
"""Makes the page that an Accept header asks for, and says its content type; in a thread."""


async def serve_metrics(
    page: MakesPage, thread: Executor, address: str, port: int, tls: ssl.SSLContext | None
) -> HttpListener:
    """Serve /metrics, and / as well; `thread` makes one page at a time.

    Raises ConfigError when the address is taken.
    """

    async def answer(request: web.Request) -> web.Response:
        accept = ",".join(request.headers.getall("Accept", []))
        body, content_type = await asyncio.get_running_loop().run_in_executor(thread, page, accept)
        return web.Response(body=body, headers={"Content-Type": content_type, "Cache-Control": "no-store"})

    application = web.Application()
    for path in ("/", "/metrics"):
        application.router.add_get(path, answer)
    limits = HttpLimits(max_connections=MAX_CONNECTIONS, idle_timeout_s=IDLE_TIMEOUT_S, stop_timeout_s=2.0)
    try:
        return await HttpListener.start(application, address, port, limits, tls=tls)
    except ConfigError as error:
        raise ConfigError(
            f"metrics cannot listen on {address}:{port}: {error} (the table [metrics])"
        ) from error
