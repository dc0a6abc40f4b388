"""Spans of a call and of its stages, as OpenTelemetry's own exporter gets them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import AsyncExitStack
from time import perf_counter

import pytest
from _support.source_tree import ROOT
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

from server.config import TracingSection
from server.sequencer import CommitTimes, Sequenced
from server.tracing import Tracing, open_tracing
from tlog.errors import ConfigError
from tlog.validate import CallOutcome

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = f"00-{TRACE_ID}-00f067aa0ba902b7"


class Called:
    """Is a call with metadata."""

    def __init__(self, **metadata: str) -> None:
        self._metadata = tuple(metadata.items())

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return self._metadata


def traced(called: Called, *, ratio: float = 1.0, code: str = "OK") -> InMemorySpanExporter:
    kept = InMemorySpanExporter()
    provider = TracerProvider(sampler=ParentBased(TraceIdRatioBased(ratio)))
    provider.add_span_processor(SimpleSpanProcessor(kept))
    tracing = Tracing(provider)
    trace = tracing.begin(called)  # type: ignore[arg-type]
    trace.entries, trace.size_bytes = 3, 900
    now_s = trace.stage("verify", perf_counter())
    times = CommitTimes(began_s=now_s + 1, storing_s=now_s + 2, ended_s=now_s + 4)
    outcome = CallOutcome(leaf_indices=(0,), already_present=(False,), new_range=(0, 1))
    trace.sequenced(now_s, Sequenced(outcome=outcome, checkpoint=None, times=times))  # type: ignore[arg-type]
    tracing.end(trace, "Append", code)
    tracing.close()
    return kept


def test_each_stage_is_a_span_below_that_of_the_call_with_its_own_times() -> None:
    spans = {span.name: span for span in traced(Called(traceparent=f"{CALLER}-01")).get_finished_spans()}
    assert list(spans) == ["verify", "queue", "integrate", "commit", "Append"]
    call = spans.pop("Append")
    assert call.attributes == {"rpc.grpc.status_code": "OK", "tlog.entries": 3, "tlog.bytes": 900}
    assert call.parent is not None
    assert f"{call.parent.span_id:016x}" == "00f067aa0ba902b7"
    assert call.context is not None
    for span in spans.values():
        assert span.parent == call.context
        assert f"{span.context.trace_id:032x}" == TRACE_ID  # type: ignore[union-attr]
    took_s = {name: (span.end_time - span.start_time) / 1e9 for name, span in spans.items()}  # type: ignore[operator]
    assert (took_s["queue"], took_s["integrate"], took_s["commit"]) == pytest.approx((1, 1, 2))
    assert spans["queue"].end_time == spans["integrate"].start_time


def test_a_caller_that_says_that_it_is_not_traced_is_not() -> None:
    assert not traced(Called(traceparent=f"{CALLER}-00")).get_finished_spans()


def test_without_a_word_of_the_caller_the_share_decides() -> None:
    assert traced(Called()).get_finished_spans()
    assert not traced(Called(), ratio=0.0).get_finished_spans()
    assert not traced(Called(traceparent="junk\x00"), ratio=0.0).get_finished_spans()


def test_a_call_that_failed_has_a_span_that_says_so() -> None:
    call = traced(Called(), code="RESOURCE_EXHAUSTED").get_finished_spans()[-1]
    assert not call.status.is_ok
    assert call.status.description == "RESOURCE_EXHAUSTED"


def test_a_server_that_does_not_trace_imports_nothing_of_it() -> None:
    source = (
        "import asyncio, sys, server.app, server.worker\n"
        "from contextlib import AsyncExitStack\n"
        "from server.config import TracingSection\n"
        "from server.tracing import open_tracing\n"
        "assert open_tracing(TracingSection(), AsyncExitStack()) is None\n"
        "found = [name for name in sys.modules if name.startswith('opentelemetry')]\n"
        "assert not found, found\n"
    )
    subprocess.run([sys.executable, "-c", source], check=True, cwd=ROOT)


def test_a_collector_without_the_extra_is_an_error_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            open_tracing(TracingSection(otlp_endpoint="http://127.0.0.1:4317"), stack)

    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(ConfigError, match=r"pip install 'tlog\[otel\]'"):
        asyncio.run(scenario())
