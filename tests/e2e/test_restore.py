"""A log that lost its store comes back from a backup, and contradicts nothing that it signed before.

Real processes: the server, three witnesses, a member's node, a monitor with a mirror.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from _support import child
from _support.alliance import TIME, Alliance
from _support.command_line import Ended, tlog
from _support.log_directory import COSIGNED_CONFIG, make_log_directory, serving
from _support.real_node import RealNode, make_node_directory
from _support.real_server import RealServer
from _support.real_witness import RealWitness

from tlog.client import LogClient, RetryPolicy
from tlog.errors import RemoteError
from tlog.governance import Restored, build_restored
from tlog.log import Log
from tlog.marked_store import MarkedStore
from tlog.policy import Policy, parse_policy
from tlog.receipt import verify_receipt
from tlog.storage.high_water_mark import HighWaterMarkFile, Mark
from tlog.storage.lmdb_store import LmdbStore

PATIENCE_S = 90.0
"""How long anything may take on a machine that is busy with something else; nothing waits for it to pass."""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@dataclass
class Scene:
    """Holds who outlives the log's store, and every receipt that the log ever gave."""

    directory: Path
    alliance: Alliance
    policy: Policy
    config: Path
    witnesses: list[RealWitness]
    node: RealNode | None
    grpc_port: int
    receipts: dict[bytes, bytes] = field(default_factory=dict)
    indices: dict[bytes, int] = field(default_factory=dict)

    @property
    def log_dir(self) -> Path:
        return self.config.parent

    @property
    def monitor(self) -> Path:
        return self.directory / "monitor"

    def client(self, deadline_s: float = PATIENCE_S) -> LogClient:
        return LogClient(
            f"127.0.0.1:{self.grpc_port}",
            self.policy,
            checkpoint_file=None,
            timeout_s=deadline_s,
            retry=RetryPolicy(deadline_s=deadline_s),
        )

    def append(self, *entries: bytes, cosigned: bool = True) -> None:
        with self.client() as client:
            for entry, one in zip(entries, client.append(entries, cosigned=cosigned), strict=True):
                assert self.indices.setdefault(entry, one.leaf_index) == one.leaf_index
                self.receipts[entry] = one.receipt

    def refusal(self) -> str:
        """Return what an append of something new is refused with."""
        with self.client() as client, pytest.raises(RemoteError) as caught:
            client.append([self.alliance.entry(77_777)])
        return str(caught.value)

    def watch(self) -> list[str]:
        """Let the monitor check what is there, and return the kinds of the alerts that it ever raised."""
        ended = tlog("monitor", "run", self.monitor, "--once", "--json")
        assert ended.code in {0, 1}, ended
        status = tlog("monitor", "status", self.monitor, "--json").json
        return [alert["kind"] for alert in status["newest_alerts"]]

    @contextmanager
    def mirror(self) -> Iterator[str]:
        """Serve what the monitor has, as it stands, without the log."""
        process = child.start(
            "import sys; from tlog.cli import main; "
            f"sys.exit(main(['monitor', 'serve', {str(self.monitor)!r}, '--port', '0', '--json']))"
        )
        with process:
            try:
                yield json.loads(child.read_line(process))["tiles"]
            finally:
                process.kill()

    def restore(self, place: Path, *options: object) -> Any:
        policy = self.log_dir / "witnesses.policy"
        ended = tlog("restore", place, self.log_dir, "--policy", policy, "--json", *options)
        assert ended.code == 0, ended
        return ended.json

    def lose_the_store(self) -> None:
        shutil.rmtree(self.log_dir / "store")

    def require_all_receipts(self) -> None:
        for entry, receipt in self.receipts.items():
            verify_receipt(entry, receipt, self.policy)
        # Each entry has its place still.
        entries = list(self.receipts)
        with self.client() as client:
            again = client.append(entries)
        assert [one.leaf_index for one in again] == [self.indices[entry] for entry in entries]

    def pause(self, *witnesses: RealWitness, number: int = signal.SIGSTOP) -> None:
        for witness in witnesses:
            witness.program.send(number)


def make_witness(directory: Path, vkey: str) -> RealWitness:
    made = tlog("witness", "init", directory, "--name", f"{directory.name}.example", "--log", vkey)
    assert made.code == 0, made
    return RealWitness(directory)


@contextmanager
def open_scene(directory: Path, witness_count: int) -> Iterator[Scene]:
    """Make a log, and a monitor with a mirror; with witnesses also a member's node."""
    alliance, grpc_port = Alliance(), free_port()
    vkey = alliance.signer.vkey
    (directory / "log").mkdir()
    policy = directory / "log" / "witnesses.policy"
    config = COSIGNED_CONFIG.replace("[grpc]\nport = 0", f"[grpc]\nport = {grpc_port}")
    config += '[store]\nhigh_water_mark_path = "mark"\n'
    with ExitStack() as stack:
        witnesses = []
        node: RealNode | None = None
        lines = [f"log {vkey}"]
        for number in range(witness_count):
            witness = stack.enter_context(make_witness(directory / f"w{number}", vkey))
            witnesses.append(witness)
            lines.append(f"witness W{number} {witness.announced['vkeys'][0]} {witness.url}")
        if witnesses:
            lines += [f"group two 2 {' '.join(f'W{n}' for n in range(witness_count))}", "quorum two"]
        else:
            lines.append("quorum none")
        policy.write_text("\n".join([*lines, ""]))
        if witnesses:
            address = f"127.0.0.1:{grpc_port}"
            node = stack.enter_context(
                RealNode(make_node_directory(directory / "node", policy, server=address))
            )
            config += '[witnesses]\npolicy_path = "witnesses.policy"\ntimeout_s = 2.0\nrefresh_s = 1.0\n'
            config += f'[gossip]\nnodes = ["{node.address}"]\n'
        file = make_log_directory(directory / "log", alliance, config=config)
        write_mark(file.parent, alliance)
        made_monitor = tlog(
            *("monitor", "init", directory / "monitor", "--policy", policy, "--mirror"),
            *("--server", f"127.0.0.1:{grpc_port}"),
        )
        assert made_monitor.code == 0, made_monitor
        opened = parse_policy(policy.read_bytes())
        yield Scene(directory, alliance, opened, file, witnesses, node, grpc_port)


def write_mark(log_dir: Path, alliance: Alliance) -> None:
    """Give a log that was made without the command line its first mark."""
    with Log.open(log_dir / "store", alliance.signer) as log:
        checkpoint = log.checkpoint().checkpoint
    with HighWaterMarkFile(log_dir / "mark", alliance.origin) as file:
        file.write(Mark(tree_size=checkpoint.tree_size, root_hash=checkpoint.root_hash))


def not_ready(server: RealServer) -> str:
    try:
        urllib.request.urlopen(server.metrics_url.removesuffix("/metrics") + "/readyz", timeout=30)
    except urllib.error.HTTPError as error:
        return error.read().decode()
    return ""


def wait_until(holds: Any, timeout_s: float = PATIENCE_S) -> None:
    end_s = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < end_s
        time.sleep(0.05)


def test_a_log_that_lost_its_store_comes_back_and_contradicts_nothing(tmp_path: Path) -> None:
    with open_scene(tmp_path, 3) as scene:
        assert scene.node is not None
        lose_and_come_back(scene, scene.node)


def lose_and_come_back(scene: Scene, node: RealNode) -> None:
    alliance, backup = scene.alliance, scene.directory / "backup"
    keys = ("--policy", scene.log_dir / "witnesses.policy")
    with serving(scene.config):
        scene.append(*alliance.entries(0, 300))
        taken = back_up(scene, backup)
        scene.append(*alliance.entries(300, 320))
        # Only what is new, beside the server that goes on.
        again = back_up(scene, backup)
        assert (again["previous_tree_size"], again["verified_from"]) == (taken["tree_size"], 256)
        assert again["tree_size"] == taken["tree_size"] + 20
        scene.append(*alliance.entries(320, 345))
        assert scene.watch() == []
        size = max(scene.indices.values()) + 1
        node.wait_for(lambda status: str(size) in json.dumps(status), timeout_s=PATIENCE_S)

    # The disk is lost, and the backup is 25 entries older than what was published.
    scene.lose_the_store()
    dry = scene.restore(backup, "--dry-run", "--node", node.address)
    assert not (scene.log_dir / "store").exists()
    assert (dry["written"], dry["tree_size"], dry["missing_entries"]) == (False, size - 25, 25)
    assert dry["silent"] == []
    assert scene.restore(backup)["newest_known"]["tree_size"] == size
    with serving(scene.config) as server:
        refusal = scene.refusal()
        assert f"entries [{size - 25}, {size}) are missing" in refusal
        assert f"entries [{size - 25}, {size}) are missing" in not_ready(server)
        told = tlog("doctor", scene.log_dir / "server.toml")
        assert f"entries [{size - 25}, {size}) are missing" in told.out
        assert "tlog restore" in told.out
        # Reading goes on: it shows less than before, which a monitor tells, and signs nothing.
        assert scene.watch() == ["rollback"]

    # The way out: what is missing, from a member's mirror; into the older copy that is there.
    with scene.mirror() as url:
        caught_up = scene.restore(
            scene.log_dir,
            *("--replace", alliance.origin, "--catch-up-from", url),
            *("--high-water-mark", scene.log_dir / "mark", "--node", node.address),
        )
    assert (caught_up["tree_size"], caught_up["missing_entries"]) == (size, 0)
    assert caught_up["caught_up_from"] == url
    # While too few witnesses answer, nothing is signed; reading goes on.
    scene.pause(*scene.witnesses[:2])
    try:
        with serving(scene.config) as server:
            wait_until(lambda: "has not heard from enough others" in not_ready(server))
            scene.pause(*scene.witnesses[:2], number=signal.SIGCONT)
            # It asks again by itself.
            scene.append(*alliance.entries(400, 410))
            scene.require_all_receipts()
            # That it was behind is over, and nothing else is ever said of it.
            assert set(scene.watch()) == {"rollback"}
            status = node.status()
    finally:
        scene.pause(*scene.witnesses[:2], number=signal.SIGCONT)
    assert "split" not in json.dumps(status)
    assert not list(node.directory.rglob("*.evidence")), "an honest log was accused"
    checked = tlog("fsck", scene.log_dir, *keys)
    assert checked.code == 0, checked


def test_a_commit_that_nobody_else_saw_is_held_by_the_mark_until_governance_accepts_its_loss(
    tmp_path: Path,
) -> None:
    with open_scene(tmp_path, 0) as scene:
        lose_what_nobody_saw(scene)


def lose_what_nobody_saw(scene: Scene) -> None:
    alliance, backup, mark = scene.alliance, scene.directory / "backup", scene.log_dir / "mark"
    with serving(scene.config):
        scene.append(*alliance.entries(0, 5), cosigned=False)
        back_up(scene, backup)
        assert scene.watch() == []
    size = max(scene.indices.values()) + 1
    # Committed and in its mark, and then everything ended before anybody was shown it.
    with HighWaterMarkFile(mark, alliance.origin) as file:
        store = LmdbStore.open(scene.log_dir / "store", None, None)
        with Log(MarkedStore(store, file), alliance.signer) as log:
            log.append([alliance.entry(5)])
    scene.lose_the_store()
    restored = scene.restore(backup, "--high-water-mark", mark)
    assert (restored["tree_size"], restored["missing_entries"]) == (size, 1)
    assert restored["newest_known"]["who"] == f"the high-water mark {mark}"
    with serving(scene.config):
        assert f"entries [{size}, {size + 1}) are missing" in scene.refusal()
    # Without its mark it knows even less, and says so.
    mark.unlink()
    with serving(scene.config):
        refusal = scene.refusal()
        assert "there is no high-water mark" in refusal
        # The way out is in it whole, however long it is.
        assert re.search(
            r"`tlog accept-loss --size \d+ --root [0-9a-f]{64} --reason TEXT --sign KEY…`", refusal
        )
        with scene.client() as client:
            here = client.checkpoint().checkpoint
        payload = build_restored(
            origin=alliance.origin,
            time=TIME,
            restored=Restored(
                tree_size=here.tree_size,
                root_hash=here.root_hash,
                lost_tree_size=0,
                lost_root_hash=None,
                reason="the disk burnt, and the mark with it",
            ),
            **alliance.next_link(),  # type: ignore[arg-type]
        )
        scene.append(alliance.add_governance(payload), cosigned=False)
        # What was lost can be appended again, at another place.
        scene.append(alliance.entry(6), alliance.entry(5), cosigned=False)
        scene.require_all_receipts()
        assert scene.watch() == ["loss_accepted"]


def back_up(scene: Scene, directory: Path) -> Any:
    policy = scene.log_dir / "witnesses.policy"
    ended: Ended = tlog("backup", scene.log_dir, directory, "--policy", policy, "--json")
    assert ended.code == 0, ended
    return ended.json
