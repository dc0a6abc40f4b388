"""A member's node: `tlog node serve` as a process of its own, and what its log and its files say."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from examples.attack.cast import ORIGIN
from examples.attack.monitor import read_alerts
from examples.attack.processes import Process, node_process, run_tlog
from tlog.exit_codes import ExitCode
from tlog.monitor.alert_book import Record
from tlog.node.config import load_config
from tlog.node.standing import LogStanding, Standing, alerts_directory, read_standing
from tlog.strict_json import JsonValue

ROUND_S = 0.3
TIMEOUT_S = 2.0
"""How long a node waits for one that does not answer: this, and not the network, is what a cut costs."""
CONFIG = """\
[node]
policy_path = {policy}
[gossip]
port = 0
peers = {peers}
round_s = {round_s}
fan_out = 2
timeout_s = {timeout_s}
patience_s = 30.0
# On loopback all members are one host.
calls_per_s = 1000.0
burst_calls = 1000
{settings}
[[log]]
origin = {origin}
"""
FORGED_WORDS = "sent what no honest node sends"
"""What a node logs of a peer or caller that it drops."""
_ROUND = re.compile(r"round [0-9]+: ")


@dataclass(slots=True)
class Node:
    """Is one node with a directory of its own; whoever made it ends its process."""

    name: str
    directory: Path
    policy: Path
    source: str
    """The setting that says where the log is read."""
    enter: Callable[[Process], Process]
    """Takes over the processes that it starts."""
    settings: Mapping[str, float] = field(default_factory=dict)
    """More of the [gossip] table."""
    _process: Process | None = None
    _mark: int = 0

    def begin(self, peers: Sequence[str] = ()) -> None:
        """Write its configuration, and start it; `await_start` waits until it serves."""
        text = CONFIG.format(
            policy=json.dumps(str(self.policy)),
            peers=json.dumps(list(peers)),
            round_s=ROUND_S,
            timeout_s=TIMEOUT_S,
            settings="\n".join(f"{name} = {value}" for name, value in self.settings.items()),
            origin=json.dumps(ORIGIN),
        )
        self.directory.mkdir(exist_ok=True)
        (self.directory / "node.toml").write_text(f"{text}{self.source}\n")
        self.mark()
        self._process = self.enter(node_process(self.directory))

    def again(self) -> None:
        """Start it anew, with the configuration that is there."""
        self._process = self.enter(node_process(self.directory))
        self._process.await_start()

    @property
    def process(self) -> Process:
        """Return the process that was started last."""
        assert self._process is not None
        return self._process

    @property
    def address(self) -> str:
        """Return where it gossips: host:port."""
        return str(self.process.announced["gossip"])

    @property
    def alerts(self) -> Sequence[Record]:
        """Return all alerts on record, oldest first."""
        return read_alerts(alerts_directory(load_config(self.directory / "node.toml")))

    @property
    def standing(self) -> Standing:
        """Return what its files say, as `tlog node status` reads them."""
        return read_standing(load_config(self.directory / "node.toml"))

    @property
    def log(self) -> LogStanding:
        """Return what its files say of the log."""
        (log,) = self.standing.logs
        return log

    @property
    def size(self) -> int:
        """Return the size of the newest checkpoint that is held."""
        newest = self.log.newest
        return 0 if newest is None else newest.tree_size

    def mark(self) -> None:
        """Count rounds from here on."""
        file = self.directory / "node.stderr"
        self._mark = file.stat().st_size if file.exists() else 0

    @property
    def lines(self) -> list[str]:
        """Return what it has logged since the mark."""
        return (
            (self.directory / "node.stderr").read_bytes()[self._mark :].decode(errors="replace").splitlines()
        )

    @property
    def rounds(self) -> int:
        """Return how many rounds it has ended since the mark."""
        return sum(1 for line in self.lines if _ROUND.search(line))

    def alarmed_s(self, *kinds: str) -> float | None:
        """Return when it first raised an alarm of these kinds, in seconds since 1970; None: it did not."""
        return next((_number(alert["time_s"]) for alert in self.alerts if alert["kind"] in kinds), None)

    def said_s(self, words: str) -> float | None:
        """Return when it first logged these words since the mark; None: it did not."""
        return next((_time_s(line) for line in self.lines if words in line), None)

    def round_at(self, time_s: float | None) -> str:
        """Say in which round since the mark, from 1, it was at a time of this machine's clock."""
        if time_s is None:
            return "no round"
        ended = [line for line in self.lines if _ROUND.search(line) and _time_s(line) < time_s]
        return "1 round" if not ended else f"{len(ended) + 1} rounds"

    def is_well(self) -> bool:
        """Ask `tlog node status`, as its operator does, whether nothing speaks against the log."""
        return run_tlog("node", "status", self.directory, "--json").returncode == ExitCode.OK


def _time_s(line: str) -> float:
    """Read the time that a line of a log begins with: 2025-03-01 12:00:00,000, of this machine's zone."""
    return datetime.strptime(line[:23], "%Y-%m-%d %H:%M:%S,%f").astimezone().timestamp()


def _number(value: JsonValue) -> float:
    assert isinstance(value, int | float)
    return float(value)
