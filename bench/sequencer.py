"""The sequencer by itself: one log's ceiling, with signatures checked elsewhere.

It is fed what worker processes send (`server.wire`): the message of each call is decoded, several calls
become one durable commit, and the answers are encoded. Nothing else runs in the process, so its wall clock,
fsync included, is the ceiling of one log on this disk, and its CPU what more cores cannot take off it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from time import perf_counter

from bench.floors import verification_cost
from bench.interleave import interleaved
from bench.measure import Cost, cpu_of, median
from bench.prefilled import MAP_BYTES, prefilled_log, working_copy
from bench.progress import Progress
from bench.result import Chart, Result, Row
from bench.settings import Settings
from bench.workload import log_signer, signed_events
from server.wire import Call, Taken, decode_from_worker, encode_message, hand_over
from tlog.errors import BatchRefusedError
from tlog.log import Log
from tlog.storage.lmdb_store import LmdbStore
from tlog.validate import verify_entries

QUESTION = "How many events a second can the one sequencer take, when signatures are checked elsewhere?"

BATCH = 256
LARGEST = 1_000_000


def run(settings: Settings, progress: Progress) -> Result:
    """Measure commits of one call, of four and of sixteen, on logs of up to a million entries."""
    rows: list[Row] = []
    lines: dict[str, list[tuple[float, float]]] = {}
    for tree_size in settings.sizes_up_to(LARGEST):
        with _feeding(settings, prefilled_log(settings, tree_size, progress)) as feed:
            for calls in (1, 4, 16):
                found = _measured(settings, feed, tree_size, calls, progress)
                rows += found
                lines.setdefault(f"{calls * BATCH} entries a commit", []).append(
                    (tree_size, found[-1].value or 0.0)
                )
    return Result(
        question=QUESTION,
        rows=rows,
        charts=[
            Chart(
                name="sequencer-ceiling",
                title="The sequencer's ceiling, signatures checked elsewhere",
                x_label="entries in the log",
                y_label="events a second",
                lines=lines,
                log_x=True,
            )
        ],
        notes=[
            "The rate is by the wall clock with fsync, in a process that does nothing else; the share of V "
            "says how many cores can check signatures before this one is busy."
        ],
    )


def _measured(settings: Settings, feed: Feed, tree_size: int, calls: int, progress: Progress) -> list[Row]:
    samples = interleaved(
        {"fed": lambda: feed(calls), "V": lambda: (verification_cost(feed.entries), 0.0)},
        rounds=settings.few_rounds,
        progress=progress,
        what=f"commits of {calls * BATCH} entries to {tree_size:,}",
    )
    costs = [cost.total_us for cost, _ in samples["fed"]]
    shares = [cost / floor.total_us for cost, (floor, _) in zip(costs, samples["V"], strict=True)]
    rates = [rate for _, rate in samples["fed"]]
    at = {"tree_size": tree_size, "commit_entries": calls * BATCH}
    return [
        Row(name="sequencer CPU", value=median(costs), unit="us/event", at=at, samples=costs),
        Row(name="sequencer CPU / V", value=median(shares), unit="x", at=at, samples=shares),
        Row(name="ceiling", value=median(rates), unit="events/s", at=at, samples=rates),
    ]


class Feed:
    """Commits new events as workers hand them over; each measurement sends a window of them."""

    def __init__(self, log: Log, window_events: int) -> None:
        self._log = log
        self._window_events = window_events
        self._numbers = count(0, window_events)
        self.entries: Sequence[bytes] = signed_events(2, 0, window_events)

    def __call__(self, calls: int) -> tuple[Cost, float]:
        """Commit a window, `calls` calls at a time; return CPU per event and events per second."""
        start = next(self._numbers)
        self.entries = signed_events(2, start, start + self._window_events)
        messages = [
            encode_message(
                hand_over(number, verify_entries(self.entries[first : first + BATCH], self._log.origin))
            )
            for number, first in enumerate(range(0, len(self.entries), BATCH))
        ]
        seconds = 0.0

        def work() -> None:
            nonlocal seconds
            started = perf_counter()
            for first in range(0, len(messages), calls):
                self._commit(messages[first : first + calls])
            seconds = perf_counter() - started

        cost = cpu_of(work).per(len(self.entries))
        return cost, len(self.entries) / seconds

    def _commit(self, messages: Sequence[bytes]) -> None:
        calls = [call for call in map(decode_from_worker, messages) if isinstance(call, Call)]
        committed = self._log.commit([call.entries for call in calls])
        for call, outcome in zip(calls, committed.outcomes, strict=True):
            if isinstance(outcome, BatchRefusedError):
                raise outcome
            encode_message(
                Taken(
                    call.number,
                    outcome.leaf_indices,
                    outcome.already_present,
                    outcome.new_range,
                    committed.checkpoint.note,
                    0.0,
                )
            )


@contextmanager
def _feeding(settings: Settings, original: Path) -> Iterator[Feed]:
    signer = log_signer()
    with working_copy(settings, original) as directory:
        store = LmdbStore.open(
            directory / "store", origin=signer.name, log_vkey=signer.vkey, map_size_bytes=MAP_BYTES
        )
        with Log(store, signer) as log:
            yield Feed(log, settings.window_events)
