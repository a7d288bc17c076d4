"""Leaders and topics, as aiokafka's client knows them."""

from __future__ import annotations

from typing import Any

from aiokafka import TopicPartition

from streams.core.names import Output, Topic
from streams.kafka.brokers import plain_consumer
from streams.kafka.inside.metadata import leader_of, wait_for_topic
from tests.worker.kit import config_for, eventually, hosting, topics


async def test_the_leader_of_an_input_is_known(kafka: Any, topic_prefix: str) -> None:
    config = await topics(config_for(kafka, topic_prefix))
    async with hosting(config) as app:
        await eventually(lambda: app.consumer.generation > 0)
        assert leader_of(app.consumer.kafka, TopicPartition(config.topic(Topic.TICKETS.value), 0)) == 1
        assert leader_of(app.consumer.kafka, TopicPartition("no-such-topic", 0)) is None


async def test_partitions_are_known_once_a_topic_was_waited_for(kafka: Any, topic_prefix: str) -> None:
    config = await topics(config_for(kafka, topic_prefix), 3)
    commands = config.topic(Output.COMMANDS.value)
    async with plain_consumer(config) as consumer:
        assert consumer.partitions_for_topic(commands) is None
        await wait_for_topic(consumer, commands)
        assert consumer.partitions_for_topic(commands) == {0, 1, 2}
