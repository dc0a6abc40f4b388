"""Traces of a real server, as a collector gets them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from _support.alliance import Alliance
from _support.log_directory import COSIGNED_CONFIG, make_log_directory, serving
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tlog.v1 import log_pb2, log_pb2_grpc

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"


@contextmanager
def collecting() -> Iterator[tuple[str, list[Span]]]:
    """Run a collector while the block runs; yields its address, and what it was given."""
    spans: list[Span] = []

    def export(request: ExportTraceServiceRequest, _: object) -> ExportTraceServiceResponse:
        spans.extend(
            span for one in request.resource_spans for scope in one.scope_spans for span in scope.spans
        )
        return ExportTraceServiceResponse()

    handler = grpc.unary_unary_rpc_method_handler(
        export,
        request_deserializer=ExportTraceServiceRequest.FromString,
        response_serializer=ExportTraceServiceResponse.SerializeToString,
    )
    service = "opentelemetry.proto.collector.trace.v1.TraceService"
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"Export": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"http://127.0.0.1:{port}", spans
    finally:
        server.stop(0).wait()


@pytest.mark.parametrize("workers", [0, 1])
def test_an_append_is_a_span_in_the_callers_trace_with_one_for_each_stage(
    tmp_path: Path, workers: int
) -> None:
    alliance = Alliance()
    with collecting() as (address, spans):
        tables = (
            f'[server]\nworkers = {workers}\n[tracing]\notlp_endpoint = "{address}"\nsample_ratio = 0.0\n'
        )
        config = make_log_directory(tmp_path / "log", alliance, config=COSIGNED_CONFIG + tables)
        with serving(config) as server, grpc.insecure_channel(server.grpc_address) as channel:
            stub = log_pb2_grpc.LogServiceStub(channel)  # type: ignore[no-untyped-call]
            stub.Append(log_pb2.AppendRequest(entries=alliance.entries(5, 6)), timeout=20)  # traced by nobody
            request = log_pb2.AppendRequest(
                entries=alliance.entries(0, 3), wait_for=log_pb2.APPEND_STAGE_COSIGNED
            )
            metadata = (("traceparent", f"00-{TRACE_ID}-00f067aa0ba902b7-01"),)
            stub.Append(request, timeout=20, metadata=metadata)
        # The server has stopped: what it had not handed over is here now.
        names = {span.name for span in spans}
        sequenced = {"queue", "integrate", "commit"} if workers == 0 else {"commit"}
        assert names == {"tlog.v1.LogService/Append", "admit", "verify", "publish", "answer"} | sequenced
        assert len(spans) == len(names)
        assert {span.trace_id.hex() for span in spans} == {TRACE_ID}
        (call,) = (span for span in spans if span.name.endswith("/Append"))
        assert call.parent_span_id.hex() == "00f067aa0ba902b7"
        for span in spans:
            assert call.start_time_unix_nano <= span.start_time_unix_nano
            assert span.start_time_unix_nano <= span.end_time_unix_nano <= call.end_time_unix_nano


def test_a_collector_that_is_away_holds_up_no_call_and_no_stop(tmp_path: Path) -> None:
    alliance = Alliance()
    tables = '[tracing]\notlp_endpoint = "http://127.0.0.1:1"\nsample_ratio = 1.0\n'
    config = make_log_directory(tmp_path / "log", alliance, config=COSIGNED_CONFIG + tables)
    with serving(config) as server, grpc.insecure_channel(server.grpc_address) as channel:
        stub = log_pb2_grpc.LogServiceStub(channel)  # type: ignore[no-untyped-call]
        for number in range(3):
            entries = [alliance.entry(number)]
            assert stub.Append(log_pb2.AppendRequest(entries=entries), timeout=5).results
