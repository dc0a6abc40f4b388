"""The counter-check: an honest alliance where everything is killed once, and the network cut: no alarm.

What tells of a party that is away (silence, a source that fails) is no accusation, but it has to be over when
that party is back.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from time import monotonic, sleep

from examples.attack.cast import FOUNDING, LOG_SIGNER, invoice
from examples.attack.door import Door
from examples.attack.lab import Lab
from examples.attack.monitor import Monitor
from examples.attack.node import FORGED_WORDS, Node
from examples.attack.processes import Process, monitor_process, tlog, witness_process
from examples.attack.witnesses import ASKS_WITNESSES, make_witness, witness_vkey, write_witnesses
from tlog.client.log_client import LogClient
from tlog.monitor.alerts import AlertKind

WITNESSES = ("witness-1.example", "witness-2.example", "witness-3.example")
QUORUM = 2
"""Of three, so that one of them may be away."""
NODES = 3
CHECKPOINTS = 300
AWAY_S = 1.5
"""How long who was killed stays away, and how long the network is cut."""
LIMITS = {"poll_s": 0.3, "source_s": 1.0, "silence_s": 3.0, "lag_s": 3.0, "witness_s": 3.0}
STALE_S = 5.0
SETTLE_S = 60.0
AVAILABILITY = frozenset(
    {AlertKind.SILENCE, AlertKind.LAG, AlertKind.WITNESS_STOPPED, AlertKind.SOURCE_FAILING}
)
"""What says that somebody is away, and not that somebody lied."""


@dataclass(slots=True, kw_only=True)
class _Alliance:
    """Holds the parties, each behind an address that survives its process."""

    lab: Lab
    log_directory: Path
    server: Process
    witness_directories: list[Path]
    witnesses: list[Process]
    witness_doors: list[Door]
    client: LogClient
    nodes: list[Node]
    log_doors: list[Door]
    """How each node, then the monitor, then the client reaches the log."""
    peer_doors: dict[tuple[int, int], Door]
    """How the first node reaches the second one."""
    monitor: Monitor
    monitoring: Process
    entries: list[bytes] = field(default_factory=list)
    kills: int = 0

    def kill_server(self) -> None:
        self.server.kill()
        sleep(AWAY_S)
        (self.server,) = self.lab.serve(self.log_directory)
        for door in self.log_doors:
            self.lab.lead(door, self.server)
        self.kills += 1

    def kill_witness(self) -> None:
        self.witnesses[1].kill()
        self.go_on_without(self.nodes)
        (self.witnesses[1],) = self.lab.start([witness_process(self.witness_directories[1])])
        self.lead(self.witness_doors[1], _host_port(self.witnesses[1]))
        self.kills += 1

    def kill_node(self) -> None:
        node = self.nodes[0]
        node.process.kill()
        self.go_on_without(self.nodes[1:])
        node.again()
        for (_, to), door in self.peer_doors.items():
            if to == 0:
                self.lead(door, node.address)
        self.kills += 1

    def kill_monitor(self) -> None:
        self.monitoring.kill()
        self.go_on_without(self.nodes)
        self.monitoring = self.lab.enter(monitor_process(self.monitor.directory))
        self.kills += 1

    def cut_off_the_last_node(self) -> None:
        """Cut it off from the log and from its peers, both ways; then let the network heal."""
        last = NODES - 1
        cut = {pair: door for pair, door in self.peer_doors.items() if last in pair}
        for door in (self.log_doors[last], *cut.values()):
            self.lead(door, None)
        behind = self.nodes[last].size
        self.go_on_without(self.nodes[:last])
        assert self.nodes[last].size == behind, "the cut lets something through"
        self.lab.lead(self.log_doors[last], self.server)
        for (_, to), door in cut.items():
            self.lead(door, self.nodes[to].address)

    def go_on_without(self, others: list[Node]) -> None:
        """Wait, while somebody is away, until the others hold what was published since."""
        sleep(AWAY_S)
        before = max(node.size for node in self.nodes)
        self.lab.await_all(others, lambda node: node.size > before, "the others go on")

    def lead(self, door: Door, backend: str | None) -> None:
        self.lab.wait_for(door.lead_to(backend))


def honest_run(lab: Lab, checkpoints: int = CHECKPOINTS, pause_s: float = 0.02) -> None:
    """Append, witness, gossip and monitor while each of them is killed once, and one node cut off.

    Makes that many checkpoints at least, with a pause after each: as many as fit in while somebody is away.
    """
    alliance = _begin(lab)
    disturbances: list[Callable[[], None]] = [
        alliance.kill_server,
        alliance.kill_witness,
        alliance.kill_node,
        alliance.kill_monitor,
        alliance.cut_off_the_last_node,
    ]
    share = -(-checkpoints // len(disturbances))
    for disturb in disturbances:
        _while_appending(alliance, share, pause_s, disturb)
    alliance.client.append([alliance.entries[-1]], cosigned=True)
    _converge(alliance)
    _judge(alliance)
    _verify_receipts(alliance)


def _begin(lab: Lab) -> _Alliance:
    witness_directories = [make_witness(lab.directory / name) for name in WITNESSES]
    vkeys = [witness_vkey(directory) for directory in witness_directories]
    lab.use_policy([LOG_SIGNER.vkey], vkeys, QUORUM)
    witness_doors = [lab.door() for _ in WITNESSES]
    log_directory = lab.honest_log("log", [], config=ASKS_WITNESSES)
    write_witnesses(log_directory, vkeys, [f"http://{door.address}/" for door in witness_doors], QUORUM)
    witnesses = lab.start(witness_process(directory) for directory in witness_directories)
    for door, witness in zip(witness_doors, witnesses, strict=True):
        lab.wait_for(door.lead_to(_host_port(witness)))
    (server,) = lab.serve(log_directory)
    log_doors = [lab.door(server) for _ in range(NODES + 2)]
    client = lab.member("client", log_doors[-1].address)
    nodes = [lab.node(f"node {at + 1}", server=log_doors[at].address) for at in range(NODES)]
    peer_doors = {(one, other): lab.door() for one in range(NODES) for other in range(NODES) if one != other}
    for at, node in enumerate(nodes):
        node.settings = {"stale_s": STALE_S}
        node.begin([door.address for (one, _), door in peer_doors.items() if one == at])
    for node in nodes:
        node.process.await_start()
    for (_, to), door in peer_doors.items():
        lab.wait_for(door.lead_to(nodes[to].address))
    monitor = lab.monitor("monitor", log_doors[-2].address, **LIMITS)
    return _Alliance(
        lab=lab,
        log_directory=log_directory,
        server=server,
        witness_directories=witness_directories,
        witnesses=witnesses,
        witness_doors=witness_doors,
        client=client,
        nodes=nodes,
        log_doors=log_doors,
        peer_doors=peer_doors,
        monitor=monitor,
        monitoring=lab.enter(monitor_process(monitor.directory)),
    )


def _while_appending(alliance: _Alliance, at_least: int, pause_s: float, disturb: Callable[[], None]) -> None:
    """Append one entry after the other, each of which makes a checkpoint, and disturb meanwhile."""
    begun, over = Event(), Event()

    def append() -> None:
        end = len(alliance.entries) + at_least
        while len(alliance.entries) < end or not over.is_set():
            entry = invoice(len(alliance.entries))
            alliance.client.append([entry])
            alliance.entries.append(entry)
            begun.set()
            over.wait(pause_s)

    with ThreadPoolExecutor(1) as thread:
        appending = thread.submit(append)
        try:
            begun.wait(SETTLE_S)
            disturb()
        finally:
            over.set()
        appending.result()


def _converge(alliance: _Alliance) -> None:
    """Wait until everybody holds one checkpoint of all entries, and nobody misses anybody any more."""
    size = len(FOUNDING) + len(alliance.entries)
    newest = alliance.client.checkpoint().checkpoint
    assert newest.tree_size == size

    def has_all(node: Node) -> bool:
        held, kept = node.log.newest, node.log.kept_size
        return held is not None and (held.tree_size, held.root_hash, kept) == (size, newest.root_hash, size)

    alliance.lab.await_all(alliance.nodes, has_all, f"everybody holds size {size}")
    end_s = monotonic() + SETTLE_S
    while (standing := alliance.monitor.standing).position < size or standing.health.open:
        if monotonic() > end_s:
            raise AssertionError(f"the monitor still misses something: {standing.facts()}")
        sleep(0.2)
    if standing.root_hash != newest.root_hash:
        raise AssertionError(f"the monitor checked another tree than {newest}")


def _judge(alliance: _Alliance) -> None:
    """Take every word that accuses anybody for a false alarm."""
    lab = alliance.lab
    away = 0
    for alert in alliance.monitor.alerts:
        if alert["kind"] in AVAILABILITY:
            away += 1
        else:
            lab.saw("monitor", "honest run", str(alert["kind"]))
    for node in alliance.nodes:
        for alert in node.alerts:
            lab.saw(node.name, "honest run", f"{alert['kind']}: {alert['message']}")
        for line in node.lines:
            if FORGED_WORDS in line:
                lab.saw(node.name, "honest run", line)
        if not node.is_well():
            lab.saw(node.name, "honest run", "tlog node status: not well")
    for directory in (*alliance.witness_directories, alliance.log_directory / "gossip"):
        for file in sorted(directory.rglob("*.tlog-evidence")):
            lab.saw(directory.name, "honest run", f"keeps evidence: {file.name}")
    lab.note(
        f"{len(alliance.entries)} checkpoints, {QUORUM} of {len(WITNESSES)} witnesses, {NODES} nodes, "
        f"1 monitor; {alliance.kills} kill -9, 1 partition"
    )
    lab.note(f"times that the monitor missed somebody: {away}, all of them over in the end")


def _verify_receipts(alliance: _Alliance) -> None:
    """Verify every entry's receipt against the policy, quorum and all, by `tlog verify`."""
    directory = alliance.lab.directory / "receipts"
    directory.mkdir()
    receipts = alliance.client.receipts(alliance.entries)
    for number, (entry, receipt) in enumerate(zip(alliance.entries, receipts, strict=True)):
        if receipt is None:
            raise AssertionError(f"the log has no receipt for entry {number}, which it acknowledged")
        (directory / f"{number}.entry").write_bytes(entry)
        (directory / f"{number}.tlog-proof").write_bytes(receipt)
    verified = json.loads(tlog("verify", directory, "--policy", alliance.lab.policy_file, "--json"))
    assert (verified["verified"], verified["failed"]) == (len(alliance.entries), 0)
    alliance.lab.note(f"{verified['verified']} receipts verify, each with the quorum's cosignatures")


def _host_port(witness: Process) -> str:
    return str(witness.announced["url"]).removeprefix("http://").rstrip("/")
