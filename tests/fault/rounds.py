"""What a round is: a log that is there, a fault, and everything that was promised held to afterwards.

Every round begins with a copy of the same small log and draws from a generator of its own, made from the
seed, the fault and the number: so one round is repeated by itself.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from _support.log_directory import COSIGNED_CONFIG, make_log_directory
from fault.appender import Appender
from fault.promises import ALLIANCE, Promises

from tlog.log import Log
from tlog.storage.high_water_mark import HighWaterMarkFile, Mark

FIRST_EVENT = 10_000
"""Events of rounds are numbered from here on; those of the log that is there from 0."""

SETTINGS = (
    COSIGNED_CONFIG
    + """\
[store]
high_water_mark_path = "mark"
min_free_bytes = 0
map_size_bytes = 1048576
"""
)


@dataclass
class Bench:
    """Holds what rounds share: the log that each begins with, and the process that appends."""

    root: Path
    appender: Appender
    promises: Promises
    counts: Counter[str] = field(default_factory=Counter)
    went_on: bool = False
    """Whether in the last run an append was answered after one had failed."""
    is_long: bool = False
    """Whether there is time for what takes long."""
    shared: dict[str, object] = field(default_factory=dict)
    """What one fault keeps for several rounds."""

    @property
    def template(self) -> Path:
        return self.root / "template"

    def fresh(self, name: str) -> tuple[Path, Promises]:
        """Copy the log; returns its directory, and what it has promised so far."""
        directory = self.root / name
        if directory.exists():
            shutil.rmtree(directory)
        shutil.copytree(self.template, directory)
        return directory, self.promises.copy()

    def append(
        self, directory: Path, promises: Promises, batches: list[list[int]], **plan: object
    ) -> tuple[int, list[str]]:
        """Append in a process with a plan for its disk; returns how that ended, and what failed."""
        run = self.appender.run(directory, batches, plan or None)
        self.went_on = run.went_on
        for answer in run.answers:
            for index, entry, receipt in zip(
                answer.leaf_indices, answer.entries, answer.receipts, strict=True
            ):
                promises.take(answer.time_ns, index, entry, receipt, answer.note)
        return run.code, run.failures


@dataclass(frozen=True)
class Round:
    """One round of a fault."""

    bench: Bench
    number: int
    chance: Random
    name: str

    def fresh(self) -> tuple[Path, Promises]:
        return self.bench.fresh(self.name)

    def note(self, what: str) -> None:
        """Count something for the table."""
        self.bench.counts[what] += 1


RunsRound = Callable[[Round], None]
"""Runs one round; raises BrokenPromise, or anything else where it did not go as it must."""


@contextmanager
def open_bench(root: Path, *, is_long: bool = False) -> Iterator[Bench]:
    """Make the log that rounds begin with: governance and some batches, a mark, a server's configuration."""
    counts: Counter[str] = Counter()
    appender = Appender()
    bench = Bench(root, appender, Promises(counts), counts, is_long=is_long)
    try:
        bench.template.mkdir(parents=True)
        make_log_directory(bench.template, ALLIANCE, config=SETTINGS)
        with (
            Log.open(bench.template / "store", ALLIANCE.signer) as log,
            HighWaterMarkFile(bench.template / "mark", log.origin) as mark,
        ):
            committed = log.checkpoint().checkpoint
            mark.write(Mark(tree_size=committed.tree_size, root_hash=committed.root_hash))
        batches = [list(range(at, at + 24)) for at in range(0, 96, 24)]
        code, failures = bench.append(bench.template, bench.promises, batches)
        assert (code, failures) == (0, [])
        yield bench
    finally:
        appender.close()


def batches_of(chance: Random, count: int, start: int = FIRST_EVENT) -> list[list[int]]:
    """Choose batches of 1 to 30 events that follow each other."""
    batches = []
    for _ in range(count):
        size = chance.randint(1, 30)
        batches.append(list(range(start, start + size)))
        start += size
    return batches
