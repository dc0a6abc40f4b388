"""Shows answers as tables."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from rich.console import Console
from rich.table import Table

from bench.noise import Noise
from bench.result import Answer, Met, Row, Target, target_rows

_STYLES = {Met.YES: "green", Met.NO: "red", Met.NOT_MEASURED: "dim"}


def show_answer(console: Console, answer: Answer) -> None:
    """Print one question's rows and notes."""
    table = Table(title=answer.result.question, title_justify="left", title_style="bold")
    table.add_column("what")
    table.add_column("value", justify="right")
    table.add_column("unit")
    table.add_column("lowest to highest", justify="right")
    table.add_column("target")
    for at, rows in groupby(answer.result.rows, key=lambda row: dict(row.at)):
        if at:
            table.add_section()
            table.add_row(", ".join(f"{name} {_shown(value)}" for name, value in at.items()), style="italic")
        for row in rows:
            table.add_row(
                f"  {row.name}" if at else row.name,
                "-" if row.value is None else _number(row.value),
                row.unit,
                f"{_number(min(row.samples))} to {_number(max(row.samples))}" if len(row.samples) > 1 else "",
                _judged(row),
            )
    console.print(table)
    for note in answer.result.notes:
        console.print(f"  {note}", highlight=False)
    show_noise(console, answer.noise)
    console.print()


def show_noise(console: Console, noise: Noise) -> None:
    """Print whether the machine was quiet enough."""
    if noise.trusted:
        console.print(
            f"  the machine was quiet: {noise.steal:.1%} stolen, {noise.foreign:.1%} used by others, "
            f"the same work within {noise.spread:.1%}",
            style="dim",
            highlight=False,
        )
    else:
        console.print(
            f"  TOO NOISY to trust: {'; '.join(noise.reasons)}", style="bold yellow", highlight=False
        )


def show_targets(console: Console, answers: Sequence[Answer], targets: Sequence[Target]) -> None:
    """Print every target, and whether it was met."""
    table = Table(title="Targets", title_justify="left", title_style="bold")
    table.add_column("what")
    table.add_column("target")
    table.add_column("measured", justify="right")
    table.add_column("met")
    for target, row in target_rows(answers, targets):
        met = Met.NOT_MEASURED if row is None else target.judge(row.value)
        measured = "" if row is None or row.value is None else _number(row.value)
        table.add_row(target.text, target.demand, measured, met.value, style=_STYLES[met])
    console.print(table)


def _judged(row: Row) -> str:
    if row.target is None or row.met is None:
        return row.note
    style = _STYLES[row.met]
    return f"[{style}]{row.target.demand}: {row.met.value}[/{style}]"


def _shown(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:,}"


def _number(value: float) -> str:
    """Format a number to about four digits."""
    if value == 0 or abs(value) >= 1_000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.2f}" if abs(value) >= 1 else f"{value:.3g}"
