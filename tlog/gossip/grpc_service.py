"""Answers Exchange over gRPC: limits first, then the judgement, then what we hold.

Callers are anonymous, so a limit is all that protects us: each host may call so often, and a connection over
which came what no honest node sends is not listened to any more. Whoever reconnects gets one more judgement
for each call that his host has left, and nobody else waits for it longer than that takes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import grpc

from tlog.errors import MalformedError, PushbackError, StorageError
from tlog.gossip.call_limits import CallLimits
from tlog.gossip.grpc_wire import decode_message, encode_message
from tlog.gossip.judgement import OFFENCES
from tlog.gossip.round import Gossiper
from tlog.v1 import gossip_pb2, gossip_pb2_grpc

Context: TypeAlias = "grpc.aio.ServicerContext[gossip_pb2.ExchangeRequest, gossip_pb2.ExchangeResponse]"

OFFENCE_S = 3_600.0
"""How long a connection is not listened to after an offence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostLimits:
    """Says how many exchanges one host may begin: at once, and a second."""

    per_s: float = 20.0
    burst: int = 100


class OffendingMessageError(MalformedError):
    """Says what no honest node sends; nothing of it was kept."""


class ExchangeDesk:
    """Decides who is listened to, and lets a Gossiper judge what they say; belongs to one event loop."""

    def __init__(
        self, gossiper: Gossiper, clock: Callable[[], float], limits: HostLimits | None = None
    ) -> None:
        limits = limits or HostLimits()
        self._gossiper = gossiper
        self._clock = clock
        self._hosts = CallLimits(per_s=limits.per_s, burst=limits.burst)
        self._connections = CallLimits(per_s=limits.per_s, burst=limits.burst)

    async def exchange(self, caller: str, request: gossip_pb2.ExchangeRequest) -> gossip_pb2.ExchangeResponse:
        """Judge a request and answer it; `caller` is a connection, as grpc names it (`ipv4:host:port`).

        Raises PushbackError for callers who have to wait, MalformedError for those who sent what no honest
        node sends, and StorageError.
        """
        now_s = self._clock()
        wait_s = max(
            self._connections.wait_s(caller, now_s), self._hosts.wait_s(caller.rpartition(":")[0], now_s)
        )
        if wait_s > 0:
            raise PushbackError(f"not now: call again in {wait_s:.1f} s", retry_after_s=wait_s)
        try:
            answer, received = await self._gossiper.answer(caller, decode_message(request))
        except MalformedError:
            self._connections.block(caller, now_s, OFFENCE_S)
            raise
        if received.is_offensive:
            self._connections.block(caller, now_s, OFFENCE_S)
            reason = next(one.reason for one in received.judgements if one.outcome in OFFENCES)
            raise OffendingMessageError(f"no honest node sends this, and nothing of it was kept: {reason}")
        return encode_message(answer, gossip_pb2.ExchangeResponse())


class GossipServicer(gossip_pb2_grpc.GossipServiceServicer):
    """Serves tlog.v1.GossipService for a node."""

    def __init__(self, desk: ExchangeDesk) -> None:
        self._desk = desk

    async def Exchange(  # noqa: N802 - the name in the .proto
        self, request: gossip_pb2.ExchangeRequest, context: Context
    ) -> gossip_pb2.ExchangeResponse:
        """Exchange what both sides hold."""
        try:
            return await self._desk.exchange(context.peer(), request)
        except PushbackError as error:
            code, text = grpc.StatusCode.RESOURCE_EXHAUSTED, str(error)
        except MalformedError as error:
            code, text = grpc.StatusCode.INVALID_ARGUMENT, str(error)
        except StorageError:
            # Nothing was answered, so nothing has to be remembered; the node says by itself what is wrong.
            code, text = grpc.StatusCode.UNAVAILABLE, "this node cannot write to its disk"
        await context.abort(code, text[:1_000])
        raise AssertionError("abort() raises")
