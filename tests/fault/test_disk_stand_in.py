"""The stand-in before the disk sees every step and does as told; the model of a disk forgets as disks do."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from fault.appender import ROOT
from fault.disk_stand_in import Step, steps_of
from fault.power_cut import CUTS, files_after_cut
from fault.rounds import Bench, open_bench

OPENING_STEPS = 7
BATCHES = [[1_000], [1_001, 1_002], list(range(1_003, 1_060))]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with open_bench(tmp_path_factory.mktemp("stand-in") / "bench") as bench:
        yield bench


def recorded(bench: Bench, **plan: object) -> tuple[int, list[str], list[Step]]:
    directory, promises = bench.fresh("recorded")
    record = bench.root / "steps"
    record.unlink(missing_ok=True)
    code, failures = bench.append(directory, promises, BATCHES, record=str(record), **plan)
    return code, failures, steps_of(record)


def test_a_commit_writes_pages_syncs_them_switches_the_meta_page_and_then_writes_its_mark(
    bench: Bench,
) -> None:
    code, failures, steps = recorded(bench)
    assert (code, failures) == (0, [])
    kinds = [
        f"{'mark' if step.path == 'mark' else 'data'} {'through' if step.is_through else step.kind}"
        for step in steps
    ]
    opened, *ends = [number for number, kind in enumerate(kinds, 1) if kind == "mark sync"]
    made_durable = ["data sync", "data write", "data write", "data sync", "data sync"]
    assert kinds[:opened] == [*made_durable, "mark write", "mark sync"]
    assert opened == OPENING_STEPS
    assert len(ends) == len(BATCHES)
    for start, end in zip([opened, *ends], ends, strict=False):
        commit = kinds[start:end]
        assert set(commit[:-4]) == {"data write"}
        assert commit[-4:] == ["data sync", "data through", "mark write", "mark sync"]


@pytest.mark.skipif(shutil.which("strace") is None, reason="there is no strace here")
def test_strace_sees_no_write_and_no_sync_that_the_stand_in_does_not(bench: Bench, tmp_path: Path) -> None:
    _, _, steps = recorded(bench)
    directory, _ = bench.fresh("traced")
    script = f"""
from pathlib import Path
from fault.appender import _append
from _support.alliance import Alliance
directory = Path({str(directory)!r})
_append(Alliance(), dict(directory=str(directory), batches={BATCHES!r}, plan=None, read=False,
                         answers=str(directory / "answers")))
"""
    calls = "pwrite64,pwritev,pwritev2,write,writev,fdatasync,fsync,msync,ftruncate,fallocate,sync_file_range"
    traced = tmp_path / "traced"
    command = ["strace", "-f", "-qq", "-o", str(traced), "-e", f"trace={calls}"]
    paths = [f"--trace-path={directory / name}" for name in ("store/data.mdb", "mark")]
    done = subprocess.run(
        [*command, *paths, sys.executable, "-c", script],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if done.returncode and "ptrace" in done.stderr:
        pytest.skip("this machine lets nobody trace")
    assert done.returncode == 0, done.stderr
    seen = Counter(line.split("(")[0].split()[-1] for line in traced.read_text().splitlines() if "(" in line)
    syncs = seen.pop("fdatasync", 0) + seen.pop("fsync", 0)
    assert (seen.total(), syncs) == tuple(
        sum(step.kind == kind for step in steps) for kind in ("write", "sync")
    )


def test_it_kills_at_the_step_that_it_was_told_and_leaves_half_a_write(bench: Bench) -> None:
    _, _, whole = recorded(bench)
    at = next(n for n, step in enumerate(whole, 1) if n > OPENING_STEPS and len(step.data) >= 8192)
    code, _, steps = recorded(bench, kill_at=at, kill_how="torn")
    assert code == -signal.SIGKILL
    assert len(steps) == at
    assert 0 < len(steps[-1].data) < len(whole[at - 1].data)


def test_a_sync_that_fails_stops_the_log_and_what_it_did_not_sync_is_lost_to_the_disk(bench: Bench) -> None:
    base = {"store/data.mdb": (bench.template / "store" / "data.mdb").read_bytes()}
    _, _, whole = recorded(bench)
    at = next(n for n, step in enumerate(whole, 1) if n > OPENING_STEPS and step.kind == "sync")
    code, failures, steps = recorded(bench, fail_from=at, fail_count=1, error=errno.EIO)
    assert code == 0
    assert len(failures) == 1
    assert failures[0].startswith("StateUnknownError")
    assert [step.outcome for step in steps] == ["done"] * (at - 1) + ["lost"]
    for how in CUTS:
        assert files_after_cut(base, steps, at, how, Random(1)) == base
    shown = (bench.root / "recorded" / "store" / "data.mdb").read_bytes()
    assert shown != base["store/data.mdb"]


def step(
    kind: str, offset: int = 0, data: bytes = b"", *, outcome: str = "done", through: bool = False
) -> Step:
    return Step(0, "file", kind, offset, data, outcome, through)


def test_after_a_power_cut_a_disk_has_what_was_synced_and_of_the_rest_anything() -> None:
    base = {"file": b"....", "other": b"as it was"}
    steps = [
        step("write", 0, b"a"),
        step("sync"),
        step("write", 1, b"b"),
        step("write", 2, b"c", through=True),
        step("write", 3, b"d"),
        step("write", 6, b"e"),
    ]
    for how, expected in (
        ("nothing", {b"a.c."}),
        ("everything", {b"abcd\0\0e"}),
        ("the first", {b"a.c.", b"abc.", b"abcd", b"abcd\0\0e"}),
        ("the last", {b"a.c.", b"a.c.\0\0e", b"a.cd\0\0e", b"abcd\0\0e"}),
    ):
        found = {files_after_cut(base, steps, 5, how, Random(seed))["file"] for seed in range(60)}
        assert found == expected, how
    assert files_after_cut(base, steps, 5, "any", Random(1))["other"] == b"as it was"
    failed = [step("write", 0, b"x"), step("sync", outcome="lost"), step("sync")]
    assert {files_after_cut(base, failed, 3, how, Random(1))["file"] for how in CUTS} == {b"...."}


def test_a_step_that_was_written_down_in_part_hides_none_that_come_after(bench: Bench) -> None:
    """A process that is killed from outside may leave a part of a step in the record."""
    directory, promises = bench.fresh("recorded")
    record = bench.root / "steps"
    record.unlink(missing_ok=True)
    bench.append(directory, promises, BATCHES[:1], record=str(record))
    before = len(steps_of(record))
    with record.open("r+b") as file:
        file.truncate(record.stat().st_size - 9)
    bench.append(directory, promises, BATCHES[1:], record=str(record))
    steps = steps_of(record)
    assert len(steps) > before + OPENING_STEPS
    assert [step.path for step in steps[before - 1 :]][:3] == ["store/data.mdb"] * 3
