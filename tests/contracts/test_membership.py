"""A member's generation, heartbeats and committed offsets, as aiokafka's coordinator keeps them."""

from __future__ import annotations

import asyncio
from typing import Any

from aiokafka import TopicPartition

from streams.core.names import Topic
from streams.kafka.inside.membership import committed_offsets, generation_of, is_member
from streams.kafka.producer import PartitionProducer, offset_metadata
from tests.worker.kit import config_for, eventually, hosting, topics


async def test_the_group_says_whether_a_generation_is_still_the_present_one(kafka: Any, topic_prefix: str) -> None:
    """Nobody may open a partition anew without asking: it would fence its rightful owner."""
    config = await topics(config_for(kafka, topic_prefix), 2)
    async with hosting(config) as app:
        await eventually(lambda: app.consumer.generation > 0)
        first = generation_of(app.consumer.kafka)
        assert first == app.consumer.generation
        assert await is_member(app.consumer.kafka, first)
        assert not await is_member(app.consumer.kafka, first - 1)
        async with hosting(config) as other:
            await eventually(lambda: other.consumer.generation > first)
            await eventually(lambda: app.consumer.generation > first)
            assert not await is_member(app.consumer.kafka, first)
            assert await is_member(app.consumer.kafka, app.consumer.generation)


async def test_heartbeats_that_the_coordinator_took_are_noted(kafka: Any, topic_prefix: str) -> None:
    config = await topics(config_for(kafka, topic_prefix))
    async with hosting(config) as app:
        first = await eventually(lambda: app.consumer.last_heartbeat)
        await eventually(lambda: app.consumer.last_heartbeat > first)


async def test_committed_offsets_come_with_their_metadata(kafka: Any, topic_prefix: str) -> None:
    config = await topics(config_for(kafka, topic_prefix), 2)
    tickets = config.topic(Topic.TICKETS.value)
    producer = PartitionProducer(config, 1)
    await producer.start()
    await producer.commit({}, {tickets: 7}, 123, 1_772_359_200_000_000)
    await producer.close()
    tps = [TopicPartition(tickets, number) for number in range(2)]
    async with hosting(config) as app:
        await eventually(lambda: app.consumer.generation > 0)
        async with asyncio.timeout(20):
            # A commit returns before its offsets are there.
            while not (found := await committed_offsets(app.consumer.kafka, tps)):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert found == {tps[1]: (7, offset_metadata(123))}
