"""Calls that were begun and never sent, and many connections of one host: what they cost, and whom."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
from _support.alliance import Alliance
from _support.log_directory import make_log_directory, serving

from tlog.v1 import log_pb2, log_pb2_grpc

CALLS = 3_000
CALLS_OF_CONNECTION = 500
IDLE_CONNECTIONS = 50
BYTES_OF_CALL = 40_000
"""What docs/operations.md says that a call without its request holds."""
LOCAL = (("grpc.use_local_subchannel_pool", 1),)


def private_bytes(pid: int) -> int:
    """Return what a process holds of memory that is no file."""
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    (line,) = (line for line in text.splitlines() if line.startswith("RssAnon:"))
    return int(line.split()[1]) * 1_024


async def _begun_calls(address: str, stack: AsyncExitStack) -> list[object]:
    """Begin calls of Append on connections of their own, and send no request; returns what keeps them."""
    kept: list[object] = []
    for _ in range(CALLS // CALLS_OF_CONNECTION):
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(address, options=LOCAL))
        begin = channel.stream_unary("/tlog.v1.LogService/Append")
        kept += [begin() for _ in range(CALLS_OF_CONNECTION)]
        # One that is whole, behind them on the same connection: those were begun when it is answered.
        stub = log_pb2_grpc.LogServiceStub(channel)  # type: ignore[no-untyped-call]
        await stub.GetCheckpoint(log_pb2.GetCheckpointRequest(), timeout=60)
    for _ in range(IDLE_CONNECTIONS):
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(address, options=LOCAL))
        await asyncio.wait_for(channel.channel_ready(), 60)
    return kept


def test_three_thousand_calls_without_a_request_cost_what_the_docs_say_and_others_are_served(
    tmp_path: Path,
) -> None:
    alliance = Alliance()
    config = make_log_directory(tmp_path / "log", alliance)

    async def scenario(address: str, pid: int) -> None:
        async with AsyncExitStack() as stack:
            other = await stack.enter_async_context(grpc.aio.insecure_channel(address, options=LOCAL))
            stub = log_pb2_grpc.LogServiceStub(other)  # type: ignore[no-untyped-call]
            await stub.Append(log_pb2.AppendRequest(entries=alliance.entries(0, 10)), timeout=60)
            before = private_bytes(pid)
            kept = await _begun_calls(address, stack)
            for number in range(10, 30):
                entries = [alliance.entry(number)]
                answer = await stub.Append(log_pb2.AppendRequest(entries=entries), timeout=60)
                assert len(answer.results) == 1
            held = private_bytes(pid) - before
            assert len(kept) == CALLS
            assert held < CALLS * BYTES_OF_CALL
            # That they are there at all, and the measure sees them.
            assert held > CALLS * 1_000

    with serving(config) as server:
        asyncio.run(scenario(server.grpc_address, server.pid))
        assert "Traceback" not in server.errors
