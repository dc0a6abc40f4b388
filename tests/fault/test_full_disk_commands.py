"""Commands that make several files, on a disk that is full at each of their writes: all of them, or none."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from _support.alliance import Alliance
from _support.command_line import Ended, tlog
from _support.small_disk import BALLAST_NAME, fill, give_back, mounted

from tlog.errors import StorageError
from tlog.signer.state import SignerState, read_marks

ORIGIN = "log.example/full"
TOLD = re.compile("No space left on device|make room|bytes were written")


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Mount one small filesystem for all tests here; each has its own directory on it."""
    with mounted(tmp_path_factory.mktemp("full") / "disk", size_bytes=2**20) as disk:
        yield disk


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    file = tmp_path / "policy"
    file.write_text(f"log {Alliance().signer.vkey}\nquorum none\n")
    return file


def names(*directories: Path) -> set[Path]:
    return {path for one in directories for path in one.rglob("*")} - {
        one / BALLAST_NAME for one in directories
    }


def run_until_there_is_room(disk: Path, run: Callable[[], Ended], *places: Path, pages: int = 1) -> int:
    """Run a command with ever more room, so that the disk is full at each of its writes once.

    Returns how often it failed; each time nothing of it was left, and the next one was not in its way.
    """
    before, failures = names(disk, *places), 0
    fill(disk)
    try:
        while (ended := run()).code != 0:
            failures += 1
            assert TOLD.search(ended.err), ended
            assert names(disk, *places) == before, ended
            assert failures < 100
            give_back(disk, pages=pages)
    finally:
        (disk / BALLAST_NAME).unlink()
    return failures


@pytest.mark.parametrize("is_there", [False, True], ids=["new folder", "folder that is there"])
def test_an_authority_is_made_whole_or_not_at_all(disk: Path, tmp_path: Path, is_there: bool) -> None:
    directory = disk / f"certs {is_there}"
    if is_there:
        directory.mkdir()
        (directory / "another file").touch()
    failures = run_until_there_is_room(disk, lambda: tlog("certs", "init", directory))
    assert failures == 2  # a key without room for its certificate among them
    assert {"ca.key", "ca.crt"} <= {path.name for path in directory.iterdir()}
    assert run_until_there_is_room(disk, lambda: tlog("certs", "server", directory)) == 2
    assert tlog("certs", "client", directory).code == 0


def test_a_key_and_its_public_half_are_made_both_or_neither(disk: Path) -> None:
    assert run_until_there_is_room(disk, lambda: tlog("keygen", "a.example", "--out", disk / "a.key")) == 2
    assert (disk / "a.key.vkey").read_text().startswith("a.example+")


def test_a_log_is_made_whole_or_not_at_all(disk: Path, tmp_path: Path) -> None:
    arguments = ("init", disk / "log", "--origin", ORIGIN, "--governance-keys", "1", "--threshold", "1")
    assert run_until_there_is_room(disk, lambda: tlog(*arguments), pages=3) > 3
    assert tlog("fsck", disk / "log", "--policy", disk / "log" / "policy").code == 0


@pytest.mark.parametrize("which", ["the mark's disk", "the log's disk"])
def test_a_log_with_its_mark_elsewhere_leaves_none_of_both(disk: Path, tmp_path: Path, which: str) -> None:
    full, other = disk / which, tmp_path / "roomy"
    full.mkdir()
    other.mkdir()
    mark, log = (full, other) if which == "the mark's disk" else (other, full)
    keys = ("--governance-keys", "1", "--threshold", "1")
    arguments = ("init", log / "log", "--origin", ORIGIN, "--mark-directory", mark, *keys)
    pages = 1 if mark == full else 8
    assert run_until_there_is_room(disk, lambda: tlog(*arguments), other, pages=pages) > 1
    assert (mark / "high-water.mark").stat().st_size == 8_192


def test_a_signer_whose_memory_found_no_room_begins_it_when_there_is(disk: Path) -> None:
    fill(disk)
    try:
        with pytest.raises(StorageError, match="No space left on device"):
            SignerState(disk / "signer", is_new=True)
        give_back(disk, pages=2)
        SignerState(disk / "signer", is_new=True).close()
    finally:
        (disk / BALLAST_NAME).unlink()
    assert read_marks(disk / "signer") == []


def test_a_witness_a_node_and_a_monitor_are_made_whole_or_not_at_all(disk: Path, policy: Path) -> None:
    for arguments in (
        ("witness", "init", disk / "witness", "--name", "w.example", "--ml-dsa"),
        ("node", "init", disk / "node", "--policy", policy),
        ("monitor", "init", disk / "monitor", "--policy", policy),
    ):
        assert run_until_there_is_room(disk, lambda arguments=arguments: tlog(*arguments), pages=2) > 0
