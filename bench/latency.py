"""How long an append takes: alone, with everything verified, and under load, by an open loop."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from itertools import count
from time import perf_counter

import grpc

from bench import targets
from bench.echo_server import METHOD, echoing
from bench.floors import StorageFloor, storage_floor, verification_cost
from bench.interleave import interleaved
from bench.load import Generator, Window, generators, run_window
from bench.measure import median, percentile
from bench.prefilled import prefilled_log, working_copy
from bench.progress import Progress
from bench.result import Chart, Result, Row
from bench.served import Served, serving
from bench.settings import Settings
from bench.workload import ENTRY_BYTES, fillers, index_rows, signed_events

QUESTION = "How long does an append take, alone and under load?"

IN_FLIGHT = 64
LARGEST = 1_000_000
REPLY_BYTES = 1_000  # of one new entry in a log of a million: checkpoint and range proof


def run(settings: Settings, progress: Progress) -> Result:
    """Measure one client alone, then the peak, then shares of the peak."""
    tree_size = max(size for size in settings.tree_sizes if size <= LARGEST)
    original = prefilled_log(settings, tree_size, progress)
    with ExitStack() as stack:
        floor = stack.enter_context(storage_floor(settings, tree_size, progress))
        directory = stack.enter_context(working_copy(settings, original))
        served = stack.enter_context(serving(directory))
        load = stack.enter_context(generators(2))
        alone = _alone(settings, tree_size, served, load[0], floor, progress)
        loaded, chart = _under_load(settings, tree_size, served, load, progress)
    return Result(
        question=QUESTION,
        rows=[*alone, *loaded],
        charts=[chart],
        notes=[
            "Under load the calls are made at fixed times, and each one's latency counts from its time, "
            "whatever became of the calls before (no coordinated omission); one event a call, not batched "
            "by the client.",
            "The peak is what closed loops with 64 calls in flight reach on this machine, whose cores the "
            "load generators share.",
        ],
    )


def _alone(
    settings: Settings,
    tree_size: int,
    served: Served,
    generator: Generator,
    floor: StorageFloor,
    progress: Progress,
) -> list[Row]:
    """One event, one client, nothing else: from the call to the verified receipt, beside its floors."""
    calls = 20 if settings.profile == "tiny" else 100
    entries = signed_events(0, 0, 500)
    numbers = count(tree_size, calls)

    def append() -> list[float]:
        job = generator.job("verified-append", served.address, events=calls, batch=1)
        return run_window(served.pid, [(generator, job)]).latencies_s

    def commit() -> list[float]:
        start = next(numbers)
        return floor.commit_times_s(index_rows(list(fillers(start, start + calls))))

    with echoing(REPLY_BYTES) as echo, grpc.insecure_channel(echo.address) as channel:
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)
        measurements: dict[str, Callable[[], list[float]]] = {
            "append": append,
            "echo": lambda: _round_trips_s(call, calls),
            "commit": commit,
            "V": lambda: [verification_cost(entries).total_us / 1e6],
        }
        samples = interleaved(
            measurements, rounds=settings.rounds, progress=progress, what="one client alone"
        )
    p50s_us = {
        name: [percentile(times_s, 0.5) * 1e6 for times_s in rounds] for name, rounds in samples.items()
    }
    ratios = [
        append_us / (echo_us + v_us + commit_us)
        for append_us, echo_us, v_us, commit_us in zip(
            p50s_us["append"], p50s_us["echo"], p50s_us["V"], p50s_us["commit"], strict=True
        )
    ]
    at = {"tree_size": tree_size, "clients": 1}
    names = {
        "append": "p50 from call to verified receipt",
        "echo": "p50 of an empty echo round trip",
        "V": "V",
        "commit": "p50 of one durable LMDB commit",
    }
    everything_s = [second for times_s in samples["append"] for second in times_s]
    return [
        *[
            Row(name=name, value=median(p50s_us[key]), unit="us", at=at, samples=p50s_us[key])
            for key, name in names.items()
        ],
        Row(
            name="p99 from call to verified receipt",
            value=percentile(everything_s, 0.99) * 1e6,
            unit="us",
            at=at,
        ),
        Row(
            name="p50 / (echo + V + commit)",
            value=median(ratios),
            unit="x",
            at=at,
            samples=ratios,
            target=targets.LATENCY if tree_size == LARGEST else None,
        ),
    ]


def _under_load(
    settings: Settings, tree_size: int, served: Served, load: list[Generator], progress: Progress
) -> tuple[list[Row], Chart]:
    """Find the peak, and the latencies at shares of it."""
    seconds = {"tiny": 0.5, "short": 3.0, "full": 20.0}[settings.profile]
    shares = {"tiny": [0.5], "short": [0.25, 0.5, 0.75], "full": [0.1, 0.25, 0.5, 0.6, 0.7, 0.8, 0.9]}
    wanted = shares[settings.profile]
    rows: list[Row] = []
    lines: dict[str, list[tuple[float, float]]] = {"p50": [], "p99": [], "p99.9": []}
    with progress.running(f"under load, {tree_size:,} entries", len(wanted) + 1) as advance:
        peak = _closed(settings, served, load)
        peak_per_s = peak.calls / peak.seconds
        advance(1)
        rows.append(Row(name="peak", value=peak_per_s, unit="events/s", at={"tree_size": tree_size}))
        for share in wanted:
            window = _open(served, load, peak_per_s * share, seconds)
            latencies_ms = [latency_s * 1e3 for latency_s in window.latencies_s]
            at: dict[str, int | float | str] = {
                "tree_size": tree_size,
                "load": f"{share:.0%} of the peak",
                "events_per_s": round(peak_per_s * share),
            }
            for name, fraction in (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)):
                value = percentile(latencies_ms, fraction)
                lines[name].append((peak_per_s * share, value))
                is_target = (name, share) == ("p99", 0.5) and tree_size == LARGEST
                rows.append(
                    Row(
                        name=name,
                        value=value,
                        unit="ms",
                        at=at,
                        target=targets.LATENCY_UNDER_LOAD if is_target else None,
                    )
                )
            rows.append(Row(name="slowest", value=max(latencies_ms), unit="ms", at=at))
            advance(1)
    chart = Chart(
        name="latency-by-load",
        title=f"Latency under load, {tree_size:,} entries, one event a call",
        x_label="events a second",
        y_label="milliseconds from the intended time",
        lines=lines,
        log_y=True,
    )
    return rows, chart


def _closed(settings: Settings, served: Served, load: list[Generator]) -> Window:
    in_flight = IN_FLIGHT // len(load)
    events = max(settings.window_events // 2 // len(load), in_flight)
    return run_window(
        served.pid,
        [
            (generator, generator.job("append", served.address, events=events, batch=1, in_flight=in_flight))
            for generator in load
        ],
    )


def _open(served: Served, load: list[Generator], rate_per_s: float, seconds: float) -> Window:
    own_rate = rate_per_s / len(load)
    return run_window(
        served.pid,
        [
            (
                generator,
                generator.job(
                    "append",
                    served.address,
                    events=max(round(own_rate * seconds), 1),
                    batch=1,
                    rate_per_s=own_rate,
                ),
            )
            for generator in load
        ],
    )


def _round_trips_s(call: grpc.UnaryUnaryMultiCallable[bytes, bytes], calls: int) -> list[float]:
    """Return how long calls of the echo server take, one after the other, as a program would make them."""
    request = bytes(ENTRY_BYTES)
    times_s = []
    for _ in range(calls):
        started_s = perf_counter()
        call(request)
        times_s.append(perf_counter() - started_s)
    return times_s
