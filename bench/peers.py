"""What the same entries cost others: bare storage, a library, and logs that the user has running.

Everybody takes the same kind of entries, in turn, each new to him. What is done for an entry differs, and
stands in the heading of each row: whether signatures are checked and duplicates noticed, what of a proof is
in the reply, what is durable by then, and whether it is in the tree; where it is not, CPU counts until it is.

    python -m bench --only peers --peer tessera=http://127.0.0.1:2025 --peer immudb=127.0.0.1:3322
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from time import time_ns

from bench.append import BATCH, IN_FLIGHT, SINGLES_IN_FLIGHT
from bench.contenders import (
    Contender,
    Taken,
    Way,
    given_contenders,
    library_contenders,
    own_contenders,
)
from bench.floors import verification_cost
from bench.interleave import interleaved
from bench.load import generators
from bench.measure import Cost, median, percentile
from bench.peer_adapters.given import FORMS, peer_from
from bench.progress import Progress
from bench.result import Result, Row
from bench.settings import Settings
from bench.workload import signed_events

QUESTION = "What do the same entries cost other logs, and what do those do for them?"

LARGEST = 1_000_000
WAYS = (
    Way(batch=BATCH, in_flight=IN_FLIGHT),
    Way(batch=1, in_flight=SINGLES_IN_FLIGHT),
    Way(batch=1, in_flight=384),  # for those that wait until many calls have come
)


def run(settings: Settings, progress: Progress) -> Result:
    """Measure everybody in turn; who fails is said, and keeps nobody else from being measured."""
    sizes = [size for size in settings.tree_sizes if size <= LARGEST]
    tree_size = max(sizes) if settings.is_full else min(sizes)
    failures: dict[str, str] = {}
    v_samples: list[Cost] = []
    with ExitStack() as stack:
        (generator,) = stack.enter_context(generators(1))
        # Never the same twice: a peer keeps what an earlier run sent it, and may refuse it.
        generator.next_event = time_ns() // 1_000
        ways = WAYS if settings.peers else WAYS[:2]
        contenders = own_contenders(settings, tree_size, ways, generator, stack, progress)
        contenders += library_contenders(settings, tree_size, (BATCH, 1), generator, stack, progress)
        for text in settings.peers:
            contenders += given_contenders(settings, peer_from(text), text, ways, generator)
        entries = signed_events(0, 0, settings.window_events)

        def verify() -> None:
            v_samples.append(verification_cost(entries))

        measurements: dict[str, Callable[[], Taken | None]] = {
            _key(one): _unless_failed(one, failures) for one in contenders
        }
        samples = interleaved(
            {"V": verify, **measurements},
            rounds=settings.few_rounds,
            progress=progress,
            what=f"the same entries for everybody, tlog with {tree_size:,}",
        )
    v_us = [v.total_us for v in v_samples]
    rows = [Row(name="V", value=median(v_us), unit="us", samples=v_us)]
    for one in contenders:
        rows += contender_rows(one, samples[_key(one)], v_us, failures.get(_key(one)))
    rows += _not_given(settings.peers)
    return Result(
        question=QUESTION,
        rows=rows,
        notes=[
            "CPU is user + system of the processes that listen at the peer's ports with all that they "
            "started, from the first call until a root covers the last entry; of a library, of its caller.",
            "Rates and latencies are what one load process in Python saw, which takes a share of the same "
            "cores, stated beside them: they are nobody's peak.",
            "tlog and the libraries hold as many entries as their headings say, a peer what it got before.",
        ],
    )


def contender_rows(
    one: Contender, samples: Sequence[Taken | None], v_us: Sequence[float], failure: str | None
) -> list[Row]:
    """Make the rows of a contender, of one sample a round; or the one that says what it failed with."""
    at: dict[str, int | float | str] = {
        "who": one.name,
        "batch": one.way.batch,
        "in_flight": one.way.in_flight,
    }
    if one.entries is not None:
        at["entries"] = one.entries
    at |= one.work.as_settings()
    taken = [sample for sample in samples if sample is not None]
    if failure is not None or not taken:
        return [Row(name="rate", value=None, unit="events/s", at=at, note=f"failed: {failure}")]
    latencies_ms = [latency_s * 1e3 for sample in taken for latency_s in sample.latencies_s]
    rows = [_row("rate", [sample.rate_per_s for sample in taken], "events/s", at)]
    totals = [sample.cost.total_us for sample in taken if sample.cost is not None]
    if totals:
        rows.append(_row("CPU", totals, "us/event", at))
        rows.append(_row("CPU / V", [us / v for us, v in zip(totals, v_us, strict=True)], "x", at))
    else:
        rows.append(
            Row(name="CPU", value=None, unit="us/event", at=at, note="its processes are not to be seen")
        )
    rows += [
        Row(name="p50", value=percentile(latencies_ms, 0.5), unit="ms", at=at),
        Row(name="p99", value=percentile(latencies_ms, 0.99), unit="ms", at=at),
    ]
    if one.work.in_tree == "later":
        waits = [sample.settled_s - sample.seconds for sample in taken]
        rows.append(_row("then until all are in the tree", waits, "s", at))
    clients = [sample.client_us for sample in taken if sample.client_us is not None]
    if clients:
        rows.append(_row("load generator CPU", clients, "us/event", at))
    return rows


def _row(name: str, samples: list[float], unit: str, at: dict[str, int | float | str]) -> Row:
    return Row(name=name, value=median(samples), unit=unit, at=at, samples=samples)


def _key(one: Contender) -> str:
    return f"{one.name}, {one.way.batch} a call, {one.way.in_flight} in flight"


def _unless_failed(one: Contender, failures: dict[str, str]) -> Callable[[], Taken | None]:
    """Measure until it fails once; what it failed with is kept, and it is not asked again."""

    def measure() -> Taken | None:
        if _key(one) in failures:
            return None
        try:
            return one.measure()
        except RuntimeError as error:
            failures[_key(one)] = str(error)
            return None

    return measure


def _not_given(peers: Sequence[str]) -> list[Row]:
    given = {peer_from(text).kind for text in peers}
    return [
        Row(name="rate", value=None, unit="events/s", at={"who": kind}, note=f"not given: --peer {form}")
        for kind, form in FORMS.items()
        if kind not in given
    ]
