"""Every metric, in one table, and the registry that is made from it.

Dashboards, alert rules and documentation are checked against `METRICS`; nothing else names a metric.

Series budget. Labels have bounded domains, and every combination that can occur exists from the start at 0, so that
`rate()` sees the first increment and the number of series does not depend on the traffic. At most:

    fixed    244, + 19 for each channel, + 16 for each abandonment reason, + 8 for each pair of the two,
             + 1 for each trigger
    moving   10 for each partition held, gone when it is revoked

where channels and reasons are the configured ones; `other` and `none` are in the 244. With the 7 channels of
`DEFAULT_CHANNELS`, one reason, 50 triggers and 32 partitions that is 819 series a worker, with 500 triggers 1,269.
Beside them stand some 15 series of the process and of Python's collector (`process_*`, `python_gc_*`).
"""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Literal, TypeAlias

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, GCCollector, Histogram, ProcessCollector

from streams.telemetry.definitions import DEFINITIONS
from streams.telemetry.labels import LabelDomains

Type: TypeAlias = Literal["counter", "gauge", "histogram"]


class MetricDefinition(msgspec.Struct, frozen=True):
    """One row of the table. `name` is the sample's name as a query writes it, with prefix, unit and `_total`.

    `starts` names the domain whose values each label takes from the start, where that is not the domain of the
    label's own name; a label without a domain (`partition`, the info labels) gets its children when they arise.
    """

    name: str
    type: Type
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    starts: Mapping[str, str] = {}

    @property
    def samples(self) -> int:
        """Samples that one child exposes: a histogram's buckets, +Inf, sum and count, otherwise one."""
        return len(self.buckets) + 3 if self.type == "histogram" else 1

    def domains(self) -> tuple[str, ...]:
        """Return the domain of each label, in label order."""
        return tuple(self.starts.get(label, label) for label in self.labels)


# Buckets in seconds. Work of the worker: 1 ms is an idle commit, 60 s is far past the transaction timeout.
WORK = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
# How old something is when we are done with it: from a quiet worker to an hour of backlog.
AGE = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
# What people do: 300 s is the default window of a false abandonment, 600 s Zendesk's inactivity timer.
BEHAVIOUR = (5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 21600.0, 86400.0)
RESTORE = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
LOOP = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
RECORDS = (1.0, 10.0, 100.0, 1_000.0, 2_500.0, 5_000.0, 10_000.0, 25_000.0, 50_000.0, 100_000.0)

METRICS: tuple[MetricDefinition, ...] = (
    # --- the pipeline ---
    MetricDefinition(
        "lapse_records_total",
        "counter",
        "Input records taken, by what became of them: applied, stale (older than what the ticket's row has), "
        "duplicate, or dead_letter.",
        ("topic", "result"),
    ),
    MetricDefinition(
        "lapse_misrouted_records_total",
        "counter",
        "Input records in a partition other than the one murmur2 over their key gives. They are handled as usual, but "
        "when the other topic is keyed by another partitioner, the two sides of a ticket do not meet.",
        ("topic",),
    ),
    MetricDefinition(
        "lapse_dead_letters_total",
        "counter",
        "Input records that went to the dead letters, by the code in their lapse.error.code header.",
        ("topic", "code"),
    ),
    MetricDefinition(
        "lapse_oversized_members_total",
        "counter",
        "Ticket members over 1 KiB, which were dropped from the row.",
    ),
    MetricDefinition(
        "lapse_expired_rows_total",
        "counter",
        "Table rows removed because state_ttl had passed since the last event of a finished ticket.",
        ("table",),
    ),
    # --- abandonment ---
    MetricDefinition(
        "lapse_session_transitions_total",
        "counter",
        "Messaging sessions that changed state, by kind of change, by the event's reason and by channel.",
        ("kind", "reason", "channel"),
    ),
    MetricDefinition(
        "lapse_sessions_total",
        "counter",
        f"{DEFINITIONS['session']} The denominator of the abandonment rate.",
        ("channel",),
    ),
    MetricDefinition(
        "lapse_sessions_abandoned_total",
        "counter",
        "Messaging sessions abandoned at least once: counted at a session's first abandonment. Abandonment rate: "
        f"{DEFINITIONS['abandonment rate']} increase(lapse_sessions_abandoned_total) / increase(lapse_sessions_total).",
        ("channel",),
    ),
    MetricDefinition(
        "lapse_abandonments_total",
        "counter",
        DEFINITIONS["abandonment"],
        ("reason", "channel"),
        starts={"reason": "abandonment_reason"},
    ),
    MetricDefinition(
        "lapse_tickets_abandoned_total",
        "counter",
        "Tickets abandoned at least once: counted at a ticket's first abandonment, in whichever session.",
        ("channel",),
    ),
    MetricDefinition(
        "lapse_false_abandonments_total",
        "counter",
        f"{DEFINITIONS['false abandonment']} False abandonment rate: {DEFINITIONS['false abandonment rate']} "
        "increase(lapse_false_abandonments_total) / increase(lapse_abandonments_total).",
        ("channel",),
    ),
    MetricDefinition(
        "lapse_time_to_abandon_seconds",
        "histogram",
        DEFINITIONS["time to abandon"],
        buckets=BEHAVIOUR,
    ),
    MetricDefinition(
        "lapse_time_to_return_seconds",
        "histogram",
        DEFINITIONS["time to return"],
        buckets=BEHAVIOUR,
    ),
    MetricDefinition(
        "lapse_open_abandonments",
        "gauge",
        f"{DEFINITIONS['open abandonments']} Over the partitions this worker holds; at most five minutes old.",
    ),
    # --- triggers and commands ---
    MetricDefinition(
        "lapse_rounds_total",
        "counter",
        "Evaluations of the triggers that ended, by outcome.",
        ("outcome",),
    ),
    MetricDefinition(
        "lapse_triggers_fired_total",
        "counter",
        "Triggers that fired, dry runs included.",
        ("trigger",),
    ),
    MetricDefinition("lapse_commands_total", "counter", "Commands written to action-commands."),
    MetricDefinition(
        "lapse_commands_applied_total",
        "counter",
        "Commands whose id came back in a ticket update: the downstream consumer did what they ask. Each counts once.",
    ),
    MetricDefinition(
        "lapse_command_apply_seconds",
        "histogram",
        "Time from a command's issued_at to the occurred_at of the ticket update that carries its id.",
        buckets=AGE,
    ),
    MetricDefinition(
        "lapse_pending_rounds",
        "gauge",
        "Rounds that wait for their time or for their ticket, over the partitions this worker holds.",
    ),
    # --- position and freshness ---
    MetricDefinition(
        "lapse_lag_records",
        "gauge",
        "Records of an input partition from the committed offset to the last stable one; 0 when all that can be read "
        "is committed as taken.",
        ("topic", "partition"),
    ),
    MetricDefinition(
        "lapse_lag_seconds",
        "gauge",
        "Age of the oldest record of an input partition that is not yet committed as taken, by record timestamp; 0 "
        "when there is none.",
        ("topic", "partition"),
    ),
    MetricDefinition(
        "lapse_committed_offset",
        "gauge",
        "Offset committed for an input partition: of the first record not yet taken.",
        ("topic", "partition"),
    ),
    MetricDefinition(
        "lapse_end_offset",
        "gauge",
        "Last stable offset of an input partition, as of the latest fetch answer: the end of what may be read.",
        ("topic", "partition"),
    ),
    MetricDefinition(
        "lapse_stream_time_timestamp_seconds",
        "gauge",
        "Stream time of a partition, in seconds since the Unix epoch. Flat while its end offset moves means stuck.",
        ("partition",),
    ),
    MetricDefinition(
        "lapse_partition_ready",
        "gauge",
        "1 when the tables of a held partition are restored, 0 while they are not.",
        ("partition",),
    ),
    MetricDefinition(
        "lapse_event_age_seconds",
        "histogram",
        "Age of the oldest record of a step when the step was committed: now less its record timestamp.",
        buckets=AGE,
    ),
    # --- the worker ---
    MetricDefinition(
        "lapse_step_seconds",
        "histogram",
        "Duration of a step, from taking its records to the end of its transaction.",
        buckets=WORK,
    ),
    MetricDefinition("lapse_step_records", "histogram", "Input records that a step took.", buckets=RECORDS),
    MetricDefinition(
        "lapse_commit_seconds",
        "histogram",
        "Duration of a step's transaction: sending what it writes, offsets included, until the broker has ended it.",
        buckets=WORK,
    ),
    MetricDefinition(
        "lapse_event_loop_lag_seconds",
        "histogram",
        "How late the event loop woke a timer: time for which it was busy with something else.",
        buckets=LOOP,
    ),
    MetricDefinition("lapse_assigned_partitions", "gauge", "Partitions that this worker holds."),
    MetricDefinition(
        "lapse_rebalances_total",
        "counter",
        "Rebalances of the consumer group that this worker saw, its first included.",
    ),
    MetricDefinition(
        "lapse_rebalance_seconds",
        "histogram",
        "Time from giving the partitions up to getting the new assignment: no partition is worked on meanwhile.",
        buckets=RESTORE,
    ),
    MetricDefinition(
        "lapse_fencings_total",
        "counter",
        "Partitions whose producer was taken over by another one: after a freeze, or by a second worker with the same "
        "app_id.",
    ),
    MetricDefinition(
        "lapse_broker_answer_timestamp_seconds",
        "gauge",
        "When a broker last answered a fetch or took a transaction, in seconds since the Unix epoch; 0 before.",
    ),
    MetricDefinition(
        "lapse_restore_rows_total",
        "counter",
        "Table rows read back from the changelogs, counted while they come.",
    ),
    MetricDefinition(
        "lapse_restore_seconds",
        "histogram",
        "Time to restore the tables of one partition.",
        buckets=RESTORE,
    ),
    MetricDefinition(
        "lapse_table_rows",
        "gauge",
        "Rows in a table, over the partitions this worker holds.",
        ("table",),
    ),
    MetricDefinition(
        "lapse_ruleset_info",
        "gauge",
        "1, with the digest of the triggers in use; the same digest stands in every command.",
        ("ruleset",),
    ),
    MetricDefinition(
        "lapse_build_info",
        "gauge",
        "1, with the versions of Lapse, Python, Faust and aiokafka.",
        ("version", "python", "faust", "aiokafka"),
    ),
)

PER_PARTITION = tuple(row.name for row in METRICS if "partition" in row.labels)


def series_budget(domains: LabelDomains, partitions: int) -> int:
    """Return how many `lapse_` series a worker exposes at most with these label values and that many partitions."""
    sizes = {**domains.sizes(), "partition": partitions, "ruleset": 1}
    return sum(row.samples * math.prod(sizes.get(domain, 1) for domain in row.domains()) for row in METRICS)


class Instruments:
    """The metrics of one worker in a registry of their own, looked up by name; children are made once and kept."""

    def __init__(self, domains: LabelDomains) -> None:
        """Make every metric of the table, and the children whose labels these domains know."""
        self.registry = CollectorRegistry()
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        self._histograms: dict[str, Histogram] = {}
        self._counter_children: dict[tuple[str, tuple[str, ...]], Counter] = {}
        self._gauge_children: dict[tuple[str, tuple[str, ...]], Gauge] = {}
        for row in METRICS:
            self._register(row)
            for values in domains.combinations(row.domains()):
                self._start_at_zero(row, values)
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    def counter(self, name: str, labels: tuple[str, ...] = ()) -> Counter:
        """Return the counter of that name and those label values, in the table's label order."""
        child = self._counter_children.get((name, labels))
        if child is None:
            family = self._counters[name]
            child = self._counter_children[name, labels] = family.labels(*labels) if labels else family
        return child

    def gauge(self, name: str, labels: tuple[str, ...] = ()) -> Gauge:
        """Return the gauge of that name and those label values, in the table's label order."""
        child = self._gauge_children.get((name, labels))
        if child is None:
            family = self._gauges[name]
            child = self._gauge_children[name, labels] = family.labels(*labels) if labels else family
        return child

    def histogram(self, name: str) -> Histogram:
        """Return the histogram of that name; none has labels."""
        return self._histograms[name]

    def forget_partition(self, partition: int) -> None:
        """Remove the gauges of a partition that this worker no longer holds: a stale lag would page somebody."""
        text = str(partition)
        for name in PER_PARTITION:
            self._gauges[name].remove_by_labels({"partition": text})
        for key in [key for key in self._gauge_children if key[0] in PER_PARTITION and key[1][-1] == text]:
            del self._gauge_children[key]

    def total(self, counter: str) -> float:
        """Return a counter's value, summed over its labels."""
        return sum(
            sample.value
            for family in self._counters[counter].collect()
            for sample in family.samples
            if sample.name == counter
        )

    def by_label(self, counter: str) -> dict[str, float]:
        """Return the values of a counter with one label, by that label's value."""
        return {
            next(iter(sample.labels.values())): sample.value
            for family in self._counters[counter].collect()
            for sample in family.samples
            if sample.name == counter
        }

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
