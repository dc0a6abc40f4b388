"""Who takes part in a comparison of logs, and how: tlog, an empty server, libraries, peers."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Final

from bench.append import Servers
from bench.echo_server import Echo, echoing
from bench.libraries import HashedLmdb, Library, PymerkleTree
from bench.listening import cpu_of_all, listening_pids
from bench.load import Generator, Window, run_window, window_of
from bench.measure import Cost, cpu_of
from bench.peer_adapters.adapter import Work
from bench.peer_adapters.given import GivenPeer
from bench.prefilled import prefilled_log
from bench.progress import Progress
from bench.settings import Settings
from bench.workload import fillers, signed_events

REPLY_BYTES: Final = 1_000  # of the empty server: about what tlog answers to one event
FILL_BATCH: Final = 100_000

TLOG: Final = Work(
    signatures="yes",
    duplicates="by source and id",
    proof="of the range, and checkpoint",
    durable="yes",
    in_tree="yes",
)
EMPTY: Final = Work(signatures="no", duplicates="no", proof="no", durable="no", in_tree="no tree")


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """Is how entries are handed over: so many a call, so many calls at a time."""

    batch: int
    in_flight: int

    def events(self, settings: Settings) -> int:
        """Return how many entries a window takes: whole batches, and every caller busy."""
        wanted = settings.window_events if self.batch > 1 else settings.window_events // 4
        step = self.batch * self.in_flight
        return max(wanted // step * step, step)


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """Holds what one window showed. A `cost` of None could not be read: the peer is not on this machine.

    `settled_s` is when a root covered everything, as `seconds` from the first call on.
    """

    events: int
    seconds: float
    settled_s: float
    latencies_s: Sequence[float]
    cost: Cost | None
    client_us: float | None = None

    @property
    def rate_per_s(self) -> float:
        """Return how many events were acknowledged in a second."""
        return self.events / self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """Is somebody who takes entries in one way: what he does for them, and how a window is measured.

    `entries` is how many he holds already, None where only he knows. `measure` raises RuntimeError when a
    call was not answered as it should be.
    """

    name: str
    entries: int | None
    way: Way
    work: Work
    measure: Callable[[], Taken]


def own_contenders(
    settings: Settings,
    tree_size: int,
    ways: Sequence[Way],
    generator: Generator,
    stack: ExitStack,
    progress: Progress,
) -> list[Contender]:
    """Give the real server on a log of a size, and an empty gRPC server, for as long as `stack` is open."""
    servers = stack.enter_context(Servers(settings, prefilled_log(settings, tree_size, progress), tree_size))
    echo = stack.enter_context(echoing(REPLY_BYTES))
    found = []
    for way in ways:
        tlog = partial(_of_tlog, servers, generator, way, way.events(settings))
        empty = partial(_of_echo, echo, generator, way, way.events(settings))
        found += [
            Contender(name="tlog", entries=tree_size, way=way, work=TLOG, measure=tlog),
            Contender(name="empty gRPC server", entries=None, way=way, work=EMPTY, measure=empty),
        ]
    return found


def library_contenders(
    settings: Settings,
    tree_size: int,
    batches: Sequence[int],
    generator: Generator,
    stack: ExitStack,
    progress: Progress,
) -> list[Contender]:
    """Give libraries that hold as many entries, each called in this process, one batch after the other."""
    settings.folder.mkdir(parents=True, exist_ok=True)
    found = []
    kinds: tuple[type[HashedLmdb] | type[PymerkleTree], ...] = (HashedLmdb, PymerkleTree)
    for kind in kinds:
        folder = stack.enter_context(tempfile.TemporaryDirectory(dir=settings.folder, prefix="library-"))
        library = kind(Path(folder))
        stack.callback(library.close)
        entries = (filler.entry for filler in fillers(0, tree_size))
        with progress.running(f"filling {kind.name} with {tree_size:,} entries", tree_size) as advance:
            while part := list(islice(entries, FILL_BATCH)):
                library.append(part)
                advance(len(part))
        for batch in batches:
            way = Way(batch=batch, in_flight=1)
            # One by one each entry is a durable transaction: a quarter of a window would be a minute's work.
            events = settings.window_events if batch > 1 else settings.window_events // 32
            measure = partial(_of_library, library, generator, way, events)
            found.append(
                Contender(name=kind.name, entries=tree_size, way=way, work=kind.work, measure=measure)
            )
    return found


def given_contenders(
    settings: Settings, peer: GivenPeer, text: str, ways: Sequence[Way], generator: Generator
) -> list[Contender]:
    """Give a peer that the user has running, `text` being how he named it, in the ways that it knows."""
    adapter = peer.adapter()
    known = [
        Way(batch=way.batch, in_flight=min(way.in_flight, adapter.most_in_flight))
        for way in ways
        if way.batch <= adapter.largest_batch
    ]
    return [
        Contender(
            name=peer.name,
            entries=None,
            way=way,
            work=adapter.work,
            measure=partial(_of_peer, peer, text, generator, way, way.events(settings)),
        )
        for way in dict.fromkeys(known)
    ]


def _of_tlog(servers: Servers, generator: Generator, way: Way, events: int) -> Taken:
    # In batches, in which most events come, a small log is begun anew: it would soon be a large one.
    served = servers.for_new_round() if way.batch > 1 else servers.for_same_round()
    job = generator.job("append", served.address, events=events, batch=way.batch, in_flight=way.in_flight)
    window = run_window(served.pid, [(generator, job)])
    return _taken(window, window.per_event)


def _of_echo(echo: Echo, generator: Generator, way: Way, events: int) -> Taken:
    job = generator.job("echo", echo.address, events=events, batch=way.batch, in_flight=way.in_flight)
    window = run_window(echo.pid, [(generator, job)])
    return _taken(window, window.per_event)


def _of_library(library: Library, generator: Generator, way: Way, events: int) -> Taken:
    start = generator.next_event
    generator.next_event += events
    entries = signed_events(generator.member, start, start + events)
    latencies_s = []

    def append_all() -> None:
        for first in range(0, events, way.batch):
            started_s = perf_counter()
            library.append(entries[first : first + way.batch])
            latencies_s.append(perf_counter() - started_s)

    cost = cpu_of(append_all).per(events)
    seconds = sum(latencies_s)
    return Taken(events=events, seconds=seconds, settled_s=seconds, latencies_s=latencies_s, cost=cost)


def _of_peer(peer: GivenPeer, text: str, generator: Generator, way: Way, events: int) -> Taken:
    pids = [pid for port in (peer.port, *peer.also_ports) for pid in listening_pids(peer.host, port)]
    job = generator.job("peer", text, events=events, batch=way.batch, in_flight=way.in_flight)
    window = window_of(lambda: cpu_of_all(pids), [(generator, job)])
    return _taken(window, window.per_event if pids else None)


def _taken(window: Window, cost: Cost | None) -> Taken:
    return Taken(
        events=window.events,
        seconds=window.seconds,
        settled_s=window.settled_s,
        latencies_s=window.latencies_s,
        cost=cost,
        client_us=window.client_us_per_event,
    )
