"""The HTTP face of a witness (C2SP tlog-witness): `POST /add-checkpoint`, `GET /<origin hash>/checkpoint`.

Submission prefix and monitoring prefix are one. The witness itself blocks, on the disk above all, so its work
is done in threads; nothing here decides anything about checkpoints.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor
from time import monotonic
from typing import TypeVar

from aiohttp import ClientError, web

from tlog.errors import StateUnknownError, StorageError
from tlog.witness.core import TEXT, Refusal
from tlog.witness.request import MAX_REQUEST_BYTES
from tlog.witness.witness import Witness

Result = TypeVar("Result")
_LOGGER = logging.getLogger(__name__)

CHECKPOINT_CACHE_CONTROL = "max-age=5"
"""The specification lets the monitoring endpoint be up to an hour late; this one is seconds late."""
MAX_TOLD_A_MINUTE = 100
"""How many refusals are logged in a minute; the rest is counted."""


def witness_application(
    witness: Witness,
    executor: Executor,
    *,
    read_timeout_s: float = 10.0,
    on_fatal: Callable[[StateUnknownError], None] = lambda _: None,
) -> web.Application:
    """Make the aiohttp application of a witness; `executor` runs what blocks.

    A body has to be there within `read_timeout_s`. `on_fatal` is called, in the event loop, when nobody can
    say whether a record is on the disk: the witness has to be stopped and started anew then.
    """
    application = web.Application(client_max_size=MAX_REQUEST_BYTES)
    routes = _Routes(witness, executor, read_timeout_s=read_timeout_s, on_fatal=on_fatal)
    application.router.add_post("/add-checkpoint", routes.add_checkpoint)
    application.router.add_get("/{origin_hash:[0-9a-f]{64}}/checkpoint", routes.checkpoint)
    return application


class _RefusalLog:
    """Logs why requests were refused, but only so many a minute: any stranger can have a request refused."""

    def __init__(self) -> None:
        self._minute_began_s = monotonic()
        self._refusals = 0

    def tell(self, remote: str | None, refusal: Refusal) -> None:
        if monotonic() - self._minute_began_s >= 60:
            if self._refusals > MAX_TOLD_A_MINUTE:
                _LOGGER.warning("%d more requests were refused", self._refusals - MAX_TOLD_A_MINUTE)
            self._minute_began_s, self._refusals = monotonic(), 0
        self._refusals += 1
        if self._refusals <= MAX_TOLD_A_MINUTE:
            level = logging.INFO if refusal.status == 409 else logging.WARNING
            _LOGGER.log(level, "%d for %s: %s", refusal.status, remote, refusal.body.rstrip("\n"))


class _Routes:
    def __init__(
        self,
        witness: Witness,
        executor: Executor,
        *,
        read_timeout_s: float,
        on_fatal: Callable[[StateUnknownError], None],
    ) -> None:
        self._witness = witness
        self._executor = executor
        self._read_timeout_s = read_timeout_s
        self._on_fatal = on_fatal
        self._refusals = _RefusalLog()

    async def add_checkpoint(self, request: web.Request) -> web.StreamResponse:
        body = await self._read(request)
        answer = await self._blocking(lambda: self._witness.add_checkpoint(body))
        if isinstance(answer, Refusal):
            self._refusals.tell(request.remote, answer)
            return _answer(answer.status, answer.body, answer.content_type)
        return _answer(200, answer.body)

    async def checkpoint(self, request: web.Request) -> web.StreamResponse:
        key = bytes.fromhex(request.match_info["origin_hash"])
        record = await self._blocking(lambda: self._witness.latest(key))
        if record is None:
            return _answer(404, "this witness has never cosigned a checkpoint of that log\n")
        answer = _answer(200, record.note.decode())
        answer.headers["Cache-Control"] = CHECKPOINT_CACHE_CONTROL
        return answer

    async def _read(self, request: web.Request) -> bytes:
        """Read a whole body. Raises the HTTP error that says what is wrong with it."""
        if request.content_length is None and "Transfer-Encoding" not in request.headers:
            raise web.HTTPLengthRequired(text="send a Content-Length\n")
        if "Content-Encoding" in request.headers:
            raise web.HTTPUnsupportedMediaType(text="send the body as it is, without a Content-Encoding\n")
        if (request.content_length or 0) > MAX_REQUEST_BYTES:
            raise web.HTTPRequestEntityTooLarge(MAX_REQUEST_BYTES, request.content_length or 0)
        try:
            async with asyncio.timeout(self._read_timeout_s):
                return await request.read()
        except TimeoutError:
            late = web.HTTPRequestTimeout(text=f"the body was not there within {self._read_timeout_s} s\n")
            # What comes later would be taken for the next request.
            late.force_close()
            raise late from None
        except (ClientError, ConnectionError, web.RequestPayloadError) as error:
            raise web.HTTPBadRequest(text="the body broke off, or its framing is broken\n") from error

    async def _blocking(self, work: Callable[[], Result]) -> Result:
        """Run what blocks in a thread. Raises 503 where the store could not do it: nothing was cosigned."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, work)
        except StorageError as error:
            _LOGGER.exception("the store failed; no cosignature was given out")
            if isinstance(error, StateUnknownError):
                self._on_fatal(error)
            raise web.HTTPServiceUnavailable(
                text="the witness cannot record checkpoints now, so it cosigns none\n"
            ) from error


def _answer(status: int, body: str, content_type: str = TEXT) -> web.Response:
    return web.Response(status=status, body=body.encode(), headers={"Content-Type": content_type})
