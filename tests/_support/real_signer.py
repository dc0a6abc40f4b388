"""A real `tlog signer` process, on a socket of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from _support.command_line import REPOSITORY

START_TIMEOUT_S = 60.0


class RealSigner:
    """Is one running signer."""

    def __init__(self, process: subprocess.Popen[str], announced: dict[str, Any], errors: Path) -> None:
        self._process = process
        self.announced = announced
        self._errors = errors

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def errors(self) -> str:
        return self._errors.read_text(encoding="utf-8")

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it, and return its exit code."""
        if self._process.poll() is None:
            self._process.send_signal(number)
        code = self._process.wait(20)
        if self._process.stdout is not None:
            self._process.stdout.close()
        return code


def start_signer(top: Path, *arguments: object) -> RealSigner:
    """Start `tlog signer serve` with socket and state in a folder. Raises RuntimeError when it does not."""
    errors = top / "signer.stderr"
    with errors.open("a", encoding="utf-8") as stderr:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tlog", "signer", "serve", "--json"),
                *("--socket", str(top / "signer.sock"), "--state", str(top / "signer-state")),
                *map(str, arguments),
            ],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=stderr,
            stdin=subprocess.DEVNULL,
            text=True,
        )
    assert process.stdout is not None
    watchdog = threading.Timer(START_TIMEOUT_S, process.kill)
    watchdog.start()
    try:
        line = process.stdout.readline()
    finally:
        watchdog.cancel()
    if not line:
        process.wait(30)
        process.stdout.close()
        raise RuntimeError(f"the signer did not start: {errors.read_text(encoding='utf-8')}")
    return RealSigner(process, json.loads(line), errors)


@contextmanager
def signing(top: Path, *arguments: object) -> Iterator[RealSigner]:
    """Run a signer while the block runs."""
    signer = start_signer(top, *arguments)
    try:
        yield signer
    finally:
        signer.end(signal.SIGKILL)
