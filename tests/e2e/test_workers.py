"""The real server with worker processes: shared port, real kills, one log, one page of metrics."""

from __future__ import annotations

import os
import signal
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import psutil
import pytest
from _support.alliance import Alliance
from _support.log_directory import CONFIG, COSIGNED_CONFIG, make_log_directory, serving
from _support.real_server import RealServer, start_with_config
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tlog.checkpoint import parse_checkpoint
from tlog.client import LogClient, RetryPolicy
from tlog.merkle import leaf_hash, verify_inclusion
from tlog.note import parse_note
from tlog.policy import build_policy
from tlog.v1 import gossip_pb2, gossip_pb2_grpc, log_pb2, log_pb2_grpc

ALLIANCE = Alliance()
POLICY = build_policy([ALLIANCE.signer.vkey])
GOVERNANCE_COUNT = len(ALLIANCE.governance)
WORKERS = CONFIG + "[server]\nworkers = 2\n"


def stub(channel: grpc.Channel) -> log_pb2_grpc.LogServiceStub:
    return log_pb2_grpc.LogServiceStub(channel)  # type: ignore[no-untyped-call]


@contextmanager
def own_channel(server: RealServer) -> Iterator[grpc.Channel]:
    """Open a channel with a connection of its own: channels of one process share one otherwise."""
    with grpc.insecure_channel(
        server.grpc_address, options=[("grpc.use_local_subchannel_pool", 1)]
    ) as channel:
        yield channel


def workers_of(server: RealServer) -> list[psutil.Process]:
    return psutil.Process(server.pid).children()


def connections_of(worker: psutil.Process) -> int:
    return sum(one.status == psutil.CONN_ESTABLISHED for one in worker.net_connections("tcp"))


def lives(worker: psutil.Process) -> bool:
    """Whether a process runs; one that ended and that nobody has asked how does not."""
    try:
        return worker.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s, "it did not come to be"
        time.sleep(0.02)


def tree_size(note: bytes) -> int:
    return parse_checkpoint(parse_note(note)[0]).tree_size


@contextmanager
def a_channel_to_each_worker(server: RealServer) -> Iterator[list[grpc.Channel]]:
    """Connect until every worker has a connection; the system gives them out at random."""
    with ExitStack() as stack:
        channels: list[grpc.Channel] = []
        while not channels or not all(connections_of(worker) for worker in workers_of(server)):
            assert len(channels) < 40
            channels.append(stack.enter_context(own_channel(server)))
            stub(channels[-1]).GetCheckpoint(log_pb2.GetCheckpointRequest(), timeout=20)
        yield channels


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    config = make_log_directory(tmp_path_factory.mktemp("log"), ALLIANCE, config=WORKERS)
    with serving(config) as running:
        yield running


def test_every_worker_answers_serves_health_and_shows_at_once_what_another_one_took(
    server: RealServer,
) -> None:
    with a_channel_to_each_worker(server) as channels:
        for number in range(0, 60, 3):
            taking, asked = channels[number % len(channels)], channels[(number + 1) % len(channels)]
            reply = stub(taking).Append(log_pb2.AppendRequest(entries=ALLIANCE.entries(number, number + 3)))
            size = tree_size(reply.checkpoint)
            shown = stub(asked).GetCheckpoint(log_pb2.GetCheckpointRequest())
            assert tree_size(shown.checkpoint) >= size
            keys = [log_pb2.EntryKey(leaf_index=size - 1)]
            (result,) = stub(asked).GetReceipts(log_pb2.GetReceiptsRequest(keys=keys)).results
            assert result.receipt
            watch = stub(asked).WatchCheckpoints(log_pb2.WatchCheckpointsRequest())
            assert tree_size(next(watch).checkpoint) >= size
            watch.cancel()
        for channel in channels:
            health = health_pb2_grpc.HealthStub(channel)  # type: ignore[no-untyped-call]
            answer = health.Check(health_pb2.HealthCheckRequest(service="tlog.v1.LogService"))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_a_watcher_of_one_worker_sees_what_another_one_took_and_cosigned_calls_are_answered(
    server: RealServer,
) -> None:
    with a_channel_to_each_worker(server) as channels:
        watches = [
            stub(channel).WatchCheckpoints(log_pb2.WatchCheckpointsRequest(), timeout=30)
            for channel in channels
        ]
        seen = [tree_size(next(watch).checkpoint) for watch in watches]
        request = log_pb2.AppendRequest(
            entries=[ALLIANCE.entry(1_000)], wait_for=log_pb2.APPEND_STAGE_COSIGNED
        )
        size = tree_size(stub(channels[0]).Append(request, timeout=20).checkpoint)
        for watch, before in zip(watches, seen, strict=True):
            assert before < tree_size(next(watch).checkpoint) == size
            watch.cancel()


def test_exchanges_are_answered_through_every_worker(server: RealServer) -> None:
    with a_channel_to_each_worker(server) as channels:
        for channel in channels:
            gossip = gossip_pb2_grpc.GossipServiceStub(channel)  # type: ignore[no-untyped-call]
            answer = gossip.Exchange(gossip_pb2.ExchangeRequest(), timeout=20)
            assert answer.ByteSize()


def test_one_page_of_metrics_counts_the_calls_of_all_workers(server: RealServer) -> None:
    def counted() -> dict[str, float]:
        with urllib.request.urlopen(server.metrics_url, timeout=30) as response:
            lines = response.read().decode().splitlines()
        samples = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name: float(value) for name, value in samples.items()}

    name = 'tlog_grpc_call_seconds_count{code="OK",method="GetConsistencyProof"}'
    with a_channel_to_each_worker(server) as channels:
        before = counted().get(name, 0.0)
        for channel in channels:
            stub(channel).GetConsistencyProof(log_pb2.GetConsistencyProofRequest())
        samples = counted()
    assert samples[name] == before + len(channels)
    assert samples["tlog_tree_size_entries"] >= GOVERNANCE_COUNT


def test_the_entries_that_make_the_map_grow_are_proven_by_workers_that_mapped_less(tmp_path: Path) -> None:
    config = make_log_directory(tmp_path, ALLIANCE, config=WORKERS + "[store]\nmap_size_bytes = 1048576\n")
    with serving(config) as server, a_channel_to_each_worker(server) as channels:
        for number in range(0, 4_000, 1_000):
            entries = ALLIANCE.entries(number, number + 1_000)
            for channel in channels:
                request = log_pb2.AppendRequest(entries=entries)
                assert len(stub(channel).Append(request, timeout=30).results) == 1_000
        assert (tmp_path / "store" / "data.mdb").stat().st_size > 2**20
        last = GOVERNANCE_COUNT + 3_999
        for channel in channels:
            answer = stub(channel).GetInclusionProofs(
                log_pb2.GetInclusionProofsRequest(keys=[log_pb2.EntryKey(leaf_index=last)])
            )
            checkpoint = parse_checkpoint(parse_note(answer.checkpoint)[0])
            proof = answer.results[0].proof.hashes
            hashed = leaf_hash(ALLIANCE.entry(3_999))
            verify_inclusion(hashed, last, checkpoint.tree_size, proof, checkpoint.root_hash)


def test_limits_hold_for_all_workers_together_and_who_is_turned_away_is_told_when_to_come_back(
    tmp_path: Path,
) -> None:
    limits = WORKERS.replace("reflection = true", "max_concurrent_streams = 8\nmax_concurrent_calls = 4")
    config = make_log_directory(tmp_path, ALLIANCE, config=limits + "[limits]\nmax_queued_entries = 2\n")
    with serving(config) as server, a_channel_to_each_worker(server) as channels:
        watches = []
        for number in range(60):
            watch = stub(channels[number % len(channels)]).WatchCheckpoints(log_pb2.WatchCheckpointsRequest())
            try:
                next(watch)
            except grpc.RpcError as error:
                assert error.code() is grpc.StatusCode.UNAVAILABLE
            else:
                watches.append(watch)
        assert len(watches) == 8
        for watch in watches:
            watch.cancel()
        requests = [log_pb2.AppendRequest(entries=[ALLIANCE.entry(number)]) for number in range(200)]
        futures = [
            stub(channels[number % len(channels)]).Append.future(request, timeout=60)
            for number, request in enumerate(requests)
        ]
        pushed_back = [future for future in futures if future.exception() is not None]
        assert pushed_back
        assert len(pushed_back) < len(futures)
        for future in pushed_back:
            assert future.code() is grpc.StatusCode.UNAVAILABLE
            details = dict(future.trailing_metadata())["grpc-status-details-bin"]
            retry = error_details_pb2.RetryInfo()
            assert status_pb2.Status.FromString(details).details[0].Unpack(retry)
            assert retry.retry_delay.ToNanoseconds() > 0


def test_the_refreshed_time_of_the_logs_own_cosigner_reaches_watchers_of_every_worker(tmp_path: Path) -> None:
    config = make_log_directory(
        tmp_path,
        ALLIANCE,
        config=COSIGNED_CONFIG + "[server]\nworkers = 2\n[witnesses]\nrefresh_s = 1.0\n",
    )
    with serving(config) as server, a_channel_to_each_worker(server) as channels:
        for channel in channels:
            watch = stub(channel).WatchCheckpoints(log_pb2.WatchCheckpointsRequest(), timeout=30)
            first, second = next(watch).checkpoint, next(watch).checkpoint
            assert tree_size(first) == tree_size(second)
            assert first != second
            watch.cancel()


class Load:
    """Appends entry by entry over a connection of its own, and never gives up."""

    def __init__(self, server: RealServer, name: int) -> None:
        self.acknowledged: list[tuple[int, bytes]] = []
        self.failures = 0
        self._server = server
        self._first = 100_000 * (name + 1)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        number = self._first
        with own_channel(self._server) as channel:
            while not self._ended.is_set():
                entry = ALLIANCE.entry(number)
                try:
                    reply = stub(channel).Append(log_pb2.AppendRequest(entries=[entry]), timeout=20)
                except grpc.RpcError as error:
                    assert error.code() is grpc.StatusCode.UNAVAILABLE
                    self.failures += 1
                    time.sleep(0.02)
                else:
                    self.acknowledged.append((reply.results[0].leaf_index, entry))
                    number += 1

    def end(self) -> None:
        self._ended.set()
        self._thread.join(30)
        assert not self._thread.is_alive()


def test_a_killed_worker_is_replaced_and_neither_others_nor_anything_acknowledged_are_touched(
    tmp_path: Path,
) -> None:
    config = make_log_directory(tmp_path, ALLIANCE, config=WORKERS)
    with serving(config) as server:
        loads = [Load(server, name) for name in range(6)]
        # With a client that retries, as members have: for it, the kill is a call that took longer.
        client = LogClient(
            server.grpc_address,
            POLICY,
            checkpoint_file=tmp_path / "trusted",
            genesis_leaf_hash=leaf_hash(ALLIANCE.governance[0]),
            retry=RetryPolicy(deadline_s=60.0),
        )
        try:
            wait_until(lambda: all(len(load.acknowledged) >= 3 for load in loads))
            client.append([ALLIANCE.entry(50)])
            first, second = workers_of(server)
            victim = first if connections_of(first) else second
            struck = connections_of(victim)
            acknowledged = sum(len(load.acknowledged) for load in loads)
            os.kill(victim.pid, signal.SIGKILL)
            client.append([ALLIANCE.entry(51)])
            wait_until(lambda: len({one.pid for one in workers_of(server)} - {first.pid, second.pid}) == 1)
            wait_until(
                lambda: sum(len(load.acknowledged) for load in loads) >= acknowledged + 10 * len(loads)
            )
            for load in loads:
                load.end()
            # Whoever was connected to the other worker noticed nothing.
            assert sum(load.failures > 0 for load in loads) <= struck
            appended = client.append(ALLIANCE.entries(50, 52))
            assert all(one.already_present for one in appended)
            kept = dict(client.entries())
        finally:
            for load in loads:
                load.end()
            client.close()
        promised = [promise for load in loads for promise in load.acknowledged]
        assert len(promised) > acknowledged
        for index, entry in promised:
            assert kept[index] == entry
        server.wait_to_say("was killed by signal 9; another one is started")
        # The newcomer serves as well as the others.
        newcomer = next(one for one in workers_of(server) if one.pid not in (first.pid, second.pid))
        with a_channel_to_each_worker(server):
            assert connections_of(newcomer)
        assert server.stop() == 0


def test_sigterm_to_the_main_process_ends_all_and_signals_to_a_worker_end_nobody(tmp_path: Path) -> None:
    config = make_log_directory(tmp_path, ALLIANCE, config=WORKERS)
    with serving(config) as server, a_channel_to_each_worker(server) as channels:
        workers = workers_of(server)
        # What ends a terminal's or a service's whole group reaches workers as well: they wait for their main.
        for worker in workers:
            worker.send_signal(signal.SIGTERM)
            worker.send_signal(signal.SIGINT)
        watches = [
            stub(channel).WatchCheckpoints(log_pb2.WatchCheckpointsRequest(), timeout=60)
            for channel in channels
        ]
        for watch in watches:
            next(watch)
        futures = [
            stub(channel).Append.future(
                log_pb2.AppendRequest(entries=ALLIANCE.entries(n * 100, n * 100 + 100))
            )
            for n, channel in enumerate(channels)
        ]
        futures[0].result()
        assert {one.pid for one in workers_of(server)} == {one.pid for one in workers}
        assert server.stop() == 0
        for future in futures:
            assert future.exception() is None or future.code() is grpc.StatusCode.UNAVAILABLE
        for watch in watches:
            list(watch)  # ends without an error
        assert not any(map(lives, workers))
        assert "killed" not in server.errors


def test_workers_end_with_a_main_process_that_is_killed_and_the_next_one_gets_the_port(
    tmp_path: Path,
) -> None:
    config = make_log_directory(tmp_path, ALLIANCE, config=WORKERS)
    with serving(config) as server:
        port = server.grpc_address.rpartition(":")[2]
        workers = workers_of(server)
        with a_channel_to_each_worker(server) as channels:
            reply = stub(channels[0]).Append(log_pb2.AppendRequest(entries=ALLIANCE.entries(0, 10)))
        assert len(workers) == 2
        server.kill()
    config.write_text(config.read_text().replace("[grpc]\nport = 0", f"[grpc]\nport = {port}"))
    with serving(config) as server, own_channel(server) as channel:
        assert server.grpc_address.endswith(port)
        shown = stub(channel).GetCheckpoint(log_pb2.GetCheckpointRequest())
        assert tree_size(shown.checkpoint) == tree_size(reply.checkpoint)
        wait_until(lambda: not any(map(lives, workers)))


def test_a_server_with_workers_shares_its_port_with_its_own_workers_only(tmp_path: Path) -> None:
    config = make_log_directory(tmp_path / "one", ALLIANCE, config=WORKERS)
    with serving(config) as server:
        port = server.grpc_address.rpartition(":")[2]
        other = WORKERS.replace("[grpc]\nport = 0", f"[grpc]\nport = {port}")
        stranger = make_log_directory(tmp_path / "two", ALLIANCE, config=other)
        with pytest.raises(RuntimeError, match="is another server running"):
            start_with_config(stranger)
        with own_channel(server) as channel:
            assert stub(channel).GetCheckpoint(log_pb2.GetCheckpointRequest(), timeout=30).checkpoint


def test_a_worker_that_stands_still_does_not_hold_up_the_end_for_ever(tmp_path: Path) -> None:
    config = make_log_directory(
        tmp_path, ALLIANCE, config=WORKERS.replace("reflection = true", "stop_timeout_s = 0.5")
    )
    with serving(config) as server:
        workers = workers_of(server)
        workers[0].send_signal(signal.SIGSTOP)
        assert server.stop(timeout_s=30) == 0
        assert not any(map(lives, workers))
        assert "1 workers did not end in time" in server.errors


def test_a_worker_that_cannot_start_ends_the_server_with_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from server.program import main

    monkeypatch.setattr("server.worker_pool.sys.executable", "/bin/false")
    config = make_log_directory(tmp_path, ALLIANCE, config=WORKERS)
    assert main(["--config", str(config), "--json"]) == 2
    assert "a worker ended with exit code 1 before it answered calls" in capfd.readouterr().err
