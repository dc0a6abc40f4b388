"""An empty gRPC server: the floor of what any call costs in Python.

Its own process, with the real server's options. It takes a request of any size as bytes, without a protobuf
decoder, and answers with as many bytes as it was started with.

    python -m bench.echo_server 500
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import grpc

from bench.measure import CpuTime, cpu_time
from bench.served import REPOSITORY, START_TIMEOUT_S, read_line
from server.grpc_server import GRPC_OPTIONS

SERVICE = "bench.Echo"
METHOD = f"/{SERVICE}/Call"


@dataclass(frozen=True, slots=True, kw_only=True)
class Echo:
    """Is one running echo server."""

    pid: int
    address: str

    def cpu(self) -> CpuTime:
        """Return its CPU time up to now."""
        return cpu_time(self.pid)


@contextmanager
def echoing(reply_bytes: int) -> Iterator[Echo]:
    """Run an echo server while the block runs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.echo_server", str(reply_bytes)],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield Echo(pid=process.pid, address=str(read_line(process, START_TIMEOUT_S)["address"]))
            assert process.stdin is not None
            process.stdin.close()
            process.wait(20)
        finally:
            process.kill()


async def _serve(reply_bytes: int) -> None:
    reply = bytes(reply_bytes)

    async def call(_request: bytes, _context: object) -> bytes:
        return reply

    server = grpc.aio.server(options=GRPC_OPTIONS)
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(call)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Call": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(json.dumps({"address": f"127.0.0.1:{port}"}), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(grace=1)


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
