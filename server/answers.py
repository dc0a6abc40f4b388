"""How every RPC ends: with its answer, or with the status of the exception it raised.

The two decorators are the only place where exceptions become gRPC statuses, where calls are counted, and
where too many of them are turned away, so that no method can forget any of it. grpc's own limit is not used:
it would count streams, calls and health checks alike.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, aclosing, nullcontext
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol, Self, TypeVar, cast

import grpc
from google.protobuf.message import Message

from server.call_log import REQUEST_ID_KEY
from server.callers import Caller, Context
from server.metrics import Metrics
from server.registration import Undecodable
from server.status import DETAILS_KEY, status_code, status_details, status_message
from tlog.errors import BatchRefusedError, MalformedError, PushbackError, QuotaError
from tlog.v1 import log_pb2

_LOGGER = logging.getLogger("tlog.server")
_RETRY_AFTER_S = 1.0


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

    def one_more(self) -> Self:
        """Count one call while the block runs. Raises PushbackError when there are too many."""
        return self

    def __enter__(self) -> None:
        """Begin the block of `one_more`."""
        if self._under_way >= self._maximum:
            raise PushbackError(
                f"{self._under_way} {self._what} are under way, and no more are taken: try again later",
                retry_after_s=_RETRY_AFTER_S,
            )
        if not self._under_way:
            self._none_under_way.clear()
        self._under_way += 1

    def __exit__(self, *_: object) -> None:
        """End the block of `one_more`."""
        self._under_way -= 1
        if not self._under_way:
            self._none_under_way.set()


class Counted(Protocol):
    """Is a service whose calls are counted and limited."""

    metrics: Metrics
    calls: CallLimit
    streams: CallLimit

    @property
    def gate(self) -> GuardsCalls:
        """Return who stands before its calls."""
        ...


class GuardsCalls(Protocol):
    """Knows who calls, what each may do, and what is told of it; a CallerGate, or a gate that is open."""

    send_timeout_s: float
    """How long a reader may take for one message of a stream."""

    def of(self, context: Context) -> Caller:
        """Say who calls."""
        ...

    def call(self, caller: Caller) -> AbstractContextManager[None]:
        """Charge one call, and count it while the block that this is for runs: entering raises QuotaError."""
        ...

    async def hold_back(
        self, caller: Caller, error: QuotaError, *, took_s: float, request_bytes: int
    ) -> None:
        """Wait a while before a refusal is told to whoever did not wait after the last one."""
        ...

    def ended(self, context: Context, method: str, caller: Caller, code: str, seconds: float) -> str:
        """Tell of a call that ended; returns its request's id, or none where nobody is told of it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Failure:
    """Holds what is told of an exception, and nothing of the exception itself."""

    code: grpc.StatusCode
    message: str
    details: bytes | None


class OpenGate:
    """Lets every call in and tells of none: for a service that has limits of its own."""

    send_timeout_s = 30.0

    def of(self, context: Context) -> Caller:
        """Say that it is anybody."""
        return Caller(name="anybody")

    def call(self, caller: Caller) -> AbstractContextManager[None]:
        """Let a call in."""
        return nullcontext()

    async def hold_back(
        self, caller: Caller, error: QuotaError, *, took_s: float, request_bytes: int
    ) -> None:
        """Hold nothing back."""

    def ended(self, context: Context, method: str, caller: Caller, code: str, seconds: float) -> str:
        """Tell nothing."""
        return ""


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
        caller = self.gate.of(context)
        try:
            with self.gate.call(caller), self.calls.one_more():
                return await method(self, _decoded(request), context)
        except asyncio.CancelledError:
            code = grpc.StatusCode.CANCELLED
            raise
        except Exception as error:  # noqa: BLE001 - turned into a status, bugs are logged with traceback
            failure = _failure(self.metrics, method.__name__, error)
            code = failure.code
            if isinstance(error, QuotaError):
                self.metrics.over_quota(error, _entries_of(request))
                await _hold_back(self.gate, caller, error, request, started)
        finally:
            request_id = _tell_end(self, context, method.__name__, caller, code, perf_counter() - started)
            del request
        _fail(context, failure, request_id)
        return cast(Response, None)

    return wrapped


def stream(
    method: Callable[[Service, Request, Context], AsyncIterator[Response]],
) -> Callable[[Service, Request, Context], Awaitable[None]]:
    """Wrap a method that answers with a stream; a reader that takes too long for a message is given up."""

    @functools.wraps(method)
    async def wrapped(self: Service, request: Request, context: Context) -> None:
        started = perf_counter()
        code = grpc.StatusCode.OK
        caller = self.gate.of(context)
        failure: _Failure | None = None
        try:
            with self.gate.call(caller), self.streams.one_more():
                responses = method(self, _decoded(request), context)
                async with aclosing(responses):  # type: ignore[type-var]
                    async for response in responses:
                        await _send(context, response, self.gate.send_timeout_s)
        except asyncio.CancelledError:
            code = grpc.StatusCode.CANCELLED
            raise
        except Exception as error:  # noqa: BLE001 - turned into a status, bugs are logged with traceback
            failure = _failure(self.metrics, method.__name__, error)
            code = failure.code
            if isinstance(error, QuotaError):
                self.metrics.over_quota(error, _entries_of(request))
                await _hold_back(self.gate, caller, error, request, started)
        finally:
            request_id = _tell_end(self, context, method.__name__, caller, code, perf_counter() - started)
            del request
        if failure is not None:
            _fail(context, failure, request_id)

    return wrapped


async def _send(context: Context, response: Message, timeout_s: float) -> None:
    """Hand one message of a stream to the transport, which takes it when the reader reads."""
    try:
        async with asyncio.timeout(timeout_s):
            await context.write(response)
    except TimeoutError:
        raise QuotaError(
            f"the reader took longer than {timeout_s:g} s for one message of the stream: go on from where it "
            "broke off",
            retry_after_s=_RETRY_AFTER_S,
            limit="send_timeout_s",
        ) from None


def _entries_of(request: Message | Undecodable) -> int:
    return len(request.entries) if isinstance(request, log_pb2.AppendRequest) else 0


async def _hold_back(
    gate: GuardsCalls, caller: Caller, error: QuotaError, request: Message | Undecodable, started: float
) -> None:
    size = 0 if isinstance(request, Undecodable) else request.ByteSize()
    await gate.hold_back(caller, error, took_s=perf_counter() - started, request_bytes=size)


def _tell_end(
    service: Counted, context: Context, method: str, caller: Caller, code: grpc.StatusCode, seconds: float
) -> str:
    code_name = code.name
    service.metrics.call(method, code_name, seconds)
    return service.gate.ended(context, method, caller, code_name, seconds)


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


def _fail(context: Context, failure: _Failure, request_id: str) -> None:
    """Let a call end with its status once its method returns; what that returns is not sent then.

    Not by `abort`: the exception that it raises holds on to the call, in a circle, and so to a place among
    the streams that the transport allows a connection, until the garbage collector comes by. A client whose
    calls were refused 512 times would be shut out till then.
    """
    details = ((DETAILS_KEY, failure.details),) if failure.details else ()
    context.set_code(failure.code)
    context.set_details(failure.message)
    context.set_trailing_metadata((*details, (REQUEST_ID_KEY, request_id)) if request_id else details)
