"""Histograms of our own, held against those of prometheus_client."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from unittest.mock import patch

import prometheus_client
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, disable_created_metrics, enable_created_metrics
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_open_metrics

from server.metrics_histogram import Histogram, Observations

NAME = "tlog_any_seconds"
SAYS = "Time of any thing."
BOUNDS = st.sampled_from(
    (
        (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
        (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_000, 2_000, 4_000, 10_000_000),
    )
)
VALUES = st.one_of(
    st.integers(min_value=0, max_value=2**64),
    st.floats(min_value=0.0, allow_nan=False, allow_infinity=True),
    st.floats(min_value=0.0, max_value=20.0),
    BOUNDS.flatmap(st.sampled_from),
)
LABEL = st.sampled_from(("Append", "Lookup", "OK", 'a "quoted"\nname'))


def pages(registry: CollectorRegistry) -> tuple[bytes, bytes]:
    return generate_latest(registry), generate_open_metrics(registry)


@given(BOUNDS, st.lists(VALUES, max_size=40))
@example((1, 2), [])
def test_a_page_shows_what_the_library_s_own_histogram_shows(
    bounds: tuple[float, ...], values: list[float]
) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    with patch.object(time, "time", lambda: 1.5e9):
        observations = Histogram(NAME, SAYS, bounds=bounds, registry=ours).labels()
        expected = prometheus_client.Histogram(NAME, SAYS, buckets=bounds, registry=theirs)
    for value in values:
        observations.observe(value)
        expected.observe(value)
    assert pages(ours) == pages(theirs)


@given(BOUNDS, st.lists(st.tuples(LABEL, LABEL, VALUES), max_size=40))
def test_with_labels_each_set_of_values_appears_when_it_is_first_observed_and_says_since_when(
    bounds: tuple[float, ...], observed: list[tuple[str, str, float]]
) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    labels = ("method", "code")
    histogram = Histogram(NAME, SAYS, labels, bounds=bounds, registry=ours)
    expected = prometheus_client.Histogram(NAME, SAYS, labels, buckets=bounds, registry=theirs)
    assert pages(ours) == pages(theirs)
    for moment, (method, code, value) in zip(count(1), observed, strict=False):
        with patch.object(time, "time", lambda moment=moment: 1.5e9 + moment):
            histogram.labels(method, code).observe(value)
            expected.labels(method, code).observe(value)
    assert pages(ours) == pages(theirs)


def test_where_the_library_does_not_say_since_when_neither_do_we() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    disable_created_metrics()
    try:
        Histogram(NAME, SAYS, bounds=(1, 2), registry=ours).labels().observe(1.5)
        prometheus_client.Histogram(NAME, SAYS, buckets=(1, 2), registry=theirs).observe(1.5)
        assert pages(ours) == pages(theirs)
    finally:
        enable_created_metrics()


def test_a_name_that_is_taken_is_refused() -> None:
    registry = CollectorRegistry()
    prometheus_client.Gauge(NAME, SAYS, registry=registry)
    with pytest.raises(ValueError, match=NAME):
        Histogram(NAME, SAYS, bounds=(1,), registry=registry)


def test_too_few_label_values_are_refused() -> None:
    with pytest.raises(ValueError, match="labels"):
        Histogram(NAME, SAYS, ("method",), bounds=(1,), registry=CollectorRegistry()).labels()


class Slow(float):
    """Is a number that lets another thread in while it is added."""

    def __radd__(self, other: float) -> float:
        time.sleep(0.0005)
        return float(other) + float(self)


def test_of_many_threads_no_observation_is_lost() -> None:
    observations = Observations((1.0, 2.0))
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(observations.observe, [Slow(1.5)] * 24))
    assert observations.state() == ((0, 24, 0), 36.0)
