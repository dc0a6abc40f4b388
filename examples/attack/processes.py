"""The real programs as processes of their own: server, witness, monitor; each ended by whoever started it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from tlog.errors import RemoteError

ROOT = Path(__file__).parents[2]
START_TIMEOUT_S = 60.0
RUN_TIMEOUT_S = 60.0


class Process:
    """Is one program that serves; `announced` is the JSON line that it prints when it does."""

    def __init__(self, arguments: Sequence[str], errors: Path) -> None:
        """Start it; `await_start` waits until it serves."""
        with errors.open("ab") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                env=_environment(),
            )
        self._errors = errors
        self.announced: dict[str, Any] = {}

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()

    def await_start(self) -> Process:
        """Wait for the announcement. Raises RemoteError when it ends, or says nothing, before that."""
        assert self._process.stdout is not None
        watchdog = threading.Timer(START_TIMEOUT_S, self._process.kill)
        watchdog.start()
        try:
            line = self._process.stdout.readline()
        finally:
            watchdog.cancel()
        if not line:
            self.kill()
            said = self._errors.read_text(errors="replace")[-2_000:]
            raise RemoteError(f"a process did not start: {said}")
        self.announced = json.loads(line)
        return self

    def stop(self) -> None:
        """Ask for a graceful end, and wait for it."""
        self._process.terminate()
        self._process.wait(RUN_TIMEOUT_S)

    def kill(self) -> None:
        """End it at once, as a power cut would (kill -9); does nothing when it has ended."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(RUN_TIMEOUT_S)
        if self._process.stdout is not None:
            self._process.stdout.close()


def server_process(directory: Path) -> Process:
    """Start `python -m server` on a log's directory."""
    arguments = ["server", "--config", str(directory / "server.toml"), "--json"]
    return Process(arguments, directory / "server.stderr")


def witness_process(directory: Path) -> Process:
    """Start `tlog witness serve` on a witness's directory."""
    return Process(["tlog", "witness", "serve", str(directory), "--json"], directory / "witness.stderr")


def tlog(*arguments: object, expect: Sequence[int] = (0,)) -> str:
    """Run one `tlog` command as a process, and return what it printed.

    Raises RemoteError when it ends with a code that is not expected.
    """
    ended = subprocess.run(
        [sys.executable, "-m", "tlog", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=RUN_TIMEOUT_S,
        check=False,
        env=_environment(),
    )
    if ended.returncode not in expect:
        raise RemoteError(
            f"tlog {' '.join(map(str, arguments[:2]))} ended with {ended.returncode}: {ended.stderr[-2_000:]}"
        )
    return ended.stdout


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TLOG_")}
    return {**kept, "PYTHONUNBUFFERED": "1"}
