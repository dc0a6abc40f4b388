"""`tlog serve` becomes the server: same process, same signals, same exit codes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from _support.command_line import REPOSITORY, tlog, tlog_process


def test_it_serves_until_it_is_told_to_stop(tmp_path: Path) -> None:
    made = tlog("init", tmp_path / "log", "--origin", "log.example", "--json").json
    config = tmp_path / "log" / "tlog.toml"
    config.write_text(re.sub("# port = 865[0-9]", "port = 0", config.read_text()))
    process = subprocess.Popen(
        [sys.executable, "-m", "tlog", "serve", str(tmp_path / "log"), "--json"],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        with process.stdout:
            announced = json.loads(process.stdout.readline())
        assert announced["vkey"] == made["vkey"]
        status = tlog(
            *("status", "--server", announced["grpc"], "--policy", made["policy"]),
            *("--state", tmp_path / "state", "--genesis", made["genesis_leaf_hash"]),
        )
        assert status.code == 0, status
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()


def test_it_becomes_the_server_with_the_configuration_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    became: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda _, arguments: became.append(arguments))
    (tmp_path / "tlog.toml").touch()
    (tmp_path / "other.toml").touch()

    for named in ([tmp_path], ["--config", tmp_path / "other.toml"], [tmp_path, "--json"]):
        assert tlog("serve", *named).code == 0

    start = [sys.executable, "-m", "server", "--config"]
    assert became == [
        [*start, str(tmp_path / "tlog.toml")],
        [*start, str(tmp_path / "other.toml")],
        [*start, str(tmp_path / "tlog.toml"), "--json"],
    ]


@pytest.mark.parametrize(
    "arguments", [(), ("nowhere",), ("--config", "nowhere.toml"), ("a", "--config", "b")]
)
def test_it_wants_one_log_that_exists(arguments: tuple[str, ...]) -> None:
    ended = tlog("serve", *arguments)
    assert ended.code == 2
    assert "tlog init" in ended.err


def test_a_refused_configuration_ends_with_2(tmp_path: Path) -> None:
    tlog("init", tmp_path / "log", "--origin", "log.example")
    (tmp_path / "log" / "log.key").chmod(0o644)
    ended = subprocess.run(
        [sys.executable, "-m", "tlog", "serve", str(tmp_path / "log")],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 2
    assert "chmod 600" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_what_keeps_it_from_serving_is_told_as_json_where_json_was_asked_for(tmp_path: Path) -> None:
    config = tmp_path / "tlog.toml"
    config.write_text("[log]\nstore = 1\n")
    ended = tlog_process("serve", "--config", config, "--json")
    assert (ended.code, ended.out) == (2, "")
    assert (ended.error["code"], ended.error["exit_code"]) == ("config", 2)
    assert "the configuration is refused" in ended.error["message"]
