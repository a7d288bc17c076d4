"""Whole workers on a real broker: what goes in comes out once, whatever happens in between."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import NewPartitions, RecordsToDelete

from streams.core.errors import Failed
from streams.core.inputs import DeadLetterLimitExceeded
from streams.core.model import SECOND, Evaluation
from streams.core.names import Output, Topic
from streams.kafka.brokers import admin_client
from streams.kafka.config import KafkaConfig
from streams.kafka.producer import PartitionProducer
from streams.testing.builders import session_state, ticket_update
from streams.testing.traffic import Record
from tests.worker.kit import (
    Running,
    committed_offsets,
    config_for,
    eventually,
    producing,
    read_all,
    running,
    send,
    topics,
)

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


def at(seconds: float) -> str:
    return (START + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def lapses(first: int, count: int) -> list[Record]:
    """Tickets that are opened and left: one command each."""
    records = []
    for number in range(first, first + count):
        ticket = str(number)
        records += [
            ticket_update(ticket, at=at(number), status="open"),
            session_state(ticket, "active", at=at(number + 0.1)),
            session_state(ticket, "inactive", "user_inactive_or_offline", at=at(number + 0.2)),
        ]
    return records


async def commanded(config: KafkaConfig) -> Counter[str]:
    return Counter(
        json.loads(record.value)["ticket_id"] for record in await read_all(config, config.topic(Output.COMMANDS))
    )


def once(first: int, count: int) -> Counter[str]:
    return Counter(str(number) for number in range(first, first + count))


async def test_a_lapse_becomes_one_command_in_its_own_partition(kafka: Any, topic_prefix: str) -> None:
    config = await topics(config_for(kafka, topic_prefix), 3)
    async with running(config) as worker:
        await worker.until(lambda: worker.held == {0, 1, 2})
        await send(config, lapses(100, 20), 3)
        await worker.until(lambda: worker.notes.taken == 60)
    assert await commanded(config) == once(100, 20)
    inputs = {record.key: record.partition for record in await read_all(config, config.topic("ticket-updates"))}
    for record in await read_all(config, config.topic(Output.COMMANDS)):
        assert record.partition == inputs[record.key]
        assert dict(record.headers)["ce_source"] == b"lapse"
    kinds = Counter(
        found.get("kind") or found["outcome"]
        for found in (json.loads(record.value) for record in await read_all(config, config.topic(Output.TRANSITIONS)))
    )
    assert kinds == {"opened": 20, "lapsed": 20, "commanded": 20}


async def test_a_backlog_is_merged_by_time_and_not_by_topic(kafka: Any, topic_prefix: str) -> None:
    """All of one topic lies there before the other: read as they come, every lapse would meet a later ticket."""
    config = await topics(config_for(kafka, topic_prefix))
    records = []
    for number in range(300):
        ticket, minute = str(number % 10), 60 * number
        records += [
            ticket_update(ticket, at=at(minute), status="open"),
            session_state(ticket, "active", at=at(minute + 1)),
            session_state(ticket, "inactive", at=at(minute + 2)),
            ticket_update(ticket, at=at(minute + 3), status="solved"),
        ]
    await send(config, sorted(records, key=lambda record: record.topic), 1)
    async with running(config) as worker:
        await worker.until(lambda: worker.notes.taken == len(records))
    assert sum((await commanded(config)).values()) == 300


async def test_a_restart_goes_on_where_the_last_commit_was(kafka: Any, topic_prefix: str) -> None:
    config = await topics(config_for(kafka, topic_prefix), 2)
    async with running(config) as worker:
        await worker.until(lambda: worker.held == {0, 1})
        await send(config, [ticket_update(str(n), at=at(n), status="open") for n in range(50)], 2)
        await worker.until(lambda: worker.notes.taken == 50)
    async with running(config) as worker:
        await worker.until(lambda: worker.held == {0, 1})
        assert sum(worker.notes.restored_rows.values()) == 50
        states = [session_state(str(n), "active", at=at(100 + n)) for n in range(50)]
        states += [session_state(str(n), "inactive", at=at(200 + n)) for n in range(50)]
        await send(config, states, 2)
        await worker.until(lambda: worker.notes.taken == 100)
    assert await commanded(config) == once(0, 50)


async def test_partitions_move_between_workers_and_those_that_stay_keep_their_tables(
    kafka: Any, topic_prefix: str
) -> None:
    config = await topics(config_for(kafka, topic_prefix), 3)
    async with running(config) as first:
        await first.until(lambda: first.held == {0, 1, 2})
        await send(config, lapses(0, 30), 3)
        await first.until(lambda: first.notes.taken == 90)
        async with running(config) as second:
            await second.until(lambda: second.held and first.held | second.held == {0, 1, 2})
            assert not first.held & second.held
            assert first.notes.openings == 3
            await send(config, lapses(30, 30), 3)
            await eventually(lambda: first.notes.taken + second.notes.taken == 180)
            assert second.notes.taken
        await first.until(lambda: first.held == {0, 1, 2})
        await send(config, lapses(60, 30), 3)
        await first.until(lambda: first.notes.taken + second.notes.taken == 270)
        assert first.notes.openings == 3 + second.notes.openings
    assert await commanded(config) == once(0, 90)


async def test_a_rebalance_under_load_loses_and_repeats_nothing(kafka: Any, topic_prefix: str) -> None:
    config = await topics(config_for(kafka, topic_prefix), 4)
    stop = asyncio.Event()
    sent = 0

    async def load() -> None:
        nonlocal sent
        while not stop.is_set():
            await send(config, lapses(sent, 50), 4)
            sent += 50

    loading = asyncio.create_task(load())
    taken = 0
    async with running(config) as first:
        await first.until(lambda: first.notes.taken > 100)
        for _ in range(3):
            async with running(config) as second:
                await second.until(lambda second=second: second.notes.taken > 50)
            taken += second.notes.taken
        stop.set()
        await loading
        await first.until(lambda: taken + first.notes.taken == 3 * sent)
    assert await commanded(config) == once(0, sent)


async def test_a_worker_that_was_fenced_asks_the_group_and_goes_on(kafka: Any, topic_prefix: str) -> None:
    """As after it was frozen, or its transaction too old: producer and tables are dropped, never used again."""
    config = await topics(config_for(kafka, topic_prefix), 2)
    async with running(config) as worker:
        await worker.until(lambda: worker.held == {0, 1})
        await send(config, lapses(0, 10), 2)
        await worker.until(lambda: worker.notes.taken == 30)
        stranger = PartitionProducer(config, 1)
        await stranger.start()
        await stranger.close()
        await send(config, lapses(10, 20), 2)
        await worker.until(lambda: worker.notes.taken == 90)
        # Partition 0 was never in doubt.
        assert worker.notes.openings == 3
        assert worker.notes.rebalances == 1
    assert await commanded(config) == once(0, 30)


async def test_a_wait_ends_by_the_clock_when_nothing_more_comes(kafka: Any, topic_prefix: str) -> None:
    """Both inputs are at their end; the clock alone moves stream time on."""
    config = await topics(config_for(kafka, topic_prefix, clock_grace=SECOND // 10))
    async with running(config) as worker:
        await worker.until(lambda: worker.held == {0})
        # No ticket comes: the round is parked for join_wait, 30 s, of which 28 have already gone by.
        lapse_at = time.time() - 28
        stamp = datetime.fromtimestamp(lapse_at, UTC).isoformat().replace("+00:00", "Z")
        await send(config, [session_state("1", "inactive", at=stamp)], 1)
        await worker.until(lambda: _outcomes(worker) == ["unjoined"], 10)
        assert time.time() >= lapse_at + 30


def _outcomes(worker: Running) -> list[str]:
    records = [record for _, batch in worker.notes.batches for record in batch.records]
    return [record.outcome.value for record in records if isinstance(record, Evaluation)]


async def test_bad_records_beyond_the_limit_end_the_worker_and_nothing_of_the_step_is_written(
    kafka: Any, topic_prefix: str
) -> None:
    config = await topics(config_for(kafka, topic_prefix))
    await send(config, [Record(Topic.TICKETS, b"1", b"no json", 1_772_359_200_000) for _ in range(300)], 1)
    worker = Running(config).start()
    with pytest.raises(DeadLetterLimitExceeded, match="ticket-updates-0 are bad"):
        await asyncio.wait_for(worker.task, 30)
    assert await read_all(config, config.topic(Output.DEAD_LETTERS)) == []


async def test_dead_letters_keep_their_bytes_and_say_why(
    kafka: Any, topic_prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    config = await topics(config_for(kafka, topic_prefix))
    async with running(config) as worker:
        await worker.until(lambda: worker.held == {0})
        async with producing(config, max_request_size=3 << 20) as producer:
            sessions = config.topic(Topic.SESSIONS.value)
            await producer.send_and_wait(sessions, key=b"7", value=b"\xff{", partition=0, headers=[("own", b"\x00")])
            await producer.send_and_wait(sessions, key=b"7", value=b"x" * 1_050_000, partition=0)
        await worker.until(lambda: worker.notes.taken == 2)
    first, second = await read_all(config, config.topic(Output.DEAD_LETTERS))
    assert (first.key, first.value) == (b"7", b"\xff{")
    assert dict(first.headers)["own"] == b"\x00"
    assert dict(first.headers)["lapse.error.code"] == b"not_json"
    assert dict(first.headers)["lapse.source.topic"] == sessions.encode()
    assert second.value is None
    assert dict(second.headers)["lapse.source.size"] == b"1050000"
    told = [text for text in caplog.messages if "could not be used" in text]
    assert (
        f"partition 0: 1 record of {sessions} could not be used: not_json 1; see {config.topic(Output.DEAD_LETTERS)}"
        in told
    )
    assert "xxx" not in caplog.text


async def test_record_timestamps_in_seconds_are_warned_of(
    kafka: Any, topic_prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    config = await topics(config_for(kafka, topic_prefix))
    in_seconds = [record._replace(timestamp=record.timestamp // 1000) for record in lapses(0, 2)]
    async with running(config) as worker:
        await worker.until(lambda: worker.held == {0})
        await send(config, in_seconds, 1)
        await worker.until(lambda: worker.notes.taken == 6)
    told = [text for text in caplog.messages if "before the year 2000" in text]
    oldest = min(each.timestamp for each in in_seconds)
    assert f"{config.topic(Topic.SESSIONS.value)} has the timestamp {oldest} ms" in told[0]
    assert "does its producer write seconds?" in told[0]


async def test_a_gap_below_the_next_offset_stops_the_worker(kafka: Any, topic_prefix: str) -> None:
    config = await topics(config_for(kafka, topic_prefix))
    async with running(config) as worker:
        await worker.until(lambda: worker.held == {0})
        await send(config, lapses(0, 2), 1)
        await worker.until(lambda: worker.notes.taken == 6)
    await send(config, lapses(2, 5), 1)
    tickets = TopicPartition(config.topic(Topic.TICKETS.value), 0)
    async with admin_client(config) as admin:
        await admin.delete_records({tickets: RecordsToDelete(before_offset=4)})
    worker = Running(config).start()
    with pytest.raises(Failed, match="records 2 to 3 were removed before they were read"):
        await asyncio.wait_for(worker.task, 30)


async def test_offsets_and_stream_time_are_committed_with_the_step(kafka: Any, topic_prefix: str) -> None:
    config = await topics(config_for(kafka, topic_prefix))
    async with running(config) as worker:
        await worker.until(lambda: worker.held == {0})
        await send(config, lapses(0, 4), 1)
        await worker.until(lambda: worker.notes.taken == 12)
    offsets = await committed_offsets(config)
    by_topic = {tp.topic: found for tp, found in offsets.items()}
    assert by_topic[config.topic(Topic.TICKETS.value)].offset == 4
    assert by_topic[config.topic(Topic.SESSIONS.value)].offset == 8
    last = worker.notes.batches[-1][1].stream_time
    assert {found.metadata for found in by_topic.values()} == {f"lapse stream_time={last}"}


async def test_lag_is_nought_at_the_end_and_grows_with_what_waits(kafka: Any, topic_prefix: str) -> None:
    config = await topics(config_for(kafka, topic_prefix))
    async with running(config) as worker:
        await worker.until(lambda: worker.held == {0})
        await send(config, lapses(0, 5), 1)
        await worker.until(lambda: worker.notes.taken == 15)
        await worker.until(lambda: set(worker.notes.lags.values()) == {0}, 10)
        assert set(worker.notes.lags) == {("ticket-updates", 0), ("session-states", 0)}


@pytest.mark.parametrize(("grown", "message"), [(1, "belong together"), (2, "now they have more")])
async def test_partitions_that_are_added_while_it_runs_stop_the_worker(
    grown: int, message: str, kafka: Any, topic_prefix: str
) -> None:
    config = await topics(config_for(kafka, topic_prefix), 2)
    worker = Running(config).start()
    await worker.until(lambda: worker.held == {0, 1})
    async with admin_client(config) as admin:
        await admin.create_partitions({name: NewPartitions(3) for name in list(config.inputs)[:grown]})
    # Otherwise it would be seen when the metadata is five minutes old.
    await worker.app.consumer.kafka._client.force_metadata_update()
    with pytest.raises(Failed, match=message):
        await asyncio.wait_for(worker.task, 30)
