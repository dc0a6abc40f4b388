"""How every RPC ends: with its answer, or with the status of the exception it raised.

The two decorators are the only place where exceptions become gRPC statuses and where calls are counted, so
that no method can forget either.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from time import perf_counter
from typing import NoReturn, Protocol, TypeAlias, TypeVar

import grpc
from google.protobuf.message import Message

from server.metrics import Metrics
from server.status import DETAILS_KEY, status_code, status_details, status_message
from tlog.errors import BatchRefusedError

_LOGGER = logging.getLogger("tlog.server")

# Quoted: the class takes type arguments only in its stubs.
Context: TypeAlias = "grpc.aio.ServicerContext[Message, Message]"


class HasMetrics(Protocol):
    """Is a service whose calls are counted."""

    metrics: Metrics


Service = TypeVar("Service", bound=HasMetrics)
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
            return await method(self, request, context)
        except asyncio.CancelledError:
            code = grpc.StatusCode.CANCELLED
            raise
        except Exception as error:  # noqa: BLE001 - turned into a status, bugs are logged with traceback
            code = status_code(error)
            await _abort(self.metrics, method.__name__, error, context)
        finally:
            self.metrics.call(method.__name__, code.name, perf_counter() - started)

    return wrapped


def stream(
    method: Callable[[Service, Request, Context], AsyncIterator[Response]],
) -> Callable[[Service, Request, Context], AsyncIterator[Response]]:
    """Wrap a method that answers with a stream."""

    @functools.wraps(method)
    async def wrapped(self: Service, request: Request, context: Context) -> AsyncIterator[Response]:
        started = perf_counter()
        code = grpc.StatusCode.OK
        try:
            async for response in method(self, request, context):
                yield response
        except (asyncio.CancelledError, GeneratorExit):
            code = grpc.StatusCode.CANCELLED
            raise
        except Exception as error:  # noqa: BLE001 - turned into a status, bugs are logged with traceback
            code = status_code(error)
            await _abort(self.metrics, method.__name__, error, context)
        finally:
            self.metrics.call(method.__name__, code.name, perf_counter() - started)

    return wrapped


async def _abort(metrics: Metrics, method: str, error: Exception, context: Context) -> NoReturn:
    code = status_code(error)
    if code is grpc.StatusCode.INTERNAL:
        _LOGGER.error("%s failed with a bug", method, exc_info=error)
    if isinstance(error, BatchRefusedError):
        for refused in error.refusals.values():
            metrics.refused(refused)
    details = status_details(error)
    await context.abort(
        code, status_message(error), trailing_metadata=((DETAILS_KEY, details),) if details else ()
    )
    raise AssertionError("abort() raises")
