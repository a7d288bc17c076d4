"""From the broker's answer to the inbox: one event a fetch, in order, with nothing kept and nothing committed."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from aiokafka import ConsumerRecord, TopicPartition

from streams.core.model import SECOND
from streams.core.names import Topic
from tests.worker.kit import (
    committed_offsets,
    config_for,
    eventually,
    hosting,
    open_inbox,
    producing,
    read_all,
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


async def test_records_are_the_decoders_own_with_all_that_is_read_of_them(kafka: Any, topic_prefix: str) -> None:
    """aiokafka's copy of each record costs more than the decoding; other consumers of the process keep theirs."""
    config = await topics(config_for(kafka, topic_prefix))
    tickets = config.topic(Topic.TICKETS.value)
    async with hosting(config) as app, producing(config) as producer:
        await eventually(lambda: app.consumer.generation > 0)
        inbox = open_inbox(app, tickets, 0)
        await producer.send_and_wait(
            tickets, key=b"k", value=b"v", partition=0, timestamp_ms=1_772_359_200_123, headers=[("ce_id", b"1")]
        )
        await eventually(lambda: inbox.queued)
        ((records, _),) = inbox.take()
        (record,) = records
        assert not isinstance(record, ConsumerRecord)
        assert (record.offset, record.timestamp, record.key, record.value) == (0, 1_772_359_200_123, b"k", b"v")
        assert list(record.headers) == [("ce_id", b"1")]
        (other,) = await read_all(config, tickets)
        assert isinstance(other, ConsumerRecord)


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


async def test_an_answer_without_records_shows_the_end(kafka: Any, topic_prefix: str) -> None:
    config = await topics(config_for(kafka, topic_prefix))
    tickets = config.topic(Topic.TICKETS.value)
    async with hosting(config) as app:
        await eventually(lambda: app.consumer.generation > 0)
        before = app.clock()
        inbox = open_inbox(app, tickets, 0)
        since = await eventually(lambda: inbox.at_end_since)
        assert since >= before
        await eventually(lambda: inbox.at_end_since > since)
        await fill(config, tickets, 3)
        await eventually(lambda: inbox.queued == 3)
        arrived = inbox.take()[0][1]
        await eventually(lambda: inbox.at_end_since >= arrived)


async def test_the_end_is_where_open_transactions_begin(kafka: Any, topic_prefix: str) -> None:
    """SPEC section 1: an input is at its end at the last stable offset; what lies behind may still be aborted."""
    config = await topics(config_for(kafka, topic_prefix))
    tickets = config.topic(Topic.TICKETS.value)
    async with (
        hosting(config) as app,
        producing(config, transactional_id=f"{topic_prefix}upstream") as upstream,
    ):
        await eventually(lambda: app.consumer.generation > 0)
        inbox = open_inbox(app, tickets, 0)
        await fill(config, tickets, 2)
        await upstream.begin_transaction()
        await upstream.send_and_wait(tickets, key=b"k", value=b"open", partition=0)
        await fill(config, tickets, 1)
        await eventually(lambda: inbox.queued == 2)
        started = app.clock()
        await eventually(lambda: inbox.at_end_since > started)
        assert app.consumer.stable_end(inbox.tp) == 2
        assert app.consumer.held_back(inbox.tp) == 2
        await upstream.abort_transaction()
        await eventually(lambda: inbox.queued == 3)
        # The aborted record and its marker lie before and behind; the position passes both.
        assert [r.value for records, _ in inbox.take() for r in records] == [b"v0", b"v1", b"v0"]
        await eventually(lambda: app.consumer.stable_end(inbox.tp) == 5)
        await eventually(lambda: app.consumer.at_end(inbox.tp))
        assert app.consumer.held_back(inbox.tp) == 0


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


async def test_aiokafka_counts_a_position_it_was_given_as_valid(kafka: Any, topic_prefix: str) -> None:
    """Without it, a partition that the group never read would fail the consumer before its processor is open."""
    config = await topics(config_for(kafka, topic_prefix))
    tickets = config.topic(Topic.TICKETS.value)
    await fill(config, tickets, 3)
    async with hosting(config) as app:
        await eventually(lambda: app.consumer.generation > 0)
        await asyncio.sleep(1.2)
        assert not app.failure.done()
        assert await app.consumer.kafka.position(TopicPartition(tickets, 0)) == 0


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


async def test_the_broker_holds_an_answer_after_a_fetch_of_several_partitions_and_not_after_an_empty_one(
    kafka: Any, topic_prefix: str
) -> None:
    """Each partition with records is a transaction to come; the answer that is held brings more for each."""
    config = await topics(config_for(kafka, topic_prefix, fetch_pause=SECOND // 10), 4)
    tickets = config.topic(Topic.TICKETS.value)
    async with hosting(config) as app, producing(config) as producer:
        await eventually(lambda: app.consumer.generation > 0)
        inboxes = [open_inbox(app, tickets, number) for number in range(4)]
        await eventually(lambda: all(inbox.at_end_since for inbox in inboxes))

        async def arrival(partitions: range) -> float:
            before = sum(inbox.queued for inbox in inboxes)
            for number in partitions:
                await producer.send(tickets, key=b"k", value=b"v", partition=number)
            await producer.flush()
            began = time.monotonic()
            await eventually(lambda: sum(inbox.queued for inbox in inboxes) == before + len(partitions))
            return time.monotonic() - began

        fetcher = app.consumer.kafka._fetcher
        assert fetcher._fetch_min_bytes == 1
        await arrival(range(4))
        held = fetcher._fetch_max_wait_ms
        assert held >= 200
        assert await arrival(range(1)) > 0.1
        # Two empty answers later nothing is held any more.
        await eventually(lambda: fetcher._fetch_min_bytes == 1)
        await asyncio.sleep(0.6)
        assert await arrival(range(1)) < 0.2
