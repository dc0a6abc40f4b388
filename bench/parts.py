"""Where the CPU of an append goes: every stage by itself, beside V, S, an empty call, and the server's whole.

A stage is the code that the server runs, called in this process for batch after batch of new events, and
timed by the CPU of its thread. Each round every stage gets the same events, and the server as many others. So
the sum of the stages is what an append would cost if nothing disturbed it; what the server costs beyond it is
nobody's own: threads that wait for the interpreter, caches that another stage has emptied, hand-overs, scrub.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from time import thread_time
from typing import Final, TypeVar, cast

from bench import targets
from bench.append import BATCH, IN_FLIGHT, LARGEST, Servers, row_source
from bench.echo_server import echoing
from bench.floors import storage_floor, verification_cost
from bench.interleave import interleaved
from bench.load import Generator, Window, generators, run_window
from bench.measure import median
from bench.prefilled import MAP_BYTES, prefilled_log, working_copy
from bench.progress import Progress
from bench.result import Result, Row, Target
from bench.settings import Settings
from bench.workload import ORIGIN, log_signer, signed_events
from server.append_answers import append_response
from server.config import QuotasSection
from server.member_gate import MemberGate
from server.sequencer import Sequenced, Sequencer
from tlog.envelope import Envelope, decode_entry, verify_signatures
from tlog.errors import BatchRefusedError
from tlog.event import parse_event
from tlog.log import Committed, Log
from tlog.log_view import LogView
from tlog.storage.base import CommitBatch
from tlog.storage.lmdb_store import LmdbStore
from tlog.v1 import log_pb2
from tlog.validate import VerifiedEntry, verify_entries

QUESTION = "Where does the CPU of an append go, stage by stage?"

MEMBER = 4
_PLENTY: Final = 10**9

Stages = dict[str, float]
"""CPU microseconds an event, by stage."""
Given = TypeVar("Given")
Made = TypeVar("Made")


def run(settings: Settings, progress: Progress) -> Result:
    """Measure on the smallest log, where the tightest target is; in a full run at a million too."""
    sizes = [size for size in settings.tree_sizes if size <= LARGEST]
    rows: list[Row] = []
    with generators(1) as (generator,):
        for tree_size in (sizes[0], sizes[-1]) if settings.is_full else sizes[:1]:
            samples = _samples(settings, tree_size, generator, progress)
            rows += rows_of(samples, {"tree_size": tree_size, "batch": BATCH})
    return Result(
        question=QUESTION,
        rows=rows,
        notes=[
            "Stages: by the thread that runs them, in a process that does nothing else. The whole: all of "
            "the server's processes, over gRPC, as in `--only append`; there calls may share a commit.",
            "S is a bare loop that puts the same rows; LMDB and fsync is the store's own commit, with tiles "
            "and checkpoint. gRPC is an empty server that gets messages as long and answers as long.",
            "The sum is of V, all that verifies beyond it, who pays, admission, LMDB, messages and gRPC.",
        ],
    )


def rows_of(samples: dict[str, list[Stages]], at: dict[str, int]) -> list[Row]:
    """Make the rows of rounds: "stages", and by one number each, under "", "V", "S", "gRPC" and "server"."""
    limit = _LIMITS.get(at["tree_size"])
    rounds = [
        derived(stages, v[""], s[""], grpc[""], server[""], limit)
        for stages, v, s, grpc, server in zip(
            *(samples[name] for name in ("stages", "V", "S", "gRPC", "server")), strict=True
        )
    ]
    return [
        Row(
            name=name,
            value=median([one[name] for one in rounds]),
            unit="x" if " / " in name else "us/event",
            at=at,
            samples=[one[name] for one in rounds],
            note=f"{limit.limit:g} {limit.unit}, less V and S" if limit and name == LEFT else "",
        )
        for name in rounds[0]
        if limit or name != LEFT
    ]


LEFT: Final = "what the target leaves for all but V and S"
_LIMITS: Final = {10_000: targets.APPEND_SMALL, 1_000_000: targets.APPEND}


def derived(
    stages: Stages, v: float, s: float, grpc: float, server: float, limit: Target | None = None
) -> Stages:
    """Return the table of one round: its stages, what follows from them, and their sum beside the whole."""
    verifying, commit, store = stages["verifying"], stages["commit"], stages["store"]
    envelope, event, looked_up = stages["envelope"], stages["event"], stages["look-up"]
    messages = stages["read"] + stages["answer"]
    total = verifying + stages["who pays"] + commit + messages + grpc
    return {
        "V": v,
        "S": s,
        "envelope: its one spelling": envelope,
        "event: strict JSON, attributes": event,
        "three hashes, the entry's facts": stages["parsed"] - envelope - event,
        "look for a duplicate": looked_up,
        "signature, beyond V": stages["signature"] - v,
        "loops, and caches that a signature check empties": (
            verifying - stages["parsed"] - looked_up - stages["signature"]
        ),
        "all that verifies, beyond V": verifying - v,
        "who pays": stages["who pays"],
        "admission, tree, check of the right edge, signature": commit - store,
        "LMDB and fsync": store,
        "message read, answer made": messages,
        "gRPC": grpc,
        "sum of the parts": total,
        "server CPU, the whole": server,
        "beyond the sum: hand-overs, the interpreter, caches": server - total,
        "sum of the parts / whole": total / server,
        "sum of the parts / V": total / v,
        "server / V": server / v,
        "sum of the parts, beyond V and S": total - v - s,
        LEFT: (limit.limit if limit else 0.0) * (v + s if limit == targets.APPEND else v) - v - s,
    }


def _samples(
    settings: Settings, tree_size: int, generator: Generator, progress: Progress
) -> dict[str, list[Stages]]:
    events = settings.window_events
    original = prefilled_log(settings, tree_size, progress)
    with ExitStack() as stack:
        floor = stack.enter_context(storage_floor(settings, tree_size, progress))
        floor_rows = row_source(tree_size, floor, events)
        servers = stack.enter_context(Servers(settings, original, tree_size))
        stages = stack.enter_context(_staging(settings, original, tree_size))

        def served() -> Window:
            server = servers.for_new_round()
            job = generator.job("append", server.address, events=events, batch=BATCH, in_flight=IN_FLIGHT)
            return run_window(server.pid, [(generator, job)])

        # Warms up, and tells how long an answer is.
        echo = stack.enter_context(echoing(served().outcomes[0].reply_bytes))

        def echoed() -> Window:
            # More of them, as they are cheap: the kernel counts in steps.
            job = generator.job("echo", echo.address, events=4 * events, batch=BATCH, in_flight=IN_FLIGHT)
            return run_window(echo.pid, [(generator, job)])

        entries = signed_events(0, 0, events)
        measurements: dict[str, Callable[[], Stages]] = {
            "stages": stages,
            "V": lambda: {"": verification_cost(entries).total_us},
            "S": lambda: {"": floor_rows(BATCH).total_us},
            "gRPC": lambda: {"": echoed().per_event.total_us},
            "server": lambda: {"": served().per_event.total_us},
        }
        return interleaved(
            measurements,
            rounds=settings.few_rounds,
            progress=progress,
            what=f"stage by stage, {tree_size:,} entries",
        )


@contextmanager
def _staging(settings: Settings, original: Path, tree_size: int) -> Iterator[Callable[[], Stages]]:
    """Give a measurement of every stage with new events; a small log is copied anew each time."""
    numbers = count(0, settings.window_events)
    hardly_changes = tree_size >= 40 * settings.window_events
    with ExitStack() as stack:
        held = stack.enter_context(ExitStack())
        opened: list[tuple[TimedStore, Log]] = []

        def measure() -> Stages:
            if not opened or not hardly_changes:
                held.close()
                store = TimedStore.of(held.enter_context(working_copy(settings, original)))
                opened[:] = [(store, held.enter_context(Log(store, log_signer())))]
            start = next(numbers)
            entries = signed_events(MEMBER, start, start + settings.window_events)
            batches = [entries[first : first + BATCH] for first in range(0, len(entries), BATCH)]
            gc.collect()
            gc.freeze()  # as the server does
            try:
                return stages_of(*opened[0], batches)
            finally:
                gc.unfreeze()

        yield measure


class TimedStore(LmdbStore):
    """Is the store, and adds up the CPU of its commits."""

    commit_s = 0.0

    @classmethod
    def of(cls, directory: Path) -> TimedStore:
        """Open the store of a log's directory."""
        signer = log_signer()
        return cls.open(
            directory / "store", origin=signer.name, log_vkey=signer.vkey, map_size_bytes=MAP_BYTES
        )

    def commit(self, batch: CommitBatch, *, expected: bytes | None, new: bytes, publish: bool) -> None:
        """Commit as the store does."""
        before_s = thread_time()
        super().commit(batch, expected=expected, new=new, publish=publish)
        self.commit_s += thread_time() - before_s


def stages_of(store: TimedStore, log: Log, batches: Sequence[list[bytes]]) -> Stages:
    """Let every stage work on all batches, and commit them in the end; return what each took an event."""
    events = sum(map(len, batches))
    used: Stages = {}

    def timed(stage: str, given: Sequence[Given], work: Callable[[Given], Made]) -> list[Made]:
        before_s = thread_time()
        made = [work(one) for one in given]
        used[stage] = (thread_time() - before_s) / events * 1e6
        return made

    requests = [log_pb2.AppendRequest(entries=batch).SerializeToString() for batch in batches]
    timed("read", requests, lambda raw: list(log_pb2.AppendRequest.FromString(raw).entries))
    envelopes = timed("envelope", batches, lambda batch: [decode_entry(entry) for entry in batch])
    timed("event", envelopes, lambda batch: [parse_event(envelope.payload) for envelope in batch])
    # What is said to be there already is parsed and hashed like everything else; no signature is checked.
    parsed = timed("parsed", batches, lambda batch: verify_entries(batch, ORIGIN, lambda *_: True))
    with log.view() as view:
        timed("look-up", parsed, lambda batch: _look_up(view, batch))
    timed("signature", envelopes, _check_signatures)
    with log.view() as view:
        calls = timed("verifying", batches, lambda batch: _verify(view, batch))
    with _gate(log) as gate:
        timed("who pays", calls, gate.submit)
    store.commit_s = 0.0
    committed = timed("commit", calls, lambda call: log.commit([call]))
    used["store"] = store.commit_s / events * 1e6
    with log.view() as view:
        timed("answer", committed, lambda one: _answer(view, one))
    return used


def _look_up(view: LogView, batch: Sequence[VerifiedEntry]) -> None:
    for entry in batch:
        assert view.index_of(entry.identity, entry.leaf_hash) is None


def _check_signatures(envelopes: Sequence[Envelope]) -> None:
    for envelope in envelopes:
        verify_signatures(envelope)


def _verify(view: LogView, batch: Sequence[bytes]) -> list[VerifiedEntry]:
    return verify_entries(
        batch, ORIGIN, lambda identity, leaf_hash: view.index_of(identity, leaf_hash) is not None
    )


def _answer(view: LogView, committed: Committed) -> bytes:
    (outcome,) = committed.outcomes
    if isinstance(outcome, BatchRefusedError):
        raise outcome
    return append_response(view, outcome, committed.checkpoint, 0).SerializeToString()


class _Taker:
    """Takes calls as the sequencer does, and does nothing with them."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def submit(self, _entries: Sequence[VerifiedEntry], *, lane: str = "") -> asyncio.Future[Sequenced]:
        return self._loop.create_future()


@contextmanager
def _gate(log: Log) -> Iterator[MemberGate]:
    quotas = QuotasSection(
        member_events_per_s=_PLENTY,
        member_bytes_per_s=_PLENTY,
        member_burst_events=_PLENTY,
        member_outstanding_events=_PLENTY,
    )
    loop = asyncio.new_event_loop()
    try:
        yield MemberGate(cast(Sequencer, _Taker(loop)), lambda: log.registry, quotas)
    finally:
        loop.close()
