from __future__ import annotations

import mmap
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.measure import (
    Cost,
    CpuTime,
    PeakMemory,
    anonymous_bytes,
    cpu_of,
    cpu_time,
    median_cost,
    page_table_bytes,
    percentile,
    spread,
)

BURN = "import time\nwhile time.process_time() < {seconds}: pass\n"


@pytest.mark.parametrize(
    ("fraction", "expected"), [(0.5, 50), (0.99, 99), (0.999, 100), (1.0, 100), (0.01, 1), (0.001, 1)]
)
def test_a_percentile_is_the_value_at_its_nearest_rank(fraction: float, expected: int) -> None:
    assert percentile(list(range(100, 0, -1)), fraction) == expected


def test_a_percentile_of_one_value_is_that_value() -> None:
    assert [percentile([7.0], fraction) for fraction in (0.001, 0.5, 1.0)] == [7.0, 7.0, 7.0]


@pytest.mark.parametrize(("values", "fraction"), [([], 0.5), ([1.0], 0.0), ([1.0], 1.1)])
def test_there_is_no_percentile_of_nothing(values: list[float], fraction: float) -> None:
    with pytest.raises(ValueError, match="no percentile"):
        percentile(values, fraction)


def test_the_spread_is_that_of_the_middle_half() -> None:
    assert spread([100.0, 100.0, 100.0, 900.0]) == 0
    assert spread([80.0, 80.0, 100.0, 120.0, 120.0]) == pytest.approx(0.4)


def test_a_cost_is_the_share_of_one() -> None:
    cost = CpuTime(user_s=2.0, system_s=1.0).per(1_000_000)
    assert (cost.user_us, cost.system_us, cost.total_us) == (2.0, 1.0, 3.0)


def test_the_median_cost_takes_each_part_by_itself() -> None:
    costs = [Cost(user_us=user, system_us=system) for user, system in ((1.0, 9.0), (2.0, 8.0), (3.0, 1.0))]
    assert median_cost(costs) == Cost(user_us=2.0, system_us=8.0)


def test_cpu_time_is_that_of_all_descendants_also_of_those_that_ended() -> None:
    child = BURN.format(seconds=0.2)
    program = (
        "import subprocess, sys\n"
        f"subprocess.run([sys.executable, '-c', {child!r}])\n"
        f"living = subprocess.Popen([sys.executable, '-c', {child + 'input()'!r}], stdin=subprocess.PIPE)\n"
        "print(flush=True)\n"
        "input()\n"
        "living.communicate(b'x')\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        one_ended_s = cpu_time(parent.pid).total_s
        while (both_s := cpu_time(parent.pid).total_s) < one_ended_s + 0.19:
            assert parent.poll() is None
        memory = anonymous_bytes(parent.pid)
        parent.communicate("x\n")
    assert one_ended_s >= 0.2
    assert 0.4 <= both_s < 2.0
    assert len(memory) == 2
    assert all(2**20 < size < 2**28 for size in memory.values())


def test_what_one_works_and_not_what_one_waits_for_is_cpu_time() -> None:
    def work() -> None:
        end_s = time.process_time() + 0.05
        while time.process_time() < end_s:
            pass
        time.sleep(0.3)

    # Of at least 0.35 s.
    assert 0.05 <= cpu_of(work).total_s < 0.3


def test_the_kernels_part_is_told_apart() -> None:
    def work() -> None:
        with open(os.devnull, "wb", buffering=0) as file:  # noqa: PTH123
            for _ in range(200_000):
                file.write(b"")

    # The kernel splits by samples of its clock, so one short run may be all one or the other.
    assert any(cpu_of(work).system_s > 0 for _ in range(50))


def test_private_memory_is_what_one_wrote_to_and_not_what_one_mapped(tmp_path: Path) -> None:
    file = tmp_path / "mapped"
    file.write_bytes(bytes(2**25))
    pid = os.getpid()
    before, tables = anonymous_bytes(pid)[pid], page_table_bytes(pid)
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        assert sum(mapped[:: mmap.PAGESIZE]) == 0  # looked at every page
        assert anonymous_bytes(pid)[pid] < before + 2**23
        assert page_table_bytes(pid) >= tables + 2**25 // 4096 * 8 // 2
    written = bytearray(b"x" * 2**25)
    assert anonymous_bytes(pid)[pid] >= before + len(written) // 2


def test_the_peak_is_kept_when_the_memory_was_given_back() -> None:
    pid = os.getpid()
    with PeakMemory(pid, every_s=0.001) as peak:
        before = anonymous_bytes(pid)[pid]
        large = bytearray(b"x" * 2**26)
        end_s = time.monotonic() + 30
        while peak.by_pid.get(pid, 0) < before + 2**25 and time.monotonic() < end_s:
            time.sleep(0.001)
        del large
        small = anonymous_bytes(pid)[pid]
        time.sleep(0.01)
    assert peak.by_pid[pid] >= max(before, small) + 2**25
