"""The attack suite notices what is there, and says so when nothing is: it cannot pass by itself."""

from __future__ import annotations

import json
from typing import Any

import pytest

from examples.attack.__main__ import main
from examples.attack.lab import Lab, Record, Sighting
from examples.attack.scenarios import SCENARIOS, Scenario
from examples.attack.suite import Result

REPRESENTATIVE = ["drop", "stale-view"]
"""One that a monitor notices, and one that nodes do; every one of them is played, armed, beside this file."""


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    code = main([*arguments, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_lies_that_are_not_told_are_noticed_by_nobody_and_the_suite_fails(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, document = run(capsys, *REPRESENTATIVE, "--disarmed")
    assert (code, document["passed"]) == (1, False), document
    for attack in document["attacks"]:
        assert (attack["noticed"], attack["evidence"]) == ([], {}), attack
        assert any(problem.startswith("unnoticed by") for problem in attack["problems"]), attack
        assert not any("Error" in problem for problem in attack["problems"]), attack


def test_an_alarm_in_an_honest_run_fails_the_suite(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def nervous(lab: Lab) -> None:
        lab.saw("monitor", "1 pass", "split_view")

    scenarios = (Scenario(name="honest", title="honest", play=nervous, is_honest=True),)
    monkeypatch.setattr("examples.attack.__main__.SCENARIOS", scenarios)
    code, document = run(capsys)
    assert code == 1
    assert document["attacks"][0]["problems"] == ["false alarm by monitor"]


def test_the_table_says_who_noticed_after_how_many_rounds_and_whom_the_evidence_convicts(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def caught(lab: Lab) -> None:
        for who in ("member A", "member B"):
            lab.saw(who, "3 rounds", "refuses")
        lab.record.findings["sizes"] = ("log.example",)

    scenario = Scenario(
        name="x", title="a lie", play=caught, noticed_by=("member A",), convicts=("log.example",)
    )
    monkeypatch.setattr("examples.attack.__main__.SCENARIOS", (scenario,))
    assert main(["--only", "x"]) == 0
    printed = capsys.readouterr().out
    row = next(line for line in printed.splitlines() if "a lie" in line)
    cells = [cell.strip() for cell in row.split("│")[1:5]]
    assert cells == ["a lie", "member A, member B: refuses", "3 rounds", "sizes convicts log.example"]
    assert "1 of 1 attacks noticed" in printed


def test_a_scenario_that_breaks_fails_the_suite_and_hides_no_other(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(lab: Lab) -> None:
        raise AssertionError("it did not even begin")

    scenarios = (
        Scenario(name="broken", title="broken", play=broken),
        Scenario(name="fine", title="fine", play=lambda lab: None, is_honest=True),
    )
    monkeypatch.setattr("examples.attack.__main__.SCENARIOS", scenarios)
    code, document = run(capsys)
    assert code == 1
    assert [attack["passed"] for attack in document["attacks"]] == [False, True]


SPLIT_VIEW = SCENARIOS[0]


def judged(record: Record) -> tuple[str, ...]:
    return Result(scenario=SPLIT_VIEW, record=record, seconds=0.0).problems


@pytest.mark.parametrize(
    ("noticed_by", "convicted", "problem"),
    [
        (["member A"], ["attack.example/alliance"], "unnoticed by member B"),
        (["member A", "member B"], [], "evidence does not convict attack.example/alliance"),
        (
            ["member A", "member B"],
            ["attack.example/alliance", "bystander"],
            "evidence convicts bystander, who did nothing",
        ),
    ],
)
def test_half_a_success_is_a_failure(noticed_by: list[str], convicted: list[str], problem: str) -> None:
    lab_record = Record(findings={"sizes": tuple(convicted)} if convicted else {})
    for who in noticed_by:
        _saw(lab_record, who)
    assert judged(lab_record) == (problem,)


def test_evidence_that_does_not_verify_fails_a_scenario_that_needs_none() -> None:
    record = Record(bad_evidence=["it is forged"])
    scenario = Scenario(name="x", title="x", play=lambda lab: None)
    problems = Result(scenario=scenario, record=record, seconds=0.0).problems
    assert problems == ("evidence is refused: it is forged",)


def _saw(record: Record, who: str) -> None:
    record.sightings.append(Sighting(who=who, after="1 round", what="evidence"))


def test_every_attack_of_the_list_is_there() -> None:
    names = [scenario.name for scenario in SCENARIOS]
    assert len(names) == len(set(names))
    assert {
        "split-view", "rollback", "rewrite", "drop", "reorder", "forged-signature", "forbidden-type",
        "stale-view", "lying-peer", "two-faced-witness", "healed-partitions", "honest",
    } <= set(names)  # fmt: skip
    assert all(scenario.noticed_by for scenario in SCENARIOS if not scenario.is_honest)
