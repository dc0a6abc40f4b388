"""What every scenario needs: a folder, processes that end with it, members, nodes, monitors; and the record.

A scenario says who noticed what, and hands in the evidence; the lab verifies it as a third party would, with
the policy file alone. With `is_armed` false the attack is left out, and nobody may notice anything.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from examples.attack.cast import FOUNDING, GENESIS, LOG_SIGNER
from examples.attack.door import Door
from examples.attack.double import make_double, make_honest_log
from examples.attack.monitor import Monitor, make_monitor
from examples.attack.node import Node
from examples.attack.processes import Process, run_tlog, server_process
from tlog.client.log_client import LogClient
from tlog.client.retry import RetryPolicy
from tlog.errors import (
    ConsistencyUnprovenError,
    ConvictedError,
    ProofError,
    SplitViewError,
    VerificationError,
)
from tlog.exit_codes import ExitCode
from tlog.policy import build_policy, format_policy, parse_policy

T = TypeVar("T")

PATIENCE_S = 60.0
"""How long a scenario waits for what has to happen."""
QUIET_ROUNDS = 3
"""How many rounds of every node without a word mean that nobody notices anything."""

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


class Lab:
    """Runs one scenario in one folder; use it in a `with` block, which ends all that it started."""

    def __init__(self, directory: Path, *, is_armed: bool = True) -> None:
        """Take an empty folder."""
        self.directory = directory
        self.is_armed = is_armed
        self.record = Record()
        self._judged: set[bytes] = set()
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

    def double(self, name: str, entries: Iterable[bytes], *, config: str = "", publish: bool = True) -> Path:
        """Make a malicious log's directory with the founding entries and these."""
        return make_double(self.directory / name, [*FOUNDING, *entries], config=config, publish=publish)

    def honest_log(self, name: str, entries: Sequence[bytes], *, config: str = "") -> Path:
        """Make an honest log's directory with the founding entries and these."""
        return make_honest_log(self.directory / name, entries, config=config)

    def serve(self, *directories: Path) -> list[Process]:
        """Start a real server on each directory, at the same time."""
        return self.start(server_process(directory) for directory in directories)

    def start(self, starting: Iterable[Process]) -> list[Process]:
        """Wait for processes that are starting; they end with the lab."""
        processes = [self._stack.enter_context(process) for process in starting]
        return [process.await_start() for process in processes]

    def enter(self, process: Process) -> Process:
        """Take over a process that is starting: it ends with the lab."""
        return self._stack.enter_context(process)

    def door(self, server: Process | None = None) -> Door:
        """Open an address that leads to a server, or nowhere yet."""
        door = Door()
        self.wait_for(door.open())
        self._stack.callback(lambda: self.wait_for(door.close()))
        if server is not None:
            self.lead(door, server)
        return door

    def lead(self, door: Door, server: Process) -> None:
        """Let an address lead to another server."""
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

    def node(self, name: str, *, server: str = "", tiles: str = "") -> Node:
        """Make a member's node that reads the log there; `Node.begin` starts it."""
        source = f"server = {json.dumps(server)}" if server else f"tiles = {json.dumps(tiles)}"
        return Node(name, self.directory / f"{name} node", self.policy_file, source, self.enter)

    def monitor(self, name: str, address: str, **settings: float) -> Monitor:
        """Make a `tlog monitor` that reads the log at an address."""
        return make_monitor(self.directory / name, self.policy_file, GENESIS, address, settings)

    def await_all(self, nodes: Sequence[Node], holds: Callable[[Node], bool], what: str) -> None:
        """Wait until something holds of all nodes. Raises AssertionError, with their logs."""
        end_s = time.monotonic() + PATIENCE_S
        while not all(holds(node) for node in nodes):
            if time.monotonic() > end_s:
                logs = "".join(f"\n{node.name}: {node.lines[-12:]}" for node in nodes)
                raise AssertionError(f"not in {PATIENCE_S:g} s: {what}{logs}")
            time.sleep(0.1)

    def await_rounds(self, nodes: Sequence[Node], rounds: int) -> None:
        """Wait until every node has ended that many rounds since its mark."""
        self.await_all(nodes, lambda node: node.rounds >= rounds, f"{rounds} rounds")

    def watch(self, nodes: Sequence[Node], notices: Callable[[Node], bool]) -> None:
        """Wait until all nodes notice something; where nothing is, until they have looked for long enough."""
        if self.is_armed:
            end_s = time.monotonic() + PATIENCE_S
            while not all(notices(node) for node in nodes) and time.monotonic() < end_s:
                time.sleep(0.1)
        else:
            self.await_rounds(nodes, QUIET_ROUNDS)

    def saw(self, who: str, after: str, what: str) -> None:
        """Write down that somebody noticed; the second time is no news."""
        if (who, what) in {(one.who, one.what) for one in self.record.sightings}:
            return
        self.record.sightings.append(Sighting(who=who, after=after, what=what))

    def note(self, text: str) -> None:
        """Write down what a reader of the table should know."""
        self.record.notes.append(text)

    def judge_evidence(self, path: Path) -> None:
        """Verify evidence as a third party does: by `tlog evidence verify`, a file and a policy."""
        digest = hashlib.sha256(path.read_bytes()).digest()
        if digest in self._judged:
            return
        self._judged.add(digest)
        ended = run_tlog("evidence", "verify", path, "--policy", self.policy_file, "--json")
        if ended.returncode != ExitCode.OK:
            self.record.bad_evidence.append((ended.stderr or ended.stdout).strip())
            return
        verdict = json.loads(ended.stdout)
        names = {key["name"] for key in verdict["convicted"]}
        kind = str(verdict["kind"])
        self.record.findings[kind] = tuple(sorted({*self.record.findings.get(kind, ()), *names}))

    def expect_alarm(self, who: str, client: LogClient, after: str) -> None:
        """Let a member ask for the checkpoint; an alarm is noticed, with whatever evidence it left behind."""
        try:
            client.checkpoint()
        except ConvictedError:
            self.saw(who, after, "refuses the log: evidence is held")
        except VerificationError as error:
            self.saw(who, after, ALARM_WORDS.get(type(error), str(error)))
        for path in sorted((self.directory / who).rglob("*.tlog-evidence")):
            self.judge_evidence(path)

    def look_at(self, monitor: Monitor, after: str, *kinds: str) -> None:
        """Take the alerts of a monitor for what they are: those of these kinds notice the attack."""
        for alert in monitor.alerts:
            facts, evidence = alert["facts"], alert["evidence"]
            if alert["kind"] in kinds:
                reason = facts.get("reason") if isinstance(facts, dict) else None
                self.saw(monitor.name, after, str(reason or alert["kind"]))
            else:
                self.note(f"{monitor.name} also said {alert['kind']}")
            if isinstance(evidence, str):
                self.judge_evidence(Path(evidence))

    def look_at_node(self, node: Node, after: str = "", *, asking: Node | None = None) -> None:
        """Take a node's conviction for what it is, with its evidence; `asking` is whose rounds count."""
        standing = node.standing
        if node.log.is_refused:
            time_s = node.alarmed_s("split_view", "rule_broken")
            self.saw(
                node.name, f"{(asking or node).round_at(time_s)}{after}", "holds evidence, refuses the log"
            )
        for path in standing.evidence_paths:
            self.judge_evidence(path)
