"""Whether one member feels that another floods: its calls alone and under the flood, in turn, in one run."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from time import perf_counter, sleep

import grpc
import msgspec

from bench import targets
from bench.flooder import APPEND, Flood, Flooder, flooding
from bench.floors import StorageFloor
from bench.measure import median, percentile
from bench.prefilled import prefilled_log, working_copy
from bench.progress import Progress
from bench.result import Result, Row
from bench.served import Served, serving
from bench.settings import Settings
from bench.workload import fillers, index_rows, signed_events, source
from server.config import QuotasSection
from tlog.certificates import make_authority, make_client_certificate, make_server_certificate
from tlog.grpc_tls import channel_credentials
from tlog.tls import read_client_tls
from tlog.tls_config import ClientTlsSection
from tlog.v1 import log_pb2

QUESTION = "Does a member feel that another one floods?"

STEADY, FLOODING = 0, 1
EVERY_S = 0.025
CPU_SHARE = 0.3
LARGEST = 1_000_000
BATCHES = (64, 1)


def run(settings: Settings, progress: Progress) -> Result:
    """Measure under two floods, of batches and of single events, with default quotas."""
    tree_size = max(size for size in settings.tree_sizes if size <= LARGEST)
    original = prefilled_log(settings, tree_size, progress)
    rows: list[Row] = []
    for batch in BATCHES[:1] if settings.profile == "tiny" else BATCHES:
        with _rig(settings, original, batch) as rig:
            rows += _rows(settings, rig, tree_size, batch, progress)
    return Result(
        question=QUESTION,
        rows=rows,
        notes=[
            f"The steady member appends one event every {EVERY_S * 1e3:g} ms, one after the other; the "
            f"flooder has 64 calls in flight, never waits, and has at most {CPU_SHARE:g} of a processor, for "
            "all of them share one machine. Latency counts from the time at which a call was to be made.",
            "Default quotas; both show a certificate, so that each is a caller of its own.",
            "Each flooded window begins with the flood's first, unrestrained wave.",
            "A bare durable commit is one row into an LMDB of the bench's own on the same disk, between the "
            "calls: what grows there as well is the disk's and the neighbours', not the server's.",
        ],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rig:
    served: Served
    flooder: Flooder
    append: Callable[[], None]
    disk: StorageFloor


@dataclass(frozen=True, slots=True, kw_only=True)
class _Window:
    latencies_ms: list[float]
    disk_ms: list[float]
    server_share: float
    flood: Flood | None


@contextmanager
def _rig(settings: Settings, original: Path, batch: int) -> Iterator[_Rig]:
    # More than a flood gets through in all windows: one that ran out would send what is there already.
    events = {"tiny": 512, "short": 20_480, "full": 81_920}[settings.profile]
    with ExitStack() as stack:
        directory = stack.enter_context(working_copy(settings, original))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=settings.folder)))
        now = datetime.now(UTC)
        authority = make_authority(folder, name="bench", now=now, days=2)
        server = make_server_certificate(folder, "server", names=("127.0.0.1",), now=now, days=1)
        steady, flooder = (
            _client(folder, f"member-{member}", source(member), authority.certificate, now)
            for member in (STEADY, FLOODING)
        )
        material = read_client_tls(steady)
        assert material is not None
        credentials = channel_credentials(material)
        tls = {
            "certificate_path": str(server.certificate.absolute()),
            "key_path": str(server.key.absolute()),
            "client_ca_path": str(authority.certificate.absolute()),
        }
        served = stack.enter_context(
            serving(
                directory,
                {"tls": tls, "quotas": msgspec.to_builtins(QuotasSection())},
                credentials=credentials,
            )
        )
        entries = signed_events(FLOODING, 0, events)
        requests = [
            log_pb2.AppendRequest(entries=entries[start : start + batch]).SerializeToString()
            for start in range(0, events, batch)
        ]
        channel = stack.enter_context(grpc.secure_channel(served.address, credentials))
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(APPEND)
        numbers = count()

        def append() -> None:
            number = next(numbers)
            (entry,) = signed_events(STEADY, number, number + 1)
            call(log_pb2.AppendRequest(entries=[entry]).SerializeToString(), timeout=30)

        flood = stack.enter_context(
            flooding(served.address, flooder, requests, folder=folder, cpu_share=CPU_SHARE)
        )
        (folder / "disk").mkdir()
        disk = StorageFloor(folder / "disk", 0)
        stack.callback(disk.close)
        yield _Rig(served=served, flooder=flood, append=append, disk=disk)


def _client(folder: Path, name: str, member_source: str, ca: Path, now: datetime) -> ClientTlsSection:
    made = make_client_certificate(folder, name, sources=(member_source,), now=now, days=1)
    return ClientTlsSection(
        ca_path=str(ca.absolute()),
        certificate_path=str(made.certificate.absolute()),
        key_path=str(made.key.absolute()),
    )


def _rows(settings: Settings, rig: _Rig, tree_size: int, batch: int, progress: Progress) -> list[Row]:
    seconds = {"tiny": 0.5, "short": 2.5, "full": 12.0}[settings.profile]
    _window(rig, 0.3 if settings.profile == "tiny" else 1.0, is_flooded=False)
    alone: list[_Window] = []
    flooded: list[_Window] = []
    rounds = settings.few_rounds
    with progress.running(f"a flood, {batch} events a call", rounds * 2) as advance:
        for _ in range(rounds):
            for windows, is_flooded in ((alone, False), (flooded, True)):
                windows.append(_window(rig, seconds, is_flooded=is_flooded))
                advance(1)
    floods = [window.flood for window in flooded if window.flood is not None]
    at: dict[str, int | float | str] = {"tree_size": tree_size, "flood": f"{batch} events a call"}
    rows = []
    for name, fraction in (("p50", 0.5), ("p99", 0.99)):
        # Over all windows: a hundredth of one window is one call or two.
        pairs = [
            percentile([latency for window in windows for latency in window.latencies_ms], fraction)
            for windows in (alone, flooded)
        ]
        rows += [
            Row(name=f"{name} alone", value=pairs[0], unit="ms", at=at),
            Row(name=f"{name} flooded", value=pairs[1], unit="ms", at=at),
            Row(
                name=f"{name} flooded / alone",
                value=pairs[1] / pairs[0],
                unit="x",
                at=at,
                target=targets.FLOOD if (name, tree_size) == ("p99", LARGEST) else None,
            ),
        ]
        rows += [
            Row(
                name=f"{name} of a bare durable commit, {when}",
                value=percentile([took for window in windows for took in window.disk_ms] or [0.0], fraction),
                unit="ms",
                at=at,
            )
            for when, windows in (("alone", alone), ("flooded", flooded))
        ]
    more = [two.server_share - one.server_share for one, two in zip(alone, flooded, strict=True)]
    return [
        *rows,
        _row("server CPU that the flood takes", [100 * share for share in more], "% of a core", at),
        _row("flooder's own CPU", [100 * flood.cpu_share for flood in floods], "% of a core", at),
        _row("flooder's calls refused", [flood.refused / flood.seconds for flood in floods], "calls/s", at),
        _row("flooder's events taken", [flood.appended / flood.seconds for flood in floods], "events/s", at),
    ]


def _row(name: str, samples: list[float], unit: str, at: dict[str, int | float | str]) -> Row:
    return Row(name=name, value=median(samples), unit=unit, at=at, samples=samples)


def _window(rig: _Rig, seconds: float, *, is_flooded: bool) -> _Window:
    cpu = rig.served.cpu()
    if is_flooded:
        rig.flooder.go()
    began_s = perf_counter()
    disk_ms: list[float] = []

    def commit() -> None:
        rows = index_rows(list(fillers(rig.disk.size, rig.disk.size + 1)))
        disk_ms.extend(second * 1e3 for second in rig.disk.commit_times_s(rows))

    latencies_ms = paced(rig.append, seconds=seconds, every_s=EVERY_S, then=commit)
    took_s = perf_counter() - began_s
    flood = rig.flooder.rest() if is_flooded else None
    used = rig.served.cpu() - cpu
    return _Window(
        latencies_ms=latencies_ms,
        disk_ms=disk_ms,
        server_share=(used.user_s + used.system_s) / took_s,
        flood=flood,
    )


def paced(
    call: Callable[[], None], *, seconds: float, every_s: float, then: Callable[[], None] = lambda: None
) -> list[float]:
    """Call at fixed times, one after the other; milliseconds of each from the time at which it was due.

    `then` is called after each that left half of the time until the next.
    """
    latencies_ms = []
    start_s = perf_counter()
    for number in range(max(2, int(seconds / every_s))):
        due_s = start_s + number * every_s
        if (early_s := due_s - perf_counter()) > 0:
            sleep(early_s)
        call()
        ended_s = perf_counter()
        latencies_ms.append((ended_s - due_s) * 1e3)
        if ended_s - due_s < every_s / 2:
            then()
    return latencies_ms
