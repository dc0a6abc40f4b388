"""One process that appends at a steady rate, and watches when what it appended is published.

    python -m bench.quorum_process ADDRESS MEMBER FIRST CALLS RATE

It signs, connects and warms up, writes a line, waits for one, works, and writes what it saw as JSON. Every
call is made at its own time, whatever became of those before (bench/pacing.py); published is an entry when a
checkpoint arrives that covers it.
"""

from __future__ import annotations

import asyncio
import json
import sys
from time import perf_counter

import grpc

from bench.pacing import open_loop
from bench.workload import signed_events
from tlog.checkpoint import parse_checkpoint
from tlog.note import parse_note
from tlog.v1 import log_pb2, log_pb2_grpc

WARM_UP_CALLS = 20
TIMEOUT_S = 30.0


class Watch:
    """Follows the published checkpoints, and takes down when each of them came."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, float]] = []
        self._grown = asyncio.Event()

    async def follow(self, stub: log_pb2_grpc.LogServiceStub) -> None:
        """Take down every checkpoint of a larger tree, until the log ends the stream."""
        async for message in stub.WatchCheckpoints(log_pb2.WatchCheckpointsRequest()):
            came_s = perf_counter()
            size = parse_checkpoint(parse_note(message.checkpoint)[0]).tree_size
            if not self.seen or size > self.seen[-1][0]:
                self.seen.append((size, came_s))
                self._grown.set()

    async def reaches(self, tree_size: int) -> None:
        """Wait for a checkpoint of at least this size."""
        while not self.seen or self.seen[-1][0] < tree_size:
            self._grown.clear()
            await self._grown.wait()

    def published_s(self, leaf_index: int) -> float:
        """Return when the first checkpoint came that covers a leaf. Requires that one came."""
        return next(came_s for size, came_s in self.seen if size > leaf_index)


async def _run(address: str, member: int, first: int, calls: int, rate_per_s: float) -> None:
    entries = signed_events(member, first, first + calls + WARM_UP_CALLS)
    requests = [log_pb2.AppendRequest(entries=[entry]) for entry in entries]
    async with grpc.aio.insecure_channel(address) as channel:
        stub = log_pb2_grpc.LogServiceStub(channel)  # type: ignore[no-untyped-call]
        watch = Watch()
        watching = asyncio.create_task(watch.follow(stub))
        leaf_indices = [0] * calls
        acknowledged_s = [0.0] * calls

        async def append(number: int) -> int:
            reply = await stub.Append(requests[number], timeout=TIMEOUT_S)
            if reply.results[0].already_present:
                raise RuntimeError(f"event {first + number} was in the log before")
            return int(reply.results[0].leaf_index)

        async def measured(number: int) -> None:
            leaf_indices[number] = await append(number)
            acknowledged_s[number] = perf_counter()

        for number in range(calls, calls + WARM_UP_CALLS):
            last = await append(number)
        async with asyncio.timeout(TIMEOUT_S):
            await watch.reaches(last + 1)
        _say({})
        await asyncio.to_thread(sys.stdin.readline)
        rounds_before = len(watch.seen)
        started_s = perf_counter()
        taken_s = await open_loop(measured, calls=calls, rate_per_s=rate_per_s)
        async with asyncio.timeout(TIMEOUT_S):
            await watch.reaches(max(leaf_indices) + 1)
        published_s = [watch.published_s(index) for index in leaf_indices]
        _say({
            "appended_s": taken_s,
            "published_s": [
                taken + published - acknowledged
                for taken, published, acknowledged in zip(
                    taken_s, published_s, acknowledged_s, strict=True
                )
            ],
            "checkpoints": len(watch.seen) - rounds_before,
            "seconds": perf_counter() - started_s,
        })  # fmt: skip
        watching.cancel()


def _say(message: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _address, *_numbers = sys.argv[1:]
    _member, _first, _calls = map(int, _numbers[:3])
    asyncio.run(_run(_address, _member, _first, _calls, float(_numbers[3])))
