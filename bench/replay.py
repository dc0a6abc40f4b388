"""How fast a monitor checks a log, everything included, and how fast a log is mirrored, beside bare checks.

The log has as many filler entries as it says, and behind them events with real signatures; the monitor stands
where the fillers end, as one that checked them would. So the replay works on trees and indexes of that size.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import psutil

from bench import targets
from bench.interleave import interleaved
from bench.measure import Cost, cpu_time, median
from bench.prefilled import made_once, open_log, prefilled_log, working_copy
from bench.progress import Progress
from bench.result import Result, Row
from bench.served import REPOSITORY, START_TIMEOUT_S, Served, format_toml, read_line, serving
from bench.settings import Settings
from bench.workload import ENTRY_BYTES, ORIGIN, fillers, governance, log_signer, signed_events
from tlog.merkle import leaf_hash
from tlog.monitor.cursor import Cursor
from tlog.monitor.judge import Authority, JudgedEntry, judge
from tlog.monitor.replay import MAX_PENDING_ENTRIES
from tlog.policy import build_policy, format_policy
from tlog.storage.lmdb_layout import FORMAT
from tlog.validate import VerifiedEntry, verify_entries

QUESTION = "How fast does a monitor replay a log, and how fast is a log mirrored?"

LARGEST = 1_000_000
MEMBER = 2
_RECIPE = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """Holds what one process did: entries, seconds of wall time, CPU of it and all its children."""

    entries: int
    seconds: float
    cost: Cost
    server_us: float = 0.0

    @property
    def rate_per_s(self) -> float:
        """Return how many entries it did in a second."""
        return self.entries / self.seconds


def run(settings: Settings, progress: Progress) -> Result:
    """Measure replays and mirrors of the largest prefilled log up to a million entries."""
    tree_size = max(size for size in settings.tree_sizes if size <= LARGEST)
    # As many as a monitor that catches up makes durable together, or as many of them as a short run has time
    # for: a flush of fewer costs more an entry, and nothing is verified while the last one is written.
    events = MAX_PENDING_ENTRIES if settings.is_full else 6 * settings.window_events
    checked = checked_before(settings, tree_size, progress)
    with ExitStack() as stack:
        directory = stack.enter_context(working_copy(settings, prefilled_log(settings, tree_size, progress)))
        entries = signed_events(MEMBER, 0, events)
        file = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=settings.folder))) / "entries"
        file.write_bytes(b"".join(entries))
        append_signed(directory, entries)
        served = stack.enter_context(serving(directory))
        rows = _replay_rows(settings, tree_size, file, served, checked, progress)
        rows += _mirror_rows(settings, tree_size + events, served, progress)
    return Result(
        question=QUESTION,
        rows=rows,
        notes=[
            "V alone: every signature of the same events, once, by bare PyNaCl, in one process a core.",
            "Replay: one pass of the monitor over gRPC, from a server on the same machine: entries against "
            "the signed root, envelope, event, signature, membership, names, all of it durable in the end.",
            "One core: the monitor with all its threads on the first core, and V alone likewise; the server "
            "may use the others. All cores: monitor and server share them, and V alone has them to itself.",
            "Mirror: what `tlog export` does, over HTTP: every tile and entry against the signed root, into "
            "a folder, durable.",
        ],
    )


def _replay_rows(
    settings: Settings, tree_size: int, entries: Path, served: Served, checked: Path, progress: Progress
) -> list[Row]:
    events = entries.stat().st_size // ENTRY_BYTES
    cores = sorted(os.sched_getaffinity(0))
    sets = {"one core": cores[:1], "all cores": cores}
    measurements: dict[str, Callable[[], Ran]] = {}
    for name, of_set in sets.items():
        measurements[f"V, {name}"] = _verifying(entries, of_set)
        measurements[f"replay, {name}"] = _replaying(settings, checked, served, of_set, cores)
    samples = interleaved(
        measurements,
        rounds=settings.few_rounds,
        progress=progress,
        what=f"replaying {events:,} events behind {tree_size:,}",
    )
    rows: list[Row] = []
    for name, of_set in sets.items():
        at: dict[str, int | float | str] = {"tree_size": tree_size, "cores": len(of_set)}
        replay, bare = samples[f"replay, {name}"], samples[f"V, {name}"]
        if {ran.entries for ran in (*replay, *bare)} != {events}:
            raise RuntimeError(f"not all of {events} events were checked: {replay}, {bare}")
        ratios = [one.rate_per_s / v.rate_per_s for one, v in zip(replay, bare, strict=True)]
        by_cpu = [v.cost.total_us / one.cost.total_us for one, v in zip(replay, bare, strict=True)]
        rows += [
            _row("replay", [ran.rate_per_s for ran in replay], "events/s", at),
            _row("V alone", [ran.rate_per_s for ran in bare], "events/s", at),
            Row(
                name="replay / V, rates",
                value=median(ratios),
                unit="x",
                at=at,
                samples=ratios,
                target=targets.REPLAY if tree_size == LARGEST else None,
            ),
            _row("replay CPU", [ran.cost.total_us for ran in replay], "us/event", at),
            _row("replay CPU, of it system", [ran.cost.system_us for ran in replay], "us/event", at),
            _row("V CPU", [ran.cost.total_us for ran in bare], "us/event", at),
            _row("V / replay, CPU", by_cpu, "x", at),
            _row("server CPU", [ran.server_us for ran in replay], "us/event", at),
        ]
    return rows


def _mirror_rows(settings: Settings, tree_size: int, served: Served, progress: Progress) -> list[Row]:
    cores = ",".join(map(str, sorted(os.sched_getaffinity(0))))

    def export() -> Ran:
        with tempfile.TemporaryDirectory(dir=settings.folder) as folder:
            arguments = ["export", served.tiles_url, log_signer().vkey, str(Path(folder) / "copy"), cores]
            return measured(arguments, served)

    rounds = min(settings.rounds, 5 if settings.is_full else 1)
    samples = interleaved(
        {"mirror": export}, rounds=rounds, progress=progress, what=f"mirroring {tree_size:,} entries"
    )
    ran = samples["mirror"]
    at = {"tree_size": tree_size}
    rates = [one.rate_per_s for one in ran]
    return [
        Row(
            name="mirror",
            value=median(rates),
            unit="entries/s",
            at=at,
            samples=rates,
            target=targets.MIRROR if tree_size >= LARGEST else None,
        ),
        _row("mirror CPU", [one.cost.total_us for one in ran], "us/entry", at),
        _row("server CPU", [one.server_us for one in ran], "us/entry", at),
    ]


def _row(
    name: str, samples: list[float], unit: str, at: dict[str, int | float | str] | dict[str, int]
) -> Row:
    return Row(name=name, value=median(samples), unit=unit, at=at, samples=samples)


def _verifying(entries: Path, cores: list[int]) -> Callable[[], Ran]:
    named = ",".join(map(str, cores))
    return lambda: measured(["verify", str(entries.absolute()), named])


def _replaying(
    settings: Settings, checked: Path, served: Served, cores: list[int], all_cores: list[int]
) -> Callable[[], Ran]:
    named = ",".join(map(str, cores))

    def replay() -> Ran:
        others = [core for core in all_cores if core not in cores] or all_cores
        pin(served.pid, others)
        try:
            with working_copy(settings, checked) as directory:
                return measured(["monitor", str(configured(directory, served.address)), named], served)
        finally:
            pin(served.pid, all_cores)

    return replay


def measured(arguments: list[str], served: Served | None = None) -> Ran:
    """Run one process of bench/replay_process.py, and measure from its ready to its done."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.replay_process", *arguments],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdin is not None
            read_line(process, START_TIMEOUT_S)
            server_before = None if served is None else served.cpu()
            before = cpu_time(process.pid)
            process.stdin.write("go\n")
            process.stdin.flush()
            done = read_line(process, 600)
            used = cpu_time(process.pid) - before
            entries = int(str(done["entries"]))
            if not entries:
                raise RuntimeError(
                    f"{arguments[0]} had nothing to do: what was to be measured was done before"
                )
            server_us = 0.0
            if served is not None and server_before is not None:
                server_us = (served.cpu() - server_before).per(entries).total_us
            process.stdin.close()
            process.wait(60)
        finally:
            process.kill()
    return Ran(
        entries=entries, seconds=float(str(done["seconds"])), cost=used.per(entries), server_us=server_us
    )


def pin(pid: int, cores: list[int]) -> None:
    """Let a process with all its threads and children run on these cores only."""
    process = psutil.Process(pid)
    for member in [process, *process.children(recursive=True)]:
        for thread in member.threads():
            os.sched_setaffinity(thread.id, cores)


def append_signed(directory: Path, entries: list[bytes]) -> None:
    """Append signed events to a log's directory, without a server."""
    with open_log(directory) as log:
        for start in range(0, len(entries), 256):
            log.commit([verify_entries(entries[start : start + 256], ORIGIN)])


def configured(directory: Path, address: str) -> Path:
    """Write the configuration of a monitor in its directory, and return the file."""
    path = directory / "monitor.toml"
    (directory / "policy").write_bytes(format_policy(build_policy([log_signer().vkey])))
    genesis = leaf_hash(governance()[0]).hex()
    path.write_text(
        format_toml({
            "log": {"server": address, "genesis": genesis},
            "monitor": {"state_path": "state"},
            "alerts": {"log": False},
        })
    )  # fmt: skip
    return path


def checked_before(settings: Settings, tree_size: int, progress: Progress) -> Path:
    """Return the directory of a monitor that has checked the prefilled log of this size."""
    recipe = {
        "monitor": _RECIPE,
        "format": FORMAT.decode(),
        "tree_size": tree_size,
        "entry_bytes": ENTRY_BYTES,
    }

    def fill(directory: Path) -> None:
        state = directory / "state"
        state.mkdir()
        cursor = Cursor.create(state, ORIGIN, keeps_entries=False)
        first = verify_entries(governance(), ORIGIN)
        with progress.running(
            f"filling a monitor that has checked {tree_size:,} entries", tree_size
        ) as advance:
            _take(cursor, first)
            advance(len(first))
            entries = fillers(0, tree_size - len(first))
            while batch := list(islice(entries, MAX_PENDING_ENTRIES)):
                _take(cursor, batch)
                advance(len(batch))
        cursor.close()

    return made_once(settings, f"monitor-{tree_size}", recipe, fill)


def _take(cursor: Cursor, entries: list[VerifiedEntry]) -> None:
    """Move a cursor behind entries as if their signatures had been checked, durably."""
    authority = Authority(cursor.registry)
    judged: list[JudgedEntry] = []
    for index, entry in enumerate(entries, cursor.position):
        one = judge(index, entry.entry, entry, authority=authority, find=lambda _: None)
        if one.finding is not None:
            raise RuntimeError(f"entry {index} of the prefilled log is refused: {one.finding}")
        judged.append(one)
    cursor.add(judged, authority.registry, cursor.grow([entry.leaf_hash for entry in entries]))
    cursor.flush()
