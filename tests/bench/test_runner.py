"""The runner from end to end: every question on a tiny log, with real servers and load processes."""

from __future__ import annotations

import importlib
import json
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from bench.__main__ import main, present_questions
from bench.gate import NAMES, NOISY_REPEATS
from bench.gate import main as gate_main
from bench.progress import Progress
from bench.result import Answer
from bench.served import REPOSITORY


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bench")


# CI's gate asks for appends and proofs; most of the others have tests of their own parts.
IN_EVERY_RUN = {"storage"}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in IN_EVERY_RUN else pytest.mark.nightly)
        for name in present_questions()
    ],
)
def test_a_question_is_answered(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = folder / f"{name}.json"
    assert main(["--tiny", "--only", name, "--out", str(folder), "--json", str(file)]) == 0
    document = json.loads(file.read_text())
    assert document["settings"]["profile"] == "tiny"
    assert document["machine"]["cores"] >= 1
    assert document["versions"]["grpcio"]
    (answer,) = document["answers"]
    assert answer["question"] == importlib.import_module(f"bench.{name}").QUESTION
    assert answer["rows"]
    assert all(row["value"] is not None or row["note"] for row in answer["rows"])
    # A tiny log is none that a target speaks of.
    assert {target["met"] for target in document["targets"]} == {"not measured"}
    said = capsys.readouterr().out
    assert answer["rows"][0]["name"] in said
    assert str(file.name) in said.replace("\n", "")


@pytest.mark.parametrize(
    ("arguments", "is_asked"), [([], False), (["--only", "parts"], True), (["--full"], True)]
)
def test_where_costs_come_from_is_asked_by_name_or_in_a_full_run(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    is_asked: bool,
) -> None:
    asked: list[str] = []

    def ask(name: str, settings: object, *, place: str = "") -> Answer:
        asked.append(name)
        raise RuntimeError("not measured here")

    monkeypatch.setattr("bench.__main__.ask", ask)
    monkeypatch.setattr("bench.outlook.LOG_BYTES_AN_ENTRY", 0)  # no log is made, whatever room there is
    main([*arguments, "--out", str(folder / "asked"), "--json", str(folder / "asked.json")])
    assert ("parts" in asked) is is_asked
    assert ("append" in asked) is ("--only" not in arguments)


def test_a_question_that_fails_keeps_no_other_from_being_answered(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no disk left")

    monkeypatch.setattr("bench.proofs.run", fail)
    file = folder / "one-fails.json"
    assert main(["--tiny", "--only", "proofs,storage", "--out", str(folder), "--json", str(file)]) == 1
    document = json.loads(file.read_text())
    assert [answer["name"] for answer in document["answers"]] == ["storage"]
    assert document["failed"] == ["proofs"]
    said = capsys.readouterr()
    assert "no disk left" in said.out
    assert "could not be answered: proofs" in said.out
    assert "2 of 2 storage" in said.err


def is_alive(process: psutil.Process) -> bool:
    """Return whether it still does anything; one that ended may wait for whoever takes in orphans here."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def is_server(process: psutil.Process) -> bool:
    with suppress(psutil.Error):  # it has just ended
        return "serve" in process.cmdline()
    return False


def test_a_run_that_is_asked_to_end_leaves_no_process_behind(folder: Path) -> None:
    command = [sys.executable, "-m", "bench", "--tiny", "--only", "append", "--out", str(folder)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as run:
        watched = psutil.Process(run.pid)
        started: list[psutil.Process] = []
        while not any(is_server(process) for process in started):
            assert run.poll() is None, run.stdout and run.stdout.read()
            time.sleep(0.02)
            started = watched.children(recursive=True)
        run.terminate()
        run.communicate(timeout=60)
    left = [process for process in started if is_alive(process)]
    for process in left:
        process.kill()
    assert not left
    assert run.returncode == 128 + signal.SIGTERM


def test_without_a_terminal_lines_tell_how_far_it_is_and_what_is_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.progress.TELL_EVERY_S", 0.0)
    with Progress().running("counting", 4) as advance:
        advance(1)
        advance(3)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "counting: ..."
    assert re.fullmatch(r"counting: 1 of 4, [\d.,e+]+/s, [\d,]+ s left", lines[1])
    assert lines[2].endswith("/s, 0 s left")
    assert lines[3].startswith("counting: 4 in ")


def test_an_unknown_question_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--only", "append,weather", "--out", str(folder)])
    assert "no question weather" in capsys.readouterr().err


@pytest.mark.parametrize("is_noisy", [False, pytest.param(True, marks=pytest.mark.nightly)])
def test_the_gate_fails_where_something_was_ten_times_better_on_a_noisy_machine_after_repeats(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, is_noisy: bool
) -> None:
    monkeypatch.setattr("bench.noise.MAX_SPREAD", -1.0 if is_noisy else 1e9)
    monkeypatch.setattr("bench.noise.MAX_FOREIGN", 1e9)
    monkeypatch.setattr("bench.noise.MAX_STEAL", 1e9)
    baseline = folder / "baseline.json"
    baseline.write_text(json.dumps(dict.fromkeys(NAMES, 0.01)))  # a proof is some 0.12 x V
    assert gate_main(["--tiny", "--baseline", str(baseline), "--out", str(folder)]) == 1
    said = capsys.readouterr().out
    assert said.count("more than 25% worse") == len(NAMES)
    assert said.count("measured again") == (NOISY_REPEATS if is_noisy else 0)
