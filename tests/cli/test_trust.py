"""A log that lies, or is another one: found, told with exit code 1, and the evidence is kept."""

from __future__ import annotations

from pathlib import Path

import pytest
from _support.command_line import Ended, tlog

from tlog.checkpoint import Checkpoint, format_checkpoint, parse_checkpoint
from tlog.key_file import read_key_file
from tlog.note import Signer, parse_note, sign_note
from tlog.policy import build_policy, format_policy

STATE_NAME = "log.example%2Falliance.checkpoint"


def trust(served, state: Path, tree_size: int, root_hash: bytes) -> bytes:
    """Make `state` trust a checkpoint that the log's own key signed."""
    text = format_checkpoint(Checkpoint("log.example/alliance", tree_size, root_hash))
    note = sign_note(text, [read_key_file(served.directory / "log.key")])
    state.mkdir()
    (state / STATE_NAME).write_bytes(note)
    return note


def asked(served, state: Path, *command: object) -> Ended:
    return served.run(*command, "--json", TLOG_STATE=str(state))


def test_two_roots_at_one_size_are_a_split_view_whose_notes_are_kept(served, tmp_path: Path) -> None:
    newest = served.run("checkpoint").out.encode()
    size = parse_checkpoint(parse_note(newest)[0]).tree_size
    forged = trust(served, tmp_path / "state", size, bytes(32))

    ended = asked(served, tmp_path / "state", "checkpoint")

    assert ended.code == 1
    assert ended.error["code"] == "split_view"
    kept = {path.read_bytes() for path in (tmp_path / "state").glob("*.note")}
    assert kept == {newest, forged}
    notes = " ".join(ended.error["notes"])
    assert all(str(path) in notes for path in (tmp_path / "state").glob("*.note"))
    assert f"trusted: size {size}" in notes
    assert str(served.policy) in notes
    assert (tmp_path / "state" / STATE_NAME).read_bytes() == forged
    assert_convicted(served, tmp_path / "state", notes, "same-size")


def assert_convicted(served, state: Path, notes: str, kind: str) -> None:
    """The evidence is a file that is named, convicts by the policy, and stops every command from then on."""
    (evidence,) = (state / "evidence").iterdir()
    assert evidence.name.startswith(f"{kind}-")
    assert str(evidence) in notes
    assert tlog("evidence", "verify", evidence, "--policy", served.policy).code == 0
    for command in (("checkpoint",), ("status",), ("lookup", "a:b"), ("entries",)):
        refused = asked(served, state, *command)
        assert refused.code == 1
        assert refused.error["code"] == "convicted"
        assert str(evidence) in refused.error["message"]


def test_a_size_that_the_log_cannot_lead_to_is_an_alarm_whose_notes_are_kept(served, tmp_path: Path) -> None:
    served.append(served.event())
    forged = trust(served, tmp_path / "state", 2, b"\x11" * 32)

    ended = asked(served, tmp_path / "state", "checkpoint")

    assert ended.code == 1
    assert ended.error["code"] == "consistency_unproven"
    assert forged in {path.read_bytes() for path in (tmp_path / "state").glob("*.note")}
    # The log gave the path by which it is convicted.
    assert_convicted(served, tmp_path / "state", " ".join(ended.error["notes"]), "sizes")


@pytest.mark.parametrize("command", [("entries",), ("member", "show"), ("lookup", "a:b"), ("status",)])
def test_every_command_meets_the_trusted_checkpoint_first(served, tmp_path: Path, command) -> None:
    trust(served, tmp_path / "state", 2, b"\x11" * 32)
    ended = asked(served, tmp_path / "state", *command)
    assert ended.code == 1
    assert ended.error["code"] == "consistency_unproven"


def test_a_log_that_went_back_is_found(served, tmp_path: Path) -> None:
    trust(served, tmp_path / "state", 10**6, b"\x11" * 32)
    ended = asked(served, tmp_path / "state", "checkpoint")
    assert ended.code == 1
    assert ended.error["code"] == "consistency_unproven"


def test_a_damaged_state_file_is_not_replaced_by_itself(served, tmp_path: Path) -> None:
    trust(served, tmp_path / "state", 2, bytes(32))
    (tmp_path / "state" / STATE_NAME).write_bytes(b"rubbish")
    ended = asked(served, tmp_path / "state", "checkpoint")
    assert ended.code == 3
    assert ended.error["code"] == "corruption"
    assert (tmp_path / "state" / STATE_NAME).read_bytes() == b"rubbish"


def test_a_policy_of_another_log_trusts_nothing_here(served, tmp_path: Path) -> None:
    (tmp_path / "policy").write_bytes(format_policy(build_policy([Signer.generate("other.example").vkey])))
    ended = served.run(
        *("checkpoint", "--policy", tmp_path / "policy", "--state", tmp_path / "state", "--json")
    )
    assert ended.code == 1
    assert ended.error["code"] == "policy"
    assert "other.example" in ended.error["message"]


def test_a_policy_with_another_key_of_this_origin_trusts_nothing_here(served, tmp_path: Path) -> None:
    impostor = Signer.generate("log.example/alliance")
    (tmp_path / "policy").write_bytes(format_policy(build_policy([impostor.vkey])))
    ended = served.run(
        *("checkpoint", "--policy", tmp_path / "policy", "--state", tmp_path / "state", "--json")
    )
    assert ended.code == 1
    assert ended.error["code"] == "signature"


def test_a_policy_of_several_logs_needs_to_be_told_which(served, tmp_path: Path) -> None:
    own = read_key_file(served.directory / "log.key").vkey
    policy = format_policy(build_policy([own, Signer.generate("other.example").vkey]))
    (tmp_path / "policy").write_bytes(policy)
    options = ("--policy", tmp_path / "policy", "--state", tmp_path / "state", "--json")
    assert served.run("checkpoint", *options).code == 2
    assert served.run("checkpoint", *options, "--origin", "log.example/alliance").code == 0
    assert served.run("checkpoint", *options, "--origin", "third.example").code == 2


@pytest.mark.parametrize(
    "command",
    [
        ("status",),
        ("entries", 0, 1),
        ("entries", 1, 2),
        ("member", "show"),
        ("checkpoint",),
        ("lookup", "a:b"),
    ],
)
def test_a_pinned_genesis_that_is_not_this_logs_is_found(served, command: tuple[object, ...]) -> None:
    ended = served.run(*command, "--genesis", "0" * 64, "--json")
    assert ended.code == 1
    assert ended.error["code"] == "verification"
    assert "0" * 64 in ended.error["message"]


@pytest.mark.parametrize("genesis", ["00", "x" * 64, "A" * 64])
def test_a_pin_that_is_no_hash_is_a_usage_error(served, genesis: str) -> None:
    assert served.run("status", "--genesis", genesis).code == 2


def test_without_a_policy_nothing_is_asked(served) -> None:
    ended = tlog("checkpoint", "--server", served.server.grpc_address, "--json")
    assert ended.code == 2
    assert "--policy" in ended.error["message"]
    assert "TLOG_POLICY" in ended.error["message"]


@pytest.mark.parametrize("command", [("checkpoint",), ("status",), ("entries",), ("member", "show")])
def test_a_server_that_is_down_is_a_remote_error(served, command: tuple[str, ...]) -> None:
    ended = served.run(*command, "--timeout", "0.3", "--json", TLOG_SERVER="127.0.0.1:1")
    assert ended.code == 3
    assert ended.error["code"] == "remote"
    assert "127.0.0.1:1" in ended.error["message"]


@pytest.mark.parametrize("server", ["", "localhost", "\udcff:1", "ü.example:1", "a\n:1"])
def test_an_address_that_is_none_is_a_usage_error(served, server: str) -> None:
    for command in ("checkpoint", "status"):
        ended = served.run(command, "--server", server, "--timeout", "0.3")
        assert ended.code == 2
        assert "host:port" in ended.err
