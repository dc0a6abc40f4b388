"""A log that only members read: by gRPC and by tiles, with workers too, at once after governance says so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
import pytest
from _support.alliance import Alliance, key
from _support.log_directory import CONFIG, make_log_directory, serving
from _support.real_server import RealServer
from _support.tls_files import TestAuthority

from server.config import parse_config
from tlog.client import LogClient, RetryPolicy
from tlog.errors import AccessError, ConfigError
from tlog.governance import MemberStatus
from tlog.grpc_tls import channel_credentials
from tlog.policy import build_policy
from tlog.tile_source.http import HttpTileSource
from tlog.tiles import Tile
from tlog.tls import ClientTls
from tlog.v1 import log_pb2, log_pb2_grpc


@dataclass
class Place:
    alliance: Alliance
    server: RealServer
    callers: dict[str, ClientTls]


@pytest.fixture(scope="module")
def callers(tmp_path_factory: pytest.TempPathFactory) -> tuple[TestAuthority, dict[str, ClientTls]]:
    authority = TestAuthority(tmp_path_factory.mktemp("tls") / "ca")
    members = {name: authority.client(name, Alliance.source(name)) for name in ("exporter", "forwarder")}
    return authority, {**members, "stranger": authority.client("stranger"), "nobody": authority.stranger()}


@pytest.fixture(
    params=[("members", 0), ("members", 2), (["forwarder"], 0)], ids=["alone", "workers", "roles"]
)
def place(
    request: pytest.FixtureRequest, tmp_path: Path, callers: tuple[TestAuthority, dict[str, ClientTls]]
) -> Iterator[Place]:
    read, workers = request.param
    authority, known = callers
    alliance = Alliance()
    spelled = f'"{read}"' if isinstance(read, str) else str(read).replace("'", '"')
    config = make_log_directory(
        tmp_path / "log",
        alliance,
        config=CONFIG
        + f"[server]\nworkers = {workers}\n[access]\nread = {spelled}\n"
        + authority.tables(server=tmp_path.name),
    )
    with serving(config, known["stranger"]) as server:
        yield Place(alliance, server, known)


def client(place: Place, name: str) -> LogClient:
    return LogClient(
        place.server.grpc_address,
        build_policy([place.alliance.signer.vkey]),
        checkpoint_file=None,
        timeout_s=5.0,
        retry=RetryPolicy(deadline_s=5.0),
        credentials=channel_credentials(place.callers[name]),
    )


def every_read(place: Place, name: str) -> dict[str, grpc.StatusCode]:
    """Make every call that reads; returns how each ended."""
    key = log_pb2.EntryKey(leaf_index=0)
    ended = {}
    with grpc.secure_channel(place.server.grpc_address, channel_credentials(place.callers[name])) as channel:
        stub = log_pb2_grpc.LogServiceStub(channel)  # type: ignore[no-untyped-call]
        calls = {
            "GetCheckpoint": log_pb2.GetCheckpointRequest(),
            "GetInclusionProofs": log_pb2.GetInclusionProofsRequest(keys=[key]),
            "GetConsistencyProof": log_pb2.GetConsistencyProofRequest(first_tree_size=1, second_tree_size=2),
            "GetReceipts": log_pb2.GetReceiptsRequest(keys=[key]),
            "Lookup": log_pb2.LookupRequest(business_key="invoice:1"),
            "GetEntries": log_pb2.GetEntriesRequest(),
            "WatchCheckpoints": log_pb2.WatchCheckpointsRequest(),
        }
        assert {*calls, "Append"} == set(log_pb2.DESCRIPTOR.services_by_name["LogService"].methods_by_name)
        for method, request in calls.items():
            try:
                answer = getattr(stub, method)(request, timeout=30)
                if method in ("GetEntries", "WatchCheckpoints"):
                    next(answer)
                    answer.cancel()
                ended[method] = grpc.StatusCode.OK
            except grpc.RpcError as error:
                ended[method] = error.code()
    return ended


def test_readers_read_everything_and_others_nothing_and_everybody_may_append(place: Place) -> None:
    assert set(every_read(place, "forwarder").values()) == {grpc.StatusCode.OK}
    assert set(every_read(place, "stranger").values()) == {grpc.StatusCode.PERMISSION_DENIED}
    with client(place, "stranger") as stranger, pytest.raises(AccessError, match="registered source"):
        stranger.checkpoint()
    with grpc.secure_channel(
        place.server.grpc_address, channel_credentials(place.callers["stranger"])
    ) as channel:
        stub = log_pb2_grpc.LogServiceStub(channel)  # type: ignore[no-untyped-call]
        answer = stub.Append(log_pb2.AppendRequest(entries=[place.alliance.entry(1)]), timeout=30)
        assert answer.results[0].leaf_index == len(place.alliance.governance)
        # Who may not read cannot ask by Append either what is there: only its own member hears of a conflict.
        told = []
        for number in (1, 2):
            probe = place.alliance.entry(number, note="is it there?", signer=key("stranger"))
            with pytest.raises(grpc.RpcError) as refused:
                stub.Append(log_pb2.AppendRequest(entries=[probe]), timeout=30)
            details = dict(refused.value.trailing_metadata())["grpc-status-details-bin"]
            told.append((refused.value.code(), refused.value.details(), details))
        assert told[0] == told[1]
        with pytest.raises(grpc.RpcError) as own:
            stub.Append(log_pb2.AppendRequest(entries=[place.alliance.entry(1, note="x")]), timeout=30)
        assert own.value.code() is grpc.StatusCode.ALREADY_EXISTS


def test_tiles_are_under_the_same_rule(place: Place) -> None:
    url = place.server.tiles_url
    with HttpTileSource(url, tls=place.callers["forwarder"]) as source:
        assert source.checkpoint()
        assert source.tile(Tile(0, 0, len(place.alliance.governance)))
    with HttpTileSource(url, tls=place.callers["stranger"]) as source:
        with pytest.raises(AccessError):
            source.checkpoint()
        with pytest.raises(AccessError):
            source.tile(Tile(0, 0, len(place.alliance.governance)))
    with httpx.Client(verify=place.callers["forwarder"].http_context()) as http:
        assert http.get(f"{url}/checkpoint").headers["Cache-Control"].startswith("private")
    with httpx.Client(verify=place.callers["stranger"].http_context()) as http:
        refused = http.get(f"{url}/tile/entries/000.p/1")
        assert refused.status_code == 403
        assert refused.headers["Cache-Control"] == "no-store"
    with (
        httpx.Client(verify=place.callers["nobody"].http_context()) as http,
        pytest.raises(httpx.TransportError),
    ):
        http.get(f"{url}/checkpoint")


def test_a_member_that_is_suspended_reads_no_more_from_the_next_call_on(place: Place) -> None:
    with client(place, "forwarder") as reading:
        reading.checkpoint()
        entry = place.alliance.add_member("forwarder", ["forwarder"], status=MemberStatus.SUSPENDED)
        stub_answer = _append(place, entry)
        assert stub_answer.results[0].leaf_index
        with pytest.raises(AccessError, match="suspended"):
            reading.checkpoint()
        with (
            HttpTileSource(place.server.tiles_url, tls=place.callers["forwarder"]) as source,
            pytest.raises(AccessError),
        ):
            source.checkpoint()
        _append(place, place.alliance.add_member("forwarder", ["forwarder"]))
        reading.checkpoint()


def test_a_watcher_that_is_suspended_hears_no_more(place: Place) -> None:
    with grpc.secure_channel(
        place.server.grpc_address, channel_credentials(place.callers["forwarder"])
    ) as channel:
        stub = log_pb2_grpc.LogServiceStub(channel)  # type: ignore[no-untyped-call]
        watched = stub.WatchCheckpoints(log_pb2.WatchCheckpointsRequest(), timeout=20)
        next(watched)
        _append(place, place.alliance.add_member("forwarder", ["forwarder"], status=MemberStatus.SUSPENDED))
        with pytest.raises(grpc.RpcError) as ended:
            while True:
                next(watched)
        assert ended.value.code() is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize("read", ['"members"', '["bank"]'])
def test_a_log_of_members_without_callers_certificates_is_refused_at_the_start(read: str) -> None:
    log = '[log]\nstore_path = "s"\nkey_path = "k"\n'
    with pytest.raises(ConfigError, match="client_ca_path"):
        parse_config(f"{log}[access]\nread = {read}\n")
    for wrong in ('"everybody"', "[]", "7", '"Public"'):
        with pytest.raises(ConfigError, match="access"):
            parse_config(f"{log}[access]\nread = {wrong}\n")


def _append(place: Place, entry: bytes) -> log_pb2.AppendResponse:
    with grpc.secure_channel(
        place.server.grpc_address, channel_credentials(place.callers["exporter"])
    ) as channel:
        stub = log_pb2_grpc.LogServiceStub(channel)  # type: ignore[no-untyped-call]
        return stub.Append(log_pb2.AppendRequest(entries=[entry]), timeout=30)
