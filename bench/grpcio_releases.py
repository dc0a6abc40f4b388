"""Compare the CPU that a call costs the server, and the client, under several grpcio releases.

    python bench/grpcio_releases.py 1.85.1 1.80.1 1.76.0 --folder /some/folder --rounds 7 --json

For every release: a throw-away virtual environment, an empty `grpc.aio` echo server in one process and a
client in another, over loopback, with raw bytes (no protobuf, so nothing but grpcio differs). Measured is CPU
time (user + system) of each process per unary call: wall time on a shared machine says more about the
neighbours. Rounds are interleaved, every round takes fresh processes and another order, and the ratio to the
first release named is taken inside each round, so that a slow minute hits all releases alike.

grpc's own environment variables reach both processes: under
GRPC_EXPERIMENTS=-event_engine_client,-event_engine_listener releases from 1.80 on poll as 1.78 does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

# Two years of releases, each in its last patch; 1.77 and 1.79 are not on the package index.
RELEASES = [
    "1.85.1", "1.84.2", "1.83.2", "1.82.3", "1.80.1", "1.78.2", "1.76.0", "1.74.0", "1.71.2", "1.68.1",
]  # fmt: skip
REPLY_BYTES = 500
WARM_UP_CALLS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Says what one measurement sends: `calls` requests, `in_flight` of them at a time."""

    name: str
    request_bytes: int
    in_flight: int
    calls: int


CASES = [
    Case(name="500 B, 64 in flight", request_bytes=500, in_flight=64, calls=4000),
    Case(name="500 B, 1 in flight", request_bytes=500, in_flight=1, calls=1000),
    Case(name="120 kB, 64 in flight", request_bytes=120_000, in_flight=64, calls=800),
    Case(name="120 kB, 1 in flight", request_bytes=120_000, in_flight=1, calls=300),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Holds one measurement: CPU microseconds per call, of the server and of the client."""

    release: str
    case: str
    round: int
    server_us: float
    client_us: float


def cpu_s() -> float:
    """Return the CPU time of this process so far, user and system, in seconds."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


# ---- the two programs under measurement, run by each release's own interpreter


async def run_server() -> None:
    """Serve Echo and Cpu on a free loopback port, print the port, and stop when stdin is closed."""
    import grpc

    async def echo(request: bytes, _context: object) -> bytes:
        return request[:REPLY_BYTES]

    async def cpu(_request: bytes, _context: object) -> bytes:
        return repr(cpu_s()).encode()

    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        "Echo": grpc.unary_unary_rpc_method_handler(echo),
        "Cpu": grpc.unary_unary_rpc_method_handler(cpu),
    }
    # The same two calls that generated code makes; from 1.84 on, registered methods take a path of their own.
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Bench", handlers),))
    server.add_registered_method_handlers("bench.Bench", handlers)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(grace=1)


async def run_client(port: int) -> None:
    """Measure every case against the server, and print [[server_us, client_us], ...]."""
    import grpc

    results = []
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        connect: Callable[..., grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]] = channel.unary_unary
        # Registered: the call that generated code makes, which the stubs do not know.
        echo = connect("/bench.Bench/Echo", _registered_method=True)
        server_cpu = connect("/bench.Bench/Cpu", _registered_method=True)

        async def send(request: bytes, in_flight: int, calls: int) -> None:
            async def caller() -> None:
                for _ in range(calls // in_flight):
                    await echo(request)

            await asyncio.gather(*(caller() for _ in range(in_flight)))

        for case in CASES:
            request = bytes(case.request_bytes)
            calls = case.calls // case.in_flight * case.in_flight
            await send(request, case.in_flight, WARM_UP_CALLS)
            server_before, client_before = float(await server_cpu(b"")), cpu_s()
            await send(request, case.in_flight, calls)
            server_after, client_after = float(await server_cpu(b"")), cpu_s()
            results.append(
                [(server_after - server_before) / calls * 1e6, (client_after - client_before) / calls * 1e6]
            )
    print(json.dumps(results))


# ---- the runner


def install(release: str, folder: Path) -> Path:
    """Make the release's virtual environment, unless an earlier run left it, and return its interpreter."""
    python = folder / f"grpcio-{release}" / "bin" / "python"
    done = folder / f"grpcio-{release}" / "installed"
    if not done.exists():
        venv.create(python.parent.parent, with_pip=False, clear=True)
        subprocess.run(
            [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet",
             "--only-binary", ":all:", f"grpcio=={release}"],
            check=True,
        )  # fmt: skip
        done.touch()
    return python


def measure(release: str, python: Path, round_number: int) -> list[Sample]:
    """Run one fresh server and one fresh client of a release through every case."""
    program = [str(python), str(Path(__file__).resolve())]
    server = subprocess.Popen(
        [*program, "--role", "server"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        port = int(server.stdout.readline())
        client = subprocess.run(
            [*program, "--role", "client", "--port", str(port)],
            check=True, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
    finally:
        server.stdin.close()
        server.wait(timeout=20)
    return [
        Sample(release=release, case=case.name, round=round_number, server_us=server_us, client_us=client_us)
        for case, (server_us, client_us) in zip(CASES, json.loads(client.stdout), strict=True)
    ]


def summarise(samples: list[Sample], releases: list[str]) -> list[dict[str, object]]:
    """Fold samples into a row for each release and case; ratios are to the first release, by round."""
    rows: list[dict[str, object]] = []
    for case in CASES:
        reference = {
            s.round: s.server_us for s in samples if s.release == releases[0] and s.case == case.name
        }
        for release in releases:
            own = [s for s in samples if s.release == release and s.case == case.name]
            ratios = sorted(s.server_us / reference[s.round] for s in own)
            rows.append(
                {
                    "case": case.name,
                    "release": release,
                    "server_us_median": round(statistics.median(s.server_us for s in own), 1),
                    "server_us_min": round(min(s.server_us for s in own), 1),
                    "client_us_median": round(statistics.median(s.client_us for s in own), 1),
                    "ratio_median": round(statistics.median(ratios), 3),
                    "ratio_min": round(ratios[0], 3),
                    "ratio_max": round(ratios[-1], 3),
                }
            )
    return rows


def show(rows: list[dict[str, object]], reference: str) -> None:
    """Print the rows as one Markdown table for each case."""
    for case in CASES:
        print(f"\n{case.name} (CPU microseconds per call; ratio of server CPU to {reference}, same round)\n")
        print("| grpcio | server median | server min | client median | ratio | lowest to highest |")
        print("| --- | ---: | ---: | ---: | ---: | --- |")
        for row in rows:
            if row["case"] == case.name:
                print(
                    f"| {row['release']} | {row['server_us_median']} | {row['server_us_min']} "
                    f"| {row['client_us_median']} | {row['ratio_median']} "
                    f"| {row['ratio_min']} to {row['ratio_max']} |"
                )


def run(releases: list[str], folder: Path, rounds: int, *, as_json: bool) -> None:
    """Install and measure all releases, telling on stderr how far it is, and print the result."""
    folder.mkdir(parents=True, exist_ok=True)
    pythons = {}
    for number, release in enumerate(releases, 1):
        print(f"install {number}/{len(releases)}: grpcio {release}", file=sys.stderr)
        pythons[release] = install(release, folder)
    samples: list[Sample] = []
    started = time.monotonic()
    for round_number in range(rounds):
        shift = round_number % len(releases)
        for place, release in enumerate(releases[shift:] + releases[:shift], 1):
            samples += measure(release, pythons[release], round_number)
            done = round_number * len(releases) + place
            left_s = (time.monotonic() - started) / done * (rounds * len(releases) - done)
            print(
                f"round {round_number + 1}/{rounds}: grpcio {release:8} "
                f"{samples[-len(CASES)].server_us:6.1f} us/call, about {left_s:.0f} s left",
                file=sys.stderr,
            )
    rows = summarise(samples, releases)
    if as_json:
        machine = {"python": platform.python_version(), "machine": platform.machine(), "rounds": rounds}
        print(json.dumps({**machine, "rows": rows, "samples": [asdict(sample) for sample in samples]}))
    else:
        show(rows, releases[0])


def main() -> None:
    """Read the arguments and run one of the three programs."""
    parser = argparse.ArgumentParser(description="Compare the server CPU per call of grpcio releases.")
    parser.add_argument("releases", nargs="*", help="ratios are to the first one named")
    parser.add_argument("--folder", type=Path, help="where the environments stay (default: nowhere)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="print all samples as JSON")
    parser.add_argument("--role", choices=["server", "client"], help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    releases = arguments.releases or RELEASES
    if arguments.role == "server":
        asyncio.run(run_server())
    elif arguments.role == "client":
        asyncio.run(run_client(arguments.port))
    elif arguments.folder:
        run(releases, arguments.folder, arguments.rounds, as_json=arguments.json)
    else:
        with tempfile.TemporaryDirectory(prefix="grpcio-releases-") as folder:
            run(releases, Path(folder), arguments.rounds, as_json=arguments.json)


if __name__ == "__main__":
    main()
