"""Streams that are closed, full, left by their reader, or of another encoding: the exit code still tells."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from _support.command_line import REPOSITORY, tlog
from _support.real_server import running

from tlog.cli import app, progress, report
from tlog.policy import open_checkpoint, parse_policy

ASCII = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}


@pytest.fixture(scope="module")
def kept(served, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of an entry and its receipt."""
    folder = tmp_path_factory.mktemp("kept")
    served.append(served.event(), receipts=folder)
    return folder


def shell(command: str, *arguments: object, env: dict[str, str] | None = None) -> tuple[int, bytes, bytes]:
    """Run `command` in a shell, where `tlog` and "$@" stand for what they are; 10 s are enough."""
    ended = subprocess.run(
        ["sh", "-c", command.replace("tlog", f"{sys.executable} -m tlog"), "sh", *map(str, arguments)],
        cwd=REPOSITORY,
        env={**os.environ, **(env or {})},
        capture_output=True,
        timeout=60,
        check=False,
    )
    return ended.returncode, ended.stdout, ended.stderr


@pytest.mark.parametrize(
    ("redirected", "code"),
    [
        (">&-", 0),
        ("2>&-", 0),
        (">&- 2>&-", 0),
        ("2>/dev/full", 0),
        (">/dev/full", 3),
        (">/dev/full 2>/dev/full", 3),
        (">/dev/full --json", 3),
        (">&- --json", 0),
    ],
)
def test_a_good_receipt_never_ends_with_the_code_of_a_bad_one(
    served, kept: Path, redirected: str, code: int
) -> None:
    ended, out, err = shell(f'tlog verify "$1" --policy "$2" {redirected}', kept, served.policy)
    assert ended == code
    assert b"Traceback" not in err
    if code == 3 and "2>" not in redirected:
        assert b"No space left" in err
    if "2>" in redirected and ">&-" not in redirected and code == 0:
        assert b"verified" in out


@pytest.mark.parametrize("redirected", [">&-", "2>&-", "2>/dev/full", ">&- 2>&-"])
def test_a_bad_receipt_always_ends_with_its_code(served, kept: Path, tmp_path: Path, redirected: str) -> None:
    (tmp_path / "x.entry").write_bytes(next(kept.glob("*.entry")).read_bytes() + b"!")
    (tmp_path / "x.tlog-proof").write_bytes(next(kept.glob("*.tlog-proof")).read_bytes())
    assert shell(f'tlog verify "$1" --policy "$2" {redirected}', tmp_path, served.policy)[0] == 1


@pytest.mark.parametrize("options", ["", "--json"])
def test_a_reader_who_goes_away_is_an_output_that_nobody_has(served, options: str) -> None:
    served.append(*(served.event() for _ in range(120)))
    command = f'{{ tlog entries {options}; echo "code $?" >&2; }} | head -n 1'
    _, out, err = shell(command, env=served.env)
    assert out.count(b"\n") == 1
    assert err == b"code 3\n"


def test_no_stdin_is_no_empty_input(served) -> None:
    code, out, err = shell('tlog append --key "$1" <&-', served.key("bank"), env=served.env)
    assert (code, out) == (2, b"")
    assert b"stdin" in err


def test_what_nobody_foresaw_shows_itself_with_a_code_of_its_own(
    kept: Path, served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*names: object) -> None:
        raise KeyError("unforeseen")

    monkeypatch.setattr(app, "build_app", broken)
    ended = tlog("verify", kept, "--policy", served.policy)
    assert ended.code == 70
    assert "Traceback" in ended.err
    assert "KeyError: 'unforeseen'" in ended.err
    assert "bug" in ended.err
    assert ended.out == ""


def test_a_terminal_that_goes_away_does_not_end_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(io.StringIO):
        def isatty(self) -> bool:
            return True

        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(sys, "stderr", Gone())
    monkeypatch.setenv("TERM", "xterm")
    with progress.progress("appended", 3, quiet=False) as bar:
        bar.advance()
    report.remark("nor does it here")


def test_a_note_is_the_same_bytes_in_every_locale(tmp_path: Path) -> None:
    """A log with a name that ASCII cannot spell, asked from a locale that has nothing else."""
    made = tlog("init", tmp_path / "log", "--origin", "größe.example", "--json")
    assert made.code == 0, made
    with running(tmp_path / "log") as server:
        env = {
            "TLOG_SERVER": server.grpc_address,
            "TLOG_POLICY": str(tmp_path / "log" / "policy"),
            "TLOG_STATE": str(tmp_path / "state"),
            **ASCII,
        }
        (tmp_path / "state").mkdir()
        code, note, _ = shell("tlog checkpoint", env=env)
        assert code == 0
        policy = parse_policy((tmp_path / "log" / "policy").read_bytes())
        assert open_checkpoint(note, policy).origin == "größe.example"
        code, lines, _ = shell("tlog entries --json", env=env)
        assert code == 0
        events = [json.loads(line)["event"] for line in lines.splitlines()]
        assert {event["tlogorigin"] for event in events} == {"größe.example"}


@pytest.mark.parametrize("text", ["größe", "\U0001f600", "\x7f\x9b\u202e", "\ud7ff\ue000\U0010ffff"])
def test_entries_are_listed_in_ascii_and_mean_the_same(served, text: str) -> None:
    (index,) = served.append(served.event(data={text: text}))
    ended = served.run("entries", index, index + 1, "--json")
    assert ended.out.isascii()
    assert "\x7f" not in ended.out
    assert json.loads(ended.out)["event"]["data"] == {text: text}
