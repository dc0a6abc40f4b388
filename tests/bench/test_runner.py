"""The runner from end to end: every question on a tiny log, with real servers and load processes."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

from bench.__main__ import main, present_questions
from bench.gate import NAMES
from bench.gate import main as gate_main


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bench")


@pytest.mark.parametrize("name", present_questions())
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


def test_an_unknown_question_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--only", "append,weather", "--out", str(folder)])
    assert "no question weather" in capsys.readouterr().err


def test_the_gate_fails_where_something_was_ten_times_better(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    baseline = folder / "baseline.json"
    baseline.write_text(json.dumps(dict.fromkeys(NAMES, 0.05)))
    assert gate_main(["--tiny", "--baseline", str(baseline), "--out", str(folder)]) == 1
    said = capsys.readouterr().out
    assert said.count("more than 25% worse") == len(NAMES)
