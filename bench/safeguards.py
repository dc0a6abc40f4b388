"""What is done for safety beside the append itself: the look for duplicates, and the high-water mark.

Every entry is looked up before its signature is checked, so that one which is there already costs no check;
every commit ends with a mark of size and root in a file of its own, durable before anybody hears of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from time import perf_counter

from bench.floors import verification_cost
from bench.interleave import interleaved
from bench.load import Generator, generators, run_window
from bench.measure import Cost, cpu_of, median, percentile
from bench.prefilled import MAP_BYTES, prefilled_log, working_copy
from bench.progress import Progress
from bench.result import Result, Row
from bench.served import serving
from bench.settings import Settings
from bench.workload import ORIGIN, fillers, log_signer, signed_events
from tlog.log import Log
from tlog.marked_store import MarkedStore
from tlog.storage.high_water_mark import HighWaterMarkFile
from tlog.storage.lmdb_store import LmdbStore
from tlog.validate import verify_entries

QUESTION = "What do the look for duplicates and the high-water mark cost?"

BATCH = 256
IN_FLIGHT = 4
LARGEST = 1_000_000


def run(settings: Settings, progress: Progress) -> Result:
    """Measure both on logs of up to a million entries."""
    rows: list[Row] = []
    for tree_size in settings.sizes_up_to(LARGEST):
        original = prefilled_log(settings, tree_size, progress)
        rows += _duplicates(settings, tree_size, original, progress)
        rows += _mark(settings, tree_size, original, progress)
    return Result(
        question=QUESTION,
        rows=rows,
        notes=[
            f"Duplicates in batches of {BATCH}; sent again over gRPC, with a proof of inclusion each. The "
            "commits are of one entry, in a process that does nothing else; the mark is on the same disk."
        ],
    )


def _duplicates(settings: Settings, tree_size: int, original: Path, progress: Progress) -> list[Row]:
    with ExitStack() as stack:
        directory = stack.enter_context(working_copy(settings, original))
        look_up = stack.enter_context(_looking_up(settings, original))
        served = stack.enter_context(serving(directory))
        (generator,) = stack.enter_context(generators(1))
        send_again = _sending_again(settings, generator, served.pid, served.address)
        entries = signed_events(0, 0, settings.window_events)
        samples = interleaved(
            {"look-up": look_up, "again": send_again, "V": lambda: verification_cost(entries)},
            rounds=settings.few_rounds,
            progress=progress,
            what=f"duplicates in {tree_size:,} entries",
        )
    at = {"tree_size": tree_size, "batch": BATCH}
    rows = []
    for key, name in (("look-up", "look-up of a new entry"), ("again", "server CPU of an entry sent again")):
        costs_us = [cost.total_us for cost in samples[key]]
        shares = [cost_us / v.total_us for cost_us, v in zip(costs_us, samples["V"], strict=True)]
        rows += [
            Row(name=name, value=median(costs_us), unit="us/event", at=at, samples=costs_us),
            Row(name=f"{name} / V", value=median(shares), unit="x", at=at, samples=shares),
        ]
    return rows


@contextmanager
def _looking_up(settings: Settings, original: Path) -> Iterator[Callable[[], Cost]]:
    """Give a measurement of looking for entries that are not there, as a server does before it verifies."""
    numbers = count(0, settings.window_events)
    with working_copy(settings, original) as directory, _open(directory) as log:

        def measure() -> Cost:
            start = next(numbers)
            entries = verify_entries(signed_events(1, start, start + settings.window_events), ORIGIN)

            def look() -> None:
                for first in range(0, len(entries), BATCH):
                    with log.view() as view:
                        for entry in entries[first : first + BATCH]:
                            assert view.index_of(entry.identity, entry.leaf_hash) is None

            return cpu_of(look).per(len(entries))

        yield measure


def _sending_again(
    settings: Settings, generator: Generator, server_pid: int, address: str
) -> Callable[[], Cost]:
    """Append a window of events, and return a measurement of sending just these again."""
    job = generator.job("append", address, events=settings.window_events, batch=BATCH, in_flight=IN_FLIGHT)
    run_window(server_pid, [(generator, job)])
    again = replace(job, method="append-again")
    return lambda: run_window(server_pid, [(generator, again)]).per_event


def _mark(settings: Settings, tree_size: int, original: Path, progress: Progress) -> list[Row]:
    commits = 20 if settings.profile == "tiny" else 100
    with ExitStack() as stack:
        without = stack.enter_context(_committing(settings, original, tree_size, commits, marked=False))
        marked = stack.enter_context(_committing(settings, original, tree_size, commits, marked=True))
        samples = interleaved(
            {"without": without, "with": marked},
            rounds=settings.few_rounds,
            progress=progress,
            what=f"marks of commits to {tree_size:,} entries",
        )
    at = {"tree_size": tree_size, "batch": 1}
    p50s_us = {
        name: [percentile(times_s, 0.5) * 1e6 for _, times_s in rounds] for name, rounds in samples.items()
    }
    costs_us = {name: [cost.total_us for cost, _ in rounds] for name, rounds in samples.items()}
    more_us = [b - a for a, b in zip(p50s_us["without"], p50s_us["with"], strict=True)]
    more_cpu_us = [b - a for a, b in zip(costs_us["without"], costs_us["with"], strict=True)]
    return [
        Row(
            name="p50 of a commit without a mark",
            value=median(p50s_us["without"]),
            unit="us",
            at=at,
            samples=p50s_us["without"],
        ),
        Row(name="p50, more with a mark", value=median(more_us), unit="us", at=at, samples=more_us),
        Row(name="CPU, more with a mark", value=median(more_cpu_us), unit="us", at=at, samples=more_cpu_us),
    ]


@contextmanager
def _committing(
    settings: Settings, original: Path, tree_size: int, commits: int, *, marked: bool
) -> Iterator[Callable[[], tuple[Cost, list[float]]]]:
    """Give a measurement of commits of one entry each: CPU, and how long each took."""
    numbers = count(tree_size, commits)
    with working_copy(settings, original) as directory, _open(directory, marked=marked) as log:

        def measure() -> tuple[Cost, list[float]]:
            start = next(numbers)
            entries = list(fillers(start, start + commits))
            times_s: list[float] = []

            def commit() -> None:
                for entry in entries:
                    started_s = perf_counter()
                    log.commit([[entry]])
                    times_s.append(perf_counter() - started_s)

            return cpu_of(commit).per(commits), times_s

        yield measure


@contextmanager
def _open(directory: Path, *, marked: bool = False) -> Iterator[Log]:
    signer = log_signer()
    store = LmdbStore.open(
        directory / "store", origin=signer.name, log_vkey=signer.vkey, map_size_bytes=MAP_BYTES
    )
    with ExitStack() as stack:
        if marked:
            file = stack.enter_context(HighWaterMarkFile(directory / "high-water.mark", signer.name))
            yield stack.enter_context(Log(MarkedStore(store, file), signer))
        else:
            yield stack.enter_context(Log(store, signer))
