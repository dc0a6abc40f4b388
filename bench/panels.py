"""Draw the panels of deploy/dashboard.json from a real run: a server, witnesses, load, and some trouble.

    python -m bench.panels --out docs/dashboard.png

Nothing is made up: the page of metrics is fetched once a second, and each panel's own expressions are
evaluated on what was fetched (bench/promql.py). Rates are over 10 s instead of a minute, so that two minutes
show something.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import httpx

from bench.ending import ending_in_order
from bench.prefilled import prefilled_log, working_copy
from bench.progress import Progress
from bench.promql import Scrape, evaluate, parse_page
from bench.served import REPOSITORY, Served, serving
from bench.settings import Settings
from bench.witnesses import Witness, policy_of, witnessing
from bench.workload import signed_events
from tlog.v1 import log_pb2, log_pb2_grpc

RANGE_S = 10.0
EVERY_S = 1.0
TREE_SIZE = 10_000
QUOTAS = {"caller_events_per_s": 600.0, "caller_burst_events": 1_200, "caller_calls_per_s": 400.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """Is one panel: its title, unit, and expressions by legend."""

    title: str
    unit: str
    queries: Sequence[tuple[str, str]]


@dataclass(slots=True)
class Recorded:
    """Holds what was fetched, oldest first."""

    scrapes: list[Scrape] = field(default_factory=list)

    def series(self, expression: str, legend: str) -> dict[str, tuple[list[float], list[float]]]:
        """Evaluate an expression at every scrape: seconds and values by the legend of each line."""
        lines: dict[str, tuple[list[float], list[float]]] = {}
        for end in range(2, len(self.scrapes) + 1):
            now_s = self.scrapes[end - 1].at_s
            for labels, value in evaluate(expression, self.scrapes[:end], range_s=RANGE_S).items():
                name = named(legend, dict(labels))
                seconds, values = lines.setdefault(name, ([], []))
                seconds.append(now_s - self.scrapes[0].at_s)
                values.append(value)
        return lines


def named(legend: str, labels: Mapping[str, str]) -> str:
    """Put labels into a legend such as `{{method}}`."""
    return re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), legend)


def read_panels() -> list[Panel]:
    """Read the dashboard's panels in their order."""
    document = json.loads((REPOSITORY / "deploy" / "dashboard.json").read_text())
    return [
        Panel(
            title=panel["title"],
            unit=panel["fieldConfig"]["defaults"]["unit"],
            queries=[(target["legendFormat"], target["expr"]) for target in panel["targets"]],
        )
        for panel in document["panels"]
    ]


def record(seconds: float, folder: Path) -> Recorded:
    """Run a witnessed log under load for a while, and fetch its metrics meanwhile."""
    settings = Settings.for_profile("short", folder)
    progress = Progress(between=lambda: None)
    recorded = Recorded()
    with ExitStack() as stack:
        witnesses = [stack.enter_context(witnessing(settings, number)) for number in range(3)]
        original = prefilled_log(settings, TREE_SIZE, progress)
        directory = stack.enter_context(working_copy(settings, original))
        (directory / "witnesses.policy").write_text(policy_of(witnesses))
        served = stack.enter_context(
            serving(directory, {"witnesses": {"policy_path": "witnesses.policy"}, "quotas": QUOTAS})
        )
        load = Load(served, witnesses, seconds)
        stack.callback(load.stop)
        load.start()
        with progress.running("recording", round(seconds)) as advance:
            end_s = time.monotonic() + seconds
            while time.monotonic() < end_s:
                page = httpx.get(served.metrics_url, timeout=10).text
                recorded.scrapes.append(Scrape(at_s=time.time(), page=parse_page(page)))
                advance(1)
                time.sleep(EVERY_S)
    return recorded


class Load:
    """Appends and reads in threads, after a plan: a quiet third, one with a flood, one with trouble."""

    def __init__(self, served: Served, witnesses: Sequence[Witness], seconds: float) -> None:
        """Plan for so many seconds; `start` begins."""
        self._served = served
        self._witness = witnesses[-1]
        self._third_s = seconds / 3
        self._stop = threading.Event()
        self._began_s = 0.0
        self._threads = [
            threading.Thread(target=self._loop, args=(work, every_s), daemon=True)
            for work, every_s in (
                (self._append_one(0), 0.08),
                (self._append_batch(1, 16), 0.25),
                (self._flood(2), 0.0),
                (self._read(), 0.1),
                (self._read_tiles(), 0.2),
                (self._refused(3), 1.0),
            )
        ]
        self._threads.append(threading.Thread(target=self._hold_up_a_witness, daemon=True))

    def start(self) -> None:
        """Begin."""
        self._began_s = time.monotonic()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End all threads."""
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def _loop(self, work: Callable[[], None], every_s: float) -> None:
        while not self._stop.is_set():
            with suppress(grpc.RpcError, httpx.HTTPError):
                work()
            self._stop.wait(every_s)

    def _stub(self) -> log_pb2_grpc.LogServiceStub:
        channel = grpc.insecure_channel(self._served.address, options=[("grpc.use_local_subchannel_pool", 1)])
        return log_pb2_grpc.LogServiceStub(channel)  # type: ignore[no-untyped-call]

    def _append_one(self, member: int) -> Callable[[], None]:
        stub, calls = self._stub(), 0

        def work() -> None:
            nonlocal calls
            calls += 1
            # Each tenth is a duplicate, as a client sends that lost the answer.
            number = calls - 1 if calls % 10 == 0 else calls
            stub.Append(log_pb2.AppendRequest(entries=signed_events(member, number, number + 1)), timeout=10)

        return work

    def _append_batch(self, member: int, batch: int) -> Callable[[], None]:
        stub, start = self._stub(), 0

        def work() -> None:
            nonlocal start
            start += batch
            stub.Append(
                log_pb2.AppendRequest(entries=signed_events(member, start, start + batch)), timeout=10
            )

        return work

    def _flood(self, member: int) -> Callable[[], None]:
        stub, start = self._stub(), 0

        def work() -> None:
            nonlocal start
            if not self._third_s < self._elapsed_s < 2 * self._third_s:
                self._stop.wait(0.2)
                return
            start += 64
            stub.Append(log_pb2.AppendRequest(entries=signed_events(member, start, start + 64)), timeout=10)

        return work

    def _refused(self, member: int) -> Callable[[], None]:
        stub = self._stub()
        (entry,) = signed_events(member, 0, 1)
        wrong = bytearray(entry)
        wrong[entry.index(b"\x0a\x40") + 2] ^= 1
        request = log_pb2.AppendRequest(entries=[bytes(wrong)])
        return lambda: stub.Append(request, timeout=10)

    def _read(self) -> Callable[[], None]:
        stub = self._stub()

        def work() -> None:
            stub.GetCheckpoint(log_pb2.GetCheckpointRequest(), timeout=10)
            keys = [log_pb2.EntryKey(leaf_index=index) for index in range(0, 640, 10)]
            stub.GetInclusionProofs(log_pb2.GetInclusionProofsRequest(keys=keys), timeout=10)

        return work

    def _read_tiles(self) -> Callable[[], None]:
        client = httpx.Client(base_url=self._served.tiles_url, timeout=10)

        def work() -> None:
            for path in ("/checkpoint", "/tile/0/003", "/tile/entries/005"):
                client.get(path)

        return work

    def _hold_up_a_witness(self) -> None:
        """Let one of three witnesses stand still for a while: the quorum asks for all of them."""
        if self._stop.wait(2.3 * self._third_s):
            return
        os.kill(self._witness.pid, signal.SIGSTOP)
        self._stop.wait(0.3 * self._third_s)
        os.kill(self._witness.pid, signal.SIGCONT)

    @property
    def _elapsed_s(self) -> float:
        return time.monotonic() - self._began_s


def draw_panels(panels: Sequence[Panel], recorded: Recorded, file: Path) -> None:
    """Draw all panels in the dashboard's order, three in a row, into one PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    rows = -(-len(panels) // 3)
    figure = Figure(figsize=(15, 2.7 * rows), layout="constrained")
    axes = figure.subplots(rows, 3)
    for axis in axes.flat[len(panels) :]:
        axis.axis("off")
    for axis, panel in zip(axes.flat, panels, strict=False):
        for legend, query in panel.queries:
            for name, (seconds, values) in recorded.series(query, legend).items():
                scale = 1 / 2**20 if panel.unit == "bytes" else 1.0
                axis.plot(seconds, [value * scale for value in values], label=name, linewidth=1.2)
        axis.set_title(panel.title, fontsize=10)
        axis.set_ylabel({"s": "seconds", "ops": "a second", "bytes": "MiB"}.get(panel.unit, ""), fontsize=8)
        axis.set_ylim(bottom=0)
        axis.set_xlabel("seconds of the run", fontsize=7)
        axis.tick_params(labelsize=7)
        axis.grid(alpha=0.3)
        if axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize=6, loc="upper left")
    figure.savefig(file, dpi=80)


def main() -> None:
    """Record, and draw."""
    parser = argparse.ArgumentParser(prog="python -m bench.panels", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/dashboard.png"))
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--folder", type=Path, default=Path("build/bench"), help="for logs (%(default)s)")
    options = parser.parse_args()
    draw_panels(read_panels(), record(options.seconds, options.folder), options.out)


if __name__ == "__main__":
    with ending_in_order():
        main()
