"""Whose quota refused, by which limit, and how much is left: what a server's operator is told of it."""

from __future__ import annotations

import re
from pathlib import Path

import grpc
import httpx
import pytest
from _support.alliance import DECLARATION, Alliance, key
from _support.command_line import tlog
from _support.log_directory import CONFIG, make_log_directory, serving

from tlog.governance import Quota
from tlog.v1 import log_pb2, log_pb2_grpc

SLOW = Quota(events_per_s=1, bytes_per_s=10**6, burst_events=100, outstanding_events=500)
TABLES = """[server]
workers = {workers}
[quotas]
caller_calls_per_s = 8.0
"""


@pytest.mark.parametrize("workers", [pytest.param(0, marks=pytest.mark.nightly), 2])
def test_metrics_status_and_doctor_say_whose_quota_refused_by_which_limit_and_what_is_left(
    tmp_path: Path, workers: int
) -> None:
    alliance = Alliance()
    alliance.add_member("exporter", ["exporter"], quota=SLOW)
    config = make_log_directory(tmp_path / "log", alliance, config=CONFIG + TABLES.format(workers=workers))
    forwarder = [alliance.entry(number, member="forwarder", event_type=DECLARATION) for number in range(3)]
    strangers = [alliance.entry(1_000, member="bank", signer=key("stranger"))]
    with serving(config) as server:
        assert tlog("doctor", server.metrics_url).code == 0
        with grpc.insecure_channel(server.grpc_address) as channel:
            stub = log_pb2_grpc.LogServiceStub(channel)  # type: ignore[no-untyped-call]

            def append(entries: list[bytes]) -> grpc.StatusCode:
                try:
                    stub.Append(log_pb2.AppendRequest(entries=entries), timeout=20)
                except grpc.RpcError as error:
                    return error.code()
                return grpc.StatusCode.OK

            assert append(alliance.entries(0, 100)) is grpc.StatusCode.OK
            assert append(forwarder) is grpc.StatusCode.OK
            assert append(strangers) is not grpc.StatusCode.RESOURCE_EXHAUSTED
            # The second is refused without a look at its signatures, and counts as the first one does.
            for _ in range(2):
                assert append(alliance.entries(100, 140)) is grpc.StatusCode.RESOURCE_EXHAUSTED
            while True:
                try:
                    stub.GetCheckpoint(log_pb2.GetCheckpointRequest(), timeout=20)
                except grpc.RpcError as error:
                    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
                    break
        page = httpx.get(server.metrics_url).text
        refused = dict(re.findall(r"^tlog_quota_refused_(\w+_total\{.*\}) (\S+)$", page, flags=re.MULTILINE))
        exporter = 'limit="events_per_s",member="exporter"'
        assert float(refused.pop(f"calls_total{{{exporter}}}")) == 2
        assert float(refused.pop(f"entries_total{{{exporter}}}")) == 80
        assert all('limit="calls_per_s",member="(callers)"' in name for name in refused)
        assert len(refused) == 2
        shown = tlog("status", server.metrics_url, "--json").json
        assert shown["quota_refused_calls"]["exporter"] == {"events_per_s": 2}
        assert shown["quota_refused_calls"]["(callers)"]["calls_per_s"] >= 1
        assert shown["quota_left_percent"].keys() == {"exporter", "forwarder"}
        assert shown["quota_left_percent"]["exporter"]["events_per_s"] < 100
        assert shown["quota_left_percent"]["forwarder"]["outstanding_events"] == 100
        assert "exporter: events_per_s: 2" in tlog("status", server.metrics_url).out
        found = [
            one["found"]
            for one in tlog("doctor", server.metrics_url, "--json").json["findings"]
            if one["check"] == "quota"
        ]
        assert any(one.startswith("exporter: 2 calls were refused by events_per_s, ") for one in found)
