"""Judge whether the machine was quiet enough for a run to be believed.

Three witnesses: a loop that does the same work every time, run between the measurements; the time that the
hypervisor gave to others (steal); and the CPU that processes which are not ours used meanwhile.
"""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

from bench.measure import cpu_time, median, spread

MAX_STEAL = 0.05
MAX_FOREIGN = 0.15
MAX_SPREAD = 0.10

_BLOCK = bytes(64)
_LOOPS = 12_000  # about 10 ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """Says how noisy the machine was, and whether what was measured meanwhile can be trusted.

    `steal` and `foreign` are shares of all cores' time; `spread` is how far the middle half of the
    calibrating loops' CPU times reaches, relative to their median, `calibration_us`.
    """

    steal: float
    foreign: float
    spread: float
    calibration_us: float
    samples: int

    @property
    def reasons(self) -> tuple[str, ...]:
        """Return why the machine was too noisy; nothing if it was quiet."""
        found = []
        if self.steal > MAX_STEAL:
            found.append(f"the hypervisor took {self.steal:.0%} of the time (at most {MAX_STEAL:.0%})")
        if self.foreign > MAX_FOREIGN:
            found.append(f"other processes used {self.foreign:.0%} of all cores (at most {MAX_FOREIGN:.0%})")
        if self.spread > MAX_SPREAD:
            found.append(
                f"the same work took CPU times that spread over {self.spread:.0%} (at most {MAX_SPREAD:.0%})"
            )
        return tuple(found)

    @property
    def trusted(self) -> bool:
        """Return whether the machine was quiet enough."""
        return not self.reasons


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineTime:
    """Holds what /proc/stat says all cores did since the start, in seconds."""

    busy_s: float
    stolen_s: float
    total_s: float


def parse_machine_time(stat: str, ticks_per_s: int) -> MachineTime:
    """Parse the first line of /proc/stat."""
    name, *fields = stat.splitlines()[0].split()
    if name != "cpu":
        raise ValueError(f"/proc/stat begins with {name!r}")
    user, nice, system, idle, iowait, irq, softirq, steal = (int(field) for field in fields[:8])
    busy = user + nice + system + irq + softirq
    return MachineTime(
        busy_s=busy / ticks_per_s,
        stolen_s=steal / ticks_per_s,
        total_s=(busy + idle + iowait + steal) / ticks_per_s,
    )


class NoiseWatch:
    """Watches the machine from its making on; call `sample` between measurements, then `verdict`."""

    def __init__(self) -> None:
        self._start = _machine_time()
        self._own_start_s = cpu_time(os.getpid()).total_s
        self._samples_s: list[float] = []
        self.sample(5)

    def sample(self, times: int = 1) -> None:
        """Run the calibrating loop, about 10 ms each time."""
        self._samples_s += [_calibrate_s() for _ in range(times)]

    def verdict(self) -> Noise:
        """Sum up what was seen since the making."""
        self.sample(5)
        own_s = cpu_time(os.getpid()).total_s - self._own_start_s
        return judge(self._start, _machine_time(), own_s, self._samples_s)


def judge(start: MachineTime, end: MachineTime, own_s: float, samples_s: list[float]) -> Noise:
    """Make the verdict of two looks at the machine, our own CPU time in between, and the loop's times."""
    total_s = max(end.total_s - start.total_s, 1e-9)
    foreign_s = max(end.busy_s - start.busy_s - own_s, 0.0)
    return Noise(
        steal=(end.stolen_s - start.stolen_s) / total_s,
        foreign=foreign_s / total_s,
        spread=spread(samples_s),
        calibration_us=median(samples_s) * 1e6,
        samples=len(samples_s),
    )


def _calibrate_s() -> float:
    before_s = time.thread_time()
    digest = hashlib.sha256
    for _ in range(_LOOPS):
        digest(_BLOCK)
    return time.thread_time() - before_s


def _machine_time() -> MachineTime:
    return parse_machine_time(Path("/proc/stat").read_text(), os.sysconf("SC_CLK_TCK"))
