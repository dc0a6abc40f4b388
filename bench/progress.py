"""Shows what runs, how fast, and how long it still takes; and lets the noise watch look in between."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from rich.text import Text

Advance = Callable[[int], None]

TELL_EVERY_S = 15.0
"""How often a line tells how far a task is, where there is no terminal."""


class _RateColumn(ProgressColumn):
    """Shows how many a second are done."""

    def render(self, task: Task) -> Text:
        return Text(
            f"{task.speed:,.0f}/s" if task.speed and task.speed >= 1 else "", style="progress.data.speed"
        )


class _Lines:
    """Tells how far a task is in lines, now and then."""

    def __init__(self, what: str, total: int) -> None:
        self._what = what
        self._total = total
        self._done = 0
        self._started_s = self._told_s = monotonic()
        self._write("...")

    def advance(self, steps: int) -> None:
        self._done += steps
        now_s = monotonic()
        if now_s - self._told_s >= TELL_EVERY_S:
            self._told_s = now_s
            taken_s = now_s - self._started_s
            left_s = taken_s / self._done * (self._total - self._done) if self._done else 0.0
            rate = self._done / taken_s
            self._write(f"{self._done:,} of {self._total:,}, {rate:,.3g}/s, {left_s:,.0f} s left")

    def end(self) -> None:
        self._write(f"{self._total:,} in {monotonic() - self._started_s:.1f} s")

    def _write(self, text: str) -> None:
        sys.stderr.write(f"{self._what}: {text}\n")
        sys.stderr.flush()


class Progress:
    """Tells on stderr how far a run is: bars on a terminal, lines elsewhere.

    `between` is called after every step, when nothing is being measured.
    """

    def __init__(self, *, between: Callable[[], None] = lambda: None, quiet: bool = False) -> None:
        self._between = between
        self._quiet = quiet
        self._console = Console(stderr=True)

    @contextmanager
    def running(self, what: str, total: int) -> Iterator[Advance]:
        """Show a task of `total` steps while the block runs; call what is given with the steps just done."""
        if self._quiet:
            yield self._stepped(lambda _: None)
        elif self._console.is_terminal:
            with RichProgress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                _RateColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=self._console,
                transient=True,
            ) as bars:
                task = bars.add_task(what, total=total)
                yield self._stepped(lambda steps: bars.advance(task, steps))
        else:
            lines = _Lines(what, total)
            yield self._stepped(lines.advance)
            lines.end()

    def say(self, text: str) -> None:
        """Tell something that is not the result."""
        if not self._quiet:
            self._console.print(text, highlight=False, soft_wrap=True)

    def _stepped(self, show: Advance) -> Advance:
        def advance(steps: int) -> None:
            self._between()
            show(steps)

        return advance
