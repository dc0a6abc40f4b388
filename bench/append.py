"""What an appended event costs the server, in batches and one by one, held against the floors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Self

from bench import targets
from bench.echo_server import echoing
from bench.floors import StorageFloor, storage_floor, verification_cost
from bench.interleave import interleaved
from bench.load import Generator, Window, generators, run_window
from bench.measure import Cost, cpu_of, median, median_cost
from bench.prefilled import MAP_BYTES, prefilled_log, working_copy
from bench.progress import Progress
from bench.result import Chart, Result, Row, Target
from bench.served import Served, serving
from bench.settings import Settings
from bench.workload import fillers, index_rows, log_signer, signed_events
from tlog.log import Log
from tlog.storage.lmdb_store import LmdbStore
from tlog.validate import VerifiedEntry, verify_entries

QUESTION = "What does an appended event cost the server, beside one signature check and bare storage?"

BATCH = 256
IN_FLIGHT = 4
SINGLES_IN_FLIGHT = 64
LARGEST = 1_000_000


def run(settings: Settings, progress: Progress) -> Result:
    """Measure appends to logs of up to a million entries; bench/growth.py goes on from there."""
    rows: list[Row] = []
    costs: dict[int, Cost] = {}
    with generators(1) as (generator,):
        for tree_size in (size for size in settings.tree_sizes if size <= LARGEST):
            at_size = _AtSize(settings, tree_size, generator, progress)
            rows += at_size.rows()
            costs[tree_size] = at_size.cost
    chart = Chart(
        name="append-by-size",
        title=f"Server CPU per event, batches of {BATCH}",
        x_label="entries in the log",
        y_label="CPU microseconds per event",
        lines={
            "user + system": [(size, cost.total_us) for size, cost in costs.items()],
            "user": [(size, cost.user_us) for size, cost in costs.items()],
        },
        log_x=True,
    )
    return Result(
        question=QUESTION,
        rows=rows,
        charts=[chart],
        notes=[
            "CPU is user + system of all the server's processes, per acknowledged event; over gRPC, fsync, "
            "uniqueness, one business key and range proofs on.",
            "V is one bare PyNaCl verification, S a bare sorted bulk put of the same rows into an LMDB of "
            "the same size, one fsync a batch; ratios are medians of the ratios within a round.",
        ],
    )


class _AtSize:
    """Measures everything at one size of log, interleaved with its floors."""

    def __init__(self, settings: Settings, tree_size: int, generator: Generator, progress: Progress) -> None:
        self._settings = settings
        self._tree_size = tree_size
        self._generator = generator
        self._progress = progress
        self.cost = Cost(user_us=0.0, system_us=0.0)

    def rows(self) -> list[Row]:
        """Measure, and return what was found."""
        settings, tree_size = self._settings, self._tree_size
        events = settings.window_events
        singles = max(SINGLES_IN_FLIGHT, events // 4 // SINGLES_IN_FLIGHT * SINGLES_IN_FLIGHT)
        original = prefilled_log(settings, tree_size, self._progress)
        with ExitStack() as stack:
            floor = stack.enter_context(storage_floor(settings, tree_size, self._progress))
            library = stack.enter_context(_library(settings, original))
            servers = stack.enter_context(Servers(settings, original, tree_size))
            batch_window = self._window(
                servers.for_new_round, events=events, batch=BATCH, in_flight=IN_FLIGHT
            )
            single_window = self._window(
                servers.for_same_round, events=singles, batch=1, in_flight=SINGLES_IN_FLIGHT
            )
            # One window of each kind beforehand warms up, and tells how long an answer is.
            batch_window()
            reply_bytes = single_window().outcomes[0].reply_bytes
            echo = stack.enter_context(echoing(reply_bytes))
            # As long a measurement as a window: what disturbs the machine hits both alike.
            entries = signed_events(0, 0, events)
            floor_rows = row_source(tree_size, floor, events)
            windows: list[Window] = []
            measurements: dict[str, Callable[[], Cost]] = {
                "server": lambda: _kept(windows, batch_window()).per_event,
                "V": lambda: verification_cost(entries),
                "S": lambda: floor_rows(BATCH),
                "library": library,
                "single": lambda: single_window().per_event,
                "echo": lambda: self._echo_cost(echo.pid, echo.address, singles),
                "S1": lambda: floor_rows(SINGLES_IN_FLIGHT),
            }
            samples = interleaved(
                measurements,
                rounds=settings.rounds,
                progress=self._progress,
                what=f"appending to {tree_size:,} entries",
            )
        self.cost = median_cost(samples["server"])
        return [*self._batch_rows(samples, windows), *self._single_rows(samples)]

    def _window(
        self, server: Callable[[], Served], *, events: int, batch: int, in_flight: int
    ) -> Callable[[], Window]:
        def measure() -> Window:
            served = server()
            job = self._generator.job(
                "append", served.address, events=events, batch=batch, in_flight=in_flight
            )
            return run_window(served.pid, [(self._generator, job)])

        return measure

    def _echo_cost(self, pid: int, address: str, calls: int) -> Cost:
        job = self._generator.job("echo", address, events=calls, batch=1, in_flight=SINGLES_IN_FLIGHT)
        return run_window(pid, [(self._generator, job)]).per_call

    def _batch_rows(self, samples: dict[str, list[Cost]], windows: Sequence[Window]) -> list[Row]:
        at = {"tree_size": self._tree_size, "batch": BATCH, "in_flight": IN_FLIGHT}
        server, v, s = samples["server"], samples["V"], samples["S"]
        target = _target(self._tree_size, {1_000_000: targets.APPEND})
        target_small = _target(self._tree_size, {10_000: targets.APPEND_SMALL})
        target_library = _target(self._tree_size, {1_000_000: targets.LIBRARY})
        beyond = [one.total_us - floor.total_us for one, floor in zip(samples["library"], s, strict=True)]
        rates = [window.events / window.seconds for window in windows]
        return [
            *_cost_rows("server CPU", server, at),
            _cost_row("V", v, at),
            *_cost_rows("S", s, at),
            ratio_row("server / (V + S)", server, [v, s], at, target),
            ratio_row("server / V", server, [v], at, target_small),
            *_cost_rows("library, verified beforehand", samples["library"], at),
            Row(
                name="library beyond S",
                value=median(beyond),
                unit="us/event",
                at=at,
                samples=beyond,
                target=target_library,
            ),
            Row(
                name="load generator CPU",
                value=median([window.client_us_per_event for window in windows]),
                unit="us/event",
                at=at,
            ),
            Row(name="rate", value=median(rates), unit="events/s", at=at, samples=rates),
        ]

    def _single_rows(self, samples: dict[str, list[Cost]]) -> list[Row]:
        at = {"tree_size": self._tree_size, "batch": 1, "in_flight": SINGLES_IN_FLIGHT}
        target = _target(self._tree_size, {1_000_000: targets.SINGLE})
        return [
            *_cost_rows("server CPU", samples["single"], at),
            *_cost_rows("echo", samples["echo"], at),
            *_cost_rows(f"S, batches of {SINGLES_IN_FLIGHT}", samples["S1"], at),
            ratio_row(
                "server / (echo + V + S)",
                samples["single"],
                [samples["echo"], samples["V"], samples["S1"]],
                at,
                target,
            ),
        ]


class Servers:
    """Gives servers whose log has about as many entries as it says.

    A large log hardly changes in a run and is served once; of a small one there is a new copy every round.
    """

    def __init__(self, settings: Settings, original: Path, tree_size: int) -> None:
        self._settings = settings
        self._original = original
        self._hardly_changes = tree_size >= 40 * settings.window_events
        self._stack = ExitStack()
        self._served: Served | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def for_new_round(self) -> Served:
        """Return the server that a round begins with."""
        if self._served is None or not self._hardly_changes:
            self._stack.close()
            directory = self._stack.enter_context(working_copy(self._settings, self._original))
            self._served = self._stack.enter_context(serving(directory))
        return self._served

    def for_same_round(self) -> Served:
        """Return the server that is running, or the first one."""
        return self._served or self.for_new_round()


@contextmanager
def _library(settings: Settings, original: Path) -> Iterator[Callable[[], Cost]]:
    """Give a measurement of `Log.commit` with entries that were verified before, and their range proof."""
    signer = log_signer()
    numbers = count(0, settings.window_events)
    with working_copy(settings, original) as directory:
        store = LmdbStore.open(
            directory / "store", origin=signer.name, log_vkey=signer.vkey, map_size_bytes=MAP_BYTES
        )
        with Log(store, signer) as log:

            def measure() -> Cost:
                start = next(numbers)
                entries = verify_entries(signed_events(1, start, start + settings.window_events), signer.name)
                return cpu_of(lambda: commit_all(log, entries)).per(len(entries))

            yield measure


def commit_all(log: Log, entries: Sequence[VerifiedEntry]) -> None:
    for start in range(0, len(entries), BATCH):
        batch = entries[start : start + BATCH]
        tree_size = log.commit([batch]).checkpoint.tree_size
        with log.view() as view:
            view.prove_range(tree_size - len(batch), tree_size, tree_size)


def row_source(tree_size: int, floor: StorageFloor, events: int) -> Callable[[int], Cost]:
    """Give a measurement of the storage floor that puts new rows each time."""
    numbers = count(tree_size, events)

    def measure(batch: int) -> Cost:
        start = next(numbers)
        return floor.append_cost(index_rows(list(fillers(start, start + events))), batch)

    return measure


def ratio_row(
    name: str,
    samples: Sequence[Cost],
    floors: Sequence[Sequence[Cost]],
    at: dict[str, int],
    target: Target | None = None,
) -> Row:
    """Make the row of a ratio to a sum of floors: the median of the ratios of each round."""
    ratios = [
        one.total_us / sum(floor.total_us for floor in of_round)
        for one, *of_round in zip(samples, *floors, strict=True)
    ]
    return Row(name=name, value=median(ratios), unit="x", at=at, samples=ratios, target=target)


def _cost_rows(name: str, samples: Sequence[Cost], at: dict[str, int]) -> list[Row]:
    return [
        _cost_row(name, samples, at),
        Row(
            name=f"{name}, of it system",
            value=median([cost.system_us for cost in samples]),
            unit="us/event",
            at=at,
            samples=[cost.system_us for cost in samples],
        ),
    ]


def _cost_row(name: str, samples: Sequence[Cost], at: dict[str, int]) -> Row:
    totals = [cost.total_us for cost in samples]
    return Row(name=name, value=median(totals), unit="us/event", at=at, samples=totals)


def _target(tree_size: int, by_size: dict[int, Target]) -> Target | None:
    return by_size.get(tree_size)


def _kept(windows: list[Window], window: Window) -> Window:
    windows.append(window)
    return window
