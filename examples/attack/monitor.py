"""A `tlog monitor` with a directory of its own, and what its files say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from examples.attack.processes import tlog
from tlog.monitor.alert_book import Record, read_journal
from tlog.monitor.config import load_config
from tlog.monitor.standing import Standing, read_standing


@dataclass(frozen=True, slots=True, kw_only=True)
class Monitor:
    """Is one monitor; `run` is a process to its end, `processes.monitor_process` one that goes on."""

    name: str
    directory: Path

    def run(self) -> None:
        """Catch up once, and end."""
        tlog("monitor", "run", self.directory, "--once", "--json", expect=(0, 1, 3))

    @property
    def standing(self) -> Standing:
        """Return what its files say, as `tlog monitor status` reads them."""
        return read_standing(load_config(self.directory / "monitor.toml"))

    @property
    def alerts(self) -> list[Record]:
        """Return all alerts on record, oldest first, without those that say that one is over."""
        return [alert for alert in read_alerts(self.directory / "state") if not alert["resolved"]]

    @property
    def position(self) -> int:
        """Return how many entries are checked."""
        return self.standing.position


def make_monitor(
    directory: Path, policy: Path, genesis: bytes, address: str, settings: dict[str, float]
) -> Monitor:
    """Make a monitor that reads the log at an address, with some settings of its configuration."""
    made = ("monitor", "init", directory, "--policy", policy, "--genesis", genesis.hex())
    tlog(*made, "--server", address, "--json")
    config = directory / "monitor.toml"
    lines = []
    for line in config.read_text().splitlines():
        setting = line.removeprefix("# ").partition(" = ")[0]
        lines.append(f"{setting} = {settings[setting]}" if setting in settings else line)
    config.write_text("\n".join(lines) + "\n")
    return Monitor(name=directory.name, directory=directory)


def read_alerts(state: Path) -> Sequence[Record]:
    """Read the journal of alerts in a state directory, oldest first."""
    found = [line["alert"] for line in read_journal(state) if "alert" in line]
    return [alert for alert in found if isinstance(alert, dict)]
