"""Load generators: processes that sign events beforehand, and send them when told.

A `Generator` is the handle of one such process (bench/load_process.py). `prepare` makes it sign and warm up,
`run_window` lets several of them go at once and measures the server meanwhile. Each generator's own CPU is
reported apart, and never counted.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from typing import Literal

import msgspec

from bench.measure import Cost, CpuTime, cpu_time
from bench.served import REPOSITORY, read_line
from bench.workload import ENTRY_BYTES

READY_TIMEOUT_S = 180.0
DONE_TIMEOUT_S = 300.0

Method = Literal["append", "append-again", "verified-append", "proofs", "echo", "peer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Says what one generator sends: events [first, first + events) of a member, and some before to warm up.

    `append` sends bytes and looks at the replies after the window, and so does `append-again`, of events that
    an earlier job has sent; `verified-append` uses the real client, which verifies everything within it;
    `proofs` asks for inclusion proofs of as many random leaves of the
    tree of `tree_size` instead; `echo` sends what `append` would, to an echo server; `peer` appends to
    somebody else's log, whose address is as bench/peer_adapters/given.py has it. With `rate_per_s`, in calls,
    it is an open loop, else a closed one.
    """

    method: Method
    address: str
    member: int
    first: int
    events: int
    batch: int
    in_flight: int = 1
    warm_up_calls: int = 4
    entry_bytes: int = ENTRY_BYTES
    rate_per_s: float | None = None
    tree_size: int = 0

    @property
    def calls(self) -> int:
        """Return how many calls are measured."""
        return self.events // self.batch

    @property
    def next_event(self) -> int:
        """Return the first event that this job leaves unused; those for the warm-up come last."""
        return self.first + self.events + self.warm_up_calls * self.batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Says what one generator saw: acknowledged events, seconds of each call, its own CPU time.

    `failures` counts calls that were not answered as they should be, by what was wrong. `reply_bytes` is the
    length of the last reply. `settled_s` is when a root covered everything, seconds from the start as
    `seconds` is; the two are about the same where an answer means that.
    """

    events: int
    seconds: float
    latencies_s: Sequence[float]
    user_s: float
    system_s: float
    reply_bytes: int
    request_bytes: int
    failures: Mapping[str, int] = field(default_factory=dict)
    settled_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Holds what one measured window cost the server, and what its generators saw."""

    cpu: CpuTime
    outcomes: Sequence[Outcome]

    @property
    def events(self) -> int:
        """Return how many events were acknowledged."""
        return sum(outcome.events for outcome in self.outcomes)

    @property
    def calls(self) -> int:
        """Return how many calls were answered."""
        return sum(len(outcome.latencies_s) for outcome in self.outcomes)

    @property
    def seconds(self) -> float:
        """Return how long it took, by the slowest generator."""
        return max(outcome.seconds for outcome in self.outcomes)

    @property
    def settled_s(self) -> float:
        """Return how long it took until a root covered everything, by the slowest generator."""
        return max(outcome.settled_s for outcome in self.outcomes)

    @property
    def latencies_s(self) -> list[float]:
        """Return the seconds of all calls."""
        return [latency for outcome in self.outcomes for latency in outcome.latencies_s]

    @property
    def per_event(self) -> Cost:
        """Return what an acknowledged event cost the server."""
        return self.cpu.per(self.events)

    @property
    def per_call(self) -> Cost:
        """Return what a call cost the server."""
        return self.cpu.per(self.calls)

    @property
    def client_us_per_event(self) -> float:
        """Return the generators' own CPU microseconds for an event."""
        return sum(outcome.user_s + outcome.system_s for outcome in self.outcomes) / self.events * 1e6


class Generator:
    """Is the handle of one load process; events it has sent are never sent again."""

    def __init__(self, process: subprocess.Popen[str], member: int) -> None:
        self._process = process
        self.member = member
        self.next_event = 0

    def job(
        self,
        method: Method,
        address: str,
        *,
        events: int,
        batch: int,
        in_flight: int = 1,
        entry_bytes: int = ENTRY_BYTES,
        rate_per_s: float | None = None,
        tree_size: int = 0,
        warm_up_calls: int | None = None,
    ) -> Job:
        """Make a job of events that this generator has not used yet. Requires events to be whole batches."""
        if events % batch or events < batch:
            raise ValueError(f"{events} events are no whole number of batches of {batch}")
        job = Job(
            method=method,
            address=address,
            member=self.member,
            first=self.next_event,
            events=events,
            batch=batch,
            in_flight=in_flight,
            entry_bytes=entry_bytes,
            rate_per_s=rate_per_s,
            tree_size=tree_size,
            warm_up_calls=max(in_flight, 4) if warm_up_calls is None else warm_up_calls,
        )
        self.next_event = job.next_event
        return job

    def prepare(self, job: Job) -> None:
        """Begin to sign and warm up; `await_ready` returns when it is done."""
        self._say({"prepare": asdict(job)})

    def await_ready(self) -> None:
        """Wait until the process is ready to go. Raises RuntimeError when it failed."""
        self._read("ready", READY_TIMEOUT_S)

    def go(self) -> None:
        """Let it send."""
        self._say({"go": True})

    def outcome(self) -> Outcome:
        """Wait until everything was answered. Raises RuntimeError when it failed."""
        return msgspec.convert(self._read("outcome", DONE_TIMEOUT_S), Outcome)

    def _say(self, message: dict[str, object]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()

    def _read(self, what: str, timeout_s: float) -> dict[str, object]:
        message = read_line(self._process, timeout_s)
        if what not in message:
            raise RuntimeError(f"the load generator failed: {message.get('error', message)}")
        value = message[what]
        return value if isinstance(value, dict) else {}


@contextmanager
def generators(count: int) -> Iterator[list[Generator]]:
    """Run load processes while the block runs, each for a member of its own."""
    with ExitStack() as stack:
        yield [stack.enter_context(_generator(member)) for member in range(count)]


def run_window(server_pid: int, jobs: Sequence[tuple[Generator, Job]]) -> Window:
    """Prepare all jobs, let them go at once, and measure the server from then until the last answer.

    Raises RuntimeError when a call was not answered as it should be: nothing was measured then.
    """
    return window_of(lambda: cpu_time(server_pid), jobs)


def window_of(cpu: Callable[[], CpuTime], jobs: Sequence[tuple[Generator, Job]]) -> Window:
    """Do the same where `cpu` says what the server has used up to now. Raises RuntimeError likewise."""
    for generator, job in jobs:
        generator.prepare(job)
    for generator, _ in jobs:
        generator.await_ready()
    before = cpu()
    for generator, _ in jobs:
        generator.go()
    outcomes = [generator.outcome() for generator, _ in jobs]
    window = Window(cpu=cpu() - before, outcomes=outcomes)
    failures = [outcome.failures for outcome in outcomes if outcome.failures]
    if failures:
        raise RuntimeError(f"calls failed within the measured window: {failures}")
    return window


@contextmanager
def _generator(member: int) -> Iterator[Generator]:
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.load_process"],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield Generator(process, member)
            assert process.stdin is not None
            process.stdin.close()
            process.wait(20)
        finally:
            process.kill()
