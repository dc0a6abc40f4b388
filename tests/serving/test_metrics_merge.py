"""One page of metrics for several processes."""

from __future__ import annotations

from server.metrics import Metrics
from server.metrics_merge import add_up, without_gauges
from tlog.errors import RefusalReason, RefusedError


def page(metrics: Metrics, *others: Metrics) -> dict[str, float]:
    """Make the page; returns the value of every sample."""
    body, content_type = metrics.page("", lambda: [one for other in others for one in other.samples()])
    assert content_type.startswith("text/plain")
    lines = body.decode().splitlines()
    samples = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert len(samples) == len([line for line in lines if not line.startswith("#")])
    return {name: float(value) for name, value in samples.items()}


def test_counters_histograms_and_the_queue_are_added_and_other_gauges_are_the_main_process_s() -> None:
    main, first, second = Metrics(), Metrics(), Metrics()
    main.committed_size(70)
    main.published(60)
    first.published(50)
    first.watch_queue(lambda: 3, lambda: 300)
    second.watch_queue(lambda: 4, lambda: 400)
    for metrics, seconds in ((main, 0.3), (first, 0.3), (second, 0.002)):
        metrics.call("Append", "OK", seconds)
    second.call("Lookup", "OUT_OF_RANGE", 0.3)
    for metrics in (first, second):
        metrics.refused(RefusedError(RefusalReason.TOO_LARGE, "x"))
    got = page(main, first, second)
    assert got["tlog_tree_size_entries"] == 70
    assert got["tlog_published_size_entries"] == 60
    assert got["tlog_sequencer_queue_entries"] == 7
    assert got["tlog_sequencer_queue_bytes"] == 700
    assert got['tlog_grpc_call_seconds_count{code="OK",method="Append"}'] == 3
    assert got['tlog_grpc_call_seconds_bucket{code="OK",le="0.0025",method="Append"}'] == 1
    assert got['tlog_grpc_call_seconds_bucket{code="OK",le="+Inf",method="Append"}'] == 3
    assert got['tlog_grpc_call_seconds_count{code="OUT_OF_RANGE",method="Lookup"}'] == 1
    assert got['tlog_validate_refused_entries_total{reason="too_large"}'] == 2


def test_the_page_of_one_process_is_its_registry() -> None:
    metrics = Metrics()
    metrics.call("Append", "OK", 0.3)
    metrics.committed(5, duration_s=0.1, store_s=0.05)
    got = page(metrics)
    assert got["tlog_append_entries_total"] == 5
    for family in metrics.registry.collect():
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            assert (f"{sample.name}{{{labels}}}" if labels else sample.name) in got


def test_of_a_dead_process_what_it_counted_stays_and_its_queue_does_not() -> None:
    metrics = Metrics()
    metrics.watch_queue(lambda: 3, lambda: 300)
    metrics.pushed_back()
    rest = {sample.name: sample.value for sample in without_gauges(metrics.samples())}
    assert rest["tlog_append_pushback_calls_total"] == 1
    assert "tlog_sequencer_queue_entries" not in rest
    twice = {sample.name: sample.value for sample in add_up([*metrics.samples(), *metrics.samples()])}
    assert twice["tlog_append_pushback_calls_total"] == 2
