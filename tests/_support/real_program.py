"""A program of this repository as a process of its own, which says in one line of JSON that it serves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from _support.command_line import REPOSITORY

START_TIMEOUT_S = 60.0
END_TIMEOUT_S = 20.0


class RealProgram:
    """Is one running program; whatever a test does, only this process is ever signalled."""

    def __init__(self, *module_and_arguments: object) -> None:
        """Start `python -m` with these words; `await_announcement` waits until it serves."""
        # A file, not a pipe: nobody reads while the test runs, and a full pipe would stop the program.
        self._errors_file = tempfile.NamedTemporaryFile("w+", suffix=".stderr")  # noqa: SIM115
        self._final_errors: str | None = None
        self.announced: dict[str, Any] = {}
        self._process = subprocess.Popen(
            [sys.executable, "-m", *map(str, module_and_arguments)],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=self._errors_file,
            text=True,
            env=_environment(),
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    @property
    def errors(self) -> str:
        """Return what it wrote to stderr so far."""
        if self._final_errors is not None:
            return self._final_errors
        return Path(self._errors_file.name).read_text(encoding="utf-8", errors="replace")

    def await_announcement(self) -> None:
        """Read the line in which it says where it serves, which is `announced` from then on.

        Raises RuntimeError, with the program's own words, when it ends before that, or says nothing for too
        long, which ends it.
        """
        assert self._process.stdout is not None
        watchdog = threading.Timer(START_TIMEOUT_S, self._process.kill)
        watchdog.start()
        try:
            line = self._process.stdout.readline()
        finally:
            watchdog.cancel()
        if line and "event" in (announced := json.loads(line)):
            self.announced = announced
            return
        code = self.end(signal.SIGKILL)
        raise RuntimeError(f"it did not start, said {line!r}, and ended with {code}:\n{self.errors}")

    def wait_to_say(self, words: str, *, timeout_s: float = 30.0) -> None:
        """Wait until stderr has these words: what a call tells is written down before or after its answer."""
        end_s = time.monotonic() + timeout_s
        while words not in self.errors:
            assert time.monotonic() < end_s, f"it did not say {words!r}:\n{self.errors}"
            time.sleep(0.02)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def end(self, number: signal.Signals = signal.SIGTERM, *, timeout_s: float = END_TIMEOUT_S) -> int:
        """Send a signal that ends it, if it still runs, and return the exit code."""
        if self.is_running:
            self.send(number)
        return self.wait(timeout_s)

    def wait(self, timeout_s: float = END_TIMEOUT_S) -> int:
        """Wait until it ends by itself, and return the exit code."""
        code = self._process.wait(timeout_s)
        if self._process.stdout is not None:
            self._process.stdout.close()
        if self._final_errors is None:
            self._final_errors = self.errors
            self._errors_file.close()
        return code


def started(*module_and_arguments: object) -> RealProgram:
    """Start a program and wait until it serves.

    Raises RuntimeError when it does not start; nothing runs then.
    """
    program = RealProgram(*module_and_arguments)
    try:
        program.await_announcement()
    except BaseException:
        program.end(signal.SIGKILL)
        raise
    return program


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TLOG_")}
    return {**kept, "PYTHONUNBUFFERED": "1"}
