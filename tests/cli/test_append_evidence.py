"""Receipts that `tlog append` has kept convict a log that was rolled back and filled with something else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import grpc
import pytest
from _support.alliance import Alliance
from _support.command_line import Ended, tlog
from _support.lying_log import LyingLog

from tlog.policy import build_policy, format_policy

ALLIANCE = Alliance()
YESTERDAY = [*ALLIANCE.governance, *ALLIANCE.entries(0, 10)]


def append(log: LyingLog, folder: Path, entries: Sequence[bytes], *options: object) -> Ended:
    (folder / "policy").write_bytes(format_policy(build_policy([ALLIANCE.signer.vkey])))
    files = []
    for number, entry in enumerate(entries):
        files.append(folder / f"{number}.entry")
        files[-1].write_bytes(entry)
    trust = ("--server", log.address, "--policy", folder / "policy", "--state", folder / "state")
    return tlog("append", *files, *trust, "--receipts", folder / "receipts", *options)


def roll_back(log: LyingLog) -> None:
    """Restore yesterday's database; what it took since then, the log does not know and cannot prove."""
    log.fork_to([*YESTERDAY, *ALLIANCE.entries(500, 501)])
    for method in ("GetConsistencyProof", "GetInclusionProofs"):
        log.fail_next(method, grpc.StatusCode.OUT_OF_RANGE, times=5)


@pytest.mark.parametrize("name", ["index", "id"])
def test_a_rolled_back_log_is_convicted_by_the_receipts_that_were_kept(tmp_path: Path, name: str) -> None:
    with LyingLog(YESTERDAY, signer=ALLIANCE.signer) as log:
        done = append(log, tmp_path, ALLIANCE.entries(100, 105), "--name", name)
        assert done.code == 0, done.err
        before = {path.name: path.read_bytes() for path in (tmp_path / "receipts").iterdir()}
        assert len(before) == 10
        roll_back(log)
        lied = append(log, tmp_path, ALLIANCE.entries(105, 107), "--name", name)
        assert lied.code == 1
        (file,) = (tmp_path / "state" / "evidence").iterdir()
        assert str(file) in lied.err
        judged = tlog("evidence", "verify", file, "--policy", tmp_path / "policy", "--json")
        assert (judged.code, judged.json["kind"]) == (0, "leaf")
        assert {path.name: path.read_bytes() for path in (tmp_path / "receipts").iterdir()} == before
        # It does not help to go back to the honest history.
        log.fork_to([*YESTERDAY, *ALLIANCE.entries(100, 105)])
        refused = append(log, tmp_path, ALLIANCE.entries(105, 107))
        assert refused.code == 1
        assert str(file) in refused.err


def test_receipts_that_a_stranger_put_there_convict_nobody(tmp_path: Path) -> None:
    with LyingLog(YESTERDAY, signer=ALLIANCE.signer) as log:
        assert append(log, tmp_path, ALLIANCE.entries(100, 102)).code == 0
        for path in (tmp_path / "receipts").glob("*.entry"):
            path.write_bytes(ALLIANCE.entry(999))
        assert append(log, tmp_path, ALLIANCE.entries(100, 104)).code == 0
        assert not (tmp_path / "state" / "evidence").exists()
