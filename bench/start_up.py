"""How long the server takes to serve a log, and how much memory it needs, by the log's size."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from time import perf_counter

from bench import targets
from bench.interleave import interleaved
from bench.load import Generator, generators, run_window
from bench.measure import PeakMemory, anonymous_bytes, median, page_table_bytes
from bench.prefilled import in_place, prefilled_log, working_copy
from bench.progress import Progress
from bench.result import Chart, Result, Row, Target
from bench.served import REPOSITORY, Served, serving
from bench.settings import Settings

QUESTION = "How long does the server take to serve a log, and how much memory does it need?"

BATCH = 256
IN_FLIGHT = 4
WORKERS = 2
LARGE = 10_000_000


def run(settings: Settings, progress: Progress) -> Result:
    """Start servers of all sizes in turn, then put each under load."""
    originals = {size: prefilled_log(settings, size, progress) for size in settings.tree_sizes}
    rows = _starts(settings, originals, progress)
    memory: dict[int, float] = {}
    with (
        generators(2) as load,
        progress.running("memory under load", len(originals) + 1) as advance,
    ):
        for size, original in originals.items():
            with working_copy(settings, original) as directory:
                for workers in (0, WORKERS) if size == max(originals) else (0,):
                    of_size = _memory(settings, size, directory, workers, load)
                    memory.setdefault(size, of_size[-1].value or 0.0)
                    rows += of_size
                    advance(1)
    return Result(
        question=QUESTION,
        rows=rows,
        charts=[
            Chart(
                name="memory-by-size",
                title="Private memory of the server under appends and proofs",
                x_label="entries in the log",
                y_label="MB",
                lines={"one process": list(memory.items())},
                log_x=True,
            )
        ],
        notes=[
            "From the start of `tlog serve` until health says SERVING. Private is what is of no "
            "file: pages of the store's map are the page cache's, which the kernel may take back.",
            f"Under load: appends and proofs of random leaves at once, {IN_FLIGHT} calls of {BATCH} in "
            "flight each; the most that any one process had.",
        ],
    )


def _starts(settings: Settings, originals: dict[int, Path], progress: Progress) -> list[Row]:
    with ExitStack() as stack:
        measurements: dict[str, Callable[[], tuple[float, float]]] = {"bare": _imports}
        for size, original in originals.items():
            directory = stack.enter_context(in_place(settings, original))
            measurements[str(size)] = partial(_start, directory)
        samples = interleaved(measurements, rounds=settings.few_rounds, progress=progress, what="starting")
    rows = [_row("imports alone", "s", [seconds for seconds, _ in samples["bare"]], {})]
    for size in originals:
        at = {"tree_size": size}
        rows += [
            _row(
                "start",
                "s",
                [seconds for seconds, _ in samples[str(size)]],
                at,
                target=targets.START if size == LARGE else None,
            ),
            _row("start, CPU", "s", [cpu_s for _, cpu_s in samples[str(size)]], at),
        ]
    return rows


def _start(directory: Path) -> tuple[float, float]:
    """Return how long a start took, and its CPU time."""
    with serving(directory) as served:
        return served.start_s, served.cpu().total_s


def _imports() -> tuple[float, float]:
    """Return how long the two programs of a start take to be loaded: `tlog`, which becomes the server."""
    started_s = perf_counter()
    for module in ("tlog.cli.serve", "server.app"):
        subprocess.run([sys.executable, "-c", f"import {module}"], cwd=REPOSITORY, check=True)
    return perf_counter() - started_s, 0.0


def _memory(
    settings: Settings, size: int, directory: Path, workers: int, load: Sequence[Generator]
) -> list[Row]:
    at = {"tree_size": size, "workers": workers}
    with serving(directory, {"server": {"workers": workers}}) as served:
        at_start = anonymous_bytes(served.pid)
        with PeakMemory(served.pid) as peak:
            _put_under_load(settings, size, served, load)
        tables = page_table_bytes(served.pid)
    return [
        _row("private memory at the start", "MB", [max(at_start.values()) / 1e6], at),
        _row("page tables of the main process, after load", "MB", [tables / 1e6], at),
        _row(
            "private memory of a process under load",
            "MB",
            [max(peak.by_pid.values()) / 1e6],
            at,
            target=None if settings.profile == "tiny" else targets.MEMORY,
        ),
    ]


def _put_under_load(settings: Settings, size: int, served: Served, load: Sequence[Generator]) -> None:
    appending, proving = load
    events = settings.window_events * {"tiny": 1, "short": 2, "full": 4}[settings.profile]
    run_window(
        served.pid,
        [
            (
                appending,
                appending.job("append", served.address, events=events, batch=BATCH, in_flight=IN_FLIGHT),
            ),
            (
                proving,
                proving.job(
                    "proofs",
                    served.address,
                    events=4 * events,
                    batch=BATCH,
                    in_flight=IN_FLIGHT,
                    tree_size=size,
                ),
            ),
        ],
    )


def _row(name: str, unit: str, samples: list[float], at: dict[str, int], target: Target | None = None) -> Row:
    return Row(name=name, value=median(samples), unit=unit, at=at, samples=samples, target=target)
