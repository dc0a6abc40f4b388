"""Faults of `tlog backup` and `tlog restore`: killed at a step, or at any moment; real processes."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from _support import child
from _support.command_line import tlog
from fault.promises import ALLIANCE, SilentError
from fault.rounds import Round, batches_of

KILLS = ("before", "torn", "after")
BACKUP_STEPS = 40
RESTORE_STEPS = 60
LONGEST_S = 0.9
"""How long a process of either kind takes, with its start; some more where the machine is busy."""


def kill_backup(this: Round) -> None:
    """Kill -9 a backup: what is there before or after is whole, or none; the next one completes."""
    directory, promises = this.fresh()
    policy = _write_policy(directory)
    backup, sizes = directory / "backup", set[int]()
    if this.chance.random() < 0.5:
        sizes.add(tlog("backup", directory, backup, "--json").json["tree_size"])
        code, failures = this.bench.append(directory, promises, batches_of(this.chance, 2))
        assert (code, failures) == (0, [])
    _killed(this, directory, BACKUP_STEPS, "backup", directory, backup)
    target = directory / "new"
    target.mkdir()
    # Half a backup is no backup: whatever a restore takes is a size that a backup ended, or was ending, with.
    seen = tlog("restore", backup, target, "--policy", policy, "--dry-run", "--json")
    whole = tlog("backup", directory, backup, "--json")
    assert whole.code == 0, whole
    if seen.code == 0 and seen.json["tree_size"] not in sizes | {whole.json["tree_size"]}:
        raise SilentError(f"a backup of size {seen.json['tree_size']} was taken for whole")
    if seen.code != 0 and sizes:
        raise SilentError(f"the backup that was there is no more: {seen.err}")
    made = tlog("restore", backup, target, "--policy", policy, "--json")
    assert made.code == 0, made
    promises.check_store(target / "store")


def kill_restore(this: Round) -> None:
    """Kill -9 a restore: in the store's place is the old one, the whole new one, or nothing."""
    directory, promises = this.fresh()
    policy = _write_policy(directory)
    backup, target = directory / "backup", directory / "new"
    assert tlog("backup", directory, backup, "--json").code == 0
    target.mkdir()
    options = ("--policy", policy, "--replace", ALLIANCE.origin, "--json")
    if this.chance.random() < 0.5:
        made = tlog("restore", backup, target, *options)
        assert made.code == 0, made
    _killed(this, directory, RESTORE_STEPS, "restore", backup, target, *options)
    if (target / "store").exists():
        promises.check_store(target / "store")
        this.note("whole after a killed restore")
    again = tlog("restore", backup, target, *options)
    assert again.code == 0, again
    promises.check_store(target / "store")


def _write_policy(directory: Path) -> Path:
    path = directory / "policy"
    path.write_text(f"log {ALLIANCE.signer.vkey}\nquorum none\n")
    return path


def _killed(this: Round, directory: Path, steps: int, *words: object) -> None:
    """Run a command that is killed at one of its writes or syncs, or at any moment of its time."""
    arguments = [str(word) for word in words]
    step = this.chance.randrange(1, steps) if this.chance.random() < 0.7 else 0
    plan = f"Plan(directory={str(directory)!r}, kill_at={step}, kill_how={this.chance.choice(KILLS)!r})"
    with child.start(
        "import sys\n"
        "from fault.disk_stand_in import DiskStandIn, Plan\n"
        f"DiskStandIn({plan}).install()\n"
        "from tlog.cli import main\n"
        f"sys.exit(main({arguments!r}))\n"
    ) as process:
        if not step:
            time.sleep(this.chance.uniform(0, LONGEST_S))
            process.kill()
        _, said = process.communicate(timeout=60)
    if process.returncode == -signal.SIGKILL:
        this.note(f"{words[0]}s killed")
    else:
        assert process.returncode == 0, said
