"""One member floods a real server, and another one's calls are held against the same on a server beside it.

Both servers run at the same time and are called in turn, so that whatever else the machine does is felt by
both alike; only one of them is flooded.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import grpc
import pytest
from _support.alliance import DECLARATION, Alliance
from _support.log_directory import CONFIG, make_log_directory, serving
from _support.tls_files import TestAuthority

from bench.flooder import Flood, Flooder, flooding
from bench.measure import cpu_time, percentile
from tlog.governance import Quota
from tlog.grpc_tls import channel_credentials
from tlog.v1 import log_pb2, log_pb2_grpc

IN_FLIGHT = 64
SMALL = Quota(events_per_s=100, bytes_per_s=10**6, burst_events=200, outstanding_events=500)
CALLER = "[quotas]\ncaller_events_per_s = 500\ncaller_burst_events = 500\ncaller_calls_per_s = 100\n"
DEFAULTS = "[quotas]\ncaller_calls_per_s = 400\n"
ATTEMPTS = 3
PAIRS = 60
NIGHTLY_PAIRS = 1_000


@dataclass
class Beside:
    """Holds how long calls took on the flooded server and on the other one, in seconds, and their CPU."""

    flooded_s: list[float] = field(default_factory=list)
    other_s: list[float] = field(default_factory=list)
    flooded_cpu_s: float = 0.0
    other_cpu_s: float = 0.0


class Rig:
    """Is two servers, one steady member that calls both, and a flooder of the first."""

    def __init__(
        self,
        alliance: Alliance,
        pids: tuple[int, int],
        stubs: list[log_pb2_grpc.LogServiceStub],
        flood: Flooder,
    ) -> None:
        self._alliance = alliance
        self._pids = pids
        self._stubs = stubs
        self._numbers = count()
        self.flood = flood

    def calls(self, pairs: int) -> Beside:
        """Append one event after the other, in turn to the flooded server and to the other one."""
        found = Beside()
        before = [cpu_time(pid).total_s for pid in self._pids]
        for number in range(pairs):
            entry = self._alliance.entry(next(self._numbers))
            request = log_pb2.AppendRequest(entries=[entry])
            both = [(self._stubs[0], found.flooded_s), (self._stubs[1], found.other_s)]
            for stub, times_s in both if number % 2 else reversed(both):
                began_s = time.perf_counter()
                stub.Append(request, timeout=20)
                times_s.append(time.perf_counter() - began_s)
            time.sleep(0.01)
        after = [cpu_time(pid).total_s for pid in self._pids]
        found.flooded_cpu_s, found.other_cpu_s = (two - one for one, two in zip(before, after, strict=True))
        return found

    def flooded(self, pairs: int) -> tuple[Beside, Flood]:
        """Do the same while the flooder sends without waiting."""
        self.flood.go()
        found = self.calls(pairs)
        return found, self.flood.rest()


@contextmanager
def rig(folder: Path, *, batch: int, quotas: str, quota: Quota | None) -> Iterator[Rig]:
    alliance = Alliance()
    if quota is not None:
        alliance.add_member("forwarder", ["forwarder"], quota=quota)
    authority = TestAuthority(folder / "ca")
    steady = authority.client("steady", alliance.source("exporter"))
    flooder = authority.client("flooder", alliance.source("forwarder"))
    entries = [
        alliance.entry(number, member="forwarder", event_type=DECLARATION)
        for number in range(2_000 if quota is not None else 12_000)
    ]
    requests = [
        log_pb2.AppendRequest(entries=entries[start : start + batch]).SerializeToString()
        for start in range(0, len(entries), batch)
    ]
    config = CONFIG + quotas + authority.tables()
    with ExitStack() as stack:
        servers = [
            stack.enter_context(
                serving(
                    make_log_directory(folder / name, alliance, config=config),
                    steady,
                )
            )
            for name in ("flooded", "other")
        ]
        credentials = channel_credentials(steady)
        channels = [
            stack.enter_context(grpc.secure_channel(server.grpc_address, credentials)) for server in servers
        ]
        stubs = [log_pb2_grpc.LogServiceStub(channel) for channel in channels]  # type: ignore[no-untyped-call]
        flood = stack.enter_context(
            flooding(servers[0].grpc_address, flooder.paths, requests, folder=folder, cpu_share=0.3)
        )
        made = Rig(alliance, (servers[0].pid, servers[1].pid), stubs, flood)
        made.calls(10)
        yield made


def test_one_member_floods_and_another_does_not_feel_it(tmp_path: Path) -> None:
    """Under small quotas. What the server decides is held exactly; latency against the server beside it."""
    told = []
    with rig(tmp_path, batch=20, quotas=CALLER, quota=SMALL) as running:
        began_s = time.monotonic()
        appended = 0
        for _ in range(ATTEMPTS):
            beside, flood = running.flooded(PAIRS)
            assert set(flood.codes) <= {"OK", "RESOURCE_EXHAUSTED"}, flood
            assert flood.cpu_share < 0.5, flood
            # A wave or two that could not know, then ever fewer, and never more than 200 a second.
            assert 1 <= flood.refused <= IN_FLIGHT * 2 + 200 * flood.seconds, flood
            appended += flood.appended
            elapsed_s = time.monotonic() - began_s
            assert appended <= SMALL.burst_events + SMALL.events_per_s * elapsed_s + 20, flood
            more_cpu_s = beside.flooded_cpu_s - beside.other_cpu_s
            usual_s = percentile(beside.other_s, 0.9)
            slow = sum(took_s > 2 * usual_s for took_s in beside.flooded_s) / PAIRS
            told.append((slow, usual_s, more_cpu_s, flood))
            if slow <= 0.25 and more_cpu_s <= 0.3 * flood.seconds:
                return
    pytest.fail(f"a flood made another member wait, or took the server's time: {told}")


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("batch", "quotas", "quota"),
    [(20, CALLER, SMALL), (64, DEFAULTS, None), (1, DEFAULTS, None)],
    ids=["beyond small quotas", "in batches", "one by one"],
)
def test_beside_a_flood_another_members_p99_is_at_most_doubled(
    tmp_path: Path, batch: int, quotas: str, quota: Quota | None
) -> None:
    told = []
    with rig(tmp_path, batch=batch, quotas=quotas, quota=quota) as running:
        for _ in range(ATTEMPTS):
            beside, flood = running.flooded(NIGHTLY_PAIRS)
            flooded_s, other_s = (percentile(times_s, 0.99) for times_s in (beside.flooded_s, beside.other_s))
            told.append((flooded_s, other_s, flood))
            if flooded_s <= 2 * other_s:
                return
    pytest.fail(f"a flood more than doubled another member's p99: {told}")
