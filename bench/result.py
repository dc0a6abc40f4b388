"""What a question answers: rows with values, the targets that they are held against, charts.

A row is one number at one place: `Row(name="server CPU", value=71.2, unit="us/event", at={"tree_size":
1_000_000, "batch": 256})`. A row that a target is about carries it, and tells by itself whether it was met.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from bench.noise import Noise


class Bound(enum.Enum):
    """Says on which side of its limit a target is met."""

    AT_MOST = "at most"
    AT_LEAST = "at least"


class Met(enum.Enum):
    """Says what became of a target."""

    YES = "yes"
    NO = "no"
    NOT_MEASURED = "not measured"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Is one number to be reached; all of them are in bench/targets.py."""

    name: str
    text: str
    limit: float
    unit: str
    bound: Bound = Bound.AT_MOST

    def judge(self, value: float | None) -> Met:
        """Say whether a value meets this target; None was not measured."""
        if value is None:
            return Met.NOT_MEASURED
        met = value <= self.limit if self.bound is Bound.AT_MOST else value >= self.limit
        return Met.YES if met else Met.NO

    @property
    def demand(self) -> str:
        """Return the limit with its unit, for people."""
        return f"{self.bound.value} {self.limit:,g} {self.unit}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Holds one measured number: the median of `samples`, where there are several.

    `at` says under which settings, by name (tree_size, batch, ...). A value of None was not measured, and
    `note` says why.
    """

    name: str
    value: float | None
    unit: str
    at: Mapping[str, int | float | str] = field(default_factory=dict)
    samples: Sequence[float] = ()
    target: Target | None = None
    note: str = ""

    @property
    def met(self) -> Met | None:
        """Return whether the target was met; None for a row that no target is about."""
        return None if self.target is None else self.target.judge(self.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Says what a plot shows: lines by name, each a sequence of (x, y)."""

    name: str
    title: str
    x_label: str
    y_label: str
    lines: Mapping[str, Sequence[tuple[float, float]]]
    log_x: bool = False
    log_y: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Holds the answer to one question; `notes` are for people, what a number alone would hide."""

    question: str
    rows: Sequence[Row]
    charts: Sequence[Chart] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Holds a result with the name of its question's file, how long it took, and how noisy it was."""

    name: str
    result: Result
    seconds: float
    noise: Noise


def target_rows(answers: Sequence[Answer], targets: Sequence[Target]) -> list[tuple[Target, Row | None]]:
    """Pair every target with the worst row that is about it, or with None where nothing was measured."""
    paired: list[tuple[Target, Row | None]] = []
    for target in targets:
        rows = [
            row
            for answer in answers
            for row in answer.result.rows
            if row.target == target and row.value is not None
        ]
        worst = max if target.bound is Bound.AT_MOST else min
        paired.append((target, worst(rows, key=lambda row: row.value or 0.0) if rows else None))
    return paired


def as_document(answers: Sequence[Answer], targets: Sequence[Target], **facts: object) -> dict[str, object]:
    """Make the JSON document of a run; `facts` say what machine it was, and under which settings."""
    return {
        **facts,
        "trusted": all(answer.noise.trusted for answer in answers),
        "targets": [
            {
                "name": target.name,
                "text": target.text,
                "demand": target.demand,
                "value": None if row is None else row.value,
                "met": (Met.NOT_MEASURED if row is None else target.judge(row.value)).value,
            }
            for target, row in target_rows(answers, targets)
        ],
        "answers": [_answer_document(answer) for answer in answers],
    }


def _answer_document(answer: Answer) -> dict[str, object]:
    noise = answer.noise
    return {
        "name": answer.name,
        "question": answer.result.question,
        "seconds": round(answer.seconds, 1),
        "noise": {**asdict(noise), "trusted": noise.trusted, "reasons": noise.reasons},
        "notes": list(answer.result.notes),
        "rows": [
            {
                "name": row.name,
                "at": dict(row.at),
                "value": row.value,
                "unit": row.unit,
                "samples": list(row.samples),
                "target": row.target and row.target.name,
                "met": row.met and row.met.value,
                "note": row.note,
            }
            for row in answer.result.rows
        ],
    }
