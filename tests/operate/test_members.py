"""Where the worker is that holds a partition, asked of a real broker."""

from __future__ import annotations

import pytest
from aiokafka import AIOKafkaConsumer

from streams.kafka.config import KafkaConfig
from streams.operate.members import host_of
from tests.kafka_kit import topics
from tests.kafka_kit.broker import Broker


@pytest.mark.system
async def test_the_group_knows_the_address_of_the_member_that_holds_a_partition(kafka: Broker, topic_prefix: str):
    config = KafkaConfig(brokers=(kafka.bootstrap,), topic_prefix=topic_prefix)
    await topics.create(kafka.bootstrap, [f"{topic_prefix}ticket-updates"], 2)
    assert await host_of(config, 0) is None, "nobody is there"
    member = AIOKafkaConsumer(f"{topic_prefix}ticket-updates", bootstrap_servers=kafka.bootstrap, group_id=config.group)
    async with member:
        await member.getmany(timeout_ms=100)
        assert member.assignment()
        assert await host_of(config, 1) == "127.0.0.1"
        assert await host_of(config, 2) is None


async def test_a_broker_that_is_away_knows_nothing_and_nobody_waits_long_for_it():
    assert await host_of(KafkaConfig(brokers=("127.0.0.1:1",)), 0) is None
