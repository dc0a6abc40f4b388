"""What inclusion proofs of random leaves cost the server, and how that grows with the log."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

from bench import targets
from bench.interleave import interleaved
from bench.load import Generator, Window, generators, run_window
from bench.measure import Cost, cpu_of, median
from bench.prefilled import in_place, prefilled_log
from bench.progress import Progress
from bench.result import Chart, Result, Row
from bench.served import Served, serving
from bench.settings import Settings
from bench.workload import log_signer
from tlog.log_view import LogView
from tlog.storage.lmdb_store import LmdbStore

QUESTION = "What does an inclusion proof of a random leaf cost the server?"

BATCH = 256
IN_FLIGHT = 4
SMALL = 10_000
LARGE = 10_000_000


def run(settings: Settings, progress: Progress) -> Result:
    """Measure proofs at every size of log, all sizes in the same rounds."""
    sizes = settings.tree_sizes
    originals = {size: prefilled_log(settings, size, progress) for size in sizes}
    windows: dict[int, Window] = {}
    with ExitStack() as stack:
        (generator,) = stack.enter_context(generators(1))
        directories = {
            size: stack.enter_context(in_place(settings, original)) for size, original in originals.items()
        }
        measurements: dict[str, Callable[[], Cost]] = {}
        for size, directory in directories.items():
            served = stack.enter_context(serving(directory))
            measurements[f"server {size}"] = partial(_served_cost, settings, size, served, generator, windows)
            # Beside the server that has the log open for writing.
            signer = log_signer()
            store = LmdbStore.open(
                originals[size] / "store", origin=signer.name, log_vkey=signer.vkey, read_only=True
            )
            stack.callback(store.close)
            measurements[f"library {size}"] = partial(_library_cost, settings, size, store)
        for measure in measurements.values():
            measure()  # warms up, and maps the pages
        samples = interleaved(
            measurements, rounds=settings.few_rounds, progress=progress, what="proving random leaves"
        )
    rows: list[Row] = []
    for size in sizes:
        rows += _rows(size, samples[f"server {size}"], samples[f"library {size}"], windows[size])
    if len(sizes) > 1:
        rows.append(_growth(samples[f"server {sizes[0]}"], samples[f"server {sizes[-1]}"], sizes))
    return Result(
        question=QUESTION,
        rows=rows,
        charts=[
            Chart(
                name="proofs",
                title=f"CPU of an inclusion proof, batches of {BATCH}, random leaves",
                x_label="entries in the log",
                y_label="CPU microseconds per proof",
                lines={
                    where: [
                        (size, median([cost.total_us for cost in samples[f"{where} {size}"]]))
                        for size in sizes
                    ]
                    for where in ("server", "library")
                },
                log_x=True,
            )
        ],
        notes=[
            "Server CPU is user + system of all its processes, per proof, over gRPC; library is the same "
            "proofs out of the store, in this process, without gRPC or protobuf.",
            "All sizes are measured in the same rounds; growth is the median of the ratios within a round.",
        ],
    )


def _served_cost(
    settings: Settings, size: int, served: Served, generator: Generator, windows: dict[int, Window]
) -> Cost:
    job = generator.job(
        "proofs",
        served.address,
        events=_proofs(settings),
        batch=BATCH,
        in_flight=IN_FLIGHT,
        tree_size=size,
    )
    windows[size] = run_window(served.pid, [(generator, job)])
    return windows[size].per_event


def _library_cost(settings: Settings, size: int, store: LmdbStore) -> Cost:
    calls = [random.sample(range(size), BATCH) for _ in range(settings.window_events // BATCH)]

    def prove() -> None:
        for leaf_indices in calls:
            with store.reader() as reader:
                view = LogView(reader)
                [view.prove_inclusion(index, size) for index in leaf_indices]

    return cpu_of(prove).per(len(calls) * BATCH)


def _proofs(settings: Settings) -> int:
    return settings.window_events * (1 if settings.profile == "tiny" else 16)


def _rows(size: int, server: list[Cost], library: list[Cost], window: Window) -> list[Row]:
    at = {"tree_size": size, "batch": BATCH, "in_flight": IN_FLIGHT}
    totals = [cost.total_us for cost in server]
    outcome = window.outcomes[0]
    return [
        Row(
            name="server CPU",
            value=median(totals),
            unit="us/proof",
            at=at,
            samples=totals,
            target=targets.PROOF if size == LARGE else None,
        ),
        Row(
            name="server CPU, of it system",
            value=median([cost.system_us for cost in server]),
            unit="us/proof",
            at=at,
        ),
        Row(
            name="library",
            value=median([cost.total_us for cost in library]),
            unit="us/proof",
            at=at,
            samples=[cost.total_us for cost in library],
        ),
        Row(name="reply", value=outcome.reply_bytes / BATCH, unit="bytes/proof", at=at),
        Row(name="rate", value=window.events / window.seconds, unit="proofs/s", at=at),
    ]


def _growth(small: list[Cost], large: list[Cost], sizes: tuple[int, ...]) -> Row:
    ratios = [after.total_us / before.total_us for before, after in zip(small, large, strict=True)]
    return Row(
        name=f"server CPU, {sizes[-1]:,} / {sizes[0]:,} entries",
        value=median(ratios),
        unit="x",
        at={"batch": BATCH},
        samples=ratios,
        target=targets.PROOF_GROWTH if (sizes[0], sizes[-1]) == (SMALL, LARGE) else None,
    )
