"""Progress of long work on stderr: a bar with rate and time left on a terminal, elsewhere a line at times."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Protocol, TextIO, cast

from tlog.cli.report import console, remark

SECONDS_BETWEEN_LINES = 5.0
SECONDS_BETWEEN_FRAMES = 0.1


class Progress(Protocol):
    """Is told how far the work is."""

    def advance(self, count: int = 1) -> None:
        """Take note of `count` more pieces that are done."""
        ...


class _Paced:
    """Passes on how far the work is a few times a second: drawing it for every piece would cost more."""

    def __init__(self, show: Callable[[int], None]) -> None:
        self._show = show
        self._done = 0
        self._last_s = 0.0

    def advance(self, count: int = 1) -> None:
        self._done += count
        now_s = monotonic()
        if now_s - self._last_s >= SECONDS_BETWEEN_FRAMES:
            self._last_s = now_s
            self._show(self._done)


class _Lines:
    """Writes a line every few seconds, and so none at all for work that is done before."""

    def __init__(self, label: str, total: int | None, *, quiet: bool) -> None:
        self._label = label
        self._total = total
        self._quiet = quiet
        self._done = 0
        self._started_s = self._last_s = monotonic()

    def advance(self, count: int = 1) -> None:
        self._done += count
        now_s = monotonic()
        if self._quiet or now_s - self._last_s < SECONDS_BETWEEN_LINES:
            return
        self._last_s = now_s
        rate = self._done / (now_s - self._started_s)
        left = ""
        if self._total is not None and self._total > self._done:
            left = f", {(self._total - self._done) / rate:,.0f} s left"
        of_total = "" if self._total is None else f" of {self._total:,}"
        remark(f"{self._label}: {self._done:,}{of_total}, {rate:,.0f}/s{left}")


class _Forgiving:
    """Is a stream on which nothing fails: a terminal that has gone must not end the work."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()


@contextmanager
def progress(label: str, total: int | None, *, quiet: bool) -> Iterator[Progress]:
    """Show progress of `total` pieces (None: unknown) while the block runs.

    `quiet` keeps stderr free of plain lines, for `--json`, whose errors are read by programs from there.
    """
    if not sys.stderr.isatty():
        yield _Lines(label, total, quiet=quiet)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns: list[ProgressColumn] = [
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
    ]
    if total is not None:
        columns.append(TimeRemainingColumn(compact=True))
    started_s = monotonic()
    terminal = console(cast("TextIO", _Forgiving(sys.stderr)))
    with Bar(*columns, console=terminal, transient=True) as bar:
        task = bar.add_task(label, total=total, rate="")

        def show(done: int) -> None:
            rate = done / max(monotonic() - started_s, 1e-3)
            bar.update(task, completed=done, rate=f"{rate:,.0f}/s")

        yield _Paced(show)
