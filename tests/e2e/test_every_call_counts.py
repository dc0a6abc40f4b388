"""Calls that do no work for anybody are charged to their caller all the same."""

from __future__ import annotations

from pathlib import Path

import grpc
import httpx
import pytest
from _support.alliance import Alliance
from _support.log_directory import CONFIG, make_log_directory, serving

TABLES = """[gossip]
enabled = true
state_path = "gossip"
[quotas]
caller_calls_per_s = 5.0
[server]
workers = {workers}
"""


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("method", ["tlog.v1.LogService/NoSuchMethod", "tlog.v1.GossipService/Exchange"])
def test_calls_of_unknown_methods_and_exchanges_count_as_calls_of_their_caller(
    tmp_path: Path, method: str, workers: int
) -> None:
    config = make_log_directory(tmp_path / "log", Alliance(), config=CONFIG + TABLES.format(workers=workers))
    with serving(config) as server, grpc.insecure_channel(server.grpc_address) as channel:
        call = channel.unary_unary(f"/{method}")
        codes = []
        while grpc.StatusCode.RESOURCE_EXHAUSTED not in codes and len(codes) < 200:
            with pytest.raises(grpc.RpcError) as refused:
                call(b"\xff", timeout=20)
            codes.append(refused.value.code())
        assert "calls/s" in refused.value.details()
        assert set(codes[:-1]) == {
            grpc.StatusCode.UNIMPLEMENTED if "NoSuch" in method else grpc.StatusCode.INVALID_ARGUMENT
        }
        page = httpx.get(server.metrics_url).text
        told = "unknown" if "NoSuch" in method else "Exchange"
        assert f'tlog_grpc_call_seconds_count{{code="RESOURCE_EXHAUSTED",method="{told}"}} 1.0' in page
        assert "NoSuch" not in page
        assert "Traceback" not in server.errors
