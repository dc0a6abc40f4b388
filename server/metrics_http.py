"""What the operator's tools ask for over HTTP: /metrics, /livez and /readyz, in the server's own event loop.

`/livez` is 200 whenever it is answered: a process that does not answer is to be started again. `/readyz` is
200 while entries are taken and what is published is fresh, 503 otherwise; its JSON says which check found
what, and whether reading goes on. The page of metrics is made in a thread.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable
from concurrent.futures import Executor
from time import perf_counter

from aiohttp import web
from aiohttp.typedefs import Handler

from server.health import Health
from server.http_call_log import HttpCallLog
from tlog.errors import ConfigError
from tlog.http_listener import HttpLimits, HttpListener

MAX_CONNECTIONS = 64
IDLE_TIMEOUT_S = 15.0

_KINDS = {"/": "metrics", "/metrics": "metrics", "/livez": "livez", "/readyz": "readyz"}

MakesPage = Callable[[str], tuple[bytes, str]]
"""Makes the page that an Accept header asks for, and says its content type; in a thread."""


async def serve_metrics(
    page: MakesPage,
    health: Health,
    thread: Executor,
    address: str,
    port: int,
    tls: ssl.SSLContext | None,
    call_log: HttpCallLog | None = None,
) -> HttpListener:
    """Serve /metrics, / as well, /livez and /readyz; `thread` makes one page at a time.

    Raises ConfigError when the address is taken.
    """

    async def answer(request: web.Request) -> web.Response:
        accept = ",".join(request.headers.getall("Accept", []))
        body, content_type = await asyncio.get_running_loop().run_in_executor(thread, page, accept)
        return web.Response(body=body, headers={"Content-Type": content_type, "Cache-Control": "no-store"})

    @web.middleware
    async def tell(request: web.Request, handler: Handler) -> web.StreamResponse:
        started, code = perf_counter(), "aborted"
        try:
            response = await handler(request)
            code = str(response.status)
        except web.HTTPException as error:
            code = str(error.status)
            raise
        except Exception:
            code = "500"
            raise
        finally:
            if call_log is not None:
                call_log.ended(request, _KINDS.get(request.path, "other"), code, perf_counter() - started)
        return response

    application = web.Application(middlewares=[tell])
    for path in ("/", "/metrics"):
        application.router.add_get(path, answer)

    async def live(request: web.Request) -> web.Response:
        return _document({"alive": True}, status=200)

    async def ready(request: web.Request) -> web.Response:
        verdict = health.look()
        checks = [
            {"check": finding.check, "ok": True}
            if finding.reason is None
            else {"check": finding.check, "ok": False, "reason": finding.reason}
            for finding in verdict.findings
        ]
        document = {"ready": verdict.ready, "reads": verdict.reads, "checks": checks}
        return _document(document, status=200 if verdict.ready else 503)

    application.router.add_get("/livez", live)
    application.router.add_get("/readyz", ready)
    limits = HttpLimits(max_connections=MAX_CONNECTIONS, idle_timeout_s=IDLE_TIMEOUT_S, stop_timeout_s=2.0)
    try:
        return await HttpListener.start(application, address, port, limits, tls=tls)
    except ConfigError as error:
        raise ConfigError(
            f"metrics cannot listen on {address}:{port}: {error} (the table [metrics])"
        ) from error


def _document(document: object, *, status: int) -> web.Response:
    text = json.dumps(document, indent=2) + "\n"
    headers = {"Cache-Control": "no-store"}
    return web.Response(text=text, status=status, content_type="application/json", headers=headers)
