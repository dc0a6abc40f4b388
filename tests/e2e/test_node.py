"""Real nodes, real servers, real sockets: a log with two histories is convicted, and nobody else ever is."""

from __future__ import annotations

import json
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import httpx
import pytest
from _support.alliance import TIME, Alliance, key
from _support.command_line import tlog
from _support.log_directory import make_log_directory, serving
from _support.real_node import RealNode, make_node_directory, set_in_gossip
from _support.real_server import RealServer
from _support.submitting_log import SubmittingLog
from _support.two_histories import TwoHistories

from tlog.client import LogClient, RetryPolicy
from tlog.evidence import make_same_size
from tlog.evidence_store import EvidenceStore
from tlog.governance import Member, MemberKey, build_member
from tlog.log import Log
from tlog.policy import build_policy, format_policy
from tlog.v1 import gossip_pb2, gossip_pb2_grpc


@pytest.fixture
def alliance() -> Alliance:
    return Alliance()


@pytest.fixture
def policy(tmp_path: Path, alliance: Alliance) -> Path:
    path = tmp_path / "policy"
    path.write_bytes(format_policy(build_policy([alliance.signer.vkey])))
    return path


@pytest.fixture
def config(tmp_path: Path, alliance: Alliance) -> Path:
    return make_log_directory(tmp_path / "log", alliance)


def append_offline(config: Path, alliance: Alliance, start: int, end: int) -> None:
    with Log.open(config.parent / "store", alliance.signer) as log:
        log.append(alliance.entries(start, end))


def append(server: RealServer, alliance: Alliance, number: int) -> int:
    with LogClient(
        server.grpc_address,
        build_policy([alliance.signer.vkey]),
        checkpoint_file=None,
        retry=RetryPolicy(deadline_s=30.0),
    ) as client:
        return client.append([alliance.entry(number)])[0].leaf_index


def fork(config: Path, alliance: Alliance) -> Path:
    """Copy a log's whole directory, and let the two go different ways; neither server gossips."""
    copy = config.parent.with_name("forked")
    shutil.copytree(config.parent, copy)
    append_offline(config, alliance, 100, 140)
    append_offline(copy / config.name, alliance, 200, 225)
    for directory in (config.parent, copy):
        file = directory / config.name
        file.write_text(file.read_text() + "[gossip]\nenabled = false\n")
    return copy / config.name


def test_two_nodes_convict_a_log_that_shows_each_another_history(
    tmp_path: Path, config: Path, alliance: Alliance, policy: Path
) -> None:
    append_offline(config, alliance, 0, 20)
    forked = fork(config, alliance)
    with serving(config) as one_face, serving(forked) as other_face:
        first = make_node_directory(tmp_path / "first", policy, server=one_face.grpc_address)
        second = make_node_directory(
            tmp_path / "second",
            policy,
            server=other_face.grpc_address,
            tiles=other_face.announced["tiles"],
        )
        with RealNode(first) as one:
            set_in_gossip(second, {"peers": [one.address]})
            one.wait_for(lambda status: status["logs"][0]["kept_tree_size"] == 64)
            with RealNode(second) as other:
                for node in (one, other):
                    status = node.wait_for(lambda status: status["logs"][0]["is_convicted"])
                    (evidence,) = status["evidence"]
                    verified = tlog("evidence", "verify", evidence, "--policy", policy, "--json")
                    assert verified.code == 0
                    assert alliance.signer.vkey in verified.out
                    node.wait_to_say("CRITICAL")
                assert other.end() == 0
            assert one.end() == 0
    # Whatever is shown next, also to a new process: refused.
    for directory in (first, second):
        assert tlog("node", "status", directory).code == 1
        with RealNode(directory) as again:
            again.wait_for(lambda status: status["logs"][0]["is_convicted"])


@pytest.mark.parametrize("by", ["entries", "tiles"])
def test_a_node_follows_an_honest_log_with_its_tree(
    tmp_path: Path, config: Path, alliance: Alliance, policy: Path, by: str
) -> None:
    append_offline(config, alliance, 0, 300)
    with serving(config) as server:
        tiles = server.announced["tiles"] if by == "tiles" else ""
        directory = make_node_directory(tmp_path / "node", policy, server=server.grpc_address, tiles=tiles)
        with RealNode(directory) as node:
            node.wait_for(lambda status: status["logs"][0]["kept_tree_size"] == 304)
            size = append(server, alliance, 1_000) + 1
            status = node.wait_for(lambda status: status["logs"][0]["kept_tree_size"] == size)
            assert status["is_well"]
            assert node.end() == 0
            assert "Traceback" not in node.errors
    assert tlog("node", "status", directory).code == 0


def alerts_of(directory: Path) -> list[tuple[object, object]]:
    """The kinds of the alerts in a node's JSON lines, and whether each says that something is over."""
    lines = (directory / "alerts.jsonl").read_text().splitlines() if directory.exists() else []
    return [(alert["kind"], alert["resolved"]) for alert in map(json.loads, lines)]


def test_a_member_for_whom_the_log_is_frozen_is_told_so_and_told_when_it_is_over(
    tmp_path: Path, config: Path, alliance: Alliance, policy: Path
) -> None:
    append_offline(config, alliance, 0, 20)
    frozen = tmp_path / "frozen" / config.name
    shutil.copytree(config.parent, frozen.parent)
    frozen.write_text(frozen.read_text() + "[gossip]\nenabled = false\n")
    with serving(frozen) as face:
        address = face.grpc_address
        directory = make_node_directory(tmp_path / "victim", policy, server=address)
        file = directory / "node.toml"
        file.write_text(file.read_text().replace('# jsonl_path = "', 'jsonl_path = "'))
        (directory / "alerts.jsonl").touch()
        with serving(config) as live:
            peer = make_node_directory(tmp_path / "peer", policy, server=live.grpc_address)
            with RealNode(peer) as other:
                set_in_gossip(directory, {"peers": [other.address], "stale_s": 2.0})
                with RealNode(directory) as victim:
                    victim.wait_for(lambda status: status["logs"][0]["kept_tree_size"] == 24)
                    size = append(live, alliance, 500) + 1
                    status = victim.wait_for(lambda status: status["logs"][0]["stale_since_s"] is not None)
                    # It holds what the log withholds from it; withholding convicts nobody.
                    assert status["logs"][0]["tree_size"] == size
                    assert (status["is_well"], status["evidence"]) == (False, [])
                    assert victim.end() == 0
        face.stop()
    assert alerts_of(directory) == [("stale_view", False)]
    told = tlog("node", "status", directory)
    assert (told.code, "STALE VIEW" in told.out) == (1, True)
    # The same address shows the whole log again: a new process takes note that it is over.
    text = frozen.read_text().replace("[grpc]\nport = 0", f"[grpc]\nport = {address.rpartition(':')[2]}")
    shutil.rmtree(frozen.parent)
    shutil.copytree(config.parent, frozen.parent)
    frozen.write_text(text)
    with serving(frozen), RealNode(directory) as victim:
        status = victim.wait_for(lambda status: status["logs"][0]["stale_since_s"] is None)
        assert status["is_well"]
        assert victim.end() == 0
    assert alerts_of(directory) == [("stale_view", False), ("stale_view", True)]


class Liar(gossip_pb2_grpc.GossipServiceServicer):
    """Answers every exchange with a checkpoint that it forged."""

    def __init__(self, alliance: Alliance) -> None:
        genuine = TwoHistories(30, signer=alliance.signer).note("main", 30)
        self.forged = genuine.replace(b"\n30\n", b"\n31\n")
        self.calls = 0

    def Exchange(self, request, context):  # noqa: N802
        self.calls += 1
        return gossip_pb2.ExchangeResponse(checkpoints=[gossip_pb2.OfferedCheckpoint(checkpoint=self.forged)])


def test_a_peer_that_gossips_forged_checkpoints_is_dropped_and_convicts_nobody(
    tmp_path: Path, config: Path, alliance: Alliance, policy: Path
) -> None:
    liar = Liar(alliance)
    server_of_lies = grpc.server(ThreadPoolExecutor(2))
    gossip_pb2_grpc.add_GossipServiceServicer_to_server(liar, server_of_lies)
    address = f"127.0.0.1:{server_of_lies.add_insecure_port('127.0.0.1:0')}"
    server_of_lies.start()
    try:
        with serving(config) as server:
            directory = make_node_directory(tmp_path / "node", policy, server=server.grpc_address)
            set_in_gossip(directory, {"peers": [address]})
            with RealNode(directory) as node:
                node.wait_for(lambda status: liar.calls == 1)
                size = append(server, alliance, 1) + 1
                # It goes on with the honest log, for several rounds, and asks the liar no more.
                status = node.wait_for(lambda status: status["logs"][0]["tree_size"] == size)
                assert liar.calls == 1
                assert status["is_well"]
                assert status["evidence"] == []
                node.wait_to_say("sent what no honest node sends")
            # The other way round: the liar calls.
            with RealNode(directory) as node, grpc.insecure_channel(node.address) as channel:
                exchange = gossip_pb2_grpc.GossipServiceStub(channel).Exchange
                request = gossip_pb2.ExchangeRequest(
                    checkpoints=[gossip_pb2.OfferedCheckpoint(checkpoint=liar.forged)]
                )
                for code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED):
                    with pytest.raises(grpc.RpcError) as caught:
                        exchange(request, timeout=30)
                    assert caught.value.code() is code
                assert node.status()["is_well"]
    finally:
        server_of_lies.stop(None).wait()


def test_members_hear_of_evidence_from_each_other(
    tmp_path: Path, config: Path, alliance: Alliance, policy: Path
) -> None:
    """Evidence that some other process put into the one node's directory reaches the other node."""
    log = TwoHistories(12, signer=alliance.signer)
    log.fork("other", 5, 12)
    first = make_node_directory(tmp_path / "first", policy)
    with RealNode(first) as one:
        second = make_node_directory(tmp_path / "second", policy)
        set_in_gossip(second, {"peers": [one.address]})
        with RealNode(second) as other:
            EvidenceStore(first / "state" / "evidence", build_policy([alliance.signer.vkey])).add(
                make_same_size(log.note("main", 12), log.note("other", 12))
            )
            other.wait_for(lambda status: status["logs"][0]["is_convicted"])
            assert one.end() == 0


def test_a_node_finds_its_peers_in_the_membership_of_the_log(
    tmp_path: Path, alliance: Alliance, policy: Path
) -> None:
    """Nobody is listed: a member's source in the log is all that leads the one node to the other."""
    bank = Member(
        id="bank",
        name="Bank",
        sources=("https://localhost/bank",),
        roles=("exporter",),
        keys=(MemberKey(public_key=key("bank").public_key, revoked=False),),
    )
    link = alliance.next_link()
    alliance.add_governance(build_member(origin=alliance.origin, time=TIME, **link, member=bank))
    config = make_log_directory(tmp_path / "log", alliance)
    log = TwoHistories(12, signer=alliance.signer)
    log.fork("other", 5, 12)
    banks = make_node_directory(tmp_path / "bank", policy)
    set_in_gossip(banks, {"listen_address": "localhost"})
    with serving(config) as server, RealNode(banks) as one:
        directory = make_node_directory(tmp_path / "node", policy, server=server.grpc_address)
        set_in_gossip(directory, {"membership_port": int(one.address.rpartition(":")[2])})
        EvidenceStore(banks / "state" / "evidence", build_policy([alliance.signer.vkey])).add(
            make_same_size(log.note("main", 12), log.note("other", 12))
        )
        one.wait_for(lambda status: status["logs"][0]["is_convicted"])
        with RealNode(directory) as other:
            other.wait_for(lambda status: status["logs"][0]["is_convicted"])
            assert other.end() == 0


def test_a_node_runs_a_monitor_and_a_witness_as_well(
    tmp_path: Path, config: Path, alliance: Alliance, policy: Path
) -> None:
    with serving(config) as server:
        monitor, witness = tmp_path / "monitor", tmp_path / "witness"
        made = tlog("monitor", "init", monitor, "--policy", policy, "--server", server.grpc_address)
        assert made.code == 0, made.err
        made = tlog("witness", "init", witness, "--name", "w.example", "--log", alliance.signer.vkey)
        assert made.code == 0, made.err
        witness_file = witness / "witness.toml"
        witness_file.write_text(witness_file.read_text().replace("# port = 8653", "port = 0"))
        directory = make_node_directory(tmp_path / "node", policy, server=server.grpc_address)
        file = directory / "node.toml"
        text = file.read_text()
        for role in ("monitor", "witness"):
            path = json.dumps(str(tmp_path / role / f"{role}.toml"))
            text = text.replace(f'[{role}]\n# config_path = ""', f"[{role}]\nconfig_path = {path}")
        file.write_text(text)
        with RealNode(directory) as node:
            node.wait_for(lambda status: status["logs"][0]["kept_tree_size"] == len(alliance.governance))
            size = append(server, alliance, 1) + 1
            node.wait_for(
                lambda status: (
                    f'"{size}"' in tlog("monitor", "status", monitor, "--json").out
                    or f" {size}," in tlog("monitor", "status", monitor, "--json").out
                )
            )
            node.wait_to_say("the witness w.example serves http://127.0.0.1:")
            assert node.end() == 0
            assert "Traceback" not in node.errors


def test_a_second_node_on_one_directory_does_not_start(tmp_path: Path, policy: Path) -> None:
    directory = make_node_directory(tmp_path / "node", policy)
    with RealNode(directory) as node:
        with pytest.raises(RuntimeError, match="in use"):
            RealNode(directory)
        assert node.end(signal.SIGINT) == 0


def submit_first(url: str, log: SubmittingLog) -> int:
    """Hand the first checkpoint of a log to a witness, and return the status of its answer."""
    body = log.request(0, 5)
    return httpx.post(f"{url}add-checkpoint", content=body, trust_env=False).status_code


def test_sighup_makes_a_nodes_witness_take_up_a_log_and_ends_no_node(tmp_path: Path, policy: Path) -> None:
    known, new = SubmittingLog(origin="log.example/1"), SubmittingLog(origin="log.example/2")
    witness = tmp_path / "witness"
    made = tlog("witness", "init", witness, "--name", "w.example", "--log", known.signer.vkey)
    assert made.code == 0, made.err
    witness_file = witness / "witness.toml"
    witness_file.write_text(witness_file.read_text().replace("# port = 8653", "port = 0"))
    directory = make_node_directory(tmp_path / "node", policy)
    with RealNode(directory) as node:
        node.program.send(signal.SIGHUP)
        node.wait_for(lambda status: "no witness runs here" in node.errors)
        assert node.end() == 0
    file = directory / "node.toml"
    path = json.dumps(str(witness_file))
    file.write_text(
        file.read_text().replace('[witness]\n# config_path = ""', f"[witness]\nconfig_path = {path}")
    )
    with RealNode(directory) as node:
        node.wait_for(lambda status: "the witness w.example serves" in node.errors)
        url = node.errors.partition("the witness w.example serves ")[2].split()[0]
        assert (submit_first(url, known), submit_first(url, new)) == (200, 404)
        assert tlog("witness", "add-log", witness, "--log", new.signer.vkey).code == 0
        node.program.send(signal.SIGHUP)
        node.wait_for(lambda status: "now knows 2 logs" in node.errors)
        assert submit_first(url, new) == 200
        assert node.end() == 0
        assert "Traceback" not in node.errors
