"""What witness or monitor of one member's node convicts, every member's node knows, and never forgets."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest
from _support.alliance import DECLARATION, Alliance
from _support.command_line import tlog
from _support.lying_log import LyingLog
from _support.real_node import RealNode, make_node_directory, set_in_gossip
from _support.submitting_log import SubmittingLog
from _support.tiled_log import resources, write_resources
from grpc import StatusCode

from tlog.cosignature import CosignerVerifier, parse_cosigner_vkey
from tlog.errors import WitnessRefusedError
from tlog.key_file import read_cosigner_key_file
from tlog.policy import build_policy, format_policy
from tlog.witness.client import WitnessClient

ALLIANCE = Alliance()
SLOW = {"round_s": 600.0}
"""No test could wait for a round of this length: what arrives was sent at once."""


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "policy"
    path.write_bytes(format_policy(build_policy([ALLIANCE.signer.vkey])))
    return path


def run_in_node(node: Path, role: str, directory: Path) -> None:
    """Let a node run a monitor or a witness that was made in a directory of its own."""
    file = node / "node.toml"
    path = json.dumps(str(directory / f"{role}.toml"))
    file.write_text(
        file.read_text().replace(f'[{role}]\n# config_path = ""', f"[{role}]\nconfig_path = {path}")
    )


def submit(url: str, verifier: CosignerVerifier, body: tuple[int, list[bytes], bytes]) -> None:
    async def main() -> None:
        async with WitnessClient(url, [verifier]) as client:
            await client.add_checkpoint(*body, 10)

    asyncio.run(main())


def is_convicted(status: dict[str, list[dict[str, object]]]) -> bool:
    return bool(status["logs"][0]["is_convicted"])


def convicts(evidence: list[str], policy: Path) -> None:
    (file,) = evidence
    verified = tlog("evidence", "verify", file, "--policy", policy, "--json")
    assert verified.code == 0
    assert ALLIANCE.signer.vkey in verified.out


def test_what_a_nodes_witness_convicts_every_node_refuses_from_then_on(tmp_path: Path, policy: Path) -> None:
    log = SubmittingLog(origin=ALLIANCE.origin, fork_at=3)
    log.signer = ALLIANCE.signer
    witness = tmp_path / "witness"
    made = tlog("witness", "init", witness, "--name", "w.example", "--log", ALLIANCE.signer.vkey)
    assert made.code == 0, made.err
    (witness / "witness.toml").write_text(
        (witness / "witness.toml").read_text().replace("# port = 8653", "port = 0")
    )
    verifier = parse_cosigner_vkey(read_cosigner_key_file(witness / "witness.key").vkey)
    second = make_node_directory(tmp_path / "second", policy)
    with RealNode(second) as other:
        first = make_node_directory(tmp_path / "first", policy)
        set_in_gossip(first, {"peers": [other.address], **SLOW})
        run_in_node(first, "witness", witness)
        with RealNode(first) as one:
            one.wait_for(lambda _: "the witness w.example serves" in one.errors)
            (url,) = re.findall(r"serves (http://\S+)", one.errors)
            submit(url, verifier, (0, [], log.note(5)))
            # A forgery comes first, and convicts nobody.
            forged = log.note(5, history=1).replace(b"\n5\n", b"\n6\n")
            for note in (forged, log.note(6)):
                with pytest.raises(WitnessRefusedError):
                    submit(url, verifier, (5, [], note))
            assert one.status()["is_well"]
            assert not list(first.rglob("*.evidence"))
            with pytest.raises(WitnessRefusedError):
                submit(url, verifier, (5, [], log.note(5, history=1)))
            for node in (one, other):
                convicts(node.wait_for(is_convicted)["evidence"], policy)
            assert one.end() == 0
            assert "Traceback" not in one.errors
        assert other.end() == 0
        assert "Traceback" not in other.errors
    # In the witness's own folder as well; and after a restart, without any role and any peer.
    assert len(list((witness / "evidence").iterdir())) == 1
    assert tlog("node", "status", second).code == 1
    with RealNode(second) as again:
        again.wait_for(is_convicted)


def test_what_a_nodes_monitor_convicts_every_node_refuses_from_then_on(tmp_path: Path, policy: Path) -> None:
    entries = [*ALLIANCE.governance, *ALLIANCE.entries(0, 10)]
    with LyingLog(entries, signer=ALLIANCE.signer) as log:
        monitor = tmp_path / "monitor"
        made = tlog("monitor", "init", monitor, "--policy", policy, "--server", log.address)
        assert made.code == 0, made.err
        file = monitor / "monitor.toml"
        # It keeps convictions in a place of its own as well.
        file.write_text(
            file.read_text()
            .replace("# poll_s = 5.0", "poll_s = 0.1")
            .replace('# convictions_path = "state/convictions"', 'convictions_path = "elsewhere"')
        )
        second = make_node_directory(tmp_path / "second", policy)
        with RealNode(second) as other:
            first = make_node_directory(tmp_path / "first", policy, server=log.address)
            set_in_gossip(first, {"peers": [other.address], **SLOW})
            run_in_node(first, "monitor", monitor)
            with RealNode(first) as one:
                # A type that the role may not issue: unproven, until the next governance entry is there.
                log.add(ALLIANCE.entry(10, event_type=DECLARATION))
                alerts = monitor / "state" / "alerts.jsonl"
                one.wait_for(lambda _: alerts.exists() and "rule_broken" in alerts.read_text())
                assert one.status()["is_well"]
                assert not (monitor / "elsewhere").exists()
                forged = bytearray(ALLIANCE.entry(12))
                forged[forged.index(b'"number":12') + 10] ^= 1
                log.add(bytes(forged))
                for node in (one, other):
                    convicts(node.wait_for(is_convicted)["evidence"], policy)
                assert one.end() == 0
                assert "Traceback" not in one.errors
            assert other.end() == 0
            assert "Traceback" not in other.errors
    assert len(list((monitor / "elsewhere").iterdir())) == 1
    with RealNode(first) as again:
        again.wait_for(is_convicted)


def test_a_log_that_proves_a_node_another_member_than_its_tree_has_is_convicted(
    tmp_path: Path, policy: Path
) -> None:
    """The tree comes from the tiles, the membership from the server, which tells another history."""
    history = [*ALLIANCE.governance, *ALLIANCE.entries(0, 5)]
    tiles = write_resources(
        tmp_path / "tiles", resources(history, origin=ALLIANCE.origin, log_signer=ALLIANCE.signer)
    )
    other = Alliance()
    other.governance.pop()
    other.add_member("intruder", ["forwarder"])
    assert other.governance[:-1] == ALLIANCE.governance[:-1]
    node = make_node_directory(tmp_path / "node", policy, tiles=str(tiles))
    with RealNode(node) as one:
        one.wait_for(lambda status: status["logs"][0]["kept_tree_size"] == len(history))
        assert one.end() == 0
    for told, expected in ((history[:7], False), ([*other.governance, *ALLIANCE.entries(0, 20)], True)):
        with LyingLog(told, signer=ALLIANCE.signer) as log:
            # It proves what it says now, and never how it follows from anything else.
            log.fail_next("GetConsistencyProof", StatusCode.OUT_OF_RANGE, times=99)
            file = node / "node.toml"
            file.write_text(
                re.sub(r'(?m)^(# )?server = ".*"$', f'server = "{log.address}"', file.read_text())
            )
            set_in_gossip(node, {"membership_port": 9, **SLOW})
            with RealNode(node) as one:
                one.wait_for(lambda _, log=log: log.calls_of("Lookup"))
                if expected:
                    (path,) = one.wait_for(is_convicted)["evidence"]
                    convicts([path], policy)
                    assert Path(path).name.startswith("leaf-")
                else:
                    assert one.status()["is_well"]
                assert one.end() == 0
                assert "Traceback" not in one.errors
    with RealNode(node) as again:
        again.wait_for(is_convicted)
