"""`tlog backup` and `tlog restore`: what they say, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from _support.backed_up_log import BackedUpLog
from _support.command_line import tlog
from _support.signers import cosigner

from tlog.cli.restore import age
from tlog.policy import build_policy, format_policy
from tlog.storage.high_water_mark import HighWaterMarkFile, Mark
from tlog.storage.lmdb_store import LmdbStore


@pytest.fixture
def log(tmp_path: Path) -> BackedUpLog:
    made = BackedUpLog(tmp_path / "log")
    made.grow(30)
    (made.directory / "policy").write_bytes(format_policy(build_policy([made.alliance.signer.vkey])))
    return made


def test_a_backup_is_restored_to_the_byte(log: BackedUpLog, tmp_path: Path) -> None:
    told = tlog("backup", log.directory, tmp_path / "backup", "--max-rate", 10**9)
    assert told.code == 0, told
    assert "30 (30 new entries)" in told.out
    assert "keys and configuration are not in a backup" in told.err
    again = tlog("backup", log.directory, tmp_path / "backup", "--json").json
    assert (again["previous_tree_size"], again["tree_size"]) == (30, 30)
    (tmp_path / "new").mkdir()
    policy = ("--policy", log.directory / "policy")
    dry = tlog("restore", tmp_path / "backup", tmp_path / "new", *policy, "--dry-run")
    assert dry.code == 0, dry
    assert "verified; nothing was written" in dry.out
    assert "nobody was asked" in dry.out
    assert not (tmp_path / "new" / "store").exists()
    made = tlog("restore", tmp_path / "backup", tmp_path / "new", *policy, "--json")
    assert made.code == 0, made
    assert (made.json["written"], made.json["tree_size"], made.json["frozen"]) == (True, 30, False)
    assert made.json["root_hash"] == again["root_hash"]
    assert made.json["log_vkey"] == log.alliance.signer.vkey
    assert tlog("fsck", tmp_path / "new", *policy).code == 0
    assert tlog("fsck", tmp_path / "backup", *policy).code == 0


def test_the_gap_is_said_with_who_knows_and_the_way_out(log: BackedUpLog, tmp_path: Path) -> None:
    assert tlog("backup", log.directory, tmp_path / "backup").code == 0
    log.grow(44)
    policy = ("--policy", log.directory / "policy")
    dry = tlog("restore", tmp_path / "backup", log.directory, *policy, "--dry-run")
    assert f"GAP: the store in {log.directory} knows of size 44: entries [30, 44) are missing" in dry.out
    assert "--catch-up-from" in dry.out
    with HighWaterMarkFile(tmp_path / "mark", log.alliance.origin) as file:
        file.write(Mark(tree_size=50, root_hash=b"\1" * 32))
    mark = ("--high-water-mark", tmp_path / "mark", "--json")
    known = tlog("restore", tmp_path / "backup", log.directory, *policy, "--dry-run", *mark).json
    assert (known["missing_entries"], known["newest_known"]["tree_size"]) == (20, 50)
    # The newest store there is can be the mirror; what is there is replaced by its name only.
    named = ("--catch-up-from", log.directory, "--json")
    refused = tlog("restore", tmp_path / "backup", log.directory, *policy, *named)
    assert (refused.code, "replaced only by name" in refused.err) == (2, True)
    other = tlog("restore", tmp_path / "backup", log.directory, *policy, *named, "--replace", "another.log")
    assert (other.code, "is a copy of" in other.err) == (2, True)
    (tmp_path / "new").mkdir()
    made = tlog("restore", tmp_path / "backup", tmp_path / "new", *policy, *named).json
    assert (made["tree_size"], made["caught_up_from"]) == (44, str(log.directory))


def test_who_does_not_answer_is_told_and_ends_nothing(log: BackedUpLog, tmp_path: Path) -> None:
    assert tlog("backup", log.directory, tmp_path / "backup").code == 0
    witness = cosigner("w.example").vkey
    policy = tmp_path / "policy"
    policy.write_text(f"log {log.alliance.signer.vkey}\nwitness w {witness} http://127.0.0.1:9/\nquorum w\n")
    (tmp_path / "new").mkdir()
    made = tlog(
        *("restore", tmp_path / "backup", tmp_path / "new", "--policy", policy, "--json"),
        *("--node", "127.0.0.1:9", "--catch-up-from", tmp_path / "nowhere-yet", "--timeout", 2),
    )
    assert made.code == 3
    (tmp_path / "nowhere-yet").mkdir()
    made = tlog(
        *("restore", tmp_path / "backup", tmp_path / "new", "--policy", policy, "--json"),
        *("--node", "127.0.0.1:9", "--catch-up-from", tmp_path / "nowhere-yet", "--timeout", 2),
    )
    assert made.code == 0, made
    assert made.json["silent"] == ["the witness at http://127.0.0.1:9", "the node at 127.0.0.1:9"]
    assert "did not say what the log signed last" in made.err
    assert "nothing was taken from" in made.err


@pytest.mark.parametrize("command", ["backup", "restore"])
def test_a_log_is_not_written_into_another_ones_directory(
    log: BackedUpLog, tmp_path: Path, command: str
) -> None:
    assert tlog("backup", log.directory, tmp_path / "backup").code == 0
    if command == "backup":
        ended = tlog("backup", log.directory, log.directory)
        assert (ended.code, "back up to another one" in ended.err) == (2, True)
        ended = tlog("backup", tmp_path / "backup", tmp_path / "more")
        assert (ended.code, "there is no store in it" in ended.err) == (2, True)
    else:
        nobody = tlog("restore", tmp_path / "backup", tmp_path / "missing", "--dry-run")
        assert (nobody.code, "nothing says which log key to believe" in nobody.err) == (2, True)
        ended = tlog(
            *("restore", tmp_path / "backup", tmp_path / "missing"),
            *("--log-key", log.alliance.signer.vkey),
        )
        assert (ended.code, "make it first" in ended.err) == (2, True)


def test_a_damaged_backup_ends_with_the_code_of_a_failed_check(log: BackedUpLog, tmp_path: Path) -> None:
    assert tlog("backup", log.directory, tmp_path / "backup").code == 0
    bundle = tmp_path / "backup" / "tile/entries/000.p/30"
    bundle.write_bytes(bundle.read_bytes()[:-1] + b"!")
    (tmp_path / "new").mkdir()
    ended = tlog(
        *("restore", tmp_path / "backup", tmp_path / "new", "--json"),
        *("--log-key", log.alliance.signer.vkey),
    )
    assert (ended.code, "is damaged: nothing was written" in json.loads(ended.err)["error"]["message"]) == (
        1,
        True,
    )
    assert not list((tmp_path / "new").iterdir())


def test_a_clock_that_was_set_changes_what_is_said_of_a_backup_and_nothing_else(
    log: BackedUpLog, tmp_path: Path
) -> None:
    assert age(1_000, 1_000 + 59) == "0 h 0 min old"
    assert age(1_000, 1_000 + 86_400 + 7_300) == "1 d 2 h old"
    assert age(5_000, 1_000) == "4000 s ahead of this machine's clock: one of the two is wrong"
    # Taken by a clock far ahead: the size decides what is newer, and the next backup goes on from it.
    log.taken_s = 2**40
    log.back_up(tmp_path / "backup")
    log.taken_s = 3
    log.grow(40)
    log.back_up(tmp_path / "backup")
    (tmp_path / "new").mkdir()
    key = ("--log-key", log.alliance.signer.vkey)
    made = tlog("restore", tmp_path / "backup", tmp_path / "new", *key, "--json").json
    assert (made["tree_size"], made["backup_taken_s"]) == (40, 3)
    store = LmdbStore.open(tmp_path / "new" / "store", None, None, read_only=True)
    with store.reader() as reader:
        assert reader.read_entries(0, 40) == log.entries
    store.close()
