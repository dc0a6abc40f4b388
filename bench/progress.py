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


class _RateColumn(ProgressColumn):
    """Shows how many a second are done."""

    def render(self, task: Task) -> Text:
        return Text(
            f"{task.speed:,.0f}/s" if task.speed and task.speed >= 1 else "", style="progress.data.speed"
        )


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
            started_s = monotonic()
            sys.stderr.write(f"{what} ...\n")
            yield self._stepped(lambda _: None)
            sys.stderr.write(f"{what}: {total:,} in {monotonic() - started_s:.1f} s\n")

    def say(self, text: str) -> None:
        """Tell something that is not the result."""
        if not self._quiet:
            self._console.print(text, highlight=False)

    def _stepped(self, show: Advance) -> Advance:
        def advance(steps: int) -> None:
            self._between()
            show(steps)

        return advance
