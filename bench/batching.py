"""What changes the cost of an append: batch size, entry size, calls in flight, worker processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.load import Generator, Window, generators, run_window
from bench.prefilled import prefilled_log, working_copy
from bench.progress import Progress
from bench.result import Chart, Result, Row
from bench.served import serving
from bench.settings import Settings
from bench.workload import ENTRY_BYTES

QUESTION = "What do the sizes of batch and entry, the calls in flight and the worker processes change?"

BATCH = 256
IN_FLIGHT = 4
MAX_CALLS = 2_048


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Says what one measurement sends, and to how many worker processes."""

    batch: int = BATCH
    entry_bytes: int = ENTRY_BYTES
    in_flight: int = IN_FLIGHT
    workers: int = 0


def cases(settings: Settings) -> list[Case]:
    """Return what is measured, one thing changed at a time."""
    match settings.profile:
        case "tiny":
            return [Case(batch=16), *_with_workers(1)]
        case "short":
            return [
                *[Case(batch=batch) for batch in (1, 16, BATCH, 1_000)],
                Case(entry_bytes=4_000),
                Case(in_flight=1),
                Case(in_flight=16),
                *_with_workers(2),
            ]
        case "full":
            return [
                *[Case(batch=batch) for batch in (1, 4, 16, 64, BATCH, 1_000)],
                *[Case(entry_bytes=entry_bytes) for entry_bytes in (1_000, 2_000, 4_000, 15_000)],
                *[Case(in_flight=in_flight) for in_flight in (1, 2, 8, 16)],
                *_with_workers(1, 2, 4),
            ]


def run(settings: Settings, progress: Progress) -> Result:
    """Measure every case on the smallest log, which grows a little meanwhile."""
    tree_size = settings.tree_sizes[0]
    original = prefilled_log(settings, tree_size, progress)
    wanted = cases(settings)
    measured: dict[Case, Window] = {}
    with (
        generators(2) as load,
        progress.running("one thing at a time", len(wanted)) as advance,
    ):
        for workers in sorted({case.workers for case in wanted}):
            served_cases = [case for case in wanted if case.workers == workers]
            for case, window in _windows(settings, original, load, served_cases):
                measured[case] = window
                advance(1)
    return Result(
        question=QUESTION,
        rows=[row for case, window in measured.items() for row in _rows(case, window)],
        charts=[_chart(measured, tree_size)],
        notes=[
            f"Two load processes share the calls in flight; the log holds about {tree_size:,} entries. On a "
            "machine of few cores they take from the server what they need, so its rate is no ceiling."
        ],
    )


def _with_workers(*counts: int) -> list[Case]:
    """Return the cases for each number of workers: batches, and one event a call."""
    return [
        case
        for workers in counts
        for case in (Case(workers=workers, in_flight=16), Case(workers=workers, batch=1, in_flight=64))
    ]


def _windows(
    settings: Settings, original: Path, load: Sequence[Generator], served_cases: Sequence[Case]
) -> list[tuple[Case, Window]]:
    workers = served_cases[0].workers
    overrides = {"server": {"workers": workers}} if workers else {}
    with working_copy(settings, original) as directory, serving(directory, overrides) as served:
        found = []
        for case in served_cases:
            used = load[: min(len(load), case.in_flight)]
            calls = max(settings.window_events // case.batch, 2 * case.in_flight)
            jobs = [
                (
                    generator,
                    generator.job(
                        "append",
                        served.address,
                        events=min(calls, MAX_CALLS) // len(used) * case.batch,
                        batch=case.batch,
                        in_flight=case.in_flight // len(used),
                        entry_bytes=case.entry_bytes,
                    ),
                )
                for generator in used
            ]
            found.append((case, run_window(served.pid, jobs)))
        return found


def _rows(case: Case, window: Window) -> list[Row]:
    at = {
        "batch": case.batch,
        "entry_bytes": case.entry_bytes,
        "in_flight": case.in_flight,
        "workers": case.workers,
    }
    cost = window.per_event
    return [
        Row(name="server CPU", value=cost.total_us, unit="us/event", at=at),
        Row(name="server CPU, of it system", value=cost.system_us, unit="us/event", at=at),
        Row(name="rate", value=window.events / window.seconds, unit="events/s", at=at),
        Row(name="load generators' CPU", value=window.client_us_per_event, unit="us/event", at=at),
    ]


def _chart(measured: dict[Case, Window], tree_size: int) -> Chart:
    return Chart(
        name="append-by-batch",
        title=f"Server CPU per event, about {tree_size:,} entries",
        x_label="events a call",
        y_label="CPU microseconds per event",
        lines={
            "user + system": [
                (case.batch, window.per_event.total_us)
                for case, window in measured.items()
                if case == Case(batch=case.batch)
            ]
        },
        log_x=True,
        log_y=True,
    )
