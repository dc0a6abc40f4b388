"""One page of metrics for several processes: what they counted is added up, sample by sample.

Every process counts in a registry of its own, with the same metrics in it. Gauges say what is so now, and
only the queue is spread over the processes: of all others the main process alone knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.registry import Collector

from server.wire import Sample

QUEUE_ENTRIES = "tlog_sequencer_queue_entries"
QUEUE_BYTES = "tlog_sequencer_queue_bytes"
_ADDED_GAUGES = (QUEUE_ENTRIES, QUEUE_BYTES)
_COUNTING_TYPES = ("counter", "histogram")
_CREATED = "_created"  # a time, which must not be added to another


@dataclass(frozen=True, slots=True)
class _Key:
    family: str
    name: str
    labels: tuple[tuple[str, str], ...]


def added_samples(registry: CollectorRegistry) -> tuple[Sample, ...]:
    """Return what a worker adds to the page: its counters, its histograms, and what waits in it."""
    return tuple(
        Sample(family.name, sample.name, tuple(sorted(sample.labels.items())), sample.value)
        for family in registry.collect()
        if family.type in _COUNTING_TYPES or family.name in _ADDED_GAUGES
        for sample in family.samples
        if not sample.name.endswith(_CREATED)
    )


def without_gauges(samples: Iterable[Sample]) -> tuple[Sample, ...]:
    """Return what of a process's samples still counts when it has ended."""
    return tuple(sample for sample in samples if sample.family not in _ADDED_GAUGES)


def add_up(samples: Iterable[Sample]) -> tuple[Sample, ...]:
    """Add up the values of samples of the same name and labels; the first of each decides the order."""
    values: dict[_Key, float] = {}
    for sample in samples:
        key = _Key(sample.family, sample.name, sample.labels)
        values[key] = values.get(key, 0.0) + sample.value
    return tuple(Sample(key.family, key.name, key.labels, value) for key, value in values.items())


class MergedCollector(Collector):
    """Shows one registry with the samples of other processes added."""

    def __init__(self, own: CollectorRegistry, others: Callable[[], Sequence[Sample]]) -> None:
        """Show `own`; `others` is called, in any thread, whenever the page is asked for."""
        self._own = own
        self._others = others

    def collect(self) -> Iterator[Metric]:
        """Yield every family of the own registry, with what the others add."""
        of_family: dict[str, list[Sample]] = {}
        for sample in add_up(self._others()):
            of_family.setdefault(sample.family, []).append(sample)
        for family in self._own.collect():
            yield _merged(family, of_family.get(family.name, []))


def _merged(family: Metric, others: Sequence[Sample]) -> Metric:
    waiting = {(sample.name, sample.labels): sample.value for sample in others}
    merged = Metric(family.name, family.documentation, family.type)
    for sample in family.samples:
        more = waiting.pop((sample.name, tuple(sorted(sample.labels.items()))), 0.0)
        merged.add_sample(sample.name, sample.labels, sample.value + more)
    for (name, labels), value in waiting.items():
        merged.add_sample(name, dict(labels), value)
    return merged
