"""The real node as a process of its own, on a port that the system chooses."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from _support.command_line import tlog
from _support.real_program import started

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
        self.program = started("tlog", "node", "serve", directory, "--json")
        self.announced = self.program.announced
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

    @property
    def errors(self) -> str:
        return self.program.errors

    def status(self) -> Any:
        """What `tlog node status` says of its directory, while it runs."""
        return tlog("node", "status", self.directory, "--json").json

    def wait_for(self, holds: Callable[[Any], bool], *, timeout_s: float = 30.0) -> Any:
        """Wait until the status is as wanted, and return it."""
        end_s = time.monotonic() + timeout_s
        while not holds(status := self.status()):
            assert self.program.is_running, self.errors
            assert time.monotonic() < end_s, f"{status}\n{self.errors}"
            time.sleep(0.1)
        return status

    def wait_to_say(self, words: str) -> None:
        """Wait until stderr has these words: what is in the status is said a moment later."""
        self.program.wait_to_say(words)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal that ends it, and return the exit code."""
        return self.program.end(number)
