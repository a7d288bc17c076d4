"""The registry built from the table of metrics, and the number of series it can have.

Series budget. Labels have bounded domains, and every combination that can occur exists from the start at 0, so that
`rate()` sees the first increment and the number of series does not depend on the traffic. At most:

    fixed    260, + 19 for each channel, + 16 for each abandonment reason, + 8 for each pair of the two,
             + 2 for each trigger, + 1 for each trigger of a shadow, which counts as one with as many triggers
    moving   14 for each partition held, removed when it is revoked

where channels and reasons are the configured ones; `other` and `none` are included in the 260. With the 7 channels of
`DEFAULT_CHANNELS`, one reason, 50 triggers and 32 partitions that is 1,063 series per worker, with 500 triggers 2,413.
In addition there are some 15 series of the process and of Python's collector (`process_*`, `python_gc_*`).
"""

from __future__ import annotations

import math
import platform
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import CollectorRegistry, Counter, Gauge, GCCollector, Histogram, Metric, ProcessCollector
from prometheus_client.exposition import choose_encoder

from streams.telemetry.labels import LabelDomains
from streams.telemetry.table import METRICS, MetricDefinition


def series_budget(domains: LabelDomains, partitions: int) -> int:
    """Return the maximum number of `lapse_` series of a worker with these label values and this many partitions."""
    sizes = {**domains.sizes(), "partition": partitions, "ruleset": 1}
    return sum(row.samples * math.prod(sizes.get(domain, 1) for domain in row.domains()) for row in METRICS)


class Instruments:
    """The metrics of one process in their own registry, looked up by name. Children are created once and cached."""

    def __init__(self, domains: LabelDomains, table: Iterable[MetricDefinition] = METRICS) -> None:
        """Create every metric of a table, and the children whose label values are known in these domains."""
        table = tuple(table)
        self.registry = CollectorRegistry()
        self._per_partition = tuple(row.name for row in table if "partition" in row.labels)
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        self._histograms: dict[str, Histogram] = {}
        self._counter_children: dict[tuple[str, tuple[str, ...]], Counter] = {}
        self._gauge_children: dict[tuple[str, tuple[str, ...]], Gauge] = {}
        for row in table:
            self._register(row)
            for values in domains.combinations(row.domains()):
                self._start_at_zero(row, values)
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    def counter(self, name: str, labels: tuple[str, ...] = ()) -> Counter:
        """Return the counter with this name and these label values, in the table's label order."""
        child = self._counter_children.get((name, labels))
        if child is None:
            family = self._counters[name]
            child = self._counter_children[name, labels] = family.labels(*labels) if labels else family
        return child

    def gauge(self, name: str, labels: tuple[str, ...] = ()) -> Gauge:
        """Return the gauge with this name and these label values, in the table's label order."""
        child = self._gauge_children.get((name, labels))
        if child is None:
            family = self._gauges[name]
            child = self._gauge_children[name, labels] = family.labels(*labels) if labels else family
        return child

    def histogram(self, name: str) -> Histogram:
        """Return the histogram with this name; no histogram has labels."""
        return self._histograms[name]

    def forget_partition(self, partition: int) -> None:
        """Remove the gauges of a partition that this worker no longer holds: a stale lag would raise an alert."""
        text = str(partition)
        for name in self._per_partition:
            self._gauges[name].remove_by_labels({"partition": text})
        for key in [key for key in self._gauge_children if key[0] in self._per_partition and key[1][-1] == text]:
            del self._gauge_children[key]

    def forget(self, gauge: str) -> None:
        """Remove all children of a gauge with labels."""
        self._gauges[gauge].clear()
        for key in [key for key in self._gauge_children if key[0] == gauge]:
            del self._gauge_children[key]

    def total(self, name: str) -> float:
        """Return the value of a counter or gauge, summed over its labels."""
        metric = self._counters.get(name) or self._gauges[name]
        return sum(sample.value for family in metric.collect() for sample in family.samples if sample.name == name)

    def by_label(self, counter: str) -> dict[str, float]:
        """Return the values of a counter with one label, by that label's value."""
        return {
            next(iter(sample.labels.values())): sample.value
            for family in self._counters[counter].collect()
            for sample in family.samples
            if sample.name == counter
        }

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """Return all metrics and their content type, in the format an Accept header asks for."""
        encode, content_type = choose_encoder(accept)
        return encode(_WithoutCreated(self.registry)), content_type

    def _register(self, row: MetricDefinition) -> None:
        match row.type:
            case "counter":
                self._counters[row.name] = Counter(row.name, row.help, row.labels, registry=self.registry)
            case "gauge":
                self._gauges[row.name] = Gauge(row.name, row.help, row.labels, registry=self.registry)
            case "histogram":
                self._histograms[row.name] = Histogram(
                    row.name, row.help, row.labels, registry=self.registry, buckets=row.buckets
                )

    def _start_at_zero(self, row: MetricDefinition, values: tuple[str, ...]) -> None:
        match row.type:
            case "counter":
                self.counter(row.name, values)
            case "gauge":
                self.gauge(row.name, values)
            case "histogram":
                pass


class _WithoutCreated:
    """The registry as a collector, without the client library's `_created` samples.

    They would double the number of counter series, and the library's own switch for them is global to the process.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        for family in self._registry.collect():
            family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
            yield family


def build_labels() -> tuple[str, str, str, str]:
    """Return the label values of `lapse_build_info`, in the table's order."""
    return (
        _installed("lapse"),
        platform.python_version(),
        _installed("faust-streaming"),
        _installed("aiokafka"),
    )


def _installed(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:  # run from a source tree, or where the runtime is not installed
        return "unknown"
