"""`tlog freeze`: the end of a log, beside its server or without one; what is in it stays provable."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import pytest
from _support.command_line import Ended, tlog, tlog_process
from _support.real_server import RealServer, running
from _support.real_witness import RealWitness

ORIGIN = "log.example/ending"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = tlog("init", tmp_path / "log", "--origin", ORIGIN, "--json")
    assert made.code == 0, made
    return tmp_path / "log"


def run(directory: Path, server: RealServer, *arguments: object) -> Ended:
    env = {
        "TLOG_SERVER": server.grpc_address,
        "TLOG_POLICY": str(directory / "policy"),
        "TLOG_STATE": str(directory.parent / "state"),
    }
    return tlog(*arguments, env=env)


def set_rules(directory: Path, server: RealServer, *arguments: object) -> Ended:
    keys = (directory / "governance" / "1.key", directory / "governance" / "2.key")
    return run(
        directory, server, "rules", "set", "--catalogue", "--sign", keys[0], "--sign", keys[1], *arguments
    )


def gauge(server: RealServer, name: str) -> float:
    with urllib.request.urlopen(server.metrics_url, timeout=30) as page:
        (line,) = [line for line in page.read().decode().splitlines() if line.startswith(f"{name} ")]
    return float(line.split()[1])


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.nightly)])
def test_a_log_is_frozen_beside_its_server_and_goes_on_being_read(
    directory: Path, tmp_path: Path, workers: int
) -> None:
    overrides = {"server": {"workers": workers}}
    with running(directory, overrides=overrides) as server:
        assert set_rules(directory, server).code == 0
        assert run(directory, server, "status", "--json").json["frozen"] is False
        frozen = tlog("freeze", directory, "--out", tmp_path / "final", "--json")
        assert frozen.code == 0, frozen
        assert (frozen.json["frozen"], frozen.json["published"], frozen.json["tree_size"]) == (True, True, 3)
        # By the log and by its own cosigner, as of the end.
        assert len(frozen.json["signed_by"]) == 2
        assert (tmp_path / "final").read_text() == frozen.json["checkpoint"]

        refused = set_rules(directory, server, "--json")
        assert (refused.code, refused.error["code"]) == (1, "log_frozen")
        assert "ended with 3 entries" in refused.error["message"]
        status = run(directory, server, "status", "--json").json
        assert (status["frozen"], status["tree_size"], status["health"]) == (True, 3, "SERVING")
        assert "takes no new entry" in run(directory, server, "status").out
        assert run(directory, server, "receipt", 0, "--out", tmp_path / "receipt").code == 0
        assert gauge(server, "tlog_log_frozen") == 1
        server.wait_to_say("THIS LOG IS FROZEN at size 3")
        assert not (directory / "store" / "freeze-requested").exists()
        again = tlog("freeze", directory, "--json")
        assert (again.code, again.json["tree_size"]) == (0, 3)
    with running(directory, overrides=overrides) as server:
        assert server.announced["frozen"]
        assert set_rules(directory, server).code == 1
        assert gauge(server, "tlog_log_frozen") == 1


def test_a_log_is_frozen_without_its_server_and_thawed_only_by_name(directory: Path) -> None:
    ended = tlog_process("freeze", directory)
    assert ended.code == 0, ended
    assert "yes, for good" in ended.out
    with running(directory) as server:
        assert set_rules(directory, server).code == 1
        thaw = ("freeze", directory, "--thaw-although-its-end-was-announced")
        in_use = tlog_process(*thaw)
        assert in_use.code == 3
        assert "in use" in in_use.err
    assert tlog("freeze", directory, "--thaw").code == 2
    thawed = tlog_process(*thaw)
    assert thawed.code == 0, thawed
    assert "THAWED" in thawed.err
    with running(directory) as server:
        assert "frozen" not in {name for name, value in server.announced.items() if value}
        assert set_rules(directory, server).code == 0


def test_the_final_checkpoint_gets_the_witnesses_quorum(directory: Path, tmp_path: Path) -> None:
    policy = directory / "policy"
    (log_line,) = [line for line in policy.read_text().splitlines() if line.startswith("log ")]
    made = tlog("witness", "init", tmp_path / "w", "--name", "w1.example", "--log", log_line.split()[1])
    assert made.code == 0, made
    with RealWitness(tmp_path / "w") as witness:
        lines = policy.read_text().replace("quorum none\n", "")
        policy.write_text(f"{lines}witness w1 {witness.announced['vkeys'][0]} {witness.url}\nquorum w1\n")
        with running(directory, overrides={"witnesses": {"policy_path": "policy"}}) as server:
            assert set_rules(directory, server).code == 0
            frozen = tlog("freeze", directory, "--json")
            assert frozen.code == 0, frozen
            assert frozen.json["published"] is True
            assert any(one.startswith("w1.example+") for one in frozen.json["signed_by"])
            assert set_rules(directory, server).code == 1


def test_what_is_no_log_is_not_frozen(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "absent"):
        ended = tlog("freeze", place, "--json")
        assert (ended.code, json.loads(ended.err)["error"]["code"]) == (2, "config")
