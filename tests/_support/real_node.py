"""The real node as a process of its own, on a port that the system chooses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from _support.command_line import tlog

REPOSITORY = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 60.0
QUICK = {"round_s": 0.3, "timeout_s": 5.0, "patience_s": 30.0, "port": 0}


def make_node_directory(
    directory: Path,
    policy: Path,
    *,
    server: str = "",
    tiles: str = "",
    settings: Mapping[str, object] = QUICK,
) -> Path:
    """Make a node with `tlog node init`, and let it gossip much more often than members would."""
    options = [*(["--server", server] if server else []), *(["--tiles", tiles] if tiles else [])]
    made = tlog("node", "init", directory, "--policy", policy, *options)
    assert made.code == 0, made.err
    set_in_gossip(directory, settings)
    return directory


def set_in_gossip(directory: Path, settings: Mapping[str, object]) -> None:
    """Set names in the [gossip] table of a node's configuration."""
    file = directory / "node.toml"
    lines = file.read_text().splitlines()
    for name, value in settings.items():
        (at,) = [
            number
            for number, line in enumerate(lines)
            if line.removeprefix("# ").startswith(f"{name} = ") and "_path" not in line
        ]
        lines[at] = f"{name} = {json.dumps(value)}"
    file.write_text("\n".join(lines) + "\n")


class RealNode:
    """Is one running `tlog node serve`; in a `with` block it is killed at the end, if it still runs."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        # A file, not a pipe: nobody reads while the test runs, and a full pipe would stop the node.
        self._errors = tempfile.NamedTemporaryFile("w+", suffix=".stderr")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tlog", "node", "serve", str(directory), "--json"],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={name: value for name, value in os.environ.items() if not name.startswith("TLOG_")},
        )
        self.announced: dict[str, Any] = self._read_announcement()
        self.address = str(self.announced["gossip"])

    def __enter__(self) -> RealNode:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end(signal.SIGKILL)
        self._errors.close()

    @property
    def errors(self) -> str:
        return Path(self._errors.name).read_text(encoding="utf-8", errors="replace")

    def status(self) -> Any:
        """What `tlog node status` says of its directory, while it runs."""
        return tlog("node", "status", self.directory, "--json").json

    def wait_for(self, holds: Callable[[Any], bool], *, timeout_s: float = 30.0) -> Any:
        """Wait until the status is as wanted, and return it."""
        end_s = time.monotonic() + timeout_s
        while not holds(status := self.status()):
            assert self.process.poll() is None, self.errors
            assert time.monotonic() < end_s, f"{status}\n{self.errors}"
            time.sleep(0.1)
        return status

    def wait_to_say(self, words: str) -> None:
        """Wait until stderr has these words: what is in the status is said a moment later."""
        self.wait_for(lambda _: words in self.errors)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal that ends it, and return the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(20)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code

    def _read_announcement(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        watchdog = threading.Timer(START_TIMEOUT_S, self.process.kill)
        watchdog.start()
        try:
            line = self.process.stdout.readline()
        finally:
            watchdog.cancel()
        if not line:
            code, errors = self.process.wait(30), self.errors
            self.end()
            self._errors.close()
            raise RuntimeError(f"the node did not start, exit code {code}:\n{errors}")
        return dict(json.loads(line))
