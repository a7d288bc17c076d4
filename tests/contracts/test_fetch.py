"""From the broker's answer to the inbox: one event a fetch, in order, with nothing kept and nothing committed."""

from __future__ import annotations

import asyncio
from typing import Any

from aiokafka import TopicPartition

from streams.core.names import Topic
from tests.worker.kit import (
    committed_offsets,
    config_for,
    eventually,
    hosting,
    open_inbox,
    producing,
    topics,
)


async def fill(config: Any, topic: str, count: int, **arguments: Any) -> None:
    async with producing(config, **arguments) as producer:
        for number in range(count):
            await producer.send(topic, key=b"k", value=b"v%d" % number, partition=0)
        await producer.flush()


async def test_a_fetch_is_one_event_with_all_its_records(kafka: Any, topic_prefix: str) -> None:
    config = await topics(config_for(kafka, topic_prefix))
    tickets = config.topic(Topic.TICKETS.value)
    await fill(config, tickets, 2_000)
    async with hosting(config) as app:
        await eventually(lambda: app.consumer.generation > 0)
        inbox = open_inbox(app, tickets, 0)
        await eventually(lambda: inbox.queued == 2_000)
        fetches = inbox.take()
        assert len(fetches) <= 3
        assert [record.offset for records, _ in fetches for record in records] == list(range(2_000))
        assert [record.value for records, _ in fetches for record in records][:2] == [b"v0", b"v1"]


async def test_an_older_generation_brings_nothing(kafka: Any, topic_prefix: str) -> None:
    """What was fetched before a rebalance may reach the agent after it; it will be read again from the new offset."""
    config = await topics(config_for(kafka, topic_prefix))
    tickets = config.topic(Topic.TICKETS.value)
    async with hosting(config) as app:
        await eventually(lambda: app.consumer.generation > 0)
        inbox = open_inbox(app, tickets, 0)
        await fill(config, tickets, 5)
        await eventually(lambda: inbox.queued == 5)
        # Faust's stream compares the message's generation with the app's before the agent sees it.
        app.consumer_generation_id += 1
        await fill(config, tickets, 5)
        await asyncio.sleep(0.5)
        assert inbox.queued == 5
        assert not inbox.complete


async def test_faust_commits_nothing_and_keeps_no_books(kafka: Any, topic_prefix: str) -> None:
    """faust.md 1 and 2: with its commit off, the lists that feed it would grow for ever."""
    config = await topics(config_for(kafka, topic_prefix))
    tickets = config.topic(Topic.TICKETS.value)
    async with hosting(config) as app:
        await eventually(lambda: app.consumer.generation > 0)
        inbox = open_inbox(app, tickets, 0)
        for _ in range(3):
            await fill(config, tickets, 10)
        await eventually(lambda: inbox.queued == 30)
        consumer: Any = app.consumer
        assert await consumer.commit() is False
        assert not any(consumer._acked.values())
        assert not any(consumer._acked_index.values())
        assert not consumer._gap
        assert not consumer._unacked_messages
        assert consumer._n_acked == 0
    assert await committed_offsets(config) == {}


async def test_nothing_is_read_before_a_seek_and_then_from_there(kafka: Any, topic_prefix: str) -> None:
    config = await topics(config_for(kafka, topic_prefix))
    tickets = config.topic(Topic.TICKETS.value)
    await fill(config, tickets, 20)
    async with hosting(config) as app:
        await eventually(lambda: app.consumer.generation > 0)
        await asyncio.sleep(0.3)
        inbox = open_inbox(app, tickets, 0, offset=13)
        await eventually(lambda: inbox.queued == 7)
        assert inbox.take()[0][0][0].offset == 13


async def test_a_full_inbox_stops_its_topic_partition_and_no_other(kafka: Any, topic_prefix: str) -> None:
    config = await topics(config_for(kafka, topic_prefix, max_partition_fetch_bytes=2_000))
    tickets, sessions = (config.topic(topic.value) for topic in Topic)
    await fill(config, tickets, 1_000, max_batch_size=1_000)
    async with hosting(config) as app:
        await eventually(lambda: app.consumer.generation > 0)
        full, other = open_inbox(app, tickets, 0, limit=100), open_inbox(app, sessions, 0)
        await eventually(lambda: full.paused)
        await fill(config, sessions, 50)
        await eventually(lambda: other.queued == 50)
        waiting = full.queued
        await asyncio.sleep(0.3)
        assert full.queued == waiting < 1_000
        taken = [record.offset for records, _ in full.take() for record in records]
        while len(taken) < 1_000:
            app.consumer.resume(full)
            await eventually(lambda: full.queued)
            taken += [record.offset for records, _ in full.take() for record in records]
        assert taken == list(range(1_000))


async def test_a_raw_topic_hands_on_whatever_it_is_given(kafka: Any, topic_prefix: str) -> None:
    """faust.md 4: raw on both sides, so that tombstones and our own batches pass through Faust's decoding."""
    config = await topics(config_for(kafka, topic_prefix))
    tickets = config.topic(Topic.TICKETS.value)
    async with hosting(config) as app, producing(config) as producer:
        await eventually(lambda: app.consumer.generation > 0)
        inbox = open_inbox(app, tickets, 0)
        await producer.send_and_wait(tickets, key=b"k", value=None, partition=0)
        await producer.send_and_wait(tickets, key=None, value=b"\xff\x00", partition=0)
        await eventually(lambda: inbox.queued == 2)
        records = [record for fetch, _ in inbox.take() for record in fetch]
        assert [(record.key, record.value) for record in records] == [(b"k", None), (None, b"\xff\x00")]


async def test_an_offset_that_is_gone_is_told_and_not_skipped(kafka: Any, topic_prefix: str) -> None:
    from aiokafka.admin import RecordsToDelete

    from streams.kafka.brokers import admin_client

    config = await topics(config_for(kafka, topic_prefix))
    tickets = config.topic(Topic.TICKETS.value)
    await fill(config, tickets, 10)
    async with admin_client(config) as admin:
        await admin.delete_records({TopicPartition(tickets, 0): RecordsToDelete(before_offset=6)})
    async with hosting(config) as app:
        await eventually(lambda: app.consumer.generation > 0)
        open_inbox(app, tickets, 0, offset=2)
        error = await asyncio.wait_for(app.failure, 10)
        assert "records 2 to 5 were removed before they were read" in str(error)
