from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from bench.noise import Noise
from bench.plots import draw
from bench.result import Answer, Bound, Chart, Met, Result, Row, Target, as_document, target_rows
from bench.table import show_answer, show_targets
from bench.targets import TARGETS

COST = Target(name="cost", text="what it costs", limit=1.3, unit="x V")
RATE = Target(name="rate", text="how fast it is", limit=100.0, unit="entries/s", bound=Bound.AT_LEAST)
QUIET = Noise(steal=0.0, foreign=0.0, spread=0.0, calibration_us=1.0, samples=10)
NOISY = Noise(steal=0.5, foreign=0.0, spread=0.0, calibration_us=1.0, samples=10)


def answer(*rows: Row, noise: Noise = QUIET) -> Answer:
    return Answer(name="question", result=Result(question="What?", rows=rows), seconds=1.0, noise=noise)


def row(target: Target, value: float | None, tree_size: int = 10) -> Row:
    return Row(name=target.name, value=value, unit=target.unit, at={"tree_size": tree_size}, target=target)


@pytest.mark.parametrize(
    ("target", "value", "met"),
    [
        (COST, 1.3, Met.YES),
        (COST, 1.31, Met.NO),
        (COST, None, Met.NOT_MEASURED),
        (RATE, 100.0, Met.YES),
        (RATE, 99.9, Met.NO),
    ],
)
def test_a_row_says_whether_its_target_was_met(target: Target, value: float | None, met: Met) -> None:
    assert row(target, value).met is met


def test_a_row_without_a_target_says_nothing() -> None:
    assert Row(name="rate", value=1.0, unit="events/s").met is None


def test_a_target_is_judged_by_the_worst_row_about_it() -> None:
    answers = [
        answer(row(COST, 1.0), row(COST, 1.5), row(COST, None)),
        answer(row(RATE, 90.0), row(RATE, 200.0)),
    ]
    paired = {target.name: found.value for target, found in target_rows(answers, [COST, RATE]) if found}
    assert paired == {"cost": 1.5, "rate": 90.0}


def test_a_target_that_nothing_was_measured_for_is_not_met_in_silence() -> None:
    (target,) = as_document([answer()], [COST])["targets"]  # type: ignore[misc]
    assert target["met"] == "not measured"


def test_a_document_survives_json_and_says_what_it_was_made_on() -> None:
    document = as_document([answer(row(COST, 1.5))], [COST], kernel="6.1")
    document = json.loads(json.dumps(document))
    assert document["kernel"] == "6.1"
    assert document["trusted"] is True
    assert document["targets"][0] == {
        "name": "cost",
        "text": "what it costs",
        "demand": "at most 1.3 x V",
        "value": 1.5,
        "met": "no",
    }
    assert document["answers"][0]["rows"][0]["at"] == {"tree_size": 10}
    assert document["answers"][0]["rows"][0]["met"] == "no"


def test_one_noisy_answer_makes_a_run_untrusted() -> None:
    document = as_document([answer(), answer(noise=NOISY)], [])
    assert document["trusted"] is False


def test_the_tables_tell_a_missed_target_and_a_noisy_machine(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(width=140)
    found = answer(row(COST, 1.5, tree_size=1_000_000), Row(name="x", value=None, unit="s"), noise=NOISY)
    show_answer(console, found)
    show_targets(console, [found], [COST, RATE])
    text = capsys.readouterr().out
    assert "tree_size 1,000,000" in text
    assert "at most 1.3 x V: no" in text
    assert "TOO NOISY to trust: the hypervisor took 50% of the time" in text
    assert "at least 100 entries/s" in text
    assert "not measured" in text


def test_a_chart_becomes_a_picture(tmp_path: Path) -> None:
    chart = Chart(
        name="chart",
        title="Chart",
        x_label="x",
        y_label="y",
        lines={"a": [(1e4, 2.0), (1e3, 1.0)], "b": [(1e3, 3.0)]},
        log_x=True,
    )
    path = draw(chart, tmp_path)
    assert path == tmp_path / "chart.png"
    assert path.read_bytes().startswith(b"\x89PNG")


def test_every_target_has_a_name_of_its_own() -> None:
    assert len({target.name for target in TARGETS}) == len(TARGETS) == 18
