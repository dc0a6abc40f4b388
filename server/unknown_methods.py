"""Answers calls of methods that this server does not have, so that they are charged like all others.

grpc by itself refuses them for nothing, at the price of a small call, however many somebody makes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from time import perf_counter

import grpc

from server.answers import Counted
from server.callers import Context
from server.status import DETAILS_KEY, status_details
from tlog.errors import QuotaError

_METHOD = "unknown"
"""What metrics and the call log call all of them: nobody writes a name of his own there."""


class UnknownMethods(grpc.GenericRpcHandler):
    """Takes every call, and has to be asked after all who know theirs; belongs to the event loop."""

    def __init__(self, guarded: Counted) -> None:
        """Charge and count callers as those of a service of the same server are."""
        self._metrics = guarded.metrics
        self._gate = guarded.gate
        # A stream, for that is begun before any message is there: none is waited for.
        self._handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_unary_rpc_method_handler(
            self._refuse
        )

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        """Return what refuses any call."""
        return self._handler

    async def _refuse(self, requests: AsyncIterator[bytes], context: Context) -> bytes:
        started, caller = perf_counter(), self._gate.of(context)
        code, message = grpc.StatusCode.UNIMPLEMENTED, "this server has no such method"
        try:
            with self._gate.call(caller):
                pass
        except QuotaError as error:
            code, message = grpc.StatusCode.RESOURCE_EXHAUSTED, str(error)
            self._metrics.over_quota(error, 0)
            if (details := status_details(error)) is not None:
                context.set_trailing_metadata(((DETAILS_KEY, details),))
            took_s = perf_counter() - started
            await self._gate.hold_back(caller, error, took_s=took_s, request_bytes=0)
        seconds = perf_counter() - started
        self._metrics.call(_METHOD, code.name, seconds)
        self._gate.ended(context, _METHOD, caller, code.name, seconds)
        context.set_code(code)
        context.set_details(message)
        return b""
