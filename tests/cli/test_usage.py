"""What every command has in common: help, usage errors, JSON, and never a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from _support.command_line import REPOSITORY, tlog, tlog_process

from tlog import errors
from tlog.cli.app import COMMANDS
from tlog.cli.files import MAX_FILE_NAME_CHARACTERS, safe_file_name, write_file
from tlog.errors import RefusalReason, RefusedError, StorageError, TlogError
from tlog.exit_codes import error_code

EVERY_COMMAND = [
    *(
        (name,)
        for name in COMMANDS
        if name
        not in (
            "certs",
            "witness",
            "monitor",
            "node",
            "evidence",
            "prove",
            "tiles",
            "member",
            "rules",
            "governance",
            "key",
            "signer",
        )
    ),
    ("certs", "init"),
    ("certs", "server"),
    ("certs", "client"),
    ("witness", "init"),
    ("witness", "serve"),
    ("witness", "add-log"),
    ("witness", "show"),
    ("monitor", "init"),
    ("monitor", "run"),
    ("monitor", "status"),
    ("monitor", "serve"),
    ("node", "init"),
    ("node", "serve"),
    ("node", "status"),
    ("evidence", "verify"),
    ("evidence", "show"),
    ("prove", "inclusion"),
    ("prove", "consistency"),
    ("tiles", "check"),
    ("tiles", "prove"),
    ("tiles", "fetch"),
    ("member", "add"),
    ("member", "show"),
    ("member", "rotate"),
    ("member", "suspend"),
    ("member", "resume"),
    ("rules", "show"),
    ("rules", "set"),
    ("governance", "sign"),
    ("governance", "show"),
    ("governance", "rotate"),
    ("key", "show"),
    ("key", "encrypt"),
    ("key", "decrypt"),
    ("signer", "serve"),
    ("signer", "show"),
]


@pytest.mark.parametrize("command", EVERY_COMMAND)
def test_every_command_has_help_and_takes_json(command: tuple[str, ...]) -> None:
    ended = tlog(*command, "--help")
    assert ended.code == 0
    assert "--json" in ended.out
    assert ended.err == ""


@pytest.mark.parametrize("command", EVERY_COMMAND)
def test_an_unknown_option_is_a_usage_error(command: tuple[str, ...]) -> None:
    ended = tlog(*command, "--no-such-option")
    assert ended.code == 2
    assert "--no-such-option" in ended.err
    assert "Traceback" not in ended.err
    assert ended.out == ""


def test_all_commands_are_named_by_the_help() -> None:
    ended = tlog("--help")
    assert ended.code == 0
    assert all(name in ended.out for name in COMMANDS)
    assert "Exit codes" in ended.out


@pytest.mark.parametrize(
    "arguments", [(), ("witness",), ("prove",), ("tiles",), ("member",), ("rules",), ("governance",)]
)
def test_a_missing_command_is_a_usage_error(arguments: tuple[str, ...]) -> None:
    assert tlog(*arguments).code == 2


def test_an_unknown_command_is_a_usage_error_in_json_too() -> None:
    ended = tlog("frobnicate", "--json")
    assert ended.code == 2
    assert ended.error["code"] == "usage"
    assert ended.error["exit_code"] == 2
    assert "frobnicate" in ended.error["message"]


def test_the_program_tells_its_version() -> None:
    assert tlog("--version").code == 0
    assert tlog("--version").out.startswith("tlog")


def test_it_runs_as_a_module_with_its_exit_codes(tmp_path: Path) -> None:
    assert tlog_process("keygen", "bank.example", "--out", tmp_path / "bank.key").code == 0
    refused = tlog_process("keygen", "bank.example", "--out", tmp_path / "bank.key", "--json")
    assert (refused.code, refused.error["code"]) == (2, "config")


def test_a_reader_who_goes_away_ends_the_command_quietly(served) -> None:
    served.append(*(served.event(data={"fill": "x" * 1000}) for _ in range(200)))
    command = [sys.executable, "-m", "tlog", "entries", "--json"]
    process = subprocess.Popen(
        command,
        cwd=REPOSITORY,
        env={**os.environ, **served.env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdout, process.stderr:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == 3


def test_every_error_has_a_code_of_its_own() -> None:
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, TlogError) and kind.__init__ is TlogError.__init__
    ]
    assert len(kinds) > 10
    codes = {error_code(kind("x")) for kind in kinds}
    assert len(codes) == len(kinds)
    assert all(code.replace("_", "").isalpha() and code.islower() for code in codes)
    assert error_code(RefusedError(RefusalReason.WRONG_ORIGIN, "x")) == "wrong_origin"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("plain-1.2_x", "plain-1.2_x"),
        ("", "%"),
        (".", "%2E"),
        ("..", "%2E."),
        (".hidden", "%2Ehidden"),
        ("a/b\\c", "a%2Fb%5Cc"),
        ("a\0b", "a%00b"),
        ("100%", "100%25"),
        ("ü", "%C3%BC"),
        ("\ud800", "%ED%A0%80"),
    ],
)
def test_any_text_becomes_one_file_name(text: str, name: str) -> None:
    assert safe_file_name(text) == name


def test_long_texts_become_different_names_of_bounded_length() -> None:
    names = {safe_file_name("x" * 5_000 + end) for end in ("a", "b")}
    assert len(names) == 2
    assert all(len(name) == MAX_FILE_NAME_CHARACTERS for name in names)


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    write_file(tmp_path / "x", b"old")
    (tmp_path / "in-the-way").mkdir()
    with pytest.raises(StorageError, match="in-the-way"):
        write_file(tmp_path / "in-the-way", b"new")
    with pytest.raises(StorageError, match="nowhere"):
        write_file(tmp_path / "nowhere" / "x", b"new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in-the-way", "x"]
    write_file(tmp_path / "x", b"new")
    assert (tmp_path / "x").read_bytes() == b"new"


def test_what_is_no_file_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with os.fdopen(os.open(pipe, os.O_RDWR), "rb", buffering=0) as reader:
        write_file(pipe, b"through it")
        assert pipe.is_fifo(), "as root it would have replaced /dev/null"
        assert reader.read(100) == b"through it"


@pytest.mark.parametrize(
    "arguments", [("init", "{}", "--origin", "log.example"), ("keygen", "n", "--out", "{}"), ("freeze", "{}")]
)
def test_a_path_that_the_system_refuses_is_no_bug(arguments: tuple[str, ...], tmp_path: Path) -> None:
    path = str(tmp_path / ("x" * 300))
    ended = tlog(*(argument.replace("{}", path) for argument in arguments), "--json")
    assert ended.code in (2, 3), ended
    assert path in ended.error["message"]
    assert "too long" in ended.error["message"]


def test_a_key_file_that_is_a_directory_is_no_bug() -> None:
    ended = tlog("keygen", "n", "--out", "/", "--json")
    assert (ended.code, ended.error["code"]) == (2, "config"), ended


def test_a_failure_of_the_system_that_names_no_path_is_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(9, "Bad file descriptor")

    monkeypatch.setattr("tlog.cli.app.build_app", fail)
    ended = tlog("--version")
    assert ended.code == 70
    assert "Traceback" in ended.err


def test_ctrl_c_while_modules_are_loaded_shows_no_traceback() -> None:
    script = (
        "import signal, sys\n"
        "class Impatient:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'tlog.cli.app': signal.raise_signal(signal.SIGINT)\n"
        "sys.meta_path.insert(0, Impatient())\n"
        "from tlog.cli import main\n"
        "sys.exit(main(['--version']))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")
