"""The real log server as a meeting point: members catch up by it, and it stops when it is contradicted."""

from __future__ import annotations

import asyncio
import random
import shutil
import time
from pathlib import Path

import grpc
import pytest
from _support.alliance import Alliance
from _support.log_directory import make_log_directory, serving
from _support.real_server import RealServer, start_with_config
from _support.two_histories import KeptHistory, TwoHistories

from tlog.client import LogClient, RetryPolicy
from tlog.errors import RemoteError
from tlog.evidence import parse_evidence, verify_evidence
from tlog.gossip.grpc_transport import GrpcTransport
from tlog.gossip.judgement import Judgement, Outcome
from tlog.gossip.message import GossipMessage, OfferedCheckpoint, WantedPath
from tlog.gossip.peer_book import PeerBook
from tlog.gossip.pool import Pool
from tlog.gossip.round import Gossiper
from tlog.gossip.state import KeptTrees, MemoryState, NoTrees
from tlog.log import Log
from tlog.policy import build_policy


@pytest.fixture
def alliance() -> Alliance:
    return Alliance()


@pytest.fixture
def config(tmp_path: Path, alliance: Alliance) -> Path:
    path = make_log_directory(tmp_path / "log", alliance)
    with Log.open(tmp_path / "log" / "store", alliance.signer) as log:
        for number in range(12):
            log.append([alliance.entry(number)])
    return path


def contact(
    server: RealServer, alliance: Alliance, notes: list[bytes], trees: KeptTrees
) -> tuple[Pool, list[Judgement]]:
    """Let a node that holds some checkpoints exchange with the server once."""

    async def run() -> list[Judgement]:
        carrier = GrpcTransport(timeout_s=30.0)
        gossiper = Gossiper(
            pool, PeerBook(()), carrier, fan_out=1, clock=time.monotonic, randomness=random.Random(1),
            logs={server.grpc_address: alliance.origin},
        )  # fmt: skip
        try:
            judgements = await gossiper.contact(server.grpc_address)
        finally:
            await carrier.close()
        assert judgements is not None
        return judgements

    pool = Pool(build_policy([alliance.signer.vkey]), MemoryState(), trees)
    for note in notes:
        pool.judge(OfferedCheckpoint(note=note), 0.0)
    return pool, asyncio.run(run())


def history_of(alliance: Alliance, *, size: int) -> TwoHistories:
    """Sign trees that the server does not have, with the key that it has."""
    return TwoHistories(size, signer=alliance.signer)


def append(server: RealServer, alliance: Alliance, number: int) -> int:
    with LogClient(
        server.grpc_address,
        build_policy([alliance.signer.vkey]),
        checkpoint_file=None,
        retry=RetryPolicy(deadline_s=30.0),
    ) as client:
        return client.append([alliance.entry(number)])[0].leaf_index


def test_a_member_that_is_behind_catches_up_by_one_exchange(config: Path, alliance: Alliance) -> None:
    with serving(config) as server:
        first, judgements = contact(server, alliance, [], NoTrees())
        assert [one.outcome for one in judgements] == [Outcome.NEW]
        newest = first.newest(alliance.origin)
        assert newest.tree_size == len(alliance.governance) + 12
        index = append(server, alliance, 50)
        later, judgements = contact(server, alliance, [newest.note], NoTrees())
        assert Outcome.NEW in [one.outcome for one in judgements]
        assert later.newest(alliance.origin).tree_size == index + 1
        assert later.wanted() == ()


def test_the_server_gives_the_path_between_any_two_sizes(config: Path, alliance: Alliance) -> None:
    async def ask(server: RealServer) -> GossipMessage:
        carrier = GrpcTransport(timeout_s=30.0)
        wanted = tuple(
            WantedPath(origin=alliance.origin, start_size=start, end_size=end)
            for start, end in ((1, 2), (3, 15), (4, 16), (8, 13), (2, 100))
        )
        try:
            return await carrier.exchange(server.grpc_address, GossipMessage(wanted=wanted))
        finally:
            await carrier.close()

    from tlog.merkle import roots_from_consistency_path

    with serving(config) as server:
        answer = asyncio.run(ask(server))
    with Log.open(config.parent / "store", alliance.signer) as log, log.view() as view:
        roots = {
            (given.path.start_size, given.path.end_size): roots_from_consistency_path(
                given.path.start_size, given.path.end_size, given.path.hashes
            )
            for given in answer.paths
        }
        assert roots == {
            (start, end): (view.root_hash(start), view.root_hash(end))
            for start, end in ((1, 2), (3, 15), (4, 16), (8, 13))
        }


@pytest.mark.parametrize("size", [3, 8, 16, 30])
def test_a_server_that_is_contradicted_takes_no_more_entries_also_after_a_restart(
    config: Path, alliance: Alliance, size: int
) -> None:
    elsewhere = history_of(alliance, size=size)
    held = elsewhere.held("main", size)
    with serving(config) as server:
        before = append(server, alliance, 60)
        pool, _ = contact(server, alliance, [held.note], KeptHistory(elsewhere, "main", size))
        with pytest.raises(RemoteError, match="takes no more entries"):
            append(server, alliance, 61)
        server.wait_to_say("takes no more entries")
        # What is larger than the server's own tree is an alarm first, and convicted by the member's path.
        expected = 2 if size == 30 else 1
        end_s = time.monotonic() + 30
        while f"tlog_gossip_contradictions_total {expected}.0" not in (page := metrics(server)):
            assert time.monotonic() < end_s, page
            time.sleep(0.05)
    # Smaller than the server's tree, or smaller than the member's: either way somebody has the path.
    (evidence,) = pool.convictions.evidence
    verdict = verify_evidence(parse_evidence(evidence), pool.policy)
    assert [key.vkey for key in verdict.convicted] == [alliance.signer.vkey]
    kept = list((config.parent / "gossip" / "evidence").iterdir())
    assert [path.read_bytes() for path in kept] == [evidence]
    with serving(config) as server:
        with pytest.raises(RemoteError, match="takes no more entries"):
            append(server, alliance, 61)
        fresh, _ = contact(server, alliance, [], NoTrees())
        assert fresh.convictions.is_refused(alliance.origin)
        assert fresh.newest(alliance.origin) is None
    with Log.open(config.parent / "store", alliance.signer) as log:
        assert log.checkpoint().tree_size == before + 1


def test_a_server_restored_from_an_old_copy_hears_of_it_before_it_signs_a_second_history(
    config: Path, alliance: Alliance
) -> None:
    with serving(config) as server:
        pool, _ = contact(server, alliance, [], NoTrees())
    # The member saw one more commit, which the copy that is served now does not have.
    with Log.open(config.parent / "store", alliance.signer) as log:
        leaves = entries_of(log)
    future = TwoHistories(0, signer=alliance.signer)
    for entry in [*leaves, alliance.entry(99)]:
        future.trees["main"].append(entry)
    held = future.held("main", len(leaves) + 1)
    assert pool.newest(alliance.origin).tree_size == len(leaves)
    with serving(config) as server:
        contact(server, alliance, [held.note], NoTrees())
        with pytest.raises(RemoteError, match="takes no more entries"):
            append(server, alliance, 61)
    assert not (config.parent / "gossip" / "evidence").exists()


def test_a_server_restored_from_an_old_copy_knows_by_what_it_told_before_anybody_calls(
    tmp_path: Path, config: Path, alliance: Alliance
) -> None:
    shutil.copytree(config.parent / "store", tmp_path / "yesterday")
    with serving(config) as server:
        append(server, alliance, 60)
        contact(server, alliance, [], NoTrees())
    # Started again as it was, it goes on.
    with serving(config) as server:
        append(server, alliance, 61)
    shutil.rmtree(config.parent / "store")
    shutil.copytree(tmp_path / "yesterday", config.parent / "store")
    for _ in range(2):
        with serving(config) as server:
            server.wait_to_say("takes no more entries")
            server.wait_to_say(f"told of size {len(alliance.governance) + 13}")
            assert "tlog_gossip_contradictions_total 1.0" in metrics(server)
            with pytest.raises(RemoteError, match="takes no more entries"):
                append(server, alliance, 62)
            # Nobody else is harmed: what it has is shown, and what was told stays remembered.
            contact(server, alliance, [], NoTrees())


def test_a_server_whose_memory_is_no_checkpoint_says_so(config: Path, alliance: Alliance) -> None:
    with serving(config) as server:
        contact(server, alliance, [], NoTrees())
    told = config.parent / "gossip" / "told"
    told.write_bytes(told.read_bytes().replace(b"\n", b"\n\n", 1))
    with pytest.raises(RuntimeError, match="remove that file"):
        start_with_config(config)


def test_strangers_and_forgers_change_nothing(config: Path, alliance: Alliance) -> None:
    stranger = TwoHistories(30)
    good = history_of(alliance, size=30).note("main", 30)
    forged = good.replace(b"\n30\n", b"\n31\n")

    async def send(server: RealServer, note: bytes) -> object:
        carrier = GrpcTransport(timeout_s=30.0)
        try:
            return await carrier.exchange(
                server.grpc_address, GossipMessage(checkpoints=(OfferedCheckpoint(note=note),))
            )
        finally:
            await carrier.close()

    with serving(config) as server:
        asyncio.run(send(server, stranger.note("main", 30)))
        with pytest.raises(RemoteError, match=r"INVALID_ARGUMENT.*no honest node sends this"):
            asyncio.run(send(server, forged))
        append(server, alliance, 61)
        assert "tlog_gossip_contradictions_total 0.0" in metrics(server)


def test_gossip_can_be_turned_off(config: Path, alliance: Alliance) -> None:
    config.write_text(config.read_text() + "[gossip]\nenabled = false\n")

    async def send(server: RealServer) -> None:
        carrier = GrpcTransport(timeout_s=30.0)
        try:
            await carrier.exchange(server.grpc_address, GossipMessage())
        finally:
            await carrier.close()

    with serving(config) as server, pytest.raises(RemoteError, match=grpc.StatusCode.UNIMPLEMENTED.name):
        asyncio.run(send(server))
    assert not (config.parent / "gossip").exists()


def entries_of(log: Log) -> list[bytes]:
    with log.view() as view:
        return view.entries(0, view.tree_size)


def metrics(server: RealServer) -> str:
    import urllib.request

    with urllib.request.urlopen(server.metrics_url, timeout=30) as response:
        return response.read().decode()
