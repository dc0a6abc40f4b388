"""Many small calls at a time, through one connection of a real server."""

from __future__ import annotations

import threading
from pathlib import Path

import grpc
from _support.alliance import Alliance
from _support.log_directory import CONFIG, make_log_directory, serving

from tlog.v1 import log_pb2, log_pb2_grpc

CALLS = 2_000
IN_FLIGHT = 64


def test_lone_events_of_which_64_are_under_way_at_a_time_are_all_taken(tmp_path: Path) -> None:
    alliance = Alliance()
    quotas = "[quotas]\ncaller_calls_per_s = 1000000\n"
    config = make_log_directory(tmp_path / "log", alliance, config=CONFIG + quotas)
    entries = alliance.entries(0, CALLS)
    free = threading.Semaphore(IN_FLIGHT)
    calls = []
    with serving(config) as server, grpc.insecure_channel(server.grpc_address) as channel:
        stub = log_pb2_grpc.LogServiceStub(channel)
        for entry in entries:
            free.acquire()
            call = stub.Append.future(log_pb2.AppendRequest(entries=[entry]))
            call.add_done_callback(lambda _: free.release())
            calls.append(call)
        indices = [call.result(timeout=60).results[0].leaf_index for call in calls]
        assert len(set(indices)) == CALLS
        again = stub.Append(log_pb2.AppendRequest(entries=[entries[0]]))
        assert again.results[0].already_present
        assert again.results[0].leaf_index == indices[0]
