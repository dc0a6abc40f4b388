"""Traces of appends for OpenTelemetry: one span a call, and below it one for each stage of its way.

An optional extra (`pip install 'tlog[otel]'`), and off unless [tracing] names a collector: then nothing of it
is imported, and no call is timed for it. A trace says how many entries and bytes a call had, how it ended,
and when each stage began and ended; nothing that a call says. Which trace it belongs to, and whether it is
kept, the caller's `traceparent` decides, else [tracing] sample_ratio.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import AsyncExitStack
from time import perf_counter, time_ns
from typing import TYPE_CHECKING

from server.callers import Context
from server.config import TracingSection
from server.sequencer import Sequenced
from tlog.errors import ConfigError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Tracer

CARRIERS = frozenset({"traceparent", "tracestate"})
EXPORT_TIMEOUT_S = 2.0
"""How long a collector may take for some hundred spans: a stop waits for the last of them."""
_PER_S = 1_000_000_000


class Trace:
    """Collects what one call went through, in seconds of `perf_counter`; belongs to the event loop."""

    __slots__ = ("_began_s", "_carrier", "_stages", "entries", "size_bytes")

    def __init__(self, carrier: dict[str, str]) -> None:
        """Begin now; `carrier` holds what the caller's trace context says."""
        self._carrier = carrier
        self._began_s = perf_counter()
        self._stages: list[tuple[str, float, float]] = []
        self.entries = 0
        self.size_bytes = 0

    def stage(self, name: str, began_s: float) -> float:
        """Add a stage that ends now; returns when that is."""
        ended_s = perf_counter()
        self._stages.append((name, began_s, ended_s))
        return ended_s

    def sequenced(self, began_s: float, sequenced: Sequenced) -> None:
        """Add the stages of a commit, as far as this process knows them, since the call was submitted."""
        times = sequenced.times
        if times is None:
            self.stage("commit", began_s)
            return
        self._stages += [
            ("queue", began_s, times.began_s),
            ("integrate", times.began_s, times.storing_s),
            ("commit", times.storing_s, times.ended_s),
        ]

    def export(self, tracer: Tracer, name: str, code: str) -> None:
        """Make the spans of a call that ended now with a status."""
        from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        since_ns = time_ns() - int(perf_counter() * _PER_S)

        def wall_ns(second: float) -> int:
            return since_ns + int(second * _PER_S)

        span = tracer.start_span(
            name,
            context=TraceContextTextMapPropagator().extract(self._carrier),
            kind=SpanKind.SERVER,
            attributes={
                "rpc.grpc.status_code": code,
                "tlog.entries": self.entries,
                "tlog.bytes": self.size_bytes,
            },
            start_time=wall_ns(self._began_s),
        )
        if span.is_recording():
            inside = set_span_in_context(span)
            for stage, began_s, ended_s in self._stages:
                tracer.start_span(stage, context=inside, start_time=wall_ns(began_s)).end(wall_ns(ended_s))
            if code != "OK":
                span.set_status(StatusCode.ERROR, code)
        span.end()


class Tracing:
    """Makes traces and hands them to a collector, in a thread of its own."""

    def __init__(self, provider: TracerProvider) -> None:
        """Make traces with a provider of OpenTelemetry's SDK."""
        self._provider = provider
        self._tracer = provider.get_tracer("tlog.server")

    def begin(self, context: Context) -> Trace:
        """Begin the trace of a call."""
        return Trace(_carrier(context.invocation_metadata() or ()))

    def end(self, trace: Trace, name: str, code: str) -> None:
        """End the trace of a call."""
        trace.export(self._tracer, name, code)

    def close(self) -> None:
        """Hand over what is left."""
        self._provider.shutdown()


def open_tracing(section: TracingSection, stack: AsyncExitStack) -> Tracing | None:
    """Begin to trace where the configuration says so; `stack` ends it. Raises ConfigError."""
    if not section.otlp_endpoint:
        return None
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
    except ImportError as error:
        raise ConfigError(
            f"[tracing] otlp_endpoint is set, and {error.name} is not installed: pip install 'tlog[otel]', "
            "or leave the endpoint out"
        ) from error
    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(section.sample_ratio)),
        resource=Resource.create({"service.name": section.service_name}),
        shutdown_on_exit=False,
    )
    exporter = OTLPSpanExporter(endpoint=section.otlp_endpoint, timeout=EXPORT_TIMEOUT_S)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    tracing = Tracing(provider)
    stack.push_async_callback(asyncio.to_thread, tracing.close)
    return tracing


def _carrier(metadata: Iterable[tuple[str, str | bytes]]) -> dict[str, str]:
    return {key: value for key, value in metadata if key in CARRIERS and isinstance(value, str)}
