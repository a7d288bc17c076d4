"""A broker that skipped the end of a transaction on some partitions, and the successor who says it once more."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from streams.core.names import Output, Topic
from streams.kafka.config import KafkaConfig
from streams.kafka.producer import PartitionProducer
from streams.wire.writes import Write
from tests.kafka_kit.broker import Broker
from tests.kafka_kit.fixtures import require_java
from tests.worker.kit import committed_offsets, config_for, read_all, topics

NOW = 1_772_359_200_000_000


@pytest.fixture(scope="module")
def trusting() -> Iterator[Broker]:
    """A broker that does not verify which partitions belong to a transaction: then one can be missed."""
    require_java()
    with Broker({"transaction.partition.verification.enable": "false"}) as broker:
        yield broker


async def leave_undecided(config: KafkaConfig, *, commit: bool) -> None:
    """Write to two topics in one transaction of which the coordinator knows only one, and end it."""
    producer = AIOKafkaProducer(bootstrap_servers=list(config.brokers), transactional_id=config.transactional_id(0))
    await producer.start()
    await producer.begin_transaction()
    missed = TopicPartition(config.topic(Output.COMMANDS), 0)
    producer._txn_manager._txn_partitions.add(missed)
    await producer.send_and_wait(missed.topic, key=b"k", value=b"undecided", partition=0)
    await producer.send_and_wait(config.topic(Output.TRANSITIONS), key=b"k", value=b"decided", partition=0)
    await (producer.commit_transaction() if commit else producer.abort_transaction())
    await producer.stop()


async def is_undecided(config: KafkaConfig, name: str) -> bool:
    consumer = AIOKafkaConsumer(bootstrap_servers=list(config.brokers), isolation_level="read_committed")
    await consumer.start()
    try:
        tp = TopicPartition(config.topic(name), 0)
        consumer.assign([tp])
        await consumer.seek_to_beginning(tp)
        for _ in range(20):
            await consumer.getmany(timeout_ms=500)
            stable, high = consumer.last_stable_offset(tp), consumer.highwater(tp)
            if high is not None:
                break
        assert high is not None
        return stable is not None and stable < high
    finally:
        await consumer.stop()


@pytest.mark.parametrize(("commit", "seen"), [(True, [b"undecided", b"next"]), (False, [b"next"])])
async def test_a_successor_ends_what_a_lost_marker_left_undecided_as_it_was_decided(
    trusting: Any, topic_prefix: str, commit: bool, seen: list[bytes]
) -> None:
    config = await topics(config_for(trusting, topic_prefix))
    await leave_undecided(config, commit=commit)
    assert await is_undecided(config, Output.COMMANDS)
    successor = PartitionProducer(config, 0)
    await successor.start()
    assert not await is_undecided(config, Output.COMMANDS)
    await successor.commit(
        {config.topic(Output.COMMANDS): [Write(b"k", b"next")]}, {config.topic(Topic.TICKETS.value): 3}, 0, NOW
    )
    await successor.close()
    assert [record.value for record in await read_all(config, config.topic(Output.COMMANDS))] == seen


async def test_saying_the_end_again_moves_no_committed_offset(trusting: Any, topic_prefix: str) -> None:
    config = await topics(config_for(trusting, topic_prefix))
    first = PartitionProducer(config, 0)
    await first.start()
    tickets = config.topic(Topic.TICKETS.value)
    await first.commit({config.topic(Output.COMMANDS): [Write(b"k", b"1")]}, {tickets: 7}, 0, NOW)
    await first.close()
    before = await committed_offsets(config)
    successor = PartitionProducer(config, 0)
    await successor.start()
    await successor.close()
    assert await committed_offsets(config) == before
    assert before[TopicPartition(tickets, 0)].offset == 7
