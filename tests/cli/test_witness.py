"""`tlog witness`: made whole, told of logs, shown; and no way to make it forget one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from _support.command_line import tlog
from _support.signers import cosigner
from _support.submitting_log import SubmittingLog

from tlog.cli import witness as witness_module
from tlog.errors import StorageError
from tlog.policy import build_policy, format_policy, parse_policy
from tlog.storage.lmdb_witness_store import LmdbWitnessStore
from tlog.witness.app import read_cosigners
from tlog.witness.config import load_witness_config, parse_witness_config, witnessed_logs
from tlog.witness.core import Cosigned
from tlog.witness.witness import Witness

NAME = "witness.example/w1"
LOG = SubmittingLog()


def init(directory: Path, *arguments: object) -> dict[str, object]:
    made = tlog("witness", "init", directory, "--name", NAME, "--json", *arguments)
    assert made.code == 0, made
    return dict(made.json)


def listed(directory: Path) -> dict[str, list[str]]:
    config = load_witness_config(directory / "witness.toml")
    return {log.origin: [verifier.vkey for verifier in log.verifiers] for log in witnessed_logs(config.log)}


@pytest.mark.parametrize("ml_dsa", [False, True])
def test_a_witness_is_made_with_keys_that_only_it_can_read(tmp_path: Path, ml_dsa: bool) -> None:
    directory = tmp_path / "w"
    made = init(directory, *["--ml-dsa"] * ml_dsa)
    names = {"witness.toml", "witness.key", "store"} | ({"witness.ml-dsa.key"} if ml_dsa else set())
    assert {path.name for path in directory.iterdir()} == names
    assert all(path.stat().st_mode & 0o077 == 0 for path in directory.glob("*.key"))
    cosigners = read_cosigners(load_witness_config(directory / "witness.toml"))
    assert [key.vkey for key in cosigners] == made["vkeys"]
    assert {key.name for key in cosigners} == {NAME}


def test_the_lines_for_a_policy_are_lines_of_a_policy(tmp_path: Path) -> None:
    said = tlog("witness", "init", tmp_path / "w", "--name", NAME, "--ml-dsa")
    assert said.code == 0
    assert "PRIVATE" not in said.out + said.err
    lines = re.findall(r"^  (witness .*)$", said.out, flags=re.M)
    policy = parse_policy("\n".join([*lines, "quorum none"]).encode())
    assert len(policy.witnesses) == 2


def test_logs_come_from_a_policy_from_vkeys_and_with_origins(tmp_path: Path) -> None:
    policy = tmp_path / "policy"
    policy.write_bytes(format_policy(build_policy([LOG.signer.vkey], [cosigner("other.example").vkey])))
    init(tmp_path / "1", "--policy", policy)
    assert listed(tmp_path / "1") == {LOG.origin: [LOG.signer.vkey]}
    second = SubmittingLog(origin="log.example/2")
    init(tmp_path / "2", "--policy", policy, "--log", LOG.signer.vkey, "--log", second.signer.vkey)
    assert listed(tmp_path / "2") == {
        LOG.origin: [LOG.signer.vkey],
        second.origin: [second.signer.vkey],
    }
    pairs = (
        "--log",
        LOG.signer.vkey,
        "--origin",
        "go.sum tree",
        "--log",
        second.signer.vkey,
        "--origin",
        "b",
    )
    init(tmp_path / "3", *pairs)
    assert listed(tmp_path / "3") == {"go.sum tree": [LOG.signer.vkey], "b": [second.signer.vkey]}


@pytest.mark.parametrize(
    "arguments",
    [
        ("--name", ""),
        ("--name", "two words"),
        ("--name", "a+b"),
        ("--name", "x" * 256),
        ("--name", NAME, "--log", "no key"),
        ("--name", NAME, "--log", LOG.signer.skey),
        ("--name", NAME, "--origin", "x"),
        ("--name", NAME, "--log", LOG.signer.vkey, "--origin", "a", "--origin", "b"),
        ("--name", NAME, "--log", LOG.signer.vkey, "--origin", "x" * 256),
        ("--name", NAME, "--log", LOG.signer.vkey, "--origin", ""),
        ("--name", NAME, "--policy", "nowhere"),
        (),
    ],
)
def test_what_cannot_be_used_is_a_usage_error_and_nothing_is_made(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    ended = tlog("witness", "init", tmp_path / "w", *arguments)
    assert ended.code == 2
    assert "Traceback" not in ended.err
    assert LOG.signer.skey not in ended.err
    assert list(tmp_path.iterdir()) == []


def test_a_witness_is_never_made_over_another_one(tmp_path: Path) -> None:
    init(tmp_path / "w")
    before = (tmp_path / "w" / "witness.key").read_bytes()
    assert tlog("witness", "init", tmp_path / "w", "--name", NAME).code == 2
    assert (tmp_path / "w" / "witness.key").read_bytes() == before


def test_a_failure_half_way_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> None:
        raise StorageError("no")

    monkeypatch.setattr(witness_module, "write_durably", failing)
    assert tlog("witness", "init", tmp_path / "w", "--name", NAME).code == 3
    assert list(tmp_path.iterdir()) == []


def test_every_default_that_the_configuration_shows_is_the_default() -> None:
    text = witness_module.CONFIG_TEXT.format(key_paths='"witness.key"')
    shown = re.sub(r"^# (?=[a-z_]+ = )", "", text, flags=re.MULTILINE)
    assert shown != text
    assert parse_witness_config(shown) == parse_witness_config(text)


def test_a_log_is_added_once(tmp_path: Path) -> None:
    init(tmp_path / "w")
    added = tlog("witness", "add-log", tmp_path / "w", "--log", LOG.signer.vkey, "--json")
    assert added.json["added"] == [{"origin": LOG.origin, "vkeys": [LOG.signer.vkey]}]
    again = tlog("witness", "add-log", tmp_path / "w", "--log", LOG.signer.vkey, "--json")
    assert (again.code, again.json["added"]) == (0, [])
    assert listed(tmp_path / "w") == {LOG.origin: [LOG.signer.vkey]}
    assert (
        "1 log added" in tlog("witness", "add-log", tmp_path / "w", "--log", cosigner("c.example").vkey).out
    )
    assert tlog("witness", "add-log", tmp_path / "w").code == 2


def test_nothing_makes_it_forget_a_log(tmp_path: Path) -> None:
    commands = {command.name for command in witness_module.witness.registered_commands}
    assert commands == {"init", "serve", "add-log", "show"}
    directory = tmp_path / "w"
    init(directory, "--log", LOG.signer.vkey)
    config_path = directory / "witness.toml"
    config = load_witness_config(config_path)
    store = LmdbWitnessStore.open(config.witness.store_path)
    logs = witnessed_logs(config.log)
    running = Witness(store, read_cosigners(config), logs, now_s=lambda: 1_700_000_000)
    assert isinstance(running.add_checkpoint(LOG.request(0, 5)), Cosigned)
    store.close()
    # Not even whoever edits the configuration.
    config_path.write_text(config_path.read_text().partition("[[log]]")[0])
    shown = tlog("witness", "show", directory, "--json").json
    assert shown["logs"] == [
        {
            "origin": LOG.origin,
            "vkeys": [],
            "tree_size": 5,
            "root_hash": LOG.checkpoint(5).root_hash.hex(),
            "cosigned_at_s": 1_700_000_000,
        }
    ]
    text = tlog("witness", "show", directory).out
    assert "not forgotten" in text
    assert "size 5" in text
    assert "2023-11-14T22:13:20+00:00" in text


def test_logs_that_were_never_cosigned_are_shown(tmp_path: Path) -> None:
    made = init(tmp_path / "w", "--log", LOG.signer.vkey)
    shown = tlog("witness", "show", tmp_path / "w", "--json").json
    assert (shown["name"], shown["vkeys"]) == (NAME, made["vkeys"])
    assert [log["tree_size"] for log in shown["logs"]] == [None]
    assert "nothing yet" in tlog("witness", "show", tmp_path / "w").out


@pytest.mark.parametrize("command", ["serve", "show", "add-log"])
def test_a_directory_without_a_witness_is_a_usage_error(tmp_path: Path, command: str) -> None:
    ended = tlog("witness", command, tmp_path)
    assert ended.code == 2
    assert "tlog witness init" in ended.err
    assert list(tmp_path.iterdir()) == []


def test_a_witness_without_its_record_does_not_start(tmp_path: Path) -> None:
    init(tmp_path / "w")
    (tmp_path / "w" / "store" / "data.mdb").unlink()
    for command in ("serve", "show"):
        assert tlog("witness", command, tmp_path / "w").code == 3
    assert not (tmp_path / "w" / "store" / "data.mdb").exists()


def test_keys_that_others_may_have_read_or_with_two_names_are_refused(tmp_path: Path) -> None:
    init(tmp_path / "w")
    key = tmp_path / "w" / "witness.key"
    key.chmod(0o644)
    assert "chmod 600" in tlog("witness", "serve", tmp_path / "w").err
    key.chmod(0o600)
    init(tmp_path / "other")
    tlog("witness", "init", tmp_path / "third", "--name", "third.example")
    for other, message in (("third", "different names"), ("w", "the same")):
        config = tmp_path / "w" / "witness.toml"
        text = config.read_text()
        config.write_text(text.replace('["witness.key"]', f'["witness.key", "../{other}/witness.key"]'))
        ended = tlog("witness", "serve", tmp_path / "w")
        assert ended.code == 2
        assert message in ended.err
        config.write_text(text)
