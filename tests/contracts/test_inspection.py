"""The requests that look at a cluster, against a real broker: layouts, and what they tell."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType

from streams.kafka.inside.inspection import DescribeGroup, DescribeProducers, DescribeTopics, ListTransactions
from tests.kafka_kit import topics as kit

ALL_RIGHTS_OF_A_TOPIC = {3, 4, 5, 6, 7, 8, 10, 11}
"""Read, Write, Create, Delete, Alter, Describe, DescribeConfigs, AlterConfigs."""


@pytest.fixture
async def client(kafka: Any) -> AsyncIterator[AIOKafkaClient]:
    made = AIOKafkaClient(bootstrap_servers=kafka.bootstrap)
    await made.bootstrap()
    try:
        yield made
    finally:
        await made.close()


async def test_topics_are_told_with_leaders_replicas_and_rights_and_none_is_made(
    kafka: Any, client: AIOKafkaClient, topic_prefix: str
) -> None:
    name, other = f"{topic_prefix}seen", f"{topic_prefix}never-made"
    await kit.create(kafka.bootstrap, [name], 2)
    answer = await client.send(client.get_random_node(), DescribeTopics([name, other]))
    ((node, host, port, *_),) = answer.brokers
    assert (host, port) == ("127.0.0.1", kafka.port)
    told = {topic: (code, partitions, rights) for code, topic, _, partitions, rights, *_ in answer.topics}
    code, partitions, rights = told[name]
    assert code == 0
    assert sorted((number, leader, replicas, isr) for _, number, leader, _, replicas, isr, *_ in partitions) == [
        (0, node, [node], [node]),
        (1, node, [node], [node]),
    ]
    assert {bit for bit in range(32) if rights & 1 << bit} == ALL_RIGHTS_OF_A_TOPIC
    assert told[other][0] == 3, "unknown, and not made"


async def test_a_group_is_told_with_its_state_its_members_and_rights(
    kafka: Any, client: AIOKafkaClient, topic_prefix: str
) -> None:
    name, group = f"{topic_prefix}seen", f"{topic_prefix}group"
    await kit.create(kafka.bootstrap, [name], 1)

    async def described() -> Any:
        node = await client.coordinator_lookup(CoordinationType.GROUP, group)
        answer = await client.send(node, DescribeGroup(group), group=ConnectionGroup.COORDINATION)
        ((code, told, state, _, _, members, rights, *_),) = answer.groups
        assert (code, told) == (0, group)
        return state, members, rights

    member = AIOKafkaConsumer(name, bootstrap_servers=kafka.bootstrap, group_id=group, client_id="mine")
    async with member:
        await member.getmany(timeout_ms=100)
        state, ((_, _, client_id, host, *_),), rights = await described()
    assert (state, client_id, host) == ("Stable", "mine", "/127.0.0.1")
    assert rights & 1 << 3, "Read"
    state, members, _ = await described()
    assert state in ("Empty", "Dead")
    assert members == []


async def test_an_open_transaction_is_told_by_its_partition_and_by_its_producer(
    kafka: Any, client: AIOKafkaClient, topic_prefix: str
) -> None:
    name, transactional_id = f"{topic_prefix}seen", f"{topic_prefix}open"
    await kit.create(kafka.bootstrap, [name], 1)
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, transactional_id=transactional_id)

    async def producers() -> list[Any]:
        answer = await client.send(client.get_random_node(), DescribeProducers({name: [0]}))
        ((told, ((number, code, _, found, *_),), *_),) = answer.topics
        assert (told, number, code) == (name, 0, 0)
        return list(found)

    async with producer:
        async with producer.transaction():
            await producer.send_and_wait(name, b"1", partition=0)
        async with producer.transaction():
            await producer.send_and_wait(name, b"2", partition=0)
            ((producer_id, _, _, last_write, _, start, *_),) = await producers()
            assert start == 2, "after one record and its marker"
            assert last_write > 1_700_000_000_000
            answer = await client.send(client.get_random_node(), ListTransactions([producer_id]))
            assert [tuple(one[:3]) for one in answer.transaction_states] == [(transactional_id, producer_id, "Ongoing")]
            other = await client.send(client.get_random_node(), ListTransactions([producer_id + 1_000]))
            assert other.transaction_states == []

        async def ended() -> bool:
            return all(one[5] == -1 for one in await producers())

        for _ in range(50):
            if await ended():
                break
        assert await ended()
