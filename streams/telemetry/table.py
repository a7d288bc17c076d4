"""The table of all metrics: dashboards, alert rules and documentation are checked against it.

Metrics are named nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

import msgspec

from streams.telemetry.definitions import DEFINITIONS

Type: TypeAlias = Literal["counter", "gauge", "histogram"]


class MetricDefinition(msgspec.Struct, frozen=True):
    """One row of the table. `name` is the sample's name as used in a query, with prefix, unit and `_total`.

    `starts` names the domain whose values a label takes from the start, where that is not the domain of the label's
    own name. A label without a domain (`partition`, the info labels) gets its children when they first occur.
    """

    name: str
    type: Type
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    starts: Mapping[str, str] = {}

    @property
    def samples(self) -> int:
        """Number of samples per child: a histogram's buckets, +Inf, sum and count, otherwise one."""
        return len(self.buckets) + 3 if self.type == "histogram" else 1

    def domains(self) -> tuple[str, ...]:
        """Return the domain of each label, in label order."""
        return tuple(self.starts.get(label, label) for label in self.labels)


# Buckets in seconds. Work of the worker: 1 ms is an idle commit, 60 s is far past the transaction timeout.
WORK = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
# Age of something when processing ends: from a quiet worker to an hour of backlog.
AGE = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
# User behaviour: 300 s is the default window of a false abandonment, 600 s Zendesk's inactivity timer.
BEHAVIOUR = (5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 21600.0, 86400.0)
RESTORE = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
LOOP = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
RECORDS = (1.0, 10.0, 100.0, 1_000.0, 2_500.0, 5_000.0, 10_000.0, 25_000.0, 50_000.0, 100_000.0)

SECTIONS: Mapping[str, tuple[MetricDefinition, ...]] = {
    "Records": (
        MetricDefinition(
            "lapse_records_total",
            "counter",
            "Input records processed, by result: applied, stale (older than what the ticket's row has), duplicate, or "
            "dead_letter.",
            ("topic", "result"),
        ),
        MetricDefinition(
            "lapse_misrouted_records_total",
            "counter",
            "Input records in a partition other than the one that murmur2 over their key gives. They are processed as "
            "usual. If the other topic is keyed by another partitioner, the two sides of a ticket never meet.",
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
    ),
    "Abandonment": (
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
            f"{DEFINITIONS['abandonment rate']} "
            "increase(lapse_sessions_abandoned_total) / increase(lapse_sessions_total).",
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
    ),
    "Triggers and commands": (
        MetricDefinition(
            "lapse_holdout_abandonments_total",
            "counter",
            "With a holdout: abandonments by the first of their rounds that led to a command (acted_on) or would have "
            "without the holdout (held_out). Each abandonment counts once, and not before such a round.",
            ("group",),
        ),
        MetricDefinition(
            "lapse_holdout_returns_total",
            "counter",
            "Returns of the customers of those abandonments, by group and by whether they came within "
            "false_abandonment_window. Returns on a new ticket are not seen.",
            ("group", "within"),
        ),
        MetricDefinition(
            "lapse_shadow_rounds_total",
            "counter",
            "With a shadow: rounds by how it compares with the live rules. same: neither acts, or both with equal "
            "actions; only_live, only_shadow: one acts and the other does not; different: both act, with different "
            "actions.",
            ("result",),
            starts={"result": "shadow_result"},
        ),
        MetricDefinition(
            "lapse_shadow_triggers_fired_total",
            "counter",
            "Triggers of the shadow that fired; nothing is commanded for them.",
            ("trigger",),
            starts={"trigger": "shadow_trigger"},
        ),
        MetricDefinition(
            "lapse_rounds_total",
            "counter",
            "Rounds (evaluations of the triggers for a lapse) that ended, by outcome.",
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
            "lapse_held_commands_total",
            "counter",
            "Commands held by the limit of a trigger. A command that passes several limits counts for each of them.",
            ("trigger",),
        ),
        MetricDefinition(
            "lapse_commands_applied_total",
            "counter",
            "Commands whose id came back in a ticket update, which means that the consumer has carried them out. Each "
            "counts once.",
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
            "Rounds that wait until they are due or for their ticket, over the partitions of this worker.",
        ),
    ),
    "Position and freshness": (
        MetricDefinition(
            "lapse_lag_records",
            "gauge",
            "Records of an input partition between the committed offset and the last stable offset. 0 when everything "
            "that can be read has been processed and committed.",
            ("topic", "partition"),
        ),
        MetricDefinition(
            "lapse_lag_seconds",
            "gauge",
            "Age, by record timestamp, of the oldest record of an input partition that is not yet committed. 0 when "
            "there is none.",
            ("topic", "partition"),
        ),
        MetricDefinition(
            "lapse_committed_offset",
            "gauge",
            "Committed offset of an input partition: the offset of the next record to process.",
            ("topic", "partition"),
        ),
        MetricDefinition(
            "lapse_end_offset",
            "gauge",
            "Last stable offset of an input partition, as of the latest fetch: the end of what can be read.",
            ("topic", "partition"),
        ),
        MetricDefinition(
            "lapse_held_back_offsets",
            "gauge",
            "Offsets of an input partition after the last stable offset, as of the latest fetch: written in or after a "
            "transaction that is still open, so nobody can read them yet. No lag includes them.",
            ("topic", "partition"),
        ),
        MetricDefinition(
            "lapse_stream_time_timestamp_seconds",
            "gauge",
            "Stream time of a partition, in seconds since the Unix epoch. If it is flat while the end offset moves, "
            "the partition is stuck.",
            ("partition",),
        ),
        MetricDefinition(
            "lapse_partition_ready",
            "gauge",
            "1 once the tables of an assigned partition are restored, 0 before.",
            ("partition",),
        ),
        MetricDefinition(
            "lapse_event_age_seconds",
            "histogram",
            "Age of the oldest record of a step when the step was committed, by record timestamp.",
            buckets=AGE,
        ),
    ),
    "The worker": (
        MetricDefinition(
            "lapse_step_seconds",
            "histogram",
            "Duration of a step, from its first record to the end of its transaction.",
            buckets=WORK,
        ),
        MetricDefinition("lapse_step_records", "histogram", "Input records in a step.", buckets=RECORDS),
        MetricDefinition(
            "lapse_commit_seconds",
            "histogram",
            "Duration of a step's transaction: from sending its records and offsets until the broker has ended it.",
            buckets=WORK,
        ),
        MetricDefinition(
            "lapse_event_loop_lag_seconds",
            "histogram",
            "Delay with which the event loop woke a timer because it was busy with something else.",
            buckets=LOOP,
        ),
        MetricDefinition("lapse_assigned_partitions", "gauge", "Partitions that this worker holds."),
        MetricDefinition(
            "lapse_rebalances_total",
            "counter",
            "Rebalances of the consumer group that this worker took part in, its first one included.",
        ),
        MetricDefinition(
            "lapse_rebalance_seconds",
            "histogram",
            "Time from the revocation of the partitions to the new assignment. No partition is processed meanwhile.",
            buckets=RESTORE,
        ),
        MetricDefinition(
            "lapse_fencings_total",
            "counter",
            "Partitions whose producer was fenced by another one: after a freeze, or by a second worker with the same "
            "app_id.",
        ),
        MetricDefinition(
            "lapse_broker_answer_timestamp_seconds",
            "gauge",
            "When a broker last answered a fetch or committed a transaction, in seconds since the Unix epoch; 0 before "
            "that. For a worker without partitions: when the group coordinator last answered a heartbeat.",
        ),
        MetricDefinition(
            "lapse_restore_rows_total",
            "counter",
            "Table rows restored from the changelogs, counted while the restore runs.",
        ),
        MetricDefinition(
            "lapse_restore_remaining_offsets",
            "gauge",
            "Changelog offsets that a partition still has to read before it is ready. They include transaction markers "
            "and compacted records, so there are a few more than rows. 0 when it is ready.",
            ("partition",),
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
            "1, with the digest of the triggers in use, which is also in every command.",
            ("ruleset",),
        ),
        MetricDefinition(
            "lapse_rules_revision",
            "gauge",
            "Number of the live revision that a partition has in use; 0 with rules from a file.",
            ("partition",),
        ),
        MetricDefinition(
            "lapse_rules_behind_seconds",
            "gauge",
            "With rules from their topic: how long the newest revision has been effective without being in use in "
            "every partition of this worker. 0 when it is.",
        ),
        MetricDefinition(
            "lapse_rules_refused_entries",
            "gauge",
            "Entries of the rules topic that this worker ignores or can't compile.",
        ),
        MetricDefinition(
            "lapse_build_info",
            "gauge",
            "1, with the versions of Lapse, Python, Faust and aiokafka.",
            ("version", "python", "faust", "aiokafka"),
        ),
    ),
}
"""The worker's metrics, grouped in the sections of the documentation."""

METRICS = tuple(row for rows in SECTIONS.values() for row in rows)

INGEST = (
    MetricDefinition(
        "lapse_ingest_requests_total",
        "counter",
        "Requests to /zendesk by the status they were answered with: 200 written, or nothing to write; 401 bad "
        "signature; 403 signature too old; 408 the body came too slowly; 409 the record could not be written, so that "
        "Zendesk tries again; 413 too large; 500 a fault of ours.",
        ("status",),
    ),
    MetricDefinition(
        "lapse_ingest_events_total",
        "counter",
        "Signed bodies by what they were: ticket, ticket_deleted, session, message (not needed), unknown (a type that "
        "is not known) or unusable (a dead letter).",
        ("kind",),
    ),
    MetricDefinition(
        "lapse_ingest_records_total",
        "counter",
        "Input records that all in-sync replicas have acknowledged.",
        ("topic",),
    ),
    MetricDefinition(
        "lapse_ingest_request_seconds",
        "histogram",
        "Time to answer a request to /zendesk, the acknowledgement of its records included.",
        buckets=WORK,
    ),
    MetricDefinition(
        "lapse_ingest_event_age_seconds",
        "histogram",
        "Age of an event when it arrived: how late Zendesk sent it.",
        buckets=AGE,
    ),
)
"""The metrics of `lapse ingest`, which serves them on a port of its own."""

APPLY = (
    MetricDefinition(
        "lapse_apply_total",
        "counter",
        "Commands that have ended, by result: applied, overtaken (an expected value was another one), gone (the ticket "
        "is closed or deleted), refused (Zendesk does not take the update) or expired (older than `apply_max_age`).",
        ("result",),
        starts={"result": "apply_result"},
    ),
    MetricDefinition(
        "lapse_apply_age_seconds",
        "histogram",
        "Age of a command when it ended, from its issue or its release.",
        buckets=AGE,
    ),
    MetricDefinition(
        "lapse_apply_requests_total",
        "counter",
        "Requests to Zendesk by the status they were answered with; none: there was no answer.",
        ("status",),
    ),
    MetricDefinition(
        "lapse_apply_waiting",
        "gauge",
        "Commands that were read and have not ended, at most 2,000 of each partition.",
    ),
    MetricDefinition(
        "lapse_apply_held",
        "gauge",
        "Those of them that `lapse apply pause` or a stop of the rules topic holds.",
    ),
    MetricDefinition(
        "lapse_apply_not_done_total",
        "counter",
        "Actions that Zendesk's API can't carry out, of commands that have ended.",
    ),
)
"""The metrics of `lapse apply`, which serves them on a port of its own."""

SILENCE = (
    MetricDefinition(
        "lapse_silence_states_total",
        "counter",
        "Session states written: inactive, because the customer was silent for too long, or active, because the "
        "customer wrote again.",
        ("state",),
    ),
    MetricDefinition(
        "lapse_silence_waiting",
        "gauge",
        "Tickets whose customer is being waited for.",
        ("partition",),
    ),
    MetricDefinition(
        "lapse_silence_lag_records",
        "gauge",
        "Input records that are not yet processed and committed.",
        ("topic", "partition"),
    ),
)
"""The metrics of `lapse ingest --silence`, which serves them on `silence_port`."""

EVERY_METRIC = METRICS + INGEST + SILENCE + APPLY
