"""The comparison with other logs: how they are named, found, measured, and shown."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from _support.peer_servers import TiledPeer, tiled_peer

from bench import peer_load
from bench.__main__ import main
from bench.contenders import Contender, Taken, Way, given_contenders
from bench.libraries import HashedLmdb, PymerkleTree
from bench.listening import cpu_of_all, is_local, listening_pids
from bench.load import Generator, generators
from bench.measure import Cost
from bench.peer_adapters.adapter import PeerError
from bench.peer_adapters.given import FORMS, GivenPeer, peer_from
from bench.peer_adapters.immudb import ImmudbAdapter
from bench.peer_adapters.tessera import TesseraAdapter
from bench.peer_adapters.trillian import TrillianAdapter
from bench.peer_load import PeerCaller
from bench.peers import contender_rows
from bench.settings import Settings
from tlog.merkle import CompactRange, leaf_hash

ENTRIES = [b"entry %d" % number for number in range(600)]
WAY = Way(batch=1, in_flight=4)


@pytest.fixture(scope="module")
def generator() -> Iterator[Generator]:
    with generators(1) as (one,):
        yield one


@pytest.fixture
def peer() -> Iterator[TiledPeer]:
    with tiled_peer() as served:
        yield served


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return replace(Settings.for_profile("tiny", tmp_path), window_events=80)


def contender(settings: Settings, peer: TiledPeer, generator: Generator) -> Contender:
    text = f"tessera={peer.url}"
    (found,) = given_contenders(
        settings, peer_from(text), text, [Way(batch=256, in_flight=1), WAY], generator
    )
    return found


# How peers are named.


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("trillian=[::1]:8090/77", GivenPeer(kind="trillian", host="::1", port=8090, tree_id=77)),
        ("immudb=db.example:3322", GivenPeer(kind="immudb", host="db.example", port=3322)),
        (
            "immudb=localhost:1?unique=no&also=2",
            GivenPeer(kind="immudb", host="localhost", port=1, also_ports=(2,), is_unique=False),
        ),
        (
            "trillian=localhost:8090/77?also=8093,5432",
            GivenPeer(kind="trillian", host="localhost", port=8090, tree_id=77, also_ports=(8093, 5432)),
        ),
        (
            "tessera=https://log.example/a/b?also=1",
            GivenPeer(
                kind="tessera", host="log.example", port=443, url="https://log.example/a/b", also_ports=(1,)
            ),
        ),
    ],
)
def test_a_peer_is_named_by_kind_and_address(text: str, found: GivenPeer) -> None:
    assert peer_from(text) == found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("weather=localhost:1", "names no peer"),
        ("localhost:8090", "names no peer"),
        ("trillian=localhost:8090", "names no tree"),
        ("trillian=localhost:8090/x", "names no tree"),
        ("trillian=localhost/77", "no host and port"),
        ("immudb=localhost", "no host and port"),
        ("immudb=:3322", "no host and port"),
        ("immudb=localhost:3322/db", "has a path"),
        ("immudb=localhost:99999", "out of range"),
        ("immudb=me:secret@localhost:3322", "password"),
        ("tessera=localhost:2025", "no http or https URL"),
        ("tessera=http://localhost:2025?tree=5", "only \\?also= is known"),
        ("trillian=localhost:8090/77?unique=no", "only \\?also= is known"),
        ("immudb=localhost:3322?unique=maybe", "yes or no"),
        ("immudb=localhost:3322?also=x", "takes ports"),
        ("immudb=localhost:3322?also=", "takes ports"),
    ],
)
def test_what_names_no_peer_is_refused_with_what_to_write(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as refused:
        peer_from(text)
    assert "secret" not in str(refused.value)


def test_every_form_that_is_shown_names_a_peer() -> None:
    adapters = {"trillian": TrillianAdapter, "tessera": TesseraAdapter, "immudb": ImmudbAdapter}
    for kind, form in FORMS.items():
        peer = peer_from(form.replace("PORT", "1").replace("TREE_ID", "5"))
        assert peer.kind == kind
        assert isinstance(peer.adapter(), adapters[kind])


def test_the_runner_refuses_a_peer_that_it_does_not_know(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["--tiny", "--only", "peers", "--out", str(tmp_path), "--peer", "weather=localhost:1"])
    assert "trillian=HOST:PORT/TREE_ID" in capsys.readouterr().err


# Whose CPU is read.


def test_the_process_that_listens_at_a_port_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert listening_pids("127.0.0.1", port) == [os.getpid()]
        assert listening_pids("localhost", port) == [os.getpid()]
    assert listening_pids("127.0.0.1", port) == []


def test_a_process_that_shares_its_port_with_its_child_is_counted_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.set_inheritable(True)
        child = subprocess.Popen(["sleep", "60"], close_fds=False)
        try:
            assert listening_pids("127.0.0.1", listener.getsockname()[1]) == [os.getpid()]
        finally:
            child.kill()
            child.wait()


def test_another_machine_is_not_this_one() -> None:
    assert is_local("127.0.0.1")
    assert not is_local("192.0.2.1")
    assert not is_local("nowhere.invalid")
    assert listening_pids("192.0.2.1", 22) == []
    assert cpu_of_all([]).total_s == 0


# What a load process does with one.


def test_a_window_ends_when_the_tree_covers_what_was_acknowledged(
    settings: Settings, peer: TiledPeer, generator: Generator
) -> None:
    taken = contender(settings, peer, generator).measure()
    assert taken.events == 20
    assert len(taken.latencies_s) == 20
    assert len(set(peer.entries)) == len(peer.entries) == 20 + 4  # with the warm-up, no entry twice
    assert peer.tree_size == 24
    # Four looks are needed for the twenty, between which it waits.
    assert taken.settled_s > taken.seconds + 0.03
    assert taken.cost is not None  # it listens in this process
    assert taken.cost.total_us > 0


def test_a_peer_elsewhere_has_no_cpu_that_could_be_read(
    settings: Settings, peer: TiledPeer, generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.listening.is_local", lambda _: False)
    assert contender(settings, peer, generator).measure().cost is None


@pytest.mark.parametrize(
    ("refuses", "checkpoint", "said"),
    [
        ((503, b"later"), None, "POST /add: 503"),
        ((200, b"soon"), None, "no index"),
        (None, b"<html>", "no checkpoint"),
    ],
)
def test_a_peer_that_answers_wrongly_is_not_measured(
    settings: Settings,
    peer: TiledPeer,
    generator: Generator,
    refuses: tuple[int, bytes] | None,
    checkpoint: bytes | None,
    said: str,
) -> None:
    peer.refuses, peer.checkpoint = refuses, checkpoint
    with pytest.raises(RuntimeError, match=said):
        contender(settings, peer, generator).measure()


def test_a_tree_that_never_grows_is_said(peer: TiledPeer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_load, "SETTLE_TIMEOUT_S", 0.05)
    peer.grows_by = 0

    async def go() -> None:
        caller = PeerCaller(TesseraAdapter(peer.url), batch=1)
        await caller.open()
        try:
            await caller.look()
            caller.load([[b"entry"]])
            await caller(0)
            await caller.settle()
        finally:
            await caller.close()

    with pytest.raises(PeerError, match="the tree has 0 entries, not 1"):
        asyncio.run(go())


def test_an_answer_for_fewer_entries_than_were_sent_is_a_failure(peer: TiledPeer) -> None:
    async def go() -> PeerCaller:
        caller = PeerCaller(TesseraAdapter(peer.url), batch=2)
        await caller.open()
        caller.load([[b"entry"]])
        await caller(0)
        await caller.close()
        return caller

    caller = asyncio.run(go())
    assert caller.acknowledged() == 0
    assert caller.failures == {"1 entries acknowledged of 2": 1}


# What is shown of it.


def sample(cpu_us: float | None = 120.0) -> Taken:
    return Taken(
        events=100,
        seconds=0.5,
        settled_s=1.5,
        latencies_s=[0.001] * 99 + [0.1],
        cost=None if cpu_us is None else Cost(user_us=cpu_us / 2, system_us=cpu_us / 2),
        client_us=30.0,
    )


def shown(samples: list[Taken | None], failure: str | None = None) -> dict[str, float | str | None]:
    work = TesseraAdapter("http://x").work
    one = Contender(name="tessera", entries=None, way=WAY, work=work, measure=sample)
    rows = contender_rows(one, samples, [60.0] * len(samples), failure)
    assert all(row.at["who"] == "tessera" and row.at["signatures"] == "no" for row in rows)
    return {row.name: row.note if row.value is None else row.value for row in rows}


def test_a_peer_is_shown_with_what_it_does_for_an_entry() -> None:
    rows = shown([sample(), sample(240.0), sample(180.0)])
    assert rows["rate"] == 200.0
    assert (rows["CPU"], rows["CPU / V"]) == (180.0, 3.0)
    assert (rows["p50"], rows["p99"]) == (1.0, 1.0)
    assert rows["then until all are in the tree"] == 1.0
    assert rows["load generator CPU"] == 30.0


def test_cpu_that_could_not_be_read_is_said_and_not_guessed() -> None:
    assert shown([sample(None)])["CPU"] == "its processes are not to be seen"


def test_a_peer_that_failed_once_shows_nothing_else() -> None:
    assert shown([sample(), None], "503") == {"rate": "failed: 503"}


# Libraries.


def test_the_libraries_hold_what_they_were_given(tmp_path: Path) -> None:
    for kind in (HashedLmdb, PymerkleTree):
        folder = tmp_path / kind.__name__
        folder.mkdir()
        for start in (0, 300):
            library = kind(folder)
            assert library.size == start
            library.append(ENTRIES[start : start + 300])
            assert library.size == start + 300
            library.close()


def test_pymerkles_root_is_that_of_this_log(tmp_path: Path) -> None:
    tree = PymerkleTree(tmp_path)
    for size in (1, 2, 3, 300, 600):
        tree.append(ENTRIES[tree.size : size])
        ours = CompactRange.empty().extend([leaf_hash(entry) for entry in ENTRIES[:size]])
        assert tree.root_hash == ours.root_hash()
    tree.close()
