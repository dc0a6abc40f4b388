"""A member that floods: sends without waiting, never backs off, and keeps to a share of a processor.

    python -m _support.flooder ADDRESS CA CERTIFICATE KEY SECONDS CPU_SHARE

Prints what became of its calls, and its own CPU, as one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence

import grpc
from _support.alliance import DECLARATION, Alliance

from tlog.grpc_tls import channel_credentials
from tlog.tls import read_client_tls
from tlog.tls_config import ClientTlsSection
from tlog.v1 import log_pb2

BATCH = 50
BATCHES = 60
IN_FLIGHT = 64


async def flood(address: str, tls: ClientTlsSection, seconds: float, cpu_share: float) -> dict[str, object]:
    alliance = Alliance()
    first = 1_000_000 + time.time_ns() % 10**12
    requests = [
        log_pb2.AppendRequest(
            entries=[
                alliance.entry(
                    first + batch * BATCH + number,
                    member="forwarder",
                    event_type=DECLARATION,
                )
                for number in range(BATCH)
            ]
        ).SerializeToString()
        for batch in range(BATCHES)
    ]
    material = read_client_tls(tls)
    assert material is not None
    codes: Counter[str] = Counter()
    appended = 0
    said: set[str | None] = set()
    began_s, began_cpu_s = time.monotonic(), time.process_time()
    async with grpc.aio.secure_channel(address, channel_credentials(material)) as channel:
        call = channel.unary_unary(
            "/tlog.v1.LogService/Append", response_deserializer=log_pb2.AppendResponse.FromString
        )
        position = 0

        async def send_on() -> None:
            nonlocal position, appended
            while (elapsed_s := time.monotonic() - began_s) < seconds:
                if time.process_time() - began_cpu_s > cpu_share * elapsed_s:
                    await asyncio.sleep(0.02)
                    continue
                position += 1
                try:
                    answer = await call(requests[position % BATCHES], timeout=30)
                    codes["OK"] += 1
                    appended += sum(not result.already_present for result in answer.results)
                except grpc.aio.AioRpcError as error:
                    codes[error.code().name] += 1
                    if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                        said.add(error.details())

        await asyncio.gather(*(send_on() for _ in range(IN_FLIGHT)))
    elapsed_s = time.monotonic() - began_s
    return {
        "codes": codes,
        "said": sorted(map(str, said)),
        "appended": appended,
        "seconds": elapsed_s,
        "cpu_share": (time.process_time() - began_cpu_s) / elapsed_s,
    }


def main(arguments: Sequence[str]) -> None:
    address, ca, certificate, key, seconds, cpu_share = arguments
    tls = ClientTlsSection(ca_path=ca, certificate_path=certificate, key_path=key)
    told = asyncio.run(flood(address, tls, float(seconds), float(cpu_share)))
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1:])
