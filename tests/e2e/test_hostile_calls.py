"""Hostile calls against the real server: each gets a clear status, and nobody else notices."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from _support.alliance import Alliance, key
from _support.log_directory import CONFIG, make_log_directory, serving
from _support.real_server import RealServer
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from tlog.v1 import log_pb2, log_pb2_grpc

ALLIANCE = Alliance()
LIMITS = CONFIG.replace(
    "reflection = true",
    "reflection = true\nmax_concurrent_streams = 20\nstop_timeout_s = 3.0",
).replace(
    "[metrics]",
    "[limits]\nmax_queued_entries = 3000\n"
    "[quotas]\ncaller_burst_events = 100000\ncaller_outstanding_events = 100000\n[metrics]",
)
SERVICE = log_pb2.DESCRIPTOR.services_by_name["LogService"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    config = make_log_directory(tmp_path_factory.mktemp("log"), ALLIANCE, config=LIMITS)
    with serving(config) as running:
        yield running


@pytest.fixture
def channel(server: RealServer) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.grpc_address) as opened:
        yield opened


def stub(channel: grpc.Channel) -> log_pb2_grpc.LogServiceStub:
    return log_pb2_grpc.LogServiceStub(channel)  # type: ignore[no-untyped-call]


def undecodable() -> Iterator[tuple[str, bytes]]:
    for method in SERVICE.methods:
        for data in (b"\xff\xff\xff", b"\x0a\xff", b"\x0a\x02\xff\xfe", b"\x08" * 11):
            try:
                GetMessageClass(method.input_type).FromString(data)
            except DecodeError:
                yield method.name, data


@pytest.mark.parametrize(("method", "data"), list(undecodable()))
def test_bytes_that_are_no_request_are_an_invalid_argument(
    server: RealServer, channel: grpc.Channel, method: str, data: bytes
) -> None:
    call = channel.unary_stream(f"/tlog.v1.LogService/{method}")
    with pytest.raises(grpc.RpcError) as caught:
        list(call(data, timeout=30))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "protobuf" in caught.value.details()
    assert "Traceback" not in server.errors


def test_a_compressed_message_is_not_unpacked(server: RealServer) -> None:
    request = log_pb2.AppendRequest(entries=[bytes(2**20)])
    with (
        grpc.insecure_channel(server.grpc_address, compression=grpc.Compression.Gzip) as channel,
        pytest.raises(grpc.RpcError) as caught,
    ):
        stub(channel).Append(request, timeout=30)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_streams_beyond_the_limit_are_pushed_back_however_often_they_are_tried(
    server: RealServer,
) -> None:
    channels = [grpc.insecure_channel(server.grpc_address) for _ in range(2)]
    alive = []
    for wave in range(3):
        for number in range(30):
            watch = stub(channels[number % 2]).WatchCheckpoints(log_pb2.WatchCheckpointsRequest())
            try:
                next(watch)
            except grpc.RpcError as error:
                assert error.code() is grpc.StatusCode.UNAVAILABLE
                assert "streams are under way" in error.details()
            else:
                alive.append(watch)
        assert len(alive) == 20, f"wave {wave}"
    # Calls that are no streams are not affected.
    assert stub(channels[0]).GetCheckpoint(log_pb2.GetCheckpointRequest(), timeout=30).checkpoint
    for watch in alive:
        watch.cancel()
    for channel in channels:
        channel.close()
    wait_for_room(server)


def wait_for_room(server: RealServer) -> None:
    deadline = time.monotonic() + 40
    with grpc.insecure_channel(server.grpc_address) as channel:
        while True:
            watch = stub(channel).WatchCheckpoints(log_pb2.WatchCheckpointsRequest())
            try:
                next(watch)
            except grpc.RpcError:
                assert time.monotonic() < deadline, "ended streams are still counted"
                time.sleep(0.05)
            else:
                watch.cancel()
                return


def test_calls_are_pushed_back_before_their_signatures_are_checked(server: RealServer) -> None:
    entries = [ALLIANCE.entry(number, signer=key("stranger")) for number in range(1_000)]
    request = log_pb2.AppendRequest(entries=entries)
    with grpc.insecure_channel(server.grpc_address) as channel:
        futures = [stub(channel).Append.future(request, timeout=60) for _ in range(20)]
        codes = [future.code() for future in futures]
    assert set(codes) == {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.PERMISSION_DENIED}
    assert codes.count(grpc.StatusCode.UNAVAILABLE) > codes.count(grpc.StatusCode.PERMISSION_DENIED)


def test_an_append_is_answered_while_others_read_as_much_as_they_can(server: RealServer) -> None:
    with grpc.insecure_channel(server.grpc_address) as channel:
        stub(channel).Append(log_pb2.AppendRequest(entries=ALLIANCE.entries(0, 500)), timeout=20)
    keys = [log_pb2.EntryKey(leaf_index=index) for index in range(500)] * 2
    ended = threading.Event()

    def read() -> None:
        with grpc.insecure_channel(server.grpc_address) as channel:
            while not ended.is_set():
                request = log_pb2.GetReceiptsRequest(keys=keys)
                for future in [stub(channel).GetReceipts.future(request) for _ in range(40)]:
                    assert future.code() in (grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE)

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    try:
        time.sleep(0.5)
        with grpc.insecure_channel(server.grpc_address) as channel:
            for number in range(600, 603):
                stub(channel).Append(log_pb2.AppendRequest(entries=[ALLIANCE.entry(number)]), timeout=30)
    finally:
        ended.set()
        for reader in readers:
            reader.join(60)


def test_an_entry_that_was_just_committed_is_proven_or_absent_and_never_an_error(
    server: RealServer,
) -> None:
    ended = threading.Event()

    def write() -> None:
        with grpc.insecure_channel(server.grpc_address) as channel:
            number = 10_000
            while not ended.is_set():
                stub(channel).Append(log_pb2.AppendRequest(entries=[ALLIANCE.entry(number)]), timeout=20)
                number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with grpc.insecure_channel(server.grpc_address) as channel:
            for number in range(10_000, 10_060):
                for _ in range(5):
                    source_id = log_pb2.SourceId(source=ALLIANCE.source("exporter"), id=f"event-{number}")
                    request = log_pb2.GetInclusionProofsRequest(keys=[log_pb2.EntryKey(source_id=source_id)])
                    stub(channel).GetInclusionProofs(request, timeout=20)
    finally:
        ended.set()
        writer.join(30)


def test_a_stop_is_not_held_up_by_calls_that_wait_for_verification(tmp_path: Path) -> None:
    config = make_log_directory(
        tmp_path, ALLIANCE, config=LIMITS.replace("max_queued_entries = 3000", "max_queued_entries = 1000000")
    )
    entries = [ALLIANCE.entry(number, signer=key("stranger")) for number in range(1_000)]
    request = log_pb2.AppendRequest(entries=entries)
    with serving(config) as running, grpc.insecure_channel(running.grpc_address) as channel:
        futures = [stub(channel).Append.future(request) for _ in range(150)]
        futures[0].code()
        started = time.monotonic()
        running.stop()
        assert time.monotonic() - started < 12
        assert all(future.code() is not grpc.StatusCode.OK for future in futures)


def test_metadata_beyond_its_limit_is_refused_and_the_next_call_answered(channel: grpc.Channel) -> None:
    request = log_pb2.GetCheckpointRequest()
    with pytest.raises(grpc.RpcError) as refused:
        stub(channel).GetCheckpoint(request, timeout=20, metadata=[("x-large", "y" * 40_000)])
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert stub(channel).GetCheckpoint(request, timeout=20).checkpoint
