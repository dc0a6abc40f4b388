"""The program of a load process: takes jobs as lines of JSON on stdin, answers on stdout (bench/load.py).

Requests are signed and serialised before the window, and replies are looked at after it, so that as little as
possible of a shared machine goes to the generator meanwhile. `verified-append` is the exception: there the
real client verifies every reply before the call counts as answered.
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
import resource
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from time import perf_counter

import grpc
import msgspec

from bench.echo_server import METHOD as ECHO_METHOD
from bench.load import Job, Outcome
from bench.pacing import Call, closed_loop, open_loop
from bench.peer_adapters.given import peer_from
from bench.peer_load import PeerCaller
from bench.workload import log_signer, signed_events
from tlog.client.log_client import LogClient
from tlog.policy import build_policy
from tlog.v1 import log_pb2

_PATHS = {
    "append": "/tlog.v1.LogService/Append",
    "append-again": "/tlog.v1.LogService/Append",
    "proofs": "/tlog.v1.LogService/GetInclusionProofs",
    "echo": ECHO_METHOD,
}


class _RawCaller:
    """Sends serialised requests, and keeps the replies as bytes."""

    def __init__(self, channel: grpc.aio.Channel, job: Job) -> None:
        self._call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(_PATHS[job.method])
        self._job = job
        self.requests: Sequence[bytes] = ()
        self.replies: list[bytes] = []
        self.failures: Counter[str] = Counter()

    def load(self, batches: Sequence[list[bytes]]) -> None:
        if self._job.method == "proofs":
            self.requests = [_proofs_request(self._job, number) for number in range(len(batches))]
        else:
            self.requests = [log_pb2.AppendRequest(entries=batch).SerializeToString() for batch in batches]
        self.replies = [b""] * len(self.requests)
        self.failures.clear()

    async def __call__(self, number: int) -> None:
        try:
            self.replies[number] = await self._call(self.requests[number])
        except grpc.aio.AioRpcError as error:
            self.failures[f"{error.code().name}: {error.details()}"] += 1

    def acknowledged(self) -> int:
        """Return for how many events there is the right answer; what is wrong with a reply is a failure."""
        return sum(self._acknowledged(reply) for reply in self.replies if reply)

    def _acknowledged(self, reply: bytes) -> int:
        match self._job.method:
            case "echo":
                return self._job.batch
            case "proofs":
                found = log_pb2.GetInclusionProofsResponse.FromString(reply).results
                proven = sum(result.HasField("proof") for result in found)
                if proven != self._job.batch:
                    self.failures["a leaf without its proof"] += 1
                return proven
            case "append-again":
                results = log_pb2.AppendResponse.FromString(reply).results
                if len(results) != self._job.batch or not all(result.already_present for result in results):
                    self.failures["an entry that was not there before"] += 1
                    return 0
                return len(results)
            case _:
                response = log_pb2.AppendResponse.FromString(reply)
                if len(response.results) != self._job.batch or not response.HasField("range_proof"):
                    self.failures["a reply without a result for each entry, or without proof"] += 1
                elif any(result.already_present for result in response.results):
                    self.failures["an entry that was there before"] += 1
                else:
                    return len(response.results)
                return 0


def _proofs_request(job: Job, number: int) -> bytes:
    """Ask for random leaves, others in every call and every job."""
    leaves = random.Random(f"{job.first}:{number}")
    return log_pb2.GetInclusionProofsRequest(
        keys=[log_pb2.EntryKey(leaf_index=leaves.randrange(job.tree_size)) for _ in range(job.batch)],
        tree_size=job.tree_size,
    ).SerializeToString()


class _VerifyingCaller:
    """Appends with the real client, which verifies every reply."""

    def __init__(self, job: Job) -> None:
        self._client = LogClient(
            job.address, build_policy([log_signer().vkey]), checkpoint_file=None, timeout_s=60.0
        )
        self._threads = ThreadPoolExecutor(job.in_flight)
        self._batches: Sequence[list[bytes]] = ()
        self._acknowledged = 0
        self.failures: Counter[str] = Counter()

    def load(self, batches: Sequence[list[bytes]]) -> None:
        self._batches = batches
        self._acknowledged = 0
        self.failures.clear()

    def append(self, number: int) -> None:
        appended = self._client.append(self._batches[number])
        self._acknowledged += sum(not one.already_present for one in appended)

    async def __call__(self, number: int) -> None:
        await asyncio.get_running_loop().run_in_executor(self._threads, self.append, number)

    def acknowledged(self) -> int:
        return self._acknowledged

    def close(self) -> None:
        self._threads.shutdown()
        self._client.close()


_Caller = _RawCaller | _VerifyingCaller | PeerCaller


class _Process:
    def __init__(self) -> None:
        self._address = ""
        self._channel: grpc.aio.Channel | None = None

    async def run(self, job: Job) -> None:
        """Do one job: sign, warm up, say so, wait, send, report."""
        if job.method == "verified-append":
            verifying = _VerifyingCaller(job)
            try:
                await self._run(job, verifying)
            finally:
                verifying.close()
        elif job.method == "peer":
            peer = PeerCaller(peer_from(job.address).adapter(), job.batch)
            try:
                await peer.open()
                await self._run(job, peer)
            finally:
                await peer.close()
        else:
            await self._run(job, _RawCaller(await self._connected(job.address), job))

    async def _run(self, job: Job, caller: _Caller) -> None:
        batches: list[list[bytes]] = [[]] * (job.calls + job.warm_up_calls)
        if job.method != "proofs":
            events = signed_events(job.member, job.first, job.next_event, entry_bytes=job.entry_bytes)
            batches = [events[start : start + job.batch] for start in range(0, len(events), job.batch)]
        if isinstance(caller, PeerCaller):
            await caller.look()
        caller.load(batches[job.calls :])
        await closed_loop(caller, calls=job.warm_up_calls, in_flight=job.in_flight)
        if caller.failures:
            raise RuntimeError(f"the warm-up failed: {dict(caller.failures)}")
        if isinstance(caller, PeerCaller):
            await caller.settle()
            await caller.look()
        caller.load(batches[: job.calls])
        gc.collect()
        gc.freeze()
        _say({"ready": {}})
        await asyncio.to_thread(sys.stdin.readline)
        _say({"outcome": asdict(await self._measured(job, caller))})
        gc.unfreeze()

    async def _measured(self, job: Job, caller: _Caller) -> Outcome:
        latencies_s: list[float] = []
        started_s = perf_counter()
        before = _own_cpu()
        if isinstance(caller, _VerifyingCaller) and job.in_flight == 1 and job.rate_per_s is None:
            latencies_s = _one_by_one(caller, job.calls)
        else:
            latencies_s = await _paced(caller, job)
        user_s, system_s = (now - then for now, then in zip(_own_cpu(), before, strict=True))
        seconds = perf_counter() - started_s
        if isinstance(caller, PeerCaller):
            await caller.settle()
        settled_s = perf_counter() - started_s
        replies = [] if isinstance(caller, _VerifyingCaller) else caller.replies
        requests = [] if isinstance(caller, _VerifyingCaller) else caller.requests
        return Outcome(
            events=caller.acknowledged(),
            seconds=seconds,
            latencies_s=latencies_s,
            user_s=user_s,
            system_s=system_s,
            reply_bytes=len(replies[-1]) if replies else 0,
            request_bytes=len(requests[-1]) if requests else 0,
            settled_s=settled_s,
            failures=dict(caller.failures),
        )

    async def _connected(self, address: str) -> grpc.aio.Channel:
        if self._channel is None or self._address != address:
            if self._channel is not None:
                await self._channel.close()
            self._channel = grpc.aio.insecure_channel(
                address, options=[("grpc.max_receive_message_length", 16 * 2**20)]
            )
            self._address = address
        return self._channel


async def _paced(call: Call, job: Job) -> list[float]:
    if job.rate_per_s is None:
        return await closed_loop(call, calls=job.calls, in_flight=job.in_flight)
    return await open_loop(call, calls=job.calls, rate_per_s=job.rate_per_s)


def _one_by_one(caller: _VerifyingCaller, calls: int) -> list[float]:
    """Call as a program without an event loop would: nothing stands between it and the client."""
    latencies_s = []
    for number in range(calls):
        started_s = perf_counter()
        caller.append(number)
        latencies_s.append(perf_counter() - started_s)
    return latencies_s


def _own_cpu() -> tuple[float, float]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime, usage.ru_stime


def _say(message: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


async def _serve() -> None:
    process = _Process()
    while line := await asyncio.to_thread(sys.stdin.readline):
        try:
            await process.run(msgspec.convert(json.loads(line)["prepare"], Job))
        except Exception as error:  # noqa: BLE001 - told to whoever gave the job, who raises it
            _say({"error": f"{type(error).__name__}: {error}"})


if __name__ == "__main__":
    asyncio.run(_serve())
