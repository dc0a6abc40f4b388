"""Exchanges over real sockets: two nodes convict a log, and a liar harms nobody but himself."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress

import grpc
import pytest
from _support.two_histories import ORIGIN, KeptHistory, TwoHistories
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from tlog.errors import MalformedError, PushbackError, RemoteError
from tlog.evidence import parse_evidence, verify_evidence
from tlog.gossip.grpc_service import ExchangeDesk, GossipServicer, HostLimits
from tlog.gossip.grpc_transport import METHOD, GrpcTransport
from tlog.gossip.grpc_wire import decode_message, encode_message
from tlog.gossip.message import (
    MAX_PATH_HASHES,
    ConsistencyPath,
    GivenPath,
    GossipMessage,
    OfferedCheckpoint,
    WantedPath,
)
from tlog.gossip.peer_book import PeerBook
from tlog.gossip.pool import Pool
from tlog.gossip.round import Gossiper, RunInThread
from tlog.gossip.state import MemoryState
from tlog.v1 import gossip_pb2, gossip_pb2_grpc

TIMEOUT_S = 5.0
FULL = GossipMessage(
    evidence=(b"evidence",),
    evidence_held=(bytes(32), b"\xff" * 32),
    checkpoints=(
        OfferedCheckpoint(note=b"note"),
        OfferedCheckpoint(note=b"other", path_start_size=3, path=(bytes(32), bytes(32))),
    ),
    wanted=(WantedPath(origin="log + log", start_size=1, end_size=2**63 - 1),),
    paths=(GivenPath(origin="log", path=ConsistencyPath(start_size=4, end_size=9, hashes=(b"\x01" * 32,))),),
)


@pytest.fixture(scope="module")
def log() -> TwoHistories:
    log = TwoHistories(40)
    log.fork("other", 5, 40)
    return log


def make_gossiper(log: TwoHistories, history: str, size: int, peers=(), **options) -> Gossiper:
    pool = Pool(log.policy, MemoryState(), KeptHistory(log, history, size))
    pool.judge(log.offer(history, size), 0.0)
    return Gossiper(
        pool,
        PeerBook(peers),
        options.pop("transport", None),
        fan_out=2,
        clock=time.monotonic,
        randomness=random.Random(1),
        **options,
    )


@asynccontextmanager
async def serving(gossiper: Gossiper, limits: HostLimits | None = None) -> AsyncIterator[str]:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    desk = ExchangeDesk(gossiper, time.monotonic, limits)
    GossipServicer(desk).add_to(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


@asynccontextmanager
async def transport(timeout_s: float = TIMEOUT_S) -> AsyncIterator[GrpcTransport]:
    carrier = GrpcTransport(timeout_s=timeout_s)
    try:
        yield carrier
    finally:
        await carrier.close()


def test_a_message_survives_the_wire() -> None:
    for exchange in (gossip_pb2.ExchangeRequest, gossip_pb2.ExchangeResponse):
        data = encode_message(FULL, exchange()).SerializeToString()
        assert decode_message(exchange.FromString(data)) == FULL


@given(st.binary(max_size=400))
def test_whatever_bytes_come_only_malformed_is_raised(data: bytes) -> None:
    try:
        request = gossip_pb2.ExchangeRequest.FromString(data)
    except DecodeError:
        return
    with suppress(MalformedError):
        decode_message(request)


@pytest.mark.parametrize(
    "request_",
    [
        gossip_pb2.ExchangeRequest(wanted=[gossip_pb2.WantedPath(origin="x", start_size=5, end_size=5)]),
        gossip_pb2.ExchangeRequest(wanted=[gossip_pb2.WantedPath(origin="x", start_size=0, end_size=5)]),
        gossip_pb2.ExchangeRequest(wanted=[gossip_pb2.WantedPath(origin="x", start_size=1, end_size=2**63)]),
        gossip_pb2.ExchangeRequest(
            wanted=[gossip_pb2.WantedPath(origin="x" * 256, start_size=1, end_size=2)]
        ),
        gossip_pb2.ExchangeRequest(wanted=[gossip_pb2.WantedPath(origin="x", start_size=1, end_size=2)] * 17),
        gossip_pb2.ExchangeRequest(evidence=[b"x"] * 9),
        gossip_pb2.ExchangeRequest(evidence=[bytes(2**21 + 1)]),
        gossip_pb2.ExchangeRequest(evidence=[bytes(2**20 + 2**19)] * 3),
        gossip_pb2.ExchangeRequest(evidence_held=[bytes(31)]),
        gossip_pb2.ExchangeRequest(evidence_held=[bytes(32)] * 257),
        gossip_pb2.ExchangeRequest(checkpoints=[gossip_pb2.OfferedCheckpoint()] * 65),
        gossip_pb2.ExchangeRequest(checkpoints=[gossip_pb2.OfferedCheckpoint(checkpoint=bytes(100_001))]),
        gossip_pb2.ExchangeRequest(
            checkpoints=[gossip_pb2.OfferedCheckpoint(consistency_path=[b""] * (MAX_PATH_HASHES + 1))]
        ),
    ],
)
def test_what_is_above_a_limit_is_refused_whole(request_: gossip_pb2.ExchangeRequest) -> None:
    with pytest.raises(MalformedError):
        decode_message(request_)


def test_two_nodes_over_sockets_end_with_evidence_that_a_third_party_believes(log: TwoHistories) -> None:
    async def run() -> tuple[Gossiper, Gossiper]:
        with ThreadPoolExecutor(1) as one_thread, ThreadPoolExecutor(1) as other_thread:
            other = make_gossiper(log, "other", 24, run=RunInThread(other_thread))
            async with serving(other) as address, transport() as carrier:
                one = make_gossiper(
                    log, "main", 30, [address], transport=carrier, run=RunInThread(one_thread)
                )
                report = await one.gossip_round()
                assert report.answered == (address,)
            return one, other

    for gossiper in asyncio.run(run()):
        assert gossiper.pool.convictions.is_refused(ORIGIN)
        (evidence,) = gossiper.pool.convictions.evidence
        verdict = verify_evidence(parse_evidence(evidence), log.policy)
        assert [key.vkey for key in verdict.convicted] == [log.signer.vkey]


def forged_request(log: TwoHistories) -> gossip_pb2.ExchangeRequest:
    one, two = log.note("main", 12), log.note("other", 12)
    note = two.rpartition(b"\n\n")[0] + b"\n\n" + one.rpartition(b"\n\n")[2]
    return gossip_pb2.ExchangeRequest(checkpoints=[gossip_pb2.OfferedCheckpoint(checkpoint=note)])


def test_a_liar_is_not_listened_to_any_more_while_others_are(log: TwoHistories) -> None:
    async def run() -> None:
        node = make_gossiper(log, "main", 30)
        async with serving(node) as address, grpc.aio.insecure_channel(address) as liar:
            call = liar.unary_unary(
                METHOD,
                request_serializer=gossip_pb2.ExchangeRequest.SerializeToString,
                response_deserializer=gossip_pb2.ExchangeResponse.FromString,
            )
            codes = []
            for request in (forged_request(log), gossip_pb2.ExchangeRequest()):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await call(request, timeout=TIMEOUT_S)
                codes.append(caught.value.code())
            assert codes == [
                grpc.StatusCode.INVALID_ARGUMENT,
                grpc.StatusCode.RESOURCE_EXHAUSTED,
            ]
            # An honest caller from the same host, at the same time.
            async with transport() as carrier:
                answer = await carrier.exchange(address, GossipMessage())
            assert [offered.note for offered in answer.checkpoints] == [log.note("main", 30)]
        assert not node.pool.convictions.evidence
        assert node.pool.trusted(ORIGIN).tree_size == 30
        assert node.pool.wanted() == ()

    asyncio.run(run())


def test_a_lying_peer_that_is_asked_is_dropped(log: TwoHistories) -> None:
    class Liar(gossip_pb2_grpc.GossipServiceServicer):
        calls = 0

        async def Exchange(self, request, context):  # noqa: N802
            Liar.calls += 1
            return gossip_pb2.ExchangeResponse(checkpoints=forged_request(log).checkpoints)

    async def run() -> None:
        server = grpc.aio.server()
        gossip_pb2_grpc.add_GossipServiceServicer_to_server(Liar(), server)
        address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await server.start()
        async with transport() as carrier:
            node = make_gossiper(log, "main", 30, [address], transport=carrier)
            for _ in range(3):
                await node.gossip_round()
        await server.stop(None)
        assert Liar.calls == 1
        assert node.book.left_alone(time.monotonic()) == (address,)
        assert not node.pool.convictions.evidence
        assert node.pool.trusted(ORIGIN).tree_size == 30

    asyncio.run(run())


def test_a_host_that_calls_too_often_is_told_when_to_come_back(log: TwoHistories) -> None:
    async def run() -> None:
        node = make_gossiper(log, "main", 30)
        async with serving(node, HostLimits(per_s=0.5, burst=3)) as address:
            for number in range(2):
                async with transport() as carrier:
                    if number:
                        await carrier.exchange(address, GossipMessage())
                        with pytest.raises(PushbackError, match="call again in"):
                            await carrier.exchange(address, GossipMessage())
                    else:
                        await carrier.exchange(address, GossipMessage())
                        await carrier.exchange(address, GossipMessage())

    asyncio.run(run())


def test_a_peer_that_never_answers_costs_one_deadline(log: TwoHistories) -> None:
    async def run(port: int) -> None:
        async with transport(timeout_s=0.3) as carrier:
            # Without a deadline it would wait for ever.
            with pytest.raises(RemoteError, match=r"DEADLINE_EXCEEDED|UNAVAILABLE"):
                async with asyncio.timeout(30):
                    await carrier.exchange(f"127.0.0.1:{port}", GossipMessage())

    # The system takes the connection, and nobody ever reads from it.
    with socket.create_server(("127.0.0.1", 0)) as listening:
        asyncio.run(run(listening.getsockname()[1]))


@asynccontextmanager
async def from_another_host(address: str) -> AsyncIterator[str]:
    """Yield an address by which `address` is reached from 127.0.0.2."""
    host, port = address.split(":")
    carried: list[asyncio.Task[None]] = []

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
            writer.close()
            await writer.wait_closed()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection(host, int(port), local_addr=("127.0.0.2", 0))
        await asyncio.gather(pump(reader, there[1]), pump(there[0], writer))

    proxy = await asyncio.start_server(
        lambda reader, writer: carried.append(asyncio.ensure_future(carry(reader, writer))), "127.0.0.1", 0
    )
    yield f"127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
    proxy.close()
    # The caller has closed its channel by now; nothing of the loop may outlive it.
    await asyncio.wait_for(asyncio.gather(*carried), 30)


def test_calls_that_send_nothing_keep_nobody_else_out_and_are_ended(log: TwoHistories) -> None:
    async def nothing() -> AsyncIterator[bytes]:
        await asyncio.sleep(60.0)
        yield b""

    async def run() -> None:
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)], maximum_concurrent_rpcs=20)
        desk = ExchangeDesk(make_gossiper(log, "main", 30), time.monotonic)
        GossipServicer(desk, receive_s=1.0, calls_of_a_host=4).add_to(server)
        address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await server.start()
        async with (
            grpc.aio.insecure_channel(address) as stalling,
            from_another_host(address) as detour,
            transport() as carrier,
        ):
            calls = [stalling.stream_unary(METHOD)(nothing()) for _ in range(20)]
            ends = asyncio.gather(*(call.code() for call in calls))
            await asyncio.sleep(0.3)
            answer = await carrier.exchange(detour, GossipMessage())
            assert len(answer.checkpoints) == 1
            assert sorted(code.name for code in await ends) == [
                *["DEADLINE_EXCEEDED"] * 4, *["RESOURCE_EXHAUSTED"] * 16
            ]  # fmt: skip
            assert len((await carrier.exchange(address, GossipMessage())).checkpoints) == 1
        await server.stop(None)

    asyncio.run(run())


def test_a_request_that_is_no_message_is_refused_without_a_traceback(
    log: TwoHistories, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        async with (
            serving(make_gossiper(log, "main", 30)) as address,
            grpc.aio.insecure_channel(address) as caller,
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await caller.unary_unary(METHOD)(b"\xff\xff junk", timeout=TIMEOUT_S)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT

    asyncio.run(run())
    assert not caplog.records


def test_a_peer_that_answers_with_junk_is_dropped_and_ends_no_round(log: TwoHistories) -> None:
    class Junk(grpc.GenericRpcHandler):
        def service(self, handler_call_details):
            async def answer(request, context):
                return b"\xff\xff junk"

            return grpc.unary_unary_rpc_method_handler(answer)

    async def run() -> None:
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((Junk(),))
        address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await server.start()
        async with transport() as carrier:
            node = make_gossiper(log, "main", 30, [address], transport=carrier)
            report = await node.gossip_round()
            assert (report.asked, report.answered) == ((address,), ())
            assert node.book.left_alone(time.monotonic()) == (address,)
        await server.stop(None)

    asyncio.run(run())


def test_a_host_whose_evidence_costs_much_time_is_granted_less(log: TwoHistories) -> None:
    now_s = 0.0

    async def run() -> None:
        nonlocal now_s
        node = make_gossiper(log, "main", 30)
        # Each judgement takes 5 s by this clock, which nothing else moves.
        node.pool.receive = lambda message, began_s, receive=node.pool.receive: work(receive, message)
        node._clock = lambda: now_s
        desk = ExchangeDesk(node, lambda: now_s, HostLimits(per_s=20.0, burst=100))

        def work(receive, message):
            nonlocal now_s
            now_s += 5.0
            return receive(message, now_s)

        request = gossip_pb2.ExchangeRequest()
        await desk.exchange("ipv4:10.0.0.1:1", request)
        with pytest.raises(PushbackError) as caught:
            await desk.exchange("ipv4:10.0.0.1:2", request)
        # A fifth of the time is his: 25 s for 5 s, of which 5 s are over, and 5 s he had left.
        assert 15.0 < caught.value.retry_after_s < 16.0
        await desk.exchange("ipv4:10.0.0.2:1", request)

    asyncio.run(run())


def test_an_answer_that_is_larger_than_anything_allowed_is_not_taken(log: TwoHistories) -> None:
    class Huge(gossip_pb2_grpc.GossipServiceServicer):
        async def Exchange(self, request, context):  # noqa: N802
            return gossip_pb2.ExchangeResponse(evidence=[bytes(2**20)] * 4)

    async def run() -> None:
        server = grpc.aio.server()
        gossip_pb2_grpc.add_GossipServiceServicer_to_server(Huge(), server)
        address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await server.start()
        async with transport() as carrier:
            with pytest.raises((RemoteError, PushbackError)):
                await carrier.exchange(address, GossipMessage())
        await server.stop(None)

    asyncio.run(run())
