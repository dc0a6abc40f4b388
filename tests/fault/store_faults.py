"""Faults between a log and its disk: killed at each step, full and broken disks, power cuts."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
from contextlib import ExitStack
from pathlib import Path

from fault.disk_stand_in import Step, steps_of
from fault.power_cut import CUTS, files_after_cut
from fault.promises import BrokenPromise, LostError, Promises
from fault.rounds import Round, batches_of

APPEND_STEPS = 30
"""More than opening a log and three appends have."""
KILLS = ("before", "torn", "after")


def kill_at_a_step(this: Round) -> None:
    """Kill -9 before, within or after the N-th write or sync; round after round it is the next one."""
    directory, promises = this.fresh()
    step, how = 1 + this.number // len(KILLS) % APPEND_STEPS, KILLS[this.number % len(KILLS)]
    batches = batches_of(this.chance, 3)
    code, failures = this.bench.append(directory, promises, batches, kill_at=step, kill_how=how)
    assert not failures, failures
    assert code in (0, -signal.SIGKILL), code
    this.note("killed at a step" if code else "ended before the step")
    _go_on(this, directory, promises, batches)


def full_disk(this: Round) -> None:
    """From some step on no write succeeds, for a while or for good."""
    directory, promises = this.fresh()
    batches = batches_of(this.chance, 5)
    failing = this.chance.choice([1, 2, 3, 10**6])
    code, failures = this.bench.append(
        directory,
        promises,
        batches,
        fail_from=this.chance.randint(1, 26),
        fail_count=failing,
        fail_syncs=False,
        error=errno.ENOSPC,
    )
    assert code == 0, code
    this.note("refused for want of room" if failures else "found room")
    known = ("StorageError", "StateUnknownError", "ReadOnlyError")
    assert all(told.startswith(known) for told in failures), failures
    _go_on(this, directory, promises, batches)


def small_disk(this: Round) -> None:
    """A disk that is full before all is written: a small filesystem, or a limit on the file."""
    directory, promises = this.fresh()
    batches = batches_of(this.chance, 12)
    with ExitStack() as stack:
        room_bytes = this.chance.randrange(2**16)
        if this.number % 2 and _mounted(directory, room_bytes, stack):
            this.note("small filesystems")
            plan = {}
        else:
            plan = {"most_file_bytes": (directory / "store" / "data.mdb").stat().st_size + room_bytes}
            this.note("limits on a file")
        code, failures = this.bench.append(directory, promises, batches, **plan)
        assert code == 0, code
        assert failures, "there was room"
        if (directory / "ballast").exists():
            (directory / "ballast").unlink()
        _go_on(this, directory, promises, batches)


def _mounted(directory: Path, room_bytes: int, stack: ExitStack) -> bool:
    """Put a filesystem with so much room in the place of a log's directory; False where nobody may."""
    if os.geteuid() != 0:
        return False
    aside = directory.with_name(f"{directory.name}-aside")
    shutil.rmtree(aside, ignore_errors=True)
    directory.rename(aside)
    directory.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "tlog-fault", str(directory)]
    is_mounted = not subprocess.run(command, check=False, capture_output=True).returncode
    if is_mounted:
        stack.callback(subprocess.run, ["umount", str(directory)], check=True)
    shutil.copytree(aside, directory, dirs_exist_ok=True)
    if is_mounted:
        disk = os.statvfs(directory)
        (directory / "ballast").write_bytes(bytes(max(0, disk.f_bavail * disk.f_frsize - room_bytes)))
    return is_mounted


def broken_disk(this: Round) -> None:
    """A write or a sync fails with EIO, also while the process is killed; then the power fails as well.

    What Linux does then is played: the pages are in the cache, whoever opens the file sees them and can sync
    it without an error, and the disk never gets them.
    """
    directory, promises = this.fresh()
    base = files_of(directory)
    record = this.bench.root / "record"
    record.unlink(missing_ok=True)
    batches = batches_of(this.chance, 4)
    at = this.chance.randint(1, 26)
    fault = (
        {"kill_at": at, "kill_how": "lost"}
        if this.number % 3 == 2
        else {"fail_from": at, "fail_count": this.chance.choice([1, 1, 2, 10**6]), "error": errno.EIO}
    )
    code, failures = this.bench.append(directory, promises, batches, record=str(record), **fault)
    assert code in (0, -signal.SIGKILL), code
    this.note("killed within a sync that failed" if code else "stopped by EIO" if failures else "not met")
    if not code:
        # Whoever was told of a broken sync answers nothing more.
        met = any(step.outcome == "lost" for step in steps_of(record))
        assert bool(failures) or not met
        assert not (met and this.bench.went_on), failures
    before = len(promises.kept)
    _go_on(this, directory, promises, batches, record=str(record))
    assert len(promises.kept) > before
    steps = steps_of(record)
    for at in {len(steps), this.chance.randint(0, len(steps)), this.chance.randint(0, len(steps))}:
        cut_power(this, base, steps, at, promises)


def power_cut(this: Round) -> None:
    """The power fails: of what was written and not synced, anything may be on the disk, torn as well."""
    per_record = 20
    kept = this.bench.shared.get("power cut")
    generation = this.number // per_record
    if not isinstance(kept, tuple) or kept[0] != generation:
        directory, promises = this.fresh()
        base = files_of(directory)
        record = this.bench.root / "record"
        record.unlink(missing_ok=True)
        batches = batches_of(this.chance, 6)
        code, failures = this.bench.append(directory, promises, batches, record=str(record))
        assert (code, failures) == (0, [])
        kept = generation, base, steps_of(record), promises
        this.bench.shared["power cut"] = kept
    _, base, steps, promises = kept
    cut_power(this, base, steps, this.chance.randint(0, len(steps)), promises)


def cut_power(this: Round, base: dict[str, bytes], steps: list[Step], at: int, promises: Promises) -> None:
    """Cut the power while step `at` is under way, and hold what the disk has to what was promised by then."""
    how = this.chance.choice(CUTS)
    until_ns = steps[at].time_ns if at < len(steps) else None
    held = promises.copy(until_ns)
    directory = this.bench.root / f"{this.name}-cut"
    if directory.exists():
        shutil.rmtree(directory)
    shutil.copytree(this.bench.template, directory)
    for name, data in files_after_cut(base, steps, at, how, this.chance).items():
        (directory / name).write_bytes(data)
    this.note("power cuts")
    try:
        held.check_store(directory / "store")
        code, failures = this.bench.append(directory, held, [[90_000, 90_001]])
        if code or failures:
            raise LostError(f"the log does not go on: {code} {failures}")
    except BrokenPromise as error:
        error.add_note(f"power cut at step {at} of {len(steps)} ({how}), in {directory}")
        raise
    shutil.rmtree(directory)


def _go_on(
    this: Round, directory: Path, promises: Promises, batches: list[list[int]], **plan: object
) -> None:
    """Start again, send all of it again as clients do, and one batch more; then hold the log to all of it."""
    promises.check_store(directory / "store")
    code, failures = this.bench.append(directory, promises, [*batches, [80_000]], **plan)
    if code or failures:
        raise LostError(f"the log does not go on: {code} {failures}")
    promises.check_store(directory / "store")


def files_of(directory: Path) -> dict[str, bytes]:
    return {name: (directory / name).read_bytes() for name in ("store/data.mdb", "mark")}
