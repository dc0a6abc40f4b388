"""The real programs as processes of their own, each ended by whoever started it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from tlog.errors import RemoteError

ROOT = Path(__file__).parents[2]
START_TIMEOUT_S = 60.0
RUN_TIMEOUT_S = 60.0
POLL_S = 0.02


class Process:
    """Is one program that serves; `announced` is the first JSON line that it prints, when it does."""

    def __init__(self, arguments: Sequence[str], directory: Path) -> None:
        """Start it, with its output in files of the directory; `await_start` waits until it serves.

        Files, not pipes: nobody reads while a scenario plays, and a full pipe would stop the program.
        """
        name = arguments[0] if arguments[0] != "tlog" else arguments[1]
        self._output = directory / f"{name}.stdout"
        self.log_file = directory / f"{name}.stderr"
        with self._output.open("wb") as output, self.log_file.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                cwd=ROOT,
                stdout=output,
                stderr=errors,
                env=_environment(),
            )
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
        end_s = time.monotonic() + START_TIMEOUT_S
        while b"\n" not in (said := self._output.read_bytes()):
            if self._process.poll() is not None or time.monotonic() > end_s:
                self.kill()
                errors = self.log_file.read_text(errors="replace")[-2_000:]
                raise RemoteError(f"a process did not start: {errors}")
            time.sleep(POLL_S)
        self.announced = json.loads(said.partition(b"\n")[0])
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


def server_process(directory: Path) -> Process:
    """Start `python -m server` on a log's directory."""
    return Process(["server", "--config", str(directory / "server.toml"), "--json"], directory)


def witness_process(directory: Path) -> Process:
    """Start `tlog witness serve` on a witness's directory."""
    return Process(["tlog", "witness", "serve", str(directory), "--json"], directory)


def node_process(directory: Path) -> Process:
    """Start `tlog node serve` on a node's directory; its log tells of every round."""
    return Process(["tlog", "node", "serve", str(directory), "--verbose", "--json"], directory)


def monitor_process(directory: Path) -> Process:
    """Start `tlog monitor run`, which follows the log; it has started when its first pass is over."""
    return Process(["tlog", "monitor", "run", str(directory), "--json"], directory)


def run_tlog(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run one `tlog` command as a process, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "tlog", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=RUN_TIMEOUT_S,
        check=False,
        env=_environment(),
    )


def tlog(*arguments: object, expect: Sequence[int] = (0,)) -> str:
    """Run one `tlog` command as a process, and return what it printed.

    Raises RemoteError when it ends with a code that is not expected.
    """
    ended = run_tlog(*arguments)
    if ended.returncode not in expect:
        raise RemoteError(
            f"tlog {' '.join(map(str, arguments[:2]))} ended with {ended.returncode}: {ended.stderr[-2_000:]}"
        )
    return ended.stdout


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TLOG_")}
    return {**kept, "PYTHONUNBUFFERED": "1"}
