"""How long it takes until three witnesses have cosigned what was appended, and what each of them costs."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from bench import targets
from bench.interleave import interleaved
from bench.measure import CpuTime, cpu_time, median, percentile
from bench.prefilled import prefilled_log, working_copy
from bench.progress import Progress
from bench.quorum_process import WARM_UP_CALLS
from bench.result import Result, Row, Target
from bench.served import REPOSITORY, START_TIMEOUT_S, Served, read_line, serving
from bench.settings import Settings
from bench.workload import log_signer

QUESTION = "How long until three witnesses have cosigned what was appended?"

LARGEST = 1_000_000
WITNESSES = 3
RATE_PER_S = 100.0
MEMBER = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """Is one running witness."""

    pid: int
    url: str
    vkey: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """Holds what one window of appends showed; times in ms from when each call was to be made."""

    appended_ms: list[float]
    published_ms: list[float]
    checkpoints: int
    server: CpuTime
    witnesses: CpuTime

    @property
    def events(self) -> int:
        """Return how many events were appended."""
        return len(self.published_ms)


def run(settings: Settings, progress: Progress) -> Result:
    """Measure with a quorum of all three witnesses, and without any."""
    tree_size = max(size for size in settings.tree_sizes if size <= LARGEST)
    seconds = {"tiny": 0.5, "short": 2.0, "full": 12.0}[settings.profile]
    original = prefilled_log(settings, tree_size, progress)
    with ExitStack() as stack:
        witnesses = [stack.enter_context(witnessing(settings, number)) for number in range(WITNESSES)]
        plain = stack.enter_context(serving(stack.enter_context(working_copy(settings, original))))
        directory = stack.enter_context(working_copy(settings, original))
        (directory / "witnesses.policy").write_text(policy_of(witnesses))
        overrides = {"witnesses": {"policy_path": "witnesses.policy"}}
        witnessed = stack.enter_context(serving(directory, overrides))
        calls = round(RATE_PER_S * seconds)
        numbers = count(0, calls + WARM_UP_CALLS)

        def window(served: Served, asked: list[Witness]) -> Callable[[], Watched]:
            return lambda: watched_window(served, asked, next(numbers), calls)

        samples = interleaved(
            {"quorum": window(witnessed, witnesses), "no witness": window(plain, [])},
            rounds=settings.few_rounds,
            progress=progress,
            what=f"cosigning {RATE_PER_S:.0f} appends a second, {tree_size:,} entries",
        )
    return Result(
        question=QUESTION,
        rows=rows_of(samples, tree_size),
        notes=[
            "Open loop, one event a call, every one at its own time; published is an event when a checkpoint "
            "that covers it, and that meets the quorum, has reached a watching client. Three `tlog witness "
            "serve` on the same machine, of which all three have to cosign.",
            "A checkpoint covers all that was committed when its round began, so that there are fewer rounds "
            "than events.",
        ],
    )


def rows_of(samples: dict[str, list[Watched]], tree_size: int) -> list[Row]:
    """Make the rows of windows "quorum" and "no witness"; sample i of both is from the same round."""
    rows: list[Row] = []
    for name, windows in samples.items():
        at: dict[str, int | float | str] = {
            "tree_size": tree_size,
            "events_per_s": RATE_PER_S,
            "witnesses": WITNESSES if name == "quorum" else 0,
        }
        target = targets.WITNESSES if name == "quorum" and tree_size == LARGEST else None
        published = [percentile(one.published_ms, 0.5) for one in windows]
        appended = [percentile(one.appended_ms, 0.5) for one in windows]
        everything = [ms for one in windows for ms in one.published_ms]
        rows += [
            _row("p50 until published", published, "ms", at, target),
            Row(name="p99 until published", value=percentile(everything, 0.99), unit="ms", at=at),
            _row("p50 until acknowledged", appended, "ms", at),
            _row("events a checkpoint", [one.events / one.checkpoints for one in windows], "", at),
            _row("server CPU", [one.server.per(one.events).total_us for one in windows], "us/event", at),
        ]
        if name == "quorum":
            by_round = [one.witnesses.per(WITNESSES * one.checkpoints).total_us for one in windows]
            rows.append(_row("CPU of a witness", by_round, "us/checkpoint", at))
    more = [
        (one.server.total_s - other.server.total_s / other.events * one.events) / one.checkpoints * 1e6
        for one, other in zip(samples["quorum"], samples["no witness"], strict=True)
    ]
    rows.append(_row("server CPU beyond one without witnesses", more, "us/checkpoint", at))
    return rows


def _row(
    name: str,
    samples: list[float],
    unit: str,
    at: dict[str, int | float | str],
    target: Target | None = None,
) -> Row:
    return Row(name=name, value=median(samples), unit=unit, at=at, samples=samples, target=target)


def watched_window(served: Served, witnesses: list[Witness], first: int, calls: int) -> Watched:
    """Append events from `first` on at a steady rate, and watch them being published."""
    arguments = [served.address, str(MEMBER), str(first), str(calls), str(RATE_PER_S)]
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.quorum_process", *arguments],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdin is not None
            read_line(process, START_TIMEOUT_S)
            before = served.cpu(), _cpu_of_all(witnesses)
            process.stdin.write("go\n")
            process.stdin.flush()
            seen = read_line(process, 300)
            after = served.cpu(), _cpu_of_all(witnesses)
            process.wait(20)
        finally:
            process.kill()
    return Watched(
        appended_ms=_milliseconds(seen["appended_s"]),
        published_ms=_milliseconds(seen["published_s"]),
        checkpoints=int(str(seen["checkpoints"])),
        server=after[0] - before[0],
        witnesses=after[1] - before[1],
    )


def _milliseconds(seconds: object) -> list[float]:
    assert isinstance(seconds, list)
    return [float(one) * 1e3 for one in seconds]


def _cpu_of_all(witnesses: list[Witness]) -> CpuTime:
    return sum((cpu_time(witness.pid) for witness in witnesses), CpuTime(user_s=0.0, system_s=0.0))


@contextmanager
def witnessing(settings: Settings, number: int) -> Iterator[Witness]:
    """Run `tlog witness serve` in a new directory while the block runs."""
    settings.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=settings.folder, prefix="witness-") as folder:
        directory = Path(folder) / "witness"
        name = f"bench.example/w{number}"
        subprocess.run(
            [*_TLOG, "witness", "init", str(directory), "--name", name, "--log", log_signer().vkey, "--json"],
            cwd=REPOSITORY,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        config = directory / "witness.toml"
        config.write_text(config.read_text().replace("# port = 8653", "port = 0"))
        process = subprocess.Popen(
            [*_TLOG, "witness", "serve", str(directory.absolute()), "--json"],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        with process:
            try:
                announced = read_line(process, START_TIMEOUT_S)
                (vkey,) = json.loads(json.dumps(announced["vkeys"]))
                yield Witness(pid=process.pid, url=str(announced["url"]), vkey=str(vkey))
                process.terminate()
                process.wait(20)
            finally:
                process.kill()


_TLOG = (sys.executable, "-m", "tlog")


def policy_of(witnesses: list[Witness]) -> str:
    """Write the policy that asks for all of some witnesses (C2SP tlog-policy)."""
    names = [f"w{number}" for number in range(len(witnesses))]
    lines = [f"log {log_signer().vkey}"]
    lines += [
        f"witness {name} {witness.vkey} {witness.url}" for name, witness in zip(names, witnesses, strict=True)
    ]
    lines += [f"group all all {' '.join(names)}", "quorum all"]
    return "\n".join(lines) + "\n"
