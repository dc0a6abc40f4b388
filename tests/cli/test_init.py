"""`tlog init` makes everything that a log needs, or nothing."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import pytest
from _support.command_line import tlog

from server.config import (
    Config,
    GossipSection,
    GrpcSection,
    LogSection,
    StoreSection,
    load_config,
    parse_config,
)
from tlog.cli import init as init_module
from tlog.cli import new_directory as new_directory_module
from tlog.cosignature import CosignatureSigner
from tlog.cosigned import is_by_the_log, quorum_witnesses
from tlog.envelope import decode_entry
from tlog.errors import StorageError
from tlog.event import parse_event
from tlog.governance import RULES_TYPE
from tlog.key_file import read_cosigner_key_file, read_key_file
from tlog.log import Log
from tlog.merkle import leaf_hash
from tlog.policy import parse_policy
from tlog.storage.high_water_mark import HighWaterMarkFile, Mark
from tlog.trade.catalogue import CATALOGUE

ORIGIN = "log.example/alliance"


def test_it_makes_a_log_whose_genesis_names_its_keys_and_threshold(tmp_path: Path) -> None:
    ended = tlog("init", tmp_path / "log", "--origin", ORIGIN, "--json")

    assert ended.code == 0
    signer = read_key_file(tmp_path / "log" / "log.key")
    governors = [read_key_file(tmp_path / "log" / "governance" / f"{n}.key") for n in (1, 2, 3)]
    with Log.open(tmp_path / "log" / "store", signer) as log:
        assert log.registry.origin == ORIGIN
        assert log.registry.threshold == 2
        assert log.registry.governance_keys == tuple(governor.public_key for governor in governors)
        genesis, rules = log.entries(0, 2)
        assert leaf_hash(genesis).hex() == ended.json["genesis_leaf_hash"]
        assert parse_event(decode_entry(rules).payload).type == RULES_TYPE
        assert {event for types in log.registry.rules.roles.values() for event in types} == set(CATALOGUE)
    policy = parse_policy((tmp_path / "log" / "policy").read_bytes())
    assert [one.verifier.vkey for one in policy.logs] == [signer.vkey]
    assert policy.quorum is None


def test_the_logs_own_cosigner_has_a_key_of_its_own_and_no_quorum_counts_it(tmp_path: Path) -> None:
    ended = tlog("init", tmp_path / "log", "--origin", ORIGIN, "--json")

    cosigner = read_cosigner_key_file(tmp_path / "log" / "cosigner.key")
    assert isinstance(cosigner, CosignatureSigner)  # type 0x04
    assert (cosigner.name, cosigner.vkey) == (ORIGIN, ended.json["cosigner_vkey"])
    assert cosigner.public_key != read_key_file(tmp_path / "log" / "log.key").public_key
    policy = parse_policy((tmp_path / "log" / "policy").read_bytes())
    (own,) = policy.witnesses
    assert (own.verifier.vkey, is_by_the_log(own, policy)) == (cosigner.vkey, True)
    assert quorum_witnesses(policy) == frozenset()
    assert policy.groups == ()


def test_the_answer_for_people_says_where_the_cosigner_belongs(tmp_path: Path) -> None:
    ended = tlog("init", tmp_path / "log", "--origin", ORIGIN)
    vkey = read_cosigner_key_file(tmp_path / "log" / "cosigner.key").vkey
    assert f"witness log-cosigner {vkey}" in ended.out
    assert "leave it out of every quorum" in ended.out


def test_without_rules_only_the_genesis_is_in_it(tmp_path: Path) -> None:
    ended = tlog("init", tmp_path / "log", "--origin", ORIGIN, "--no-rules", "--json")
    assert ended.json["tree_size"] == 1


def test_other_numbers_of_governance_keys_are_taken(tmp_path: Path) -> None:
    ended = tlog(
        *("init", tmp_path / "log", "--origin", ORIGIN, "--governance-keys", 16, "--threshold", 16, "--json")
    )
    assert ended.code == 0
    assert len(list((tmp_path / "log" / "governance").glob("*.key"))) == 16


def test_the_public_half_of_every_key_lies_beside_it(tmp_path: Path) -> None:
    made = tlog("init", tmp_path / "log", "--origin", ORIGIN, "--json").json
    beside = {path.name: path.read_text() for path in (tmp_path / "log").rglob("*.vkey")}
    vkeys = [made["vkey"], made["cosigner_vkey"], *made["governance_vkeys"]]
    names = ["log", "cosigner", "1", "2", "3"]
    assert beside == {f"{name}.key.vkey": f"{vkey}\n" for name, vkey in zip(names, vkeys, strict=True)}


def test_every_secret_is_for_its_owner_only_and_never_shown(tmp_path: Path) -> None:
    ended = tlog("init", tmp_path / "log", "--origin", ORIGIN)

    keys = [tmp_path / "log" / name for name in ("log.key", "cosigner.key")]
    secrets = [*keys, *(tmp_path / "log" / "governance").glob("*.key")]
    assert len(secrets) == 5
    for path in secrets:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert path.read_text().strip().split("+", 4)[4] not in ended.out + ended.err
    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o700


def test_the_answer_for_people_names_what_has_to_be_pinned_and_what_comes_next(tmp_path: Path) -> None:
    ended = tlog("init", tmp_path / "log", "--origin", ORIGIN)

    signer = read_key_file(tmp_path / "log" / "log.key")
    with Log.open(tmp_path / "log" / "store", signer) as log:
        assert leaf_hash(log.entries(0, 1)[0]).hex() in ended.out
    assert signer.vkey in ended.out
    assert f"tlog serve {tmp_path / 'log'}" in ended.out


def test_the_server_takes_the_configuration_as_it_is(tmp_path: Path) -> None:
    tlog("init", tmp_path / "log", "--origin", ORIGIN)

    config = load_config(tmp_path / "log" / "tlog.toml")

    assert config == Config(
        log=LogSection(
            store_path=str(tmp_path / "log" / "store"),
            key_path=str(tmp_path / "log" / "log.key"),
            cosigner_key_path=str(tmp_path / "log" / "cosigner.key"),
        ),
        gossip=GossipSection(state_path=str(tmp_path / "log" / "gossip")),
        store=StoreSection(high_water_mark_path=str(tmp_path / "log" / "high-water.mark")),
    )


def test_every_line_of_the_configuration_that_is_commented_out_shows_the_default() -> None:
    uncommented = re.sub(r"^# (?=[a-z_]+ = )", "", init_module.CONFIG_TEXT, flags=re.MULTILINE)

    config = parse_config(uncommented)

    section = LogSection(store_path="store", key_path="log.key", cosigner_key_path="cosigner.key")
    assert config == Config(log=section, store=StoreSection(high_water_mark_path="high-water.mark"))
    shown = set(re.findall(r"^([a-z_]+) = ", uncommented, flags=re.MULTILINE))
    names = {
        name for section in config.__struct_fields__ for name in getattr(config, section).__struct_fields__
    }
    assert shown == names
    assert set(GrpcSection.__struct_fields__) <= names


def test_the_longest_origin_is_taken(tmp_path: Path) -> None:
    origin = "log.example/" + "x" * 243
    assert len(origin) == 255
    assert tlog("init", tmp_path / "log", "--origin", origin, "--governance-keys", 16).code == 0
    assert read_key_file(tmp_path / "log" / "log.key").name == origin
    names = {read_key_file(path).name for path in (tmp_path / "log" / "governance").glob("*.key")}
    assert names == {f"governance-{number}" for number in range(1, 17)}
    assert tlog("init", tmp_path / "other", "--origin", origin + "x").code == 2


def test_a_directory_whose_name_is_not_utf_8_is_taken(tmp_path: Path) -> None:
    directory = tmp_path / os.fsdecode(b"caf\xe9")
    ended = tlog("init", directory, "--origin", ORIGIN, "--json")
    assert ended.code == 0, ended
    with Log.open(directory / "store", read_key_file(directory / "log.key")) as log:
        assert log.checkpoint().tree_size == ended.json["tree_size"]


def test_an_empty_directory_is_taken(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    assert tlog("init", tmp_path / "log", "--origin", ORIGIN).code == 0
    assert (tmp_path / "log" / "tlog.toml").is_file()


def test_a_directory_that_is_not_empty_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "precious").write_text("mine")

    ended = tlog("init", tmp_path / "log", "--origin", ORIGIN)

    assert ended.code == 2
    assert "not empty" in ended.err
    assert [path.name for path in (tmp_path / "log").iterdir()] == ["precious"]


def test_a_log_is_never_made_over_another_one(tmp_path: Path) -> None:
    assert tlog("init", tmp_path / "log", "--origin", ORIGIN).code == 0
    before = (tmp_path / "log" / "log.key").read_bytes()
    assert tlog("init", tmp_path / "log", "--origin", ORIGIN).code == 2
    assert (tmp_path / "log" / "log.key").read_bytes() == before


def test_the_directory_one_stands_in_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert tlog("init", ".", "--origin", ORIGIN).code == 2
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("a file")
    assert tlog("init", tmp_path / "log", "--origin", ORIGIN).code == 2
    assert (tmp_path / "log").read_text() == "a file"


def test_a_missing_parent_directory_is_named(tmp_path: Path) -> None:
    ended = tlog("init", tmp_path / "nowhere" / "log", "--origin", ORIGIN)
    assert ended.code == 2
    assert str(tmp_path / "nowhere") in ended.err


@pytest.mark.parametrize("name", ["write_key_file", "write_durably", "_fsync_directories"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), StorageError("no")])
def test_a_failure_half_way_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, error: Exception
) -> None:
    module = new_directory_module if name == "_fsync_directories" else init_module
    genuine = getattr(module, name)
    calls = 0

    def failing(*arguments: object) -> None:
        nonlocal calls
        calls += 1
        if calls == (1 if name == "_fsync_directories" else 2):
            raise error
        genuine(*arguments)

    monkeypatch.setattr(module, name, failing)

    ended = tlog("init", tmp_path / "log", "--origin", ORIGIN)

    assert ended.code == 3
    assert "Traceback" not in ended.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("origin", ["", "two words", "a+b", "x" * 256, "line\nbreak"])
def test_an_origin_that_cannot_name_a_key_is_a_usage_error(tmp_path: Path, origin: str) -> None:
    ended = tlog("init", tmp_path / "log", "--origin", origin)
    assert ended.code == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments", [("--threshold", 4), ("--governance-keys", 0), ("--governance-keys", 17), ("--threshold", 0)]
)
def test_a_threshold_that_cannot_be_met_is_a_usage_error(tmp_path: Path, arguments: tuple[str, int]) -> None:
    assert tlog("init", tmp_path / "log", "--origin", ORIGIN, *arguments).code == 2
    assert list(tmp_path.iterdir()) == []


def test_without_an_origin_nothing_is_made(tmp_path: Path) -> None:
    ended = tlog("init", tmp_path / "log", "--json")
    assert ended.code == 2
    assert ended.error["code"] == "usage"
    assert "--origin" in ended.error["message"]


def test_the_new_log_has_its_mark_beside_the_store_and_not_in_it(tmp_path: Path) -> None:
    ended = tlog("init", tmp_path / "log", "--origin", ORIGIN)

    assert "never into the store's backup; better on another disk" in ended.out
    signer = read_key_file(tmp_path / "log" / "log.key")
    with Log.open(tmp_path / "log" / "store", signer) as log:
        checkpoint = log.checkpoint().checkpoint
    with HighWaterMarkFile(tmp_path / "log" / "high-water.mark", ORIGIN) as file:
        assert file.mark == Mark(tree_size=checkpoint.tree_size, root_hash=checkpoint.root_hash)


def test_the_mark_is_kept_in_another_directory_where_one_is_named(tmp_path: Path) -> None:
    elsewhere = tmp_path / 'other "disk"'
    refused = tlog("init", tmp_path / "log", "--origin", ORIGIN, "--mark-directory", elsewhere)
    assert (refused.code, "make it first" in refused.err) == (2, True)
    elsewhere.mkdir()
    made = tlog("init", tmp_path / "log", "--origin", ORIGIN, "--mark-directory", elsewhere, "--json").json
    mark = elsewhere / "high-water.mark"
    assert made["high_water_mark"] == str(mark)
    assert load_config(tmp_path / "log" / "tlog.toml").store.high_water_mark_path == str(mark)
    assert not (tmp_path / "log" / "high-water.mark").exists()
    with HighWaterMarkFile(mark, ORIGIN) as file:
        assert file.mark == Mark(tree_size=made["tree_size"], root_hash=bytes.fromhex(made["root_hash"]))
    again = tlog("init", tmp_path / "second", "--origin", ORIGIN, "--mark-directory", elsewhere)
    assert (again.code, "is there already" in again.err) == (2, True)
    assert not (tmp_path / "second").exists()
