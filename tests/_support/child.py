"""Run a piece of Python in a process of its own: to be killed, to fork, or to be a stranger to this one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]


def start(script: str, *, environ: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """Start a script with pipes to its standard streams; the caller waits for it or kills it."""
    return subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", **(environ or {})},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(script: str, *, environ: Mapping[str, str] | None = None, timeout_s: float = 120) -> str:
    """Run a script to its end and return what it printed; it must end with 0."""
    with start(script, environ=environ) as process:
        try:
            out, err = process.communicate(timeout=timeout_s)
        finally:
            process.kill()
    assert process.returncode == 0, (process.returncode, out[-500:], err[-3000:])
    return out


def read_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def write_line(process: subprocess.Popen[str], line: str = "") -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()
