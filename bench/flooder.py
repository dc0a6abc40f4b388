"""A member that floods: sends Appends without waiting and never backs off, in a process of its own.

It keeps to a share of a processor, so that what others feel is what the server does with its calls, and not
that it takes their processor away. It floods when it is told, and says what became of its calls when it is to
rest:

    python -m bench.flooder ADDRESS CA CERTIFICATE KEY REQUESTS CPU_SHARE

REQUESTS is a file of encoded AppendRequests, each behind its length; they are sent over and over.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, process_time

import grpc
import msgspec

from bench.served import REPOSITORY, START_TIMEOUT_S, read_line
from tlog.grpc_tls import channel_credentials
from tlog.tls import read_client_tls
from tlog.tls_config import ClientTlsSection
from tlog.v1 import log_pb2

IN_FLIGHT = 64
CALL_TIMEOUT_S = 30.0
PAUSE_S = 0.02
APPEND = "/tlog.v1.LogService/Append"


@dataclass(frozen=True, slots=True, kw_only=True)
class Flood:
    """Says what became of the calls that ended since the flooder was told to go."""

    seconds: float
    cpu_s: float
    appended: int
    codes: Mapping[str, int] = field(default_factory=dict)

    @property
    def cpu_share(self) -> float:
        """Return how much of a processor the flooder had."""
        return self.cpu_s / self.seconds

    @property
    def refused(self) -> int:
        """Return how many calls were refused by a quota."""
        return self.codes.get("RESOURCE_EXHAUSTED", 0)


class Flooder:
    """Is the handle of the process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def go(self) -> None:
        """Let it flood."""
        self._say("go")

    def rest(self) -> Flood:
        """Let it send nothing new; returns what became of what it sent."""
        self._say("rest")
        return msgspec.convert(read_line(self._process, START_TIMEOUT_S), Flood)

    def _say(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()


@contextmanager
def flooding(
    address: str, tls: ClientTlsSection, requests: Sequence[bytes], *, folder: Path, cpu_share: float
) -> Iterator[Flooder]:
    """Run a flooder while the block runs, which begins at rest; `folder` is for its requests."""
    file = folder / "flood.requests"
    file.write_bytes(b"".join(len(request).to_bytes(4, "big") + request for request in requests))
    process = subprocess.Popen(
        [
            *(
                sys.executable,
                "-m",
                "bench.flooder",
                address,
                tls.ca_path,
                tls.certificate_path,
                tls.key_path,
            ),
            *(str(file), str(cpu_share)),
        ],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            read_line(process, START_TIMEOUT_S)
            yield Flooder(process)
            assert process.stdin is not None
            process.stdin.close()
            process.wait(20)
        finally:
            process.kill()


class _Sender:
    """Sends while it may, and counts what comes of it."""

    def __init__(self, requests: Sequence[bytes], cpu_share: float) -> None:
        self._requests = requests
        self._cpu_share = cpu_share
        self._position = 0
        self._may_go = asyncio.Event()
        self._begin()

    def go(self) -> None:
        """Begin to send."""
        self._begin()
        self._may_go.set()

    def rest(self) -> Flood:
        """Send no more, and return what became of the calls that ended."""
        self._may_go.clear()
        return Flood(
            seconds=monotonic() - self._began_s,
            cpu_s=process_time() - self._began_cpu_s,
            appended=self._appended,
            codes=dict(self._codes),
        )

    async def send_on(self, call: grpc.aio.UnaryUnaryMultiCallable[bytes, log_pb2.AppendResponse]) -> None:
        """Send one call after the other, for ever."""
        while True:
            await self._may_go.wait()
            if process_time() - self._began_cpu_s > self._cpu_share * (monotonic() - self._began_s):
                await asyncio.sleep(PAUSE_S)
                continue
            self._position += 1
            try:
                answer = await call(
                    self._requests[self._position % len(self._requests)], timeout=CALL_TIMEOUT_S
                )
                self._codes["OK"] += 1
                self._appended += sum(not result.already_present for result in answer.results)
            except grpc.aio.AioRpcError as error:
                self._codes[error.code().name] += 1

    def _begin(self) -> None:
        self._codes: Counter[str] = Counter()
        self._appended = 0
        self._began_s, self._began_cpu_s = monotonic(), process_time()


async def _run(address: str, tls: ClientTlsSection, requests: Sequence[bytes], cpu_share: float) -> None:
    material = read_client_tls(tls)
    assert material is not None
    sender = _Sender(requests, cpu_share)
    async with grpc.aio.secure_channel(address, channel_credentials(material)) as channel:
        await channel.channel_ready()
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, log_pb2.AppendResponse] = channel.unary_unary(
            APPEND, response_deserializer=log_pb2.AppendResponse.FromString
        )
        senders = [asyncio.create_task(sender.send_on(call)) for _ in range(IN_FLIGHT)]
        print(json.dumps({"ready": True}), flush=True)
        while word := await asyncio.to_thread(sys.stdin.readline):
            if word.strip() == "go":
                sender.go()
            else:
                print(json.dumps(msgspec.to_builtins(sender.rest())), flush=True)
        for task in senders:
            task.cancel()
        await asyncio.gather(*senders, return_exceptions=True)


def _requests_of(data: bytes) -> list[bytes]:
    requests = []
    position = 0
    while position < len(data):
        start = position + 4
        position = start + int.from_bytes(data[position:start], "big")
        requests.append(data[start:position])
    return requests


if __name__ == "__main__":
    to, ca, certificate, key, file_name, share = sys.argv[1:]
    section = ClientTlsSection(ca_path=ca, certificate_path=certificate, key_path=key)
    asyncio.run(_run(to, section, _requests_of(Path(file_name).read_bytes()), float(share)))
