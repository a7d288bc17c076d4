"""Every metric of the table, on a real broker: it moves when what it stands for happens, and by as much."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from streams.core.cycle import Rules
from streams.core.engine import Engine, EngineSettings
from streams.core.names import Output, Topic
from streams.core.partitioning import partition_of
from streams.kafka.config import KafkaConfig
from streams.kafka.producer import PartitionProducer
from streams.rules.triggers import parse_triggers
from streams.telemetry.observer import Metrics
from streams.telemetry.table import METRICS
from streams.testing.builders import bad_record, millis, session_state, ticket_update
from streams.wire.decode import decode
from streams.wire.rows import MsgpackRows
from streams.worker.service import Worker
from streams.worker.status import WorkerStatus
from streams.worker.supervisor import Supervisor
from tests.worker.kit import Running, config_for, producing, read_all, running, send, topics

GONE = "user_inactive_or_offline"
TRIGGERS = """
triggers:
  - id: solve
    title: Solve abandoned conversations
    conditions:
      all:
        - {field: status, operator: is, value: open}
        - {field: messaging_session_state, operator: changed_to, value: inactive}
    actions:
      - {field: status, value: solved}
  - id: remind
    title: Remind much later
    wait: 30d
    conditions:
      all: [{field: status, operator: is, value: open}]
    actions:
      - {field: priority, value: low}
"""
NOW = datetime.now(UTC)


def at(**before: float) -> str:
    """An instant before the present one, as records write it."""
    return (NOW - timedelta(**before)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Measured(Running):
    """A worker in this process whose metrics are read as a scrape reads them."""

    def __init__(self, config: KafkaConfig) -> None:
        super().__init__(config)
        parsed = parse_triggers(TRIGGERS)
        assert parsed.ruleset is not None, parsed.errors
        self.metrics = Metrics(
            abandonment_reasons=[GONE],
            triggers=[trigger.id for trigger in parsed.ruleset.triggers],
            ruleset=parsed.ruleset.digest,
        )
        self.worker = Worker(
            config,
            Engine(Rules(parsed.ruleset), EngineSettings()),
            decode=decode,
            rows=MsgpackRows(),
            observer=self.metrics,
            beside=(self._keep,),
        )

    @contextlib.asynccontextmanager
    async def _keep(self, supervisor: Supervisor) -> AsyncIterator[None]:
        self.supervisor = supervisor
        self.status = WorkerStatus(supervisor)
        yield

    def samples(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        families = text_string_to_metric_families(self.metrics.exposition()[0].decode())
        return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}

    def of(self, name: str, **labels: str) -> float:
        """The sum over every label that is not given."""
        asked = labels.items()
        return sum(value for (found, has), value in self.samples().items() if found == name and asked <= set(has))

    def moved(self) -> set[str]:
        """The metrics of the table that have a sample other than 0."""
        nonzero = {name for (name, _), value in self.samples().items() if value}
        return {row.name for row in METRICS if nonzero & {row.name, f"{row.name}_count"}}


@contextlib.asynccontextmanager
async def measured(config: KafkaConfig) -> AsyncIterator[Measured]:
    worker = Measured(config)
    worker.start()
    try:
        yield worker
    finally:
        if worker.task is not None and not worker.task.done():
            await worker.stop()


def a_day() -> list[Any]:
    """What makes every counter of the engine move, each by a known amount."""
    return [
        # Ticket 1 is left, answered within the window, and left again.
        ticket_update("1", at=at(hours=2), status="open", note="x" * 2_000),
        session_state("1", "active", at=at(minutes=100), channel="web"),
        session_state("1", "inactive", GONE, at=at(minutes=95), channel="web"),
        session_state("1", "active", at=at(minutes=94), channel="web"),
        session_state("1", "inactive", GONE, at=at(minutes=80), channel="web"),
        # Ticket 2 comes from nowhere known, for a reason that is no abandonment; then an older state and a repeat.
        ticket_update("2", at=at(hours=2), status="open", event_id="again"),
        ticket_update("2", at=at(hours=2), status="open", event_id="again"),
        session_state("2", "inactive", "agent_ended", at=at(minutes=70), channel="carrier pigeon"),
        session_state("2", "active", at=at(minutes=90))._replace(timestamp=millis(at(minutes=60))),
        # Ticket 3 was closed so long ago that its row goes.
        ticket_update("3", at=at(days=40), status="closed"),
        # Bad ones.
        bad_record("not_json", at=at(hours=1)),
        bad_record("invalid", Topic.SESSIONS, at=at(hours=1)),
    ]


async def test_every_metric_of_the_table_moves_by_what_happens(kafka, topic_prefix):
    config = await topics(config_for(kafka, topic_prefix))
    await send(config, sorted(a_day(), key=lambda record: record.timestamp), 1)
    async with measured(config) as first:
        await first.until(lambda: first.of("lapse_rounds_total", outcome="commanded") == 3)
        (command, *_) = await read_all(config, config.topic(Output.COMMANDS))
        applied = ticket_update("1", at=at(), status="pending", command_id=json.loads(command.value)["command_id"])
        await send(config, [applied], 1)
        await first.until(lambda: first.of("lapse_commands_applied_total") == 1)
        await first.until(lambda: first.of("lapse_open_abandonments") == 1, within=5)

        assert first.of("lapse_records_total", result="applied") == 9
        assert first.of("lapse_records_total", result="stale") == 1
        assert first.of("lapse_records_total", result="duplicate") == 1
        assert first.of("lapse_records_total", result="dead_letter") == 2
        assert first.of("lapse_dead_letters_total", code="invalid", topic="session-states") == 1
        assert first.of("lapse_oversized_members_total") == 1
        assert first.of("lapse_expired_rows_total", table="tickets") == 1
        assert first.of("lapse_sessions_total", channel="web") == 1
        assert first.of("lapse_sessions_total", channel="other") == 1
        assert first.of("lapse_sessions_abandoned_total") == 1
        assert first.of("lapse_abandonments_total", reason=GONE, channel="web") == 2
        assert first.of("lapse_tickets_abandoned_total") == 1
        assert first.of("lapse_false_abandonments_total", channel="web") == 1
        assert first.of("lapse_session_transitions_total", kind="lapsed") == 3
        assert first.of("lapse_session_transitions_total", kind="lapsed", reason="other", channel="other") == 1
        assert first.of("lapse_time_to_abandon_seconds_count") == 2
        assert first.of("lapse_time_to_abandon_seconds_sum") == 5 * 60 + 14 * 60
        assert first.of("lapse_time_to_return_seconds_sum") == 60
        assert first.of("lapse_rounds_total", outcome="cancelled") == 1
        assert first.of("lapse_triggers_fired_total", trigger="solve") == 3
        assert first.of("lapse_commands_total") == 3
        assert first.of("lapse_command_apply_seconds_count") == 1
        assert first.of("lapse_pending_rounds") == 2
        assert first.of("lapse_table_rows", table="tickets") == 2
        assert first.of("lapse_table_rows", table="sessions") == 2
        assert first.of("lapse_event_age_seconds_sum") > 40 * 86_400

        await first.until(lambda: first.of("lapse_lag_records") == first.of("lapse_lag_seconds") == 0, within=5)
        moved = first.moved()
    assert {row.name for row in METRICS} - moved == {
        # At the end of its inputs a worker lags by nothing; the others take somebody else, or a restart.
        "lapse_lag_records",
        "lapse_lag_seconds",
        "lapse_held_back_offsets",
        # These need a holdout: tests/telemetry/test_holdout.py.
        "lapse_holdout_abandonments_total",
        "lapse_holdout_returns_total",
        # These need rules from their topic: tests/telemetry/test_rules.py.
        "lapse_rules_revision",
        "lapse_rules_behind_seconds",
        "lapse_rules_refused_entries",
        # This needs a limit: tests/telemetry/test_held.py.
        "lapse_held_commands_total",
        # These need a shadow: tests/telemetry/test_shadow.py.
        "lapse_shadow_rounds_total",
        "lapse_shadow_triggers_fired_total",
        "lapse_fencings_total",
        "lapse_misrouted_records_total",
        "lapse_restore_rows_total",
        "lapse_restore_remaining_offsets",
    }


async def test_a_restart_shows_what_is_restored_and_what_waits_before_anything_comes_in(kafka, topic_prefix):
    config = await topics(config_for(kafka, topic_prefix))
    await send(config, sorted(a_day(), key=lambda record: record.timestamp), 1)
    async with measured(config) as first:
        await first.until(lambda: first.of("lapse_rounds_total", outcome="commanded") == 3)
        stream_time = first.of("lapse_stream_time_timestamp_seconds", partition="0")
    async with measured(config) as second:
        await second.until(lambda: second.of("lapse_partition_ready", partition="0") == 1)
        await second.until(lambda: second.of("lapse_pending_rounds") == 2, within=5)
        await second.until(lambda: second.of("lapse_open_abandonments") == 1, within=5)
        assert second.of("lapse_records_total") == 0
        assert second.of("lapse_restore_rows_total") >= 4
        assert second.of("lapse_restore_seconds_count") == 1
        assert second.of("lapse_table_rows", table="sessions") == 2
        assert second.of("lapse_stream_time_timestamp_seconds", partition="0") == stream_time
        for topic, records in (("ticket-updates", 5), ("session-states", 7)):
            assert second.of("lapse_committed_offset", topic=topic, partition="0") == records
            await second.until(lambda topic=topic, n=records: second.of("lapse_end_offset", topic=topic) == n, 5)
        answered = second.of("lapse_broker_answer_timestamp_seconds")
        assert abs(time.time() - answered) < 10


async def test_a_commit_that_hangs_shows_as_lag_in_records_and_in_seconds(kafka, topic_prefix):
    config = await topics(config_for(kafka, topic_prefix))
    async with measured(config) as worker:
        await worker.until(lambda: worker.held == {0})
        await worker.until(lambda: worker.supervisor.processors[0].lag(Topic.TICKETS) == 0)
        producer, go_on = worker.supervisor.processors[0]._producer, asyncio.Event()
        commit = producer.commit

        async def hang(*arguments: Any) -> None:
            await go_on.wait()
            await commit(*arguments)

        producer.commit = hang
        sent = [ticket_update(str(n), at=at(hours=1)) for n in range(7)]
        await send(config, sent, 1)
        await worker.until(lambda: worker.of("lapse_lag_records", topic="ticket-updates") == 7)
        waited = (datetime.now(UTC) - NOW).total_seconds()  # since this module was loaded, beside the hour
        assert 3600 <= worker.of("lapse_lag_seconds", topic="ticket-updates", partition="0") < 3700 + waited
        assert worker.of("lapse_lag_records", topic="session-states") == 0
        assert worker.of("lapse_lag_seconds", topic="session-states") == 0
        assert worker.of("lapse_committed_offset", topic="ticket-updates") == 0
        assert worker.of("lapse_end_offset", topic="ticket-updates") == 7
        go_on.set()
        await worker.until(lambda: worker.of("lapse_lag_records", topic="ticket-updates") == 0)
        assert worker.of("lapse_lag_seconds", topic="ticket-updates") == 0
        assert worker.of("lapse_committed_offset", topic="ticket-updates") == 7


async def test_what_an_open_transaction_upstream_holds_back_shows_though_it_is_in_no_lag(kafka, topic_prefix):
    config = await topics(config_for(kafka, topic_prefix))
    tickets = config.topic("ticket-updates")
    async with measured(config) as worker, producing(config, transactional_id=f"{topic_prefix}upstream") as upstream:
        await worker.until(lambda: worker.held == {0})
        record = ticket_update("1", at=at(hours=1))
        await upstream.begin_transaction()
        await upstream.send_and_wait(tickets, record.value, record.key, partition=0)
        await send(config, [ticket_update(str(n), at=at(hours=1)) for n in range(2, 5)], 1)
        await worker.until(lambda: worker.of("lapse_held_back_offsets", topic="ticket-updates", partition="0") == 4)
        assert worker.of("lapse_held_back_offsets", topic="session-states") == 0
        assert worker.of("lapse_lag_records", topic="ticket-updates") == 0
        await upstream.commit_transaction()
        await worker.until(lambda: worker.of("lapse_records_total", result="applied") == 4)
        await worker.until(lambda: worker.of("lapse_held_back_offsets", topic="ticket-updates") == 0)


async def test_a_worker_without_partitions_still_shows_that_a_broker_answers(kafka, topic_prefix, monkeypatch):
    monkeypatch.setattr("streams.worker.status.ANSWERED_WITHIN", 1.5)
    config = await topics(config_for(kafka, topic_prefix))
    async with measured(config) as first:
        await first.until(lambda: first.held == {0})
        async with measured(config) as second:
            await second.until(lambda: second.status and second.status.joined and first.held ^ second.held == {0})
            idle = second if first.held else first
            await idle.until(lambda: idle.of("lapse_assigned_partitions") == 0)
            await asyncio.sleep(4)
            assert idle.status.broker_reachable
            assert time.time() - idle.of("lapse_broker_answer_timestamp_seconds") < 3


async def test_records_of_another_partitioner_are_counted_as_misrouted(kafka, topic_prefix):
    config = await topics(config_for(kafka, topic_prefix), 2)
    record = ticket_update("1", at=at(hours=1))
    wrong = 1 - partition_of(b"1", 2)
    async with producing(config) as producer:
        await producer.send_and_wait(config.topic("ticket-updates"), record.value, record.key, partition=wrong)
    async with measured(config) as worker:
        await worker.until(lambda: worker.of("lapse_misrouted_records_total", topic="ticket-updates") == 1)
        assert worker.of("lapse_misrouted_records_total", topic="session-states") == 0


async def test_a_rebalance_is_counted_and_timed_and_the_partitions_that_leave_take_their_gauges_along(
    kafka, topic_prefix
):
    config = await topics(config_for(kafka, topic_prefix), 2)
    async with measured(config) as first:
        await first.until(lambda: first.held == {0, 1})
        await first.until(lambda: first.of("lapse_partition_ready") == 2)
        before = first.of("lapse_rebalances_total")
        async with running(config) as second:
            await second.until(lambda: len(second.held) == 1)
            await first.until(lambda: len(first.held) == 1)
            (left,) = second.held
            assert first.of("lapse_rebalances_total") > before
            assert first.of("lapse_rebalance_seconds_count") > 0
            assert first.of("lapse_assigned_partitions") == 1
            assert not [has for (_, has) in first.samples() if ("partition", str(left)) in has]


async def test_a_partition_that_was_taken_over_counts_and_is_not_ready_until_it_is_restored(kafka, topic_prefix):
    config = await topics(config_for(kafka, topic_prefix))
    async with measured(config) as worker:
        await worker.until(lambda: worker.of("lapse_partition_ready", partition="0") == 1)
        ready = _watch(worker)
        intruder = PartitionProducer(config, 0)
        await intruder.start()
        await intruder.close()
        await send(config, [ticket_update("1", at=at(hours=1))], 1)
        await worker.until(lambda: worker.of("lapse_fencings_total") == 1)
        await worker.until(lambda: worker.of("lapse_records_total", result="applied") == 1)
        assert worker.of("lapse_restore_seconds_count") == 2
        assert 0 in ready, "while it was opened anew, it must not have shown as ready"
        assert worker.of("lapse_partition_ready", partition="0") == 1


def _watch(worker: Measured) -> list[float]:
    """Every value that the gauge of partition 0 is set to from now on."""
    seen: list[float] = []
    told = worker.metrics.assigned

    def assigned(partitions: Any) -> None:
        told(partitions)
        seen.append(worker.of("lapse_partition_ready", partition="0"))

    worker.metrics.assigned = assigned
    return seen
