"""A line for each call, as JSON: whose, which, how it ended; and nothing of what it said."""

from __future__ import annotations

import json
import time
from pathlib import Path

import grpc
import httpx
import pytest
from _support.alliance import Alliance, key
from _support.log_directory import CONFIG, make_log_directory, serving
from _support.tls_files import TestAuthority

from tlog.grpc_tls import channel_credentials
from tlog.v1 import log_pb2, log_pb2_grpc


@pytest.mark.parametrize("workers", [0, 2])
def test_every_call_has_a_line_with_its_id_its_member_its_status_and_its_time(
    tmp_path: Path, workers: int
) -> None:
    authority, alliance = TestAuthority(tmp_path / "ca"), Alliance()
    tables = (
        f'[server]\nworkers = {workers}\n[logging]\nformat = "json"\ncalls = "all"\n' + authority.tables()
    )
    config = make_log_directory(tmp_path / "log", alliance, config=CONFIG + tables)
    exporter = authority.client("exporter", alliance.source("exporter"))
    entry = alliance.entry(1, note="a secret of the trade")
    with serving(config, exporter) as server:
        with grpc.secure_channel(server.grpc_address, channel_credentials(exporter)) as channel:
            stub = log_pb2_grpc.LogServiceStub(channel)  # type: ignore[no-untyped-call]
            named = (("x-request-id", "bank-4711"),)
            stub.Append(log_pb2.AppendRequest(entries=[entry]), timeout=20, metadata=named)
            next(stub.GetEntries(log_pb2.GetEntriesRequest(), timeout=20))
            with pytest.raises(grpc.RpcError) as failed:
                stub.Append(log_pb2.AppendRequest(), timeout=20, metadata=(("x-request-id", "no word!"),))
        told = dict(failed.value.trailing_metadata())["x-request-id"]
        with httpx.Client(verify=exporter.http_context(), headers={"x-request-id": "scrape-1"}) as http:
            assert http.get(f"{server.tiles_url}/checkpoint").status_code == 200
            assert http.get(f"{server.tiles_url}/tile/a-secret-path").status_code == 404
            assert http.get(server.metrics_url).status_code == 200
            page = f"{server.metrics_url}/a-secret-path"
            assert http.get(page, headers={"x-request-id": "no word!"}).status_code == 404
        end_s = time.monotonic() + 10
        while len(lines := _calls(server.errors)) < 6 and time.monotonic() < end_s:
            time.sleep(0.05)
        errors = server.errors
    # Workers' lines come by another process than HTTP's.
    appended, read, refused = (line for line in lines if "path" not in line)
    over_http = {(line["path"], line["member"]): line for line in lines if "path" in line}
    checkpoint, other = over_http["checkpoint", None], over_http["other", "exporter"]
    assert over_http.keys() == {("checkpoint", None), ("other", None), ("other", "exporter")}
    assert {"request_id", "method", "code", "duration_ms", "caller", "member"} <= checkpoint.keys()
    assert [(line["method"], line["code"]) for line in over_http.values()].count(("GET", "404")) == 2
    assert (checkpoint["code"], checkpoint["request_id"]) == ("200", "scrape-1")
    assert over_http["other", None]["request_id"] == "scrape-1"
    assert other["request_id"] not in ("scrape-1", "no word!")
    # The tiles of a public log ask for no certificate, the operator's pages do.
    assert checkpoint["caller"] == over_http["other", None]["caller"] == "127.0.0.1"
    assert "a-secret-path" not in errors
    assert appended["request_id"] == "bank-4711"
    assert (appended["method"], appended["code"], appended["member"]) == ("Append", "OK", "exporter")
    assert 0 < appended["duration_ms"] < 60_000
    assert read["method"] == "GetEntries"
    assert (refused["code"], refused["request_id"]) == ("INVALID_ARGUMENT", told)
    assert refused["request_id"] not in ("bank-4711", read["request_id"], "no word!")
    for secret in ("secret of the trade", "PRIVATE", "BEGIN CERT", key("exporter").public_key.hex()):
        assert secret not in errors
    for line in errors.splitlines():
        assert {"time", "level", "logger", "message"} <= json.loads(line).keys(), line


def _calls(errors: str) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in errors.splitlines() if line.endswith("}")]
    return [line for line in lines if line.get("logger") == "tlog.calls"]
