"""What an append costs as the log grows, over gRPC and in the library, with and without random keys.

"Without the random-key indexes" is the same code on the same log, with entries whose identities ascend as
they arrive and that carry no business key. So each is still looked up, and gets its row, but next to the one
before: no page of an index is touched at random. What is left is what the rest costs at that size.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path

import msgspec

from bench import targets
from bench.append import BATCH, IN_FLIGHT, Servers, commit_all
from bench.interleave import interleaved
from bench.load import Generator, generators, run_window
from bench.measure import Cost, cpu_of, median, written_bytes
from bench.prefilled import open_log, prefilled_log, working_copy
from bench.progress import Progress
from bench.result import Chart, Result, Row, Target
from bench.settings import Settings
from bench.workload import fillers
from tlog.log import Log
from tlog.validate import VerifiedEntry

QUESTION = "How does the cost of an append grow with the log, and what grows?"

SMALL, MEDIUM, LARGE = 10_000, 1_000_000, 10_000_000

SERVER = "server CPU"
WITH = "library, random keys"
WITHOUT = "library, without random keys"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Holds what an event cost, and how many bytes were handed to write calls for it."""

    cost: Cost
    written: float = 0.0


def run(settings: Settings, progress: Progress) -> Result:
    """Measure all sizes in the same rounds: first the server's appends, then the library's two kinds."""
    sizes = settings.tree_sizes
    originals = {size: prefilled_log(settings, size, progress) for size in sizes}
    samples = _served(settings, originals, progress) | _library(settings, originals, progress)
    costs = {key: [sample.cost.total_us for sample in found] for key, found in samples.items()}
    rows: list[Row] = []
    for size in sizes:
        for kind in (SERVER, WITH, WITHOUT):
            rows += _rows(kind, samples[kind, size], {"tree_size": size, "batch": BATCH})
    for after, before in zip(sizes[1:], sizes, strict=False):
        rows.append(_ratio_row(SERVER, costs, after, before))
    if len(sizes) > 1:
        rows += [_ratio_row(kind, costs, sizes[-1], sizes[0]) for kind in (WITH, WITHOUT)]
    return Result(
        question=QUESTION,
        rows=rows,
        charts=[
            Chart(
                name="append-growth",
                title=f"CPU of an append, batches of {BATCH}",
                x_label="entries in the log",
                y_label="CPU microseconds per event",
                lines={
                    kind: [(size, median(costs[kind, size])) for size in sizes]
                    for kind in (SERVER, WITH, WITHOUT)
                },
                log_x=True,
            )
        ],
        notes=[
            "Server: over gRPC, signatures checked, fsync. Library: Log.commit of entries that were verified "
            "before, and their range proof.",
            "Without random keys: identities that ascend as they arrive, and no business key; everything "
            "else is the same, look-ups and fsync too.",
            "Written is what the commits hand to write calls; growth is the median of the ratios of a round.",
        ],
    )


def _served(
    settings: Settings, originals: dict[int, Path], progress: Progress
) -> dict[tuple[str, int], list[Sample]]:
    with ExitStack() as stack:
        (generator,) = stack.enter_context(generators(1))
        measurements: dict[str, Callable[[], Sample]] = {}
        for size, original in originals.items():
            servers = stack.enter_context(Servers(settings, original, size))
            measurements[str(size)] = partial(_append, settings, servers, generator)
        for measure in measurements.values():
            measure()  # warms up
        found = interleaved(
            measurements, rounds=settings.few_rounds, progress=progress, what="appending over gRPC"
        )
    return {(SERVER, int(size)): samples for size, samples in found.items()}


def _append(settings: Settings, servers: Servers, generator: Generator) -> Sample:
    served = servers.for_new_round()
    job = generator.job(
        "append", served.address, events=settings.window_events, batch=BATCH, in_flight=IN_FLIGHT
    )
    before = written_bytes(served.pid)
    cost = run_window(served.pid, [(generator, job)]).per_event
    # The warm-up's events are among those that were written.
    return Sample(cost=cost, written=(written_bytes(served.pid) - before) / (job.next_event - job.first))


def _library(
    settings: Settings, originals: dict[int, Path], progress: Progress
) -> dict[tuple[str, int], list[Sample]]:
    numbers = count(LARGE, settings.window_events)  # of fillers that no prefilled log has
    with ExitStack() as stack:
        measurements: dict[str, Callable[[], Sample]] = {}
        for size, original in originals.items():
            log = _Library(settings, original, size)
            stack.callback(log.close)
            for kind in (WITH, WITHOUT):
                measurements[f"{kind}:{size}"] = partial(log.measure, kind, numbers)
        for measure in measurements.values():
            measure()
        found = interleaved(
            measurements, rounds=settings.few_rounds, progress=progress, what="appending in the library"
        )
    return {(kind, int(size)): samples for name, samples in found.items() for kind, size in [name.split(":")]}


class _Library:
    """Commits to a copy of a log; a small one is copied anew for every measurement, as it would grow."""

    def __init__(self, settings: Settings, original: Path, tree_size: int) -> None:
        self._settings = settings
        self._original = original
        self._hardly_changes = tree_size >= 40 * settings.window_events
        self._stack = ExitStack()
        self._log: Log | None = None

    def measure(self, kind: str, numbers: count[int]) -> Sample:
        """Commit a window of new entries, and make their range proofs."""
        log = self._opened()
        start = next(numbers)
        entries = list(fillers(start, start + self._settings.window_events))
        if kind == WITHOUT:
            entries = in_order(entries, start)
        commit_all(log, entries[:BATCH])  # warms up
        del entries[:BATCH]
        before = written_bytes(os.getpid())
        cost = cpu_of(lambda: commit_all(log, entries)).per(len(entries))
        return Sample(cost=cost, written=(written_bytes(os.getpid()) - before) / len(entries))

    def close(self) -> None:
        """Close the log, and remove the copy."""
        self._stack.close()

    def _opened(self) -> Log:
        if self._log is None or not self._hardly_changes:
            self._stack.close()
            directory = self._stack.enter_context(working_copy(self._settings, self._original))
            self._log = self._stack.enter_context(open_log(directory))
        return self._log


def in_order(entries: Sequence[VerifiedEntry], start: int) -> list[VerifiedEntry]:
    """Give entries identities that ascend, above nearly all that a hash makes, and take their keys away."""
    return [
        msgspec.structs.replace(entry, identity=b"\xff" * 8 + number.to_bytes(24, "big"), business_keys=())
        for number, entry in enumerate(entries, start)
    ]


def _rows(kind: str, samples: Sequence[Sample], at: dict[str, int]) -> list[Row]:
    totals = [sample.cost.total_us for sample in samples]
    return [
        Row(name=kind, value=median(totals), unit="us/event", at=at, samples=totals),
        Row(
            name=f"{kind}, of it system",
            value=median([sample.cost.system_us for sample in samples]),
            unit="us/event",
            at=at,
        ),
        Row(
            name=f"{kind}: written",
            value=median([sample.written for sample in samples]),
            unit="bytes/event",
            at=at,
        ),
    ]


def _ratio_row(kind: str, costs: dict[tuple[str, int], list[float]], after: int, before: int) -> Row:
    ratios = [large / small for large, small in zip(costs[kind, after], costs[kind, before], strict=True)]
    of_target: dict[tuple[str, int, int], Target] = {
        (SERVER, LARGE, MEDIUM): targets.APPEND_GROWTH,
        (WITHOUT, LARGE, SMALL): targets.APPEND_GROWTH_PLAIN,
    }
    return Row(
        name=f"{kind}, {after:,} / {before:,} entries",
        value=median(ratios),
        unit="x",
        samples=ratios,
        target=of_target.get((kind, after, before)),
    )
