"""How every RPC ends: with its answer, or with the status of the exception it raised.

The two decorators are the only place where exceptions become gRPC statuses, where calls are counted, and
where too many of them are turned away, so that no method can forget any of it. grpc's own limit is not used:
it would count streams, calls and health checks alike.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol, TypeAlias, TypeVar

import grpc
from google.protobuf.message import Message

from server.metrics import Metrics
from server.registration import Undecodable
from server.status import DETAILS_KEY, status_code, status_details, status_message
from tlog.errors import BatchRefusedError, MalformedError, PushbackError

_LOGGER = logging.getLogger("tlog.server")
_RETRY_AFTER_S = 1.0

# Quoted: the class takes type arguments only in its stubs.
Context: TypeAlias = "grpc.aio.ServicerContext[Message, Message]"


class CallLimit:
    """Counts calls of one kind that are under way; belongs to the event loop."""

    def __init__(self, what: str, maximum: int) -> None:
        self._what = what
        self._maximum = maximum
        self._under_way = 0
        self._none_under_way = asyncio.Event()
        self._none_under_way.set()

    async def none_under_way(self) -> None:
        """Wait until no call is under way; what the last ones answered may still be on its way out."""
        await self._none_under_way.wait()

    @contextmanager
    def one_more(self) -> Iterator[None]:
        """Count one call while the block runs. Raises PushbackError when there are too many."""
        if self._under_way >= self._maximum:
            raise PushbackError(
                f"{self._under_way} {self._what} are under way, and no more are taken: try again later",
                retry_after_s=_RETRY_AFTER_S,
            )
        self._under_way += 1
        self._none_under_way.clear()
        try:
            yield
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._none_under_way.set()


class Counted(Protocol):
    """Is a service whose calls are counted and limited."""

    metrics: Metrics
    calls: CallLimit
    streams: CallLimit


@dataclass(frozen=True, slots=True, kw_only=True)
class _Failure:
    """Holds what is told of an exception, and nothing of the exception itself.

    grpc keeps the abort it raises for a while, and with it the frame that it was raised in; an exception, or
    a request, in that frame would stay in memory until the next full garbage collection.
    """

    code: grpc.StatusCode
    message: str
    details: bytes | None


Service = TypeVar("Service", bound=Counted)
Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)


def unary(
    method: Callable[[Service, Request, Context], Awaitable[Response]],
) -> Callable[[Service, Request, Context], Awaitable[Response]]:
    """Wrap a method that answers once."""

    @functools.wraps(method)
    async def wrapped(self: Service, request: Request, context: Context) -> Response:
        started = perf_counter()
        code = grpc.StatusCode.OK
        try:
            with self.calls.one_more():
                return await method(self, _decoded(request), context)
        except asyncio.CancelledError:
            code = grpc.StatusCode.CANCELLED
            raise
        except Exception as error:  # noqa: BLE001 - turned into a status, bugs are logged with traceback
            failure = _failure(self.metrics, method.__name__, error)
            code = failure.code
        finally:
            self.metrics.call(method.__name__, code.name, perf_counter() - started)
            del request
        await _abort(context, failure)
        raise AssertionError("abort() raises")

    return wrapped


def stream(
    method: Callable[[Service, Request, Context], AsyncIterator[Response]],
) -> Callable[[Service, Request, Context], AsyncIterator[Response]]:
    """Wrap a method that answers with a stream."""

    @functools.wraps(method)
    async def wrapped(self: Service, request: Request, context: Context) -> AsyncIterator[Response]:
        started = perf_counter()
        code = grpc.StatusCode.OK
        failure: _Failure | None = None
        try:
            with self.streams.one_more():
                async for response in method(self, _decoded(request), context):
                    yield response
        except (asyncio.CancelledError, GeneratorExit):
            code = grpc.StatusCode.CANCELLED
            raise
        except Exception as error:  # noqa: BLE001 - turned into a status, bugs are logged with traceback
            failure = _failure(self.metrics, method.__name__, error)
            code = failure.code
        finally:
            self.metrics.call(method.__name__, code.name, perf_counter() - started)
            del request
        if failure is not None:
            await _abort(context, failure)

    return wrapped


def _decoded(request: Request | Undecodable) -> Request:
    if isinstance(request, Undecodable):
        raise MalformedError(f"the request is not a {request.message_name} in protobuf's encoding")
    return request


def _failure(metrics: Metrics, method: str, error: Exception) -> _Failure:
    code = status_code(error)
    if code is grpc.StatusCode.INTERNAL:
        _LOGGER.error("%s failed with a bug", method, exc_info=error)
    if isinstance(error, BatchRefusedError):
        for refused in error.refusals.values():
            metrics.refused(refused)
    return _Failure(code=code, message=status_message(error), details=status_details(error))


async def _abort(context: Context, failure: _Failure) -> None:
    trailers = ((DETAILS_KEY, failure.details),) if failure.details else ()
    await context.abort(failure.code, failure.message, trailing_metadata=trailers)
