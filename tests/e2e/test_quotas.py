"""Quotas and limits on a real server: who floods is held to its share, and the others do not feel it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from _support.alliance import DECLARATION, Alliance
from _support.log_directory import CONFIG, make_log_directory, serving
from _support.real_server import RealServer
from _support.tls_files import TestAuthority
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tlog.client import LogClient, RetryPolicy
from tlog.errors import QuotaError
from tlog.governance import Quota
from tlog.grpc_tls import channel_credentials
from tlog.policy import build_policy
from tlog.tls import ClientTls
from tlog.v1 import log_pb2, log_pb2_grpc

SMALL = Quota(events_per_s=100, bytes_per_s=10**6, burst_events=200, outstanding_events=500)


def retry_after_s(error: grpc.RpcError) -> float:
    (details,) = (value for name, value in error.trailing_metadata() if name == "grpc-status-details-bin")
    (detail,) = status_pb2.Status.FromString(details).details
    info = error_details_pb2.RetryInfo()
    assert detail.Unpack(info)
    return info.retry_delay.ToNanoseconds() / 1e9


@contextmanager
def stub_of(server: RealServer, tls: ClientTls | None = None) -> Iterator[log_pb2_grpc.LogServiceStub]:
    channel = (
        grpc.insecure_channel(server.grpc_address)
        if tls is None
        else grpc.secure_channel(server.grpc_address, channel_credentials(tls))
    )
    with channel:
        yield log_pb2_grpc.LogServiceStub(channel)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_members_quota_is_told_by_name_with_the_time_to_wait(tmp_path: Path, workers: int) -> None:
    alliance = Alliance()
    alliance.add_member("exporter", ["exporter"], quota=SMALL)
    config = make_log_directory(
        tmp_path / "log", alliance, config=CONFIG + f"[server]\nworkers = {workers}\n"
    )
    with serving(config) as server, stub_of(server) as stub:
        stub.Append(log_pb2.AppendRequest(entries=alliance.entries(0, 200)), timeout=20)
        request = log_pb2.AppendRequest(entries=alliance.entries(200, 300))
        with pytest.raises(grpc.RpcError) as refused:
            stub.Append(request, timeout=20)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "member exporter has brought more than its 100 events/s" in refused.value.details()
        wait_s = retry_after_s(refused.value)
        assert 0.3 < wait_s <= 1.0
        # Another member is not held up, and who waits as long as it was told gets in.
        forwarder = [
            alliance.entry(number, member="forwarder", event_type=DECLARATION) for number in range(300)
        ]
        stub.Append(log_pb2.AppendRequest(entries=forwarder), timeout=20)
        time.sleep(wait_s)
        assert len(stub.Append(request, timeout=20).results) == 100
        # What is there already costs nothing, and is answered whatever the quota says.
        for _ in range(3):
            again = stub.Append(log_pb2.AppendRequest(entries=alliance.entries(0, 200)), timeout=20)
            assert all(result.already_present for result in again.results)
            assert [result.leaf_index for result in again.results]


def test_the_client_waits_as_long_as_it_is_told_and_gets_in(tmp_path: Path) -> None:
    alliance = Alliance()
    alliance.add_member("exporter", ["exporter"], quota=SMALL)
    config = make_log_directory(tmp_path / "log", alliance)
    policy = build_policy([alliance.signer.vkey])
    with (
        serving(config) as server,
        LogClient(server.grpc_address, policy, checkpoint_file=None) as patient,
        LogClient(
            server.grpc_address, policy, checkpoint_file=None, retry=RetryPolicy(deadline_s=0.4)
        ) as hasty,
    ):
        patient.append(alliance.entries(0, 200))
        with pytest.raises(QuotaError, match="100 events/s"):
            hasty.append(alliance.entries(200, 290))
        assert len(patient.append(alliance.entries(200, 290))) == 90


def test_a_duplicate_is_answered_without_its_signature_being_looked_at(tmp_path: Path) -> None:
    # What shows it: the same event with a signature that is not good is no duplicate, and is refused; and the
    # good one costs a small part of what its verification would.
    alliance = Alliance()
    config = make_log_directory(tmp_path / "log", alliance)
    entries = alliance.entries(0, 1_000)
    with serving(config) as server, stub_of(server) as stub:
        request = log_pb2.AppendRequest(entries=entries)
        new_s = _seconds(lambda: stub.Append(request, timeout=30))
        again_s = min(_seconds(lambda: stub.Append(request, timeout=30)) for _ in range(3))
        assert again_s < new_s
        bent = bytearray(entries[0])
        bent[-1] ^= 1
        with pytest.raises(grpc.RpcError) as refused:
            stub.Append(log_pb2.AppendRequest(entries=[bytes(bent)]), timeout=20)
        assert refused.value.code() in (
            grpc.StatusCode.INVALID_ARGUMENT,
            grpc.StatusCode.ALREADY_EXISTS,
        )


def test_before_anything_is_verified_the_caller_is_charged_and_nobody_whose_name_it_uses(
    tmp_path: Path,
) -> None:
    authority = TestAuthority(tmp_path / "ca")
    alliance = Alliance()
    quotas = "[quotas]\ncaller_events_per_s = 100\ncaller_burst_events = 300\n"
    config = make_log_directory(tmp_path / "log", alliance, config=CONFIG + quotas + authority.tables())
    owner, thief = authority.client("owner", alliance.source("exporter")), authority.client("thief")
    # Signed by nobody: they name the exporter's source and key, and do not verify.
    forged = [entry[:-1] + bytes([entry[-1] ^ 1]) for entry in alliance.entries(0, 200)]
    with serving(config, owner) as server, stub_of(server, thief) as stub:
        codes = []
        for _ in range(4):
            with pytest.raises(grpc.RpcError) as refused:
                stub.Append(log_pb2.AppendRequest(entries=forged), timeout=20)
            codes.append(refused.value.code())
            if codes[-1] is grpc.StatusCode.RESOURCE_EXHAUSTED:
                break
        assert codes[0] is grpc.StatusCode.INVALID_ARGUMENT
        assert codes[-1] is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "certificate" in refused.value.details()
        with stub_of(server, owner) as owners:
            answer = owners.Append(log_pb2.AppendRequest(entries=alliance.entries(0, 200)), timeout=20)
            assert len(answer.results) == 200


def test_calls_that_are_refused_count_as_calls(tmp_path: Path) -> None:
    config = make_log_directory(
        tmp_path / "log", Alliance(), config=CONFIG + "[quotas]\ncaller_calls_per_s = 5\n"
    )
    with serving(config) as server, stub_of(server) as stub:
        began_s = time.monotonic()
        codes = []
        for _ in range(14):
            try:
                stub.GetCheckpoint(log_pb2.GetCheckpointRequest(), timeout=20)
                codes.append(grpc.StatusCode.OK)
            except grpc.RpcError as error:
                codes.append(error.code())
        assert grpc.StatusCode.RESOURCE_EXHAUSTED in codes
        # Each refusal was told late: who does not wait by itself is made to.
        assert time.monotonic() - began_s > 0.2


def test_asking_for_health_counts_as_calls_too(tmp_path: Path) -> None:
    config = make_log_directory(
        tmp_path / "log", Alliance(), config=CONFIG + "[quotas]\ncaller_calls_per_s = 10\n"
    )
    with serving(config) as server, grpc.insecure_channel(server.grpc_address) as channel:
        health = health_pb2_grpc.HealthStub(channel)  # type: ignore[no-untyped-call]
        watched = health.Watch(health_pb2.HealthCheckRequest(), timeout=20)
        assert next(watched).status == health_pb2.HealthCheckResponse.SERVING
        codes = []
        for name in ["", "tlog.v1.LogService", "tlog.v1.LogService/reads", "no such service"] * 8:
            try:
                health.Check(health_pb2.HealthCheckRequest(service=name), timeout=20)
                codes.append(grpc.StatusCode.OK)
            except grpc.RpcError as error:
                codes.append(error.code())
        assert codes[:4] == [grpc.StatusCode.OK] * 3 + [grpc.StatusCode.NOT_FOUND]
        assert grpc.StatusCode.RESOURCE_EXHAUSTED in codes
        os.kill(server.pid, signal.SIGTERM)
        assert next(watched).status == health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.mark.parametrize("method", ["GetEntries", "WatchCheckpoints"])
def test_a_reader_that_does_not_read_is_given_up_and_its_place_is_free(tmp_path: Path, method: str) -> None:
    alliance = Alliance()
    config = make_log_directory(
        tmp_path / "log",
        alliance,
        config=CONFIG.replace("[grpc]", "[grpc]\nmax_concurrent_streams = 1")
        + "[quotas]\nsend_timeout_s = 0.5\n",
    )
    with serving(config) as server, stub_of(server) as stub:
        big = [alliance.entry(number, note="x" * 50_000) for number in range(120)]
        for start in range(0, 120, 40):
            stub.Append(log_pb2.AppendRequest(entries=big[start : start + 40]), timeout=30)
        if method == "WatchCheckpoints":
            # A watcher is sent little: it is only idle, and that is no reason to end it.
            watched = stub.WatchCheckpoints(log_pb2.WatchCheckpointsRequest(), timeout=30)
            next(watched)
            time.sleep(1.5)
            stub.Append(log_pb2.AppendRequest(entries=[alliance.entry(900)]), timeout=20)
            assert next(watched).checkpoint
            watched.cancel()
            return
        # A few bytes of window, or the transport would take most of the answer ahead of the reader.
        options = [
            ("grpc.http2.lookahead_bytes", 1_024),
            ("grpc.http2.bdp_probe", 0),
            ("grpc.use_local_subchannel_pool", 1),
        ]
        with grpc.insecure_channel(server.grpc_address, options=options) as channel:
            slow = log_pb2_grpc.LogServiceStub(channel)  # type: ignore[no-untyped-call]
            reading = slow.GetEntries(log_pb2.GetEntriesRequest(), timeout=60)
            next(reading)
            end_s = time.monotonic() + 15
            while True:
                try:
                    assert next(stub.GetEntries(log_pb2.GetEntriesRequest(end=1), timeout=10))
                    break
                except grpc.RpcError as error:
                    assert error.code() is grpc.StatusCode.UNAVAILABLE
                    assert time.monotonic() < end_s, "the slow reader keeps its place"
                    time.sleep(0.2)
            with pytest.raises(grpc.RpcError) as ended:
                for _ in reading:
                    pass
            assert ended.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_connections_beyond_the_limit_are_turned_away(tmp_path: Path) -> None:
    config = make_log_directory(
        tmp_path / "log", Alliance(), config=CONFIG.replace("[grpc]", "[grpc]\nmax_connections = 3")
    )
    with serving(config) as server:
        opened = []
        try:
            served = 0
            for _ in range(8):
                channel = grpc.insecure_channel(
                    server.grpc_address, options=[("grpc.use_local_subchannel_pool", 1)]
                )
                opened.append(channel)
                stub = log_pb2_grpc.LogServiceStub(channel)  # type: ignore[no-untyped-call]
                try:
                    stub.GetCheckpoint(log_pb2.GetCheckpointRequest(), timeout=2)
                    served += 1
                except grpc.RpcError:
                    continue
            assert 1 <= served <= 3
        finally:
            for channel in opened:
                channel.close()


@pytest.mark.parametrize("workers", [0, 1])
def test_what_a_member_was_refused_for_is_refused_again_before_it_is_verified(
    tmp_path: Path, workers: int
) -> None:
    """What shows it: a batch whose last signature is wrong is refused by the quota, not for the signature."""
    alliance = Alliance()
    tiny = Quota(events_per_s=1, bytes_per_s=10**6, burst_events=100, outstanding_events=500)
    alliance.add_member("exporter", ["exporter"], quota=tiny)
    config = make_log_directory(
        tmp_path / "log", alliance, config=CONFIG + f"[server]\nworkers = {workers}\n"
    )
    entries = alliance.entries(0, 200)
    forged = alliance.entry(500)
    position = forged.index(b"\x0a\x40") + 2
    forged = forged[:position] + bytes([forged[position] ^ 1]) + forged[position + 1 :]
    with serving(config) as server, stub_of(server) as stub:

        def code_of(entries: list[bytes]) -> grpc.StatusCode:
            with pytest.raises(grpc.RpcError) as refused:
                stub.Append(log_pb2.AppendRequest(entries=entries), timeout=20)
            return refused.value.code()

        stub.Append(log_pb2.AppendRequest(entries=entries[:100]), timeout=20)
        assert code_of([forged] * 1) is grpc.StatusCode.INVALID_ARGUMENT
        assert code_of(entries[100:200]) is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert code_of([*entries[100:199], forged]) is grpc.StatusCode.RESOURCE_EXHAUSTED
        # A smaller call might have its place, and is looked at; what is there already is answered.
        assert code_of([forged]) is grpc.StatusCode.INVALID_ARGUMENT
        again = stub.Append(log_pb2.AppendRequest(entries=entries[:100]), timeout=20)
        assert all(result.already_present for result in again.results)


def _seconds(call: object) -> float:
    began_s = time.perf_counter()
    call()  # type: ignore[operator]
    return time.perf_counter() - began_s


def test_a_connection_whose_calls_were_refused_many_times_is_served_on(tmp_path: Path) -> None:
    """Each refused call once held one of the connection's 512 streams until the garbage collector came by."""
    quotas = "[quotas]\ncaller_calls_per_s = 1000000\n"
    config = make_log_directory(tmp_path / "log", Alliance(), config=CONFIG + quotas)
    wrong = log_pb2.GetConsistencyProofRequest(first_tree_size=2, second_tree_size=1)
    with serving(config) as server, stub_of(server) as stub:
        for _ in range(1_200):
            with pytest.raises(grpc.RpcError) as refused:
                stub.GetConsistencyProof(wrong, timeout=20)
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT, refused.value.details()
        assert stub.GetCheckpoint(log_pb2.GetCheckpointRequest(), timeout=20).checkpoint


def test_a_connection_without_calls_is_ended_and_the_next_call_opens_another(tmp_path: Path) -> None:
    config = make_log_directory(
        tmp_path / "log", Alliance(), config=CONFIG.replace("[grpc]", "[grpc]\nidle_timeout_s = 0.5")
    )
    with serving(config) as server, grpc.insecure_channel(server.grpc_address) as channel:
        stub = log_pb2_grpc.LogServiceStub(channel)  # type: ignore[no-untyped-call]
        seen: list[grpc.ChannelConnectivity] = []
        idle = threading.Event()

        def look(state: grpc.ChannelConnectivity) -> None:
            seen.append(state)
            if grpc.ChannelConnectivity.READY in seen and state is grpc.ChannelConnectivity.IDLE:
                idle.set()

        channel.subscribe(look)
        stub.GetCheckpoint(log_pb2.GetCheckpointRequest(), timeout=20)
        assert idle.wait(60), seen
        assert stub.GetCheckpoint(log_pb2.GetCheckpointRequest(), timeout=20).checkpoint
