"""Progress is for people: a bar on a terminal, a line at times elsewhere, nothing where a program reads."""

from __future__ import annotations

import io
import sys
from itertools import count

import pytest

from tlog.cli import progress as module
from tlog.cli.progress import SECONDS_BETWEEN_LINES, progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_work_that_is_done_soon_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("appended", 10, quiet=False) as bar:
        for _ in range(10):
            bar.advance()
    assert capsys.readouterr().err == ""


def test_long_work_writes_lines_with_rate_and_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = count(step=SECONDS_BETWEEN_LINES)
    monkeypatch.setattr(module, "monotonic", lambda: float(next(ticks)))
    with progress("appended", 1_000, quiet=False) as bar:
        bar.advance(100)
        bar.advance(400)
    assert capsys.readouterr().err.splitlines() == [
        "appended: 100 of 1,000, 20/s, 45 s left",
        "appended: 500 of 1,000, 50/s, 10 s left",
    ]


def test_an_unknown_total_has_no_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = count(step=SECONDS_BETWEEN_LINES)
    monkeypatch.setattr(module, "monotonic", lambda: float(next(ticks)))
    with progress("appended", None, quiet=False) as bar:
        bar.advance(100)
    assert capsys.readouterr().err == "appended: 100, 20/s\n"


def test_where_a_program_reads_nothing_is_written(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = count(step=SECONDS_BETWEEN_LINES)
    monkeypatch.setattr(module, "monotonic", lambda: float(next(ticks)))
    with progress("appended", 1_000, quiet=True) as bar:
        bar.advance(100)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("total", [None, 3])
def test_a_terminal_gets_a_bar_with_a_rate(monkeypatch: pytest.MonkeyPatch, total: int | None) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(module, "SECONDS_BETWEEN_FRAMES", 0.0)
    with progress("appended", total, quiet=False) as bar:
        for _ in range(3):
            bar.advance()
    assert "appended" in terminal.getvalue()
    assert "/s" in terminal.getvalue()
    assert "3/" in terminal.getvalue()
