"""Plays scenarios of the attack suite by name."""

from __future__ import annotations

from examples.attack.scenarios import SCENARIOS
from examples.attack.suite import Result, play

BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}


def caught(name: str) -> Result:
    """Play an attack, and require that all who should notice it do, and that evidence convicts who lied."""
    result = play(BY_NAME[name])
    assert result.passed, result.document()
    return result


def kinds(result: Result) -> set[str]:
    """The kinds of evidence that `tlog evidence verify` convicted somebody by."""
    return set(result.record.findings)
