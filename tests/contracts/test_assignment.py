"""How Faust hands out partitions: the reason for a consumer of our own, and what ours relies on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, RoundRobinPartitionAssignor

from streams.core.names import Topic
from tests.worker.kit import config_for, eventually, hosting, topics


async def test_both_topics_of_a_partition_go_to_the_same_worker(kafka: Any, topic_prefix: str) -> None:
    """Three partitions over two workers: round robin would give 0 and 2 of one topic, but 1 of the other, to one."""
    config = await topics(config_for(kafka, topic_prefix), 3)
    tickets, sessions = (config.topic(topic.value) for topic in Topic)

    def shares() -> Any:
        found = [{tp.topic: set() for tp in ()} | _by_topic(app) for app in (first, second)]
        numbers = [n for by_topic in found for n in by_topic.get(tickets, ())]
        complete = sorted(numbers) == [0, 1, 2] and all(by_topic for by_topic in found)
        return found if complete else None

    async with hosting(config) as first, hosting(config) as second:
        found = await eventually(shares)
        for by_topic in found:
            assert by_topic[tickets] == by_topic[sessions]


def _by_topic(app: Any) -> dict[str, set[int]]:
    by_topic: dict[str, set[int]] = {}
    for tp in app.consumer.assignment():
        by_topic.setdefault(tp.topic, set()).add(tp.partition)
    return by_topic


async def test_without_tables_faust_itself_would_take_round_robin(kafka: Any, topic_prefix: str) -> None:
    """When this fails, Faust chooses its co-partitioning assignor by itself, and ours need not be forced."""
    config = await topics(config_for(kafka, topic_prefix))
    async with hosting(config) as app:
        thread = AIOKafkaConsumerThread.__new__(AIOKafkaConsumerThread)
        thread.app, thread.consumer = app, SimpleNamespace(in_transaction=False)
        made = thread._create_worker_consumer(app.transport)
        try:
            assert thread._assignor is RoundRobinPartitionAssignor
            # The same method fixes these two, whatever the settings say.
            assert made._fetch_max_wait_ms == 1500
            assert made._isolation_level == "read_uncommitted"
        finally:
            await made.stop()


async def test_a_topic_that_may_not_be_declared_is_not_made(kafka: Any, topic_prefix: str) -> None:
    """faust.md 18: no leader topic, no reply topic, no changelog appears beside those that were made before."""
    from streams.kafka.brokers import admin_client

    config = await topics(config_for(kafka, topic_prefix))
    async with admin_client(config) as admin:
        before = set(await admin.list_topics())
        async with hosting(config) as app:
            await eventually(lambda: app.consumer.generation > 0)
        assert {name for name in await admin.list_topics() if name.startswith(topic_prefix)} <= before


async def test_generations_of_a_group_count_up_by_one(kafka: Any, topic_prefix: str) -> None:
    """A partition is kept over a rebalance only when no generation was missed: that needs them to be consecutive."""
    config = await topics(config_for(kafka, topic_prefix), 2)
    async with hosting(config) as first:
        await eventually(lambda: first.consumer.generation > 0)
        before = first.consumer.generation
        async with hosting(config) as second:
            await eventually(lambda: second.consumer.generation > 0)
            await eventually(lambda: first.consumer.generation == second.consumer.generation)
            assert first.consumer.generation == before + 1
