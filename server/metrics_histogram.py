"""Histograms that cost a fraction of a microsecond to observe, for what is measured of every call.

`prometheus_client` looks through the bounds in Python, and takes a lock for the sum and one for the bucket.
On a page these look as its own histograms do.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from threading import Lock

import prometheus_client
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

_CREATED = "_created"


class Observations:
    """Counts what was observed, by bucket; safe to use from many threads, none of whose values is lost."""

    __slots__ = ("_bounds", "_counts", "_lock", "_sum", "created_s")

    def __init__(self, bounds: Sequence[float]) -> None:
        """Begin empty; each bound is the last value of its bucket, and one more bucket has what is above."""
        self.created_s = time.time()
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0
        self._lock = Lock()

    def observe(self, value: float) -> None:
        """Count one value, which is not NaN."""
        bucket = bisect_left(self._bounds, value)
        with self._lock:
            self._counts[bucket] += 1
            self._sum += value

    def state(self) -> tuple[Sequence[int], float]:
        """Return how many values each bucket has, and the sum of all."""
        with self._lock:
            return tuple(self._counts), self._sum


class Histogram(Collector):
    """Shows one family of observations, those of each set of label values apart."""

    def __init__(
        self,
        name: str,
        says: str,
        labels: Sequence[str] = (),
        *,
        bounds: Sequence[float],
        registry: CollectorRegistry,
    ) -> None:
        """Show it in a registry. Requires bounds that are above 0, finite, and rise."""
        self._name = name
        self._says = says
        self._labels = labels
        self._bounds = tuple(map(float, bounds))
        self._le = (*map(floatToGoString, self._bounds), "+Inf")
        self._has_created = _has_created()
        self._lock = Lock()
        self._observations: dict[tuple[str, ...], Observations] = {}
        registry.register(self)

    def labels(self, *values: str) -> Observations:
        """Return what is observed under these label values, new where it is the first time."""
        found = self._observations.get(values)
        if found is None:
            if len(values) != len(self._labels):
                raise ValueError(f"{self._name} has the labels {self._labels}, and not as many as {values}")
            with self._lock:
                found = self._observations.setdefault(values, Observations(self._bounds))
        return found

    def describe(self) -> Iterable[Metric]:
        """Return the family without observations, by which a registry knows whether its name is taken."""
        return (self._family(),)

    def collect(self) -> Iterable[Metric]:
        """Return the family, with all that was observed."""
        family = self._family()
        with self._lock:
            all_observations = list(self._observations.items())
        for values, observations in all_observations:
            counts, total = observations.state()
            count, buckets = 0.0, []
            for le, of_bucket in zip(self._le, counts, strict=True):
                count += of_bucket
                buckets.append((le, count))
            family.add_metric(values, buckets, total)
            if self._has_created:
                labels = dict(zip(self._labels, values, strict=True))
                family.add_sample(self._name + _CREATED, labels, observations.created_s)
        return (family,)

    def _family(self) -> HistogramMetricFamily:
        return HistogramMetricFamily(self._name, self._says, labels=self._labels)


def _has_created() -> bool:
    """Return whether the library's own histograms tell when they began, which the environment decides."""
    (family,) = prometheus_client.Histogram("any", "Any.", registry=None).collect()
    return any(sample.name.endswith(_CREATED) for sample in family.samples)
