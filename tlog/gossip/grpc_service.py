"""Answers Exchange over gRPC: limits first, then the judgement, then what we hold.

Callers are anonymous, so a limit is all that protects us: each host may call so often, may have so many calls
under way, and may take so much of the time in which we judge; and a connection over which came what no honest
node sends is not listened to any more. Whoever reconnects gets one more judgement for each call that his host
has left, and nobody else waits for it longer than that takes.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TypeAlias

import grpc

from tlog.errors import MalformedError, PushbackError, StorageError
from tlog.gossip.call_limits import CallLimits
from tlog.gossip.grpc_wire import decode_message, encode_message, parse_exchange
from tlog.gossip.judgement import OFFENCES
from tlog.gossip.round import Gossiper
from tlog.peer_host import host_of_peer
from tlog.v1 import gossip_pb2

Context: TypeAlias = "grpc.aio.ServicerContext[bytes, gossip_pb2.ExchangeResponse]"

OFFENCE_S = 3_600.0
"""How long a connection is not listened to after an offence."""
MOST_OF_OUR_TIME = 0.2
"""The share of the time for judgements that one host can take in the long run."""
RECEIVE_S = 10.0
"""How long a request may be on its way once its call has begun."""
CALLS_OF_A_HOST = 16
"""Calls of one host that may be under way."""


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
        host = host_of_peer(caller)
        wait_s = max(self._connections.wait_s(caller, now_s), self._hosts.wait_s(host, now_s))
        if wait_s > 0:
            raise PushbackError(f"not now: call again in {wait_s:.1f} s", retry_after_s=wait_s)
        try:
            answer, received = await self._gossiper.answer(caller, decode_message(request))
        except MalformedError:
            self._connections.block(caller, now_s, OFFENCE_S)
            raise
        self._hosts.charge(host, self._clock(), received.spent_s / MOST_OF_OUR_TIME)
        if received.is_offensive:
            self._connections.block(caller, now_s, OFFENCE_S)
            reason = next(one.reason for one in received.judgements if one.outcome in OFFENCES)
            raise OffendingMessageError(f"no honest node sends this, and nothing of it was kept: {reason}")
        return encode_message(answer, gossip_pb2.ExchangeResponse())


class GossipServicer:
    """Serves tlog.v1.GossipService for a node; belongs to one event loop.

    Exchange is taken as a stream of one message, which is the same on the wire. grpc waits for the request of
    a unary call as long as its caller likes, and counts the call meanwhile: whoever begins calls and sends
    nothing could keep everybody else out.
    """

    def __init__(
        self, desk: ExchangeDesk, *, receive_s: float = RECEIVE_S, calls_of_a_host: int = CALLS_OF_A_HOST
    ) -> None:
        self._desk = desk
        self._receive_s = receive_s
        self._calls_of_a_host = calls_of_a_host
        self._under_way: Counter[str] = Counter()

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register the service."""
        service = gossip_pb2.DESCRIPTOR.services_by_name["GossipService"]
        # The request is decoded below: grpc logs a traceback for each that is none.
        exchange: grpc.RpcMethodHandler[bytes, gossip_pb2.ExchangeResponse]
        exchange = grpc.stream_unary_rpc_method_handler(
            self._exchange,
            request_deserializer=None,
            response_serializer=gossip_pb2.ExchangeResponse.SerializeToString,
        )
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(service.full_name, {"Exchange": exchange}),)
        )

    async def _exchange(
        self, requests: AsyncIterator[bytes], context: Context
    ) -> gossip_pb2.ExchangeResponse:
        caller = context.peer()
        host = host_of_peer(caller)
        if self._under_way[host] >= self._calls_of_a_host:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "enough calls of this host are under way")
        self._under_way[host] += 1
        try:
            async with asyncio.timeout(self._receive_s):
                data = await anext(requests)
            return await self._desk.exchange(caller, parse_exchange(data, gossip_pb2.ExchangeRequest()))
        except PushbackError as error:
            code, text = grpc.StatusCode.RESOURCE_EXHAUSTED, str(error)
        except StopAsyncIteration:
            code, text = grpc.StatusCode.INVALID_ARGUMENT, "the call ended without a request"
        except MalformedError as error:
            code, text = grpc.StatusCode.INVALID_ARGUMENT, str(error)
        except TimeoutError:
            code, text = grpc.StatusCode.DEADLINE_EXCEEDED, "the request did not come in time"
        except StorageError:
            # Nothing was answered, so nothing has to be remembered; the node says by itself what is wrong.
            code, text = grpc.StatusCode.UNAVAILABLE, "this node cannot write to its disk"
        finally:
            self._under_way[host] -= 1
            if not self._under_way[host]:
                del self._under_way[host]
        await context.abort(code, text[:1_000])
        raise AssertionError("abort() raises")
