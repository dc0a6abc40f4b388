"""Measure what work costs: CPU time of process trees, memory, bytes written, percentiles, medians.

CPU time is what counts on a shared machine: wall time says as much about the neighbours. A process tree is a
process, its living descendants, and those that it has waited for.
"""

from __future__ import annotations

import math
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

_PER_PROCESS_CLOCK = 2  # CPUCLOCK_SCHED of <linux/posix-timers.h>


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuTime:
    """Holds CPU seconds, in user code and in the kernel."""

    user_s: float
    system_s: float

    @property
    def total_s(self) -> float:
        """Return both together."""
        return self.user_s + self.system_s

    def __sub__(self, earlier: CpuTime) -> CpuTime:
        return CpuTime(user_s=self.user_s - earlier.user_s, system_s=self.system_s - earlier.system_s)

    def __add__(self, other: CpuTime) -> CpuTime:
        return CpuTime(user_s=self.user_s + other.user_s, system_s=self.system_s + other.system_s)

    def per(self, count: int) -> Cost:
        """Return the cost of one of `count` things. Requires count >= 1."""
        return Cost(user_us=self.user_s / count * 1e6, system_us=self.system_s / count * 1e6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Holds CPU microseconds that one thing costs, in user code and in the kernel."""

    user_us: float
    system_us: float

    @property
    def total_us(self) -> float:
        """Return both together."""
        return self.user_us + self.system_us


def cpu_time(pid: int) -> CpuTime:
    """Return what a process and all its descendants have used up to now.

    The sum is exact to the nanosecond for those that live. How it divides into user and system is what the
    kernel says, in steps of 10 ms, so measure windows of a second. Raises psutil.NoSuchProcess.
    """
    process = psutil.Process(pid)
    user_s = system_s = 0.0
    for member in [process, *process.children(recursive=True)]:
        try:
            times = member.cpu_times()
            total_s = time.clock_gettime(_cpu_clock(member.pid))
        except (psutil.NoSuchProcess, OSError):
            if member is process:
                raise
            continue  # it ended just now, and shows below once its parent has waited for it
        system_s += times.system + times.children_system
        user_s += max(total_s - times.system, 0.0) + times.children_user
    return CpuTime(user_s=user_s, system_s=system_s)


def _cpu_clock(pid: int) -> int:
    """Return the clock of a process's CPU time, all its threads together (as clock_getcpuclockid(3) does)."""
    return (~pid << 3) | _PER_PROCESS_CLOCK


def cpu_of(work: Callable[[], object]) -> CpuTime:
    """Run something in this process, and return the CPU time that the process used meanwhile."""
    before = psutil.Process().cpu_times()
    before_s = time.process_time()
    work()
    total_s = time.process_time() - before_s
    system_s = psutil.Process().cpu_times().system - before.system
    return CpuTime(user_s=max(total_s - system_s, 0.0), system_s=system_s)


def anonymous_bytes(pid: int) -> dict[int, int]:
    """Return, by pid, the private memory of a process and its descendants: what is no file's.

    Pages of a mapped store are the page cache's, so they count for nobody. Raises psutil.NoSuchProcess.
    """
    process = psutil.Process(pid)
    found = {}
    for member in [process, *process.children(recursive=True)]:
        status = Path(f"/proc/{member.pid}/status")
        try:
            lines = status.read_text().splitlines()
        except OSError:
            continue  # it ended just now
        found[member.pid] = sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))
    return found


def page_table_bytes(pid: int) -> int:
    """Return what the kernel needs to map a process's memory; it grows with what is mapped of a store."""
    return _kilobytes(Path(f"/proc/{pid}/status"), "VmPTE:")


def _kilobytes(file: Path, name: str) -> int:
    """Return a line of /proc that counts kilobytes, as bytes."""
    return sum(int(line.split()[1]) * 1024 for line in file.read_text().splitlines() if line.startswith(name))


class PeakMemory:
    """Looks at the private memory of a process and its descendants until its block ends; keeps the most."""

    def __init__(self, pid: int, *, every_s: float = 0.05) -> None:
        self.by_pid: dict[int, int] = {}
        self._pid = pid
        self._every_s = every_s
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, name="peak-memory")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._end.set()
        self._thread.join()

    def _look(self) -> None:
        while True:
            for pid, size in anonymous_bytes(self._pid).items():
                self.by_pid[pid] = max(size, self.by_pid.get(pid, 0))
            if self._end.wait(self._every_s):
                return


def written_bytes(pid: int) -> int:
    """Return the bytes that a process and its living descendants have handed to write calls (Linux)."""
    process = psutil.Process(pid)
    total = 0
    for member in [process, *process.children(recursive=True)]:
        fields = dict(line.split(": ") for line in Path(f"/proc/{member.pid}/io").read_text().splitlines())
        total += int(fields["wchar"])
    return total


def percentile(values: Sequence[float], fraction: float) -> float:
    """Return the smallest value that at least this fraction of all values do not exceed (nearest rank).

    Requires values, and 0 < fraction <= 1.
    """
    if not values or not 0 < fraction <= 1:
        raise ValueError(f"there is no percentile {fraction} of {len(values)} values")
    return sorted(values)[math.ceil(fraction * len(values)) - 1]


def median(values: Sequence[float]) -> float:
    """Return the median. Requires values."""
    return statistics.median(values)


def median_cost(costs: Sequence[Cost]) -> Cost:
    """Return the medians of the user and of the system parts. Requires costs."""
    return Cost(
        user_us=median([cost.user_us for cost in costs]), system_us=median([cost.system_us for cost in costs])
    )


def spread(values: Sequence[float]) -> float:
    """Return how far the middle half of some values reaches, relative to their median.

    Requires values above 0.
    """
    return (percentile(values, 0.75) - percentile(values, 0.25)) / median(values)
