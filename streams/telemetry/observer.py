"""Turns the runtime's reports into metrics, always after the commit.

After a crash between a commit and the call here, that batch is not counted; nothing is counted twice (SPEC section 6).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import msgspec

from streams.core import model
from streams.core.batch import Batch
from streams.core.model import SECOND, Fact
from streams.core.names import Topic
from streams.telemetry.labels import DEFAULT_CHANNELS, TABLES, LabelDomains
from streams.telemetry.metrics import Instruments, build_labels
from streams.telemetry.progress import Totals
from streams.telemetry.table import METRICS

COUNTERS_OF_FACTS = {
    model.TRANSITION: "lapse_session_transitions_total",
    model.SESSION: "lapse_sessions_total",
    model.SESSION_ABANDONED: "lapse_sessions_abandoned_total",
    model.ABANDONMENT: "lapse_abandonments_total",
    model.TICKET_ABANDONED: "lapse_tickets_abandoned_total",
    model.FALSE_ABANDONMENT: "lapse_false_abandonments_total",
    model.ROUND: "lapse_rounds_total",
    model.TRIGGER_FIRED: "lapse_triggers_fired_total",
    model.HOLDOUT_ABANDONMENT: "lapse_holdout_abandonments_total",
    model.HOLDOUT_RETURN: "lapse_holdout_returns_total",
    model.SHADOW_ROUND: "lapse_shadow_rounds_total",
    model.SHADOW_TRIGGER_FIRED: "lapse_shadow_triggers_fired_total",
    model.COMMAND: "lapse_commands_total",
    model.HELD_COMMAND: "lapse_held_commands_total",
    model.COMMAND_APPLIED: "lapse_commands_applied_total",
    model.OVERSIZED_MEMBER: "lapse_oversized_members_total",
    model.EXPIRED_ROW: "lapse_expired_rows_total",
}
"""Facts that increment a counter. A fact's labels are in the order of the metric's labels."""

HISTOGRAMS_OF_FACTS = {
    model.TIME_TO_ABANDON_SECONDS: "lapse_time_to_abandon_seconds",
    model.TIME_TO_RETURN_SECONDS: "lapse_time_to_return_seconds",
    model.COMMAND_APPLY_SECONDS: "lapse_command_apply_seconds",
}
"""Facts whose amount is a duration in seconds."""

_DOMAINS_OF_FACTS = {
    fact: next(row.domains() for row in METRICS if row.name == metric) for fact, metric in COUNTERS_OF_FACTS.items()
}


class Figures(msgspec.Struct, frozen=True):
    """What this worker has counted since it started, and what its tables hold now, for display."""

    sessions: int
    sessions_abandoned: int
    abandonments: int
    tickets_abandoned: int
    false_abandonments: int
    commands: int
    commands_applied: int
    records: int
    dead_letters: int
    open_abandonments: int | None
    """None before the first count."""
    pending_rounds: int
    ticket_rows: int
    session_rows: int


class Metrics:
    """The metrics of one worker. Two instances in one process are independent.

    The gauges of a partition exist from `assigned` to `revoked`. Reports on other partitions still count, but do not
    recreate a gauge. Durations are in seconds; a negative duration (clocks that disagree) counts as 0.
    """

    def __init__(
        self,
        *,
        abandonment_reasons: Iterable[str] = (),
        channels: Iterable[str] = DEFAULT_CHANNELS,
        triggers: Iterable[str] = (),
        ruleset: str = "",
    ) -> None:
        """Take the label values that are known in advance; `triggers` are ids, `ruleset` is the digest."""
        self._domains = LabelDomains(abandonment_reasons=abandonment_reasons, channels=channels, triggers=triggers)
        self._instruments = Instruments(self._domains)
        self._instruments.gauge("lapse_build_info", build_labels()).set(1)
        self._instruments.gauge("lapse_ruleset_info", (ruleset,)).set(1)
        self._held: set[int] = set()
        self._pending: dict[int, int] = {}
        self._open_abandonments: dict[int, int] = {}
        self._rows: dict[int, tuple[int, int]] = {}

    # --- reports from the runtime ------------------------------------------------------------------------------------

    def batch_committed(
        self, partition: int, batch: Batch, seconds: float, commit_seconds: float | None = None
    ) -> None:
        """Count a batch whose transaction has ended; `commit_seconds` is the transaction's share of `seconds`."""
        counter = self._instruments.counter
        for (topic, result), n in batch.counts.items():
            counter("lapse_records_total", (topic.value, result)).inc(n)
        for topic, n in batch.misrouted.items():
            counter("lapse_misrouted_records_total", (topic.value,)).inc(n)
        for (topic, code), n in Counter((bad.topic, bad.rejection.code) for bad in batch.dead_letters).items():
            counter("lapse_dead_letters_total", (topic.value, self._domains.bound("code", code))).inc(n)
        self._count_facts(batch.facts)
        self._instruments.histogram("lapse_step_seconds").observe(max(seconds, 0))
        self._instruments.histogram("lapse_step_records").observe(batch.taken)
        if commit_seconds is not None:
            self._instruments.histogram("lapse_commit_seconds").observe(max(commit_seconds, 0))
        for topic, offset in batch.next_offsets.items():
            self.committed(topic, partition, offset)
        self.stream_time(partition, batch.stream_time / SECOND)

    def restoring(self, partition: int, rows: int) -> None:
        """Count rows as they are read back, so that the rate shows a restore in progress."""
        self._instruments.counter("lapse_restore_rows_total").inc(rows)

    def restore_remaining(self, partition: int, offsets: int) -> None:
        """Set the number of offsets that a restore still has to read."""
        self._set("lapse_restore_remaining_offsets", (str(partition),), partition, offsets)

    def restored(self, partition: int, rows: int, seconds: float) -> None:
        """Mark a partition as ready. Its rows were counted as they were read."""
        self._instruments.histogram("lapse_restore_seconds").observe(max(seconds, 0))
        self._set("lapse_partition_ready", (str(partition),), partition, 1)
        self._set("lapse_restore_remaining_offsets", (str(partition),), partition, 0)

    def assigned(self, partitions: Iterable[int]) -> None:
        """Add partitions that this worker now holds; they are not yet restored."""
        for partition in set(partitions) - self._held:
            self._held.add(partition)
            self._set("lapse_partition_ready", (str(partition),), partition, 0)
            self._set("lapse_rules_revision", (str(partition),), partition, 0)
        self._instruments.gauge("lapse_assigned_partitions").set(len(self._held))

    def revoked(self, partitions: Iterable[int]) -> None:
        """Remove partitions that this worker no longer holds, with their gauges."""
        for partition in self._held.intersection(partitions):
            self._held.discard(partition)
            self._pending.pop(partition, None)
            self._open_abandonments.pop(partition, None)
            self._rows.pop(partition, None)
            self._instruments.forget_partition(partition)
        self._instruments.gauge("lapse_assigned_partitions").set(len(self._held))
        self._show_table_sizes()

    def rebalanced(self, seconds: float | None = None) -> None:
        """Count a rebalance of the consumer group, and the time during which it stopped work on all partitions."""
        self._instruments.counter("lapse_rebalances_total").inc()
        if seconds is not None:
            self._instruments.histogram("lapse_rebalance_seconds").observe(max(seconds, 0))

    def fenced(self) -> None:
        """Count a producer that was fenced by another one."""
        self._instruments.counter("lapse_fencings_total").inc()

    def end(self, topic: Topic, partition: int, offset: int) -> None:
        """Show the last stable offset of an input partition."""
        self._set("lapse_end_offset", (topic.value, str(partition)), partition, offset)

    def held_back(self, topic: Topic, partition: int, offsets: int) -> None:
        """Show how many offsets of an input partition can't be read yet because of an open transaction."""
        self._set("lapse_held_back_offsets", (topic.value, str(partition)), partition, offsets)

    def lag(self, topic: Topic, partition: int, records: int, seconds: float | None = None) -> None:
        """Show an input partition's lag, in records and as the age of the oldest of them."""
        labels = (topic.value, str(partition))
        self._set("lapse_lag_records", labels, partition, max(records, 0))
        if seconds is not None:
            self._set("lapse_lag_seconds", labels, partition, max(seconds, 0))

    def committed(self, topic: Topic, partition: int, offset: int) -> None:
        """Show the committed offset found when a partition opens. Afterwards `batch_committed` updates it."""
        self._set("lapse_committed_offset", (topic.value, str(partition)), partition, offset)

    def stream_time(self, partition: int, seconds: float) -> None:
        """Show a partition's stream time, in seconds since the epoch."""
        self._set("lapse_stream_time_timestamp_seconds", (str(partition),), partition, seconds)

    def table_rows(self, partition: int, tickets: int, sessions: int) -> None:
        """Show how many rows the tables of a partition have."""
        if partition in self._held:
            self._rows[partition] = (tickets, sessions)
            self._show_table_sizes()

    def pending_rounds(self, partition: int, n: int) -> None:
        """Show how many rounds of a partition wait."""
        if partition in self._held:
            self._pending[partition] = n
            self._show_table_sizes()

    def open_abandonments(self, partition: int, n: int) -> None:
        """Show how many tickets of a partition have an open abandonment."""
        if partition in self._held:
            self._open_abandonments[partition] = n
            self._show_table_sizes()

    def rules_in_use(self, partition: int, revision: int) -> None:
        """Show which revision of the rules a partition has in use."""
        self._set("lapse_rules_revision", (str(partition),), partition, revision)

    def rules(self, behind: float, refused: int) -> None:
        """Show for how long the newest revision is not in use everywhere, and how many entries are refused."""
        self._instruments.gauge("lapse_rules_behind_seconds").set(behind)
        self._instruments.gauge("lapse_rules_refused_entries").set(refused)

    def use(self, ruleset: str, triggers: Iterable[str]) -> None:
        """Show the digest of the live rules, and count their triggers by id from here on."""
        self._domains.learn("trigger", triggers)
        self._instruments.forget("lapse_ruleset_info")
        self._instruments.gauge("lapse_ruleset_info", (ruleset,)).set(1)

    def answered(self, at: float) -> None:
        """Show when a broker last answered, in seconds since the epoch."""
        self._instruments.gauge("lapse_broker_answer_timestamp_seconds").set(at)

    def loop_lag(self, seconds: float) -> None:
        """Record how late the event loop ran a timer."""
        self._instruments.histogram("lapse_event_loop_lag_seconds").observe(max(seconds, 0))

    def event_age(self, seconds: float) -> None:
        """Record the age of a batch's oldest record at its commit."""
        self._instruments.histogram("lapse_event_age_seconds").observe(max(seconds, 0))

    # --- for the web server ------------------------------------------------------------------------------------------

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """Return all metrics and their content type, in the format an Accept header asks for."""
        return self._instruments.exposition(accept)

    def figures(self) -> Figures:
        """Return the headline figures, summed over labels and partitions."""
        total = self._instruments.total
        return Figures(
            sessions=int(total("lapse_sessions_total")),
            sessions_abandoned=int(total("lapse_sessions_abandoned_total")),
            abandonments=int(total("lapse_abandonments_total")),
            tickets_abandoned=int(total("lapse_tickets_abandoned_total")),
            false_abandonments=int(total("lapse_false_abandonments_total")),
            commands=int(total("lapse_commands_total")),
            commands_applied=int(total("lapse_commands_applied_total")),
            records=int(total("lapse_records_total")),
            dead_letters=int(total("lapse_dead_letters_total")),
            open_abandonments=sum(self._open_abandonments.values()) if self._open_abandonments else None,
            pending_rounds=sum(self._pending.values()),
            ticket_rows=sum(tickets for tickets, _ in self._rows.values()),
            session_rows=sum(sessions for _, sessions in self._rows.values()),
        )

    def totals(self) -> Totals:
        """Return the totals for the progress line in the log."""
        total = self._instruments.total
        return Totals(
            records=int(total("lapse_records_total")),
            dead_letters=int(total("lapse_dead_letters_total")),
            commands=int(total("lapse_commands_total")),
            lag=int(total("lapse_lag_records")),
        )

    def triggers_fired(self) -> dict[str, int]:
        """Return how often each trigger of the ruleset has fired, by its id."""
        return {id: int(n) for id, n in self._instruments.by_label("lapse_triggers_fired_total").items()}

    # -----------------------------------------------------------------------------------------------------------------

    def _count_facts(self, facts: list[Fact]) -> None:
        # Sum by raw labels first: bounding labels and incrementing a counter cost more than a dictionary entry.
        amounts: dict[tuple[str, tuple[str, ...]], float] = {}
        for fact in facts:
            histogram = HISTOGRAMS_OF_FACTS.get(fact.name)
            if histogram is not None:
                self._instruments.histogram(histogram).observe(max(fact.amount, 0))
            else:
                key = (fact.name, fact.labels)
                amounts[key] = amounts.get(key, 0) + fact.amount
        for (name, labels), amount in amounts.items():
            bounded = tuple(map(self._domains.bound, _DOMAINS_OF_FACTS[name], labels))
            self._instruments.counter(COUNTERS_OF_FACTS[name], bounded).inc(amount)

    def _set(self, gauge: str, labels: tuple[str, ...], partition: int, value: float) -> None:
        if partition in self._held:
            self._instruments.gauge(gauge, labels).set(value)

    def _show_table_sizes(self) -> None:
        for position, table in enumerate(TABLES):
            self._instruments.gauge("lapse_table_rows", (table,)).set(sum(n[position] for n in self._rows.values()))
        self._instruments.gauge("lapse_pending_rounds").set(sum(self._pending.values()))
        self._instruments.gauge("lapse_open_abandonments").set(sum(self._open_abandonments.values()))
