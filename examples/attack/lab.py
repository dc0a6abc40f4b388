"""What every scenario needs: a folder, processes that end with it, members, nodes, monitors; and the record.

A scenario says who noticed what, and hands in the evidence; the lab verifies it as a third party would, with
the policy file alone. With `is_armed` false the attack is left out, and nobody may notice anything.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Coroutine, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from examples.attack.cast import FOUNDING, GENESIS, LOG_SIGNER, ORIGIN
from examples.attack.door import Door
from examples.attack.double import make_log
from examples.attack.node import Node
from examples.attack.processes import Process, server_process, tlog
from tlog.client.log_client import LogClient
from tlog.client.retry import RetryPolicy
from tlog.errors import (
    ConsistencyUnprovenError,
    ConvictedError,
    MalformedError,
    ProofError,
    SplitViewError,
    VerificationError,
)
from tlog.evidence import parse_evidence, verify_evidence
from tlog.monitor.config import load_config
from tlog.monitor.standing import read_standing
from tlog.policy import build_policy, format_policy, parse_policy

T = TypeVar("T")

ALARM_WORDS = {
    SplitViewError: "two roots of one size",
    ConsistencyUnprovenError: "consistency unproven",
    ProofError: "the proof does not hold",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """Says who noticed an attack, after how many rounds or calls, and by what."""

    who: str
    after: str
    what: str


@dataclass(slots=True)
class Record:
    """Collects what became of one scenario; belongs to the lab that writes it."""

    sightings: list[Sighting] = field(default_factory=list)
    findings: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """What verified evidence proves, and the names of the keys that it convicts."""
    bad_evidence: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def noticed_by(self) -> set[str]:
        """Return who noticed."""
        return {sighting.who for sighting in self.sightings}

    @property
    def convicted(self) -> set[str]:
        """Return the names of the keys that verified evidence convicts."""
        return {name for names in self.findings.values() for name in names}


@dataclass(frozen=True, slots=True, kw_only=True)
class Monitor:
    """Is a `tlog monitor` with a directory of its own; each run is a process."""

    name: str
    directory: Path

    def run(self) -> None:
        """Catch up once, and end."""
        tlog("monitor", "run", self.directory, "--once", "--json", expect=(0, 1, 3))

    @property
    def alerts(self) -> list[Any]:
        """Return the alerts on record, oldest first."""
        return list(read_standing(load_config(self.directory / "monitor.toml")).newest_alerts)

    @property
    def position(self) -> int:
        """Return how many entries are checked."""
        return read_standing(load_config(self.directory / "monitor.toml")).position


class Lab:
    """Runs one scenario in one folder; use it in a `with` block, which ends all that it started."""

    def __init__(self, directory: Path, *, is_armed: bool = True) -> None:
        """Take an empty folder."""
        self.directory = directory
        self.is_armed = is_armed
        self.record = Record()
        self.use_policy([LOG_SIGNER.vkey])

    def __enter__(self) -> Lab:
        with ExitStack() as building:
            self._loop = asyncio.new_event_loop()
            thread = threading.Thread(target=self._loop.run_forever, name="attack loop")
            thread.start()
            building.callback(self._loop.close)
            building.callback(thread.join)
            building.callback(self._loop.call_soon_threadsafe, self._loop.stop)
            self._stack = building.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def use_policy(self, logs: Sequence[str], witnesses: Sequence[str] = (), threshold: int = 0) -> None:
        """Let everybody trust by this policy: the file that the members have."""
        self.policy_file = self.directory / "policy"
        self.policy_file.write_bytes(format_policy(build_policy(logs, witnesses, threshold)))
        self.policy = parse_policy(self.policy_file.read_bytes())

    def either(self, lie: T, truth: T) -> T:
        """Return the lie; in a lab that is not armed, the truth."""
        return lie if self.is_armed else truth

    def wait_for(self, coroutine: Coroutine[Any, Any, T], timeout_s: float = 60.0) -> T:
        """Run a coroutine in the lab's event loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout_s)

    def log(self, name: str, entries: Iterable[bytes], *, config: str = "") -> Path:
        """Make a log's directory with the founding entries and these."""
        return make_log(self.directory / name, [*FOUNDING, *entries], config=config)

    def serve(self, *directories: Path) -> list[Process]:
        """Start a real server on each directory, at the same time."""
        return self.start(server_process(directory) for directory in directories)

    def start(self, starting: Iterable[Process]) -> list[Process]:
        """Wait for processes that are starting; they end with the lab."""
        processes = [self._stack.enter_context(process) for process in starting]
        return [process.await_start() for process in processes]

    def door(self, server: Process) -> Door:
        """Open an address for one member, which leads to a server."""
        door = Door(str(server.announced["grpc"]))
        self.wait_for(door.open())
        self._stack.callback(lambda: self.wait_for(door.close()))
        return door

    def lead(self, door: Door, server: Process) -> None:
        """Let a member's address lead to another server."""
        self.wait_for(door.lead_to(str(server.announced["grpc"])))

    def member(self, name: str, address: str, *, fresh: bool = False) -> LogClient:
        """Make a member's client, whose trusted checkpoint and evidence lie in a folder of its own."""
        directory = self.directory / name
        directory.mkdir(exist_ok=True)
        return self._stack.enter_context(
            LogClient(
                address,
                self.policy,
                checkpoint_file=None if fresh else directory / "checkpoint",
                genesis_leaf_hash=GENESIS,
                retry=RetryPolicy(deadline_s=15.0),
            )
        )

    def node(self, name: str, address: str) -> tuple[Node, LogClient]:
        """Start a member's gossip node, with the client that it reads the log by."""
        node = Node(name, self.directory / f"{name} node", self.policy, ORIGIN)
        self.wait_for(node.start())
        self._stack.callback(lambda: self.wait_for(node.close()))
        return node, self.member(f"{name} reading", address)

    def monitor(self, name: str, address: str, **limits: float) -> Monitor:
        """Make a `tlog monitor` that reads the log at an address."""
        directory = self.directory / name
        made = ("monitor", "init", directory, "--policy", self.policy_file, "--genesis", GENESIS.hex())
        tlog(*made, "--server", address, "--json")
        config = directory / "monitor.toml"
        lines = []
        for line in config.read_text().splitlines():
            setting = line.removeprefix("# ").partition(" = ")[0]
            lines.append(f"{setting} = {limits[setting]}" if setting in limits else line)
        config.write_text("\n".join(lines) + "\n")
        return Monitor(name=name, directory=directory)

    def saw(self, who: str, after: str, what: str) -> None:
        """Write down that somebody noticed; the second time is no news."""
        if (who, what) in {(one.who, one.what) for one in self.record.sightings}:
            return
        self.record.sightings.append(Sighting(who=who, after=after, what=what))

    def note(self, text: str) -> None:
        """Write down what a reader of the table should know."""
        self.record.notes.append(text)

    def judge_evidence(self, data: bytes) -> None:
        """Verify evidence as a third party would: with the file and the policy, and nothing else."""
        try:
            verdict = verify_evidence(parse_evidence(data), parse_policy(self.policy_file.read_bytes()))
        except (MalformedError, VerificationError) as error:
            self.record.bad_evidence.append(str(error))
            return
        if verdict.unproven:
            self.record.bad_evidence.append(f"{verdict.kind}: unproven")
            return
        self.record.findings[verdict.kind] = tuple(
            sorted({*self.record.findings.get(verdict.kind, ()), *(key.name for key in verdict.convicted)})
        )

    def expect_alarm(self, who: str, client: LogClient, after: str) -> None:
        """Let a member ask for the checkpoint; an alarm is noticed, with whatever evidence it left behind."""
        try:
            client.checkpoint()
        except ConvictedError:
            self.saw(who, after, "refuses the log: evidence is held")
        except VerificationError as error:
            self.saw(who, after, ALARM_WORDS.get(type(error), str(error)))
        for path in sorted((self.directory / who).rglob("*.tlog-evidence")):
            self.judge_evidence(path.read_bytes())

    def look_at(self, monitor: Monitor, after: str, *kinds: str) -> None:
        """Take the alerts of a monitor for what they are: those of these kinds notice the attack."""
        for alert in monitor.alerts:
            if alert["kind"] in kinds:
                reason = alert["facts"].get("reason", alert["kind"])
                self.saw(monitor.name, after, str(reason))
            else:
                self.note(f"{monitor.name} also said {alert['kind']}")
            if alert["evidence"]:
                self.judge_evidence(Path(alert["evidence"]).read_bytes())

    def look_at_node(self, node: Node, after: str) -> None:
        """Take a node's conviction for what it is, with its evidence."""
        if node.refuses_log:
            self.saw(node.name, after, "holds evidence, refuses the log")
        for evidence in node.evidence:
            self.judge_evidence(evidence)


def shown_record(record: Record) -> str:
    """Format a record for a person who looks for what went wrong."""
    return json.dumps(
        {
            "sightings": [[one.who, one.after, one.what] for one in record.sightings],
            "findings": {kind: list(names) for kind, names in record.findings.items()},
            "bad_evidence": record.bad_evidence,
            "notes": record.notes,
        },
        indent=2,
    )
