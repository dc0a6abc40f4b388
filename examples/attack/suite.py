"""Plays scenarios and judges them: an attack has to be noticed by all who should, an honest run by nobody."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from examples.attack.lab import Lab, Record
from examples.attack.scenarios import Scenario


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Says what became of one scenario."""

    scenario: Scenario
    record: Record
    seconds: float
    error: str = ""

    @property
    def problems(self) -> tuple[str, ...]:
        """Return what is not as it has to be; nothing, when the scenario passed."""
        scenario, record = self.scenario, self.record
        found = [self.error] if self.error else []
        if scenario.is_honest:
            found += [f"false alarm by {name}" for name in sorted(record.noticed_by)]
            found += [f"honest keys convicted: {name}" for name in sorted(record.convicted)]
            return tuple(found)
        missing = [name for name in scenario.noticed_by if name not in record.noticed_by]
        if missing:
            found.append(f"unnoticed by {', '.join(missing)}")
        found += [
            f"evidence does not convict {name}" for name in scenario.convicts if name not in record.convicted
        ]
        found += [
            f"evidence convicts {name}, who did nothing"
            for name in sorted(record.convicted - set(scenario.convicts))
        ]
        found += [f"evidence is refused: {reason}" for reason in record.bad_evidence]
        return tuple(found)

    @property
    def passed(self) -> bool:
        """Whether everything is as it has to be."""
        return not self.problems

    def document(self) -> dict[str, object]:
        """Return the result for programs."""
        return {
            "attack": self.scenario.name,
            "title": self.scenario.title,
            "passed": self.passed,
            "noticed": [
                {"who": one.who, "after": one.after, "what": one.what} for one in self.record.sightings
            ],
            "evidence": {kind: list(names) for kind, names in self.record.findings.items()},
            "problems": list(self.problems),
            "notes": self.record.notes,
            "seconds": round(self.seconds, 2),
        }


def play(scenario: Scenario, *, is_armed: bool = True) -> Result:
    """Play one scenario in a temporary folder; whatever breaks in it is its result."""
    started = perf_counter()
    error = ""
    with tempfile.TemporaryDirectory(prefix="tlog-attack-") as directory:
        lab = Lab(Path(directory), is_armed=is_armed)
        try:
            with lab:
                scenario.play(lab)
        except Exception as problem:  # noqa: BLE001 - a scenario that breaks must not hide the others
            error = f"{type(problem).__name__}: {problem}"
    return Result(scenario=scenario, record=lab.record, seconds=perf_counter() - started, error=error)


def play_all(scenarios: Sequence[Scenario], *, is_armed: bool = True) -> Iterator[Result]:
    """Play scenarios one after the other, and yield each result when it is there."""
    for scenario in scenarios:
        yield play(scenario, is_armed=is_armed)
