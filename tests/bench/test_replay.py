"""What the bench of replays measures: the whole of the work, once, and nothing where something went wrong."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from bench.prefilled import prefilled_log, working_copy
from bench.progress import Progress
from bench.replay import MEMBER, append_signed, checked_before, configured, measured, pin
from bench.replay_process import monitoring, verifying
from bench.served import Served, serving
from bench.settings import Settings
from bench.workload import ORIGIN, log_signer, signed_events
from tlog.checkpoint import parse_checkpoint
from tlog.monitor.cursor import Cursor
from tlog.note import parse_note

TREE_SIZE = 600
EVENTS = 300  # more than one batch of append_signed
QUIET = Progress(quiet=True)
CORES = sorted(os.sched_getaffinity(0))
NAMED = ",".join(map(str, CORES))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rig:
    settings: Settings
    checked: Path
    served: Served


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    settings = Settings.for_profile("tiny", tmp_path_factory.mktemp("bench"))
    with working_copy(settings, prefilled_log(settings, TREE_SIZE, QUIET)) as directory:
        append_signed(directory, signed_events(MEMBER, 0, EVENTS))
        with serving(directory) as served:
            yield Rig(settings=settings, checked=checked_before(settings, TREE_SIZE, QUIET), served=served)


def test_a_replay_is_of_the_events_behind_what_was_checked(rig: Rig) -> None:
    with working_copy(rig.settings, rig.checked) as directory:
        config = configured(directory, rig.served.address)
        ran = measured(["monitor", str(config), NAMED], rig.served)
        assert ran.entries == EVENTS
        assert ran.rate_per_s == EVENTS / ran.seconds
        assert ran.cost.total_us > 0
        assert ran.server_us > 0
        # All of it is durable: there is nothing left to check.
        with pytest.raises(RuntimeError, match="monitor had nothing to do"):
            measured(["monitor", str(config), NAMED])


def test_a_replay_that_finds_something_wrong_is_no_measurement(rig: Rig) -> None:
    # From 500 on there are fillers still, whose signatures are none.
    original = checked_before(rig.settings, 500, QUIET)
    with (
        working_copy(rig.settings, original) as directory,
        monitoring(configured(directory, rig.served.address)) as work,
        pytest.raises(RuntimeError, match="the monitor found a problem"),
    ):
        work()


def test_the_monitors_state_stands_behind_the_fillers_and_is_made_once(rig: Rig) -> None:
    assert checked_before(rig.settings, TREE_SIZE, QUIET) == rig.checked
    cursor = Cursor.open(rig.checked / "state", ORIGIN, keeps_entries=False)
    try:
        assert cursor.position == cursor.durable_size == TREE_SIZE
    finally:
        cursor.close()


def test_a_mirror_is_of_the_whole_log(rig: Rig, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    ran = measured(["export", rig.served.tiles_url, log_signer().vkey, str(folder), NAMED], rig.served)
    assert ran.entries == TREE_SIZE + EVENTS
    assert ran.server_us > 0
    text, _ = parse_note((folder / "checkpoint").read_bytes())
    assert parse_checkpoint(text).tree_size == TREE_SIZE + EVENTS


def test_v_alone_checks_every_signature_once_though_two_processes_share_them(tmp_path: Path) -> None:
    file = tmp_path / "entries"
    file.write_bytes(b"".join(signed_events(MEMBER, 10, 17)))
    with verifying(file, 2) as work:
        assert work() == 7


def test_a_process_that_fails_is_no_measurement(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="ended, or said nothing"):
        measured(["monitor", str(tmp_path / "missing.toml"), NAMED])


def test_a_process_is_pinned_with_its_threads_and_let_go_again() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        try:
            pin(child.pid, CORES[:1])
            assert psutil.Process(child.pid).cpu_affinity() == CORES[:1]
            pin(child.pid, CORES)
            assert psutil.Process(child.pid).cpu_affinity() == CORES
        finally:
            child.kill()
