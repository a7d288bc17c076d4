"""The requests that aiokafka lacks, against real brokers: layouts, and what the coordinator answers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.errors import IncompatibleBrokerVersion, KafkaError
from aiokafka.protocol.transaction import InitProducerIdRequest

from streams.core.names import Output
from streams.kafka.answers import Verdict, verdict
from streams.kafka.batches import Batches, Epoch, Write
from streams.kafka.inside.requests import (
    ApiVersions,
    DescribeTransactions,
    EndTxnForNextEpoch,
    ImplicitOffsetCommit,
    ImplicitProduce,
    NextEpoch,
    finalized_features,
)
from streams.kafka.producer import PartitionProducer
from tests.worker.kit import committed_offsets, config_for, read_all, topics

Ask = Callable[..., Any]


@asynccontextmanager
async def coordinator(config: Any) -> AsyncIterator[tuple[Ask, str]]:
    """A way to ask the coordinator of partition 0's transactional id, and that id."""
    # A producer has found it before, so that it exists by now.
    producer = PartitionProducer(config, 0)
    await producer.start()
    await producer.close()
    name = config.transactional_id(0)
    client = AIOKafkaClient(bootstrap_servers=list(config.brokers))
    await client.bootstrap()
    try:
        node = await client.coordinator_lookup(CoordinationType.TRANSACTION, name)
        # The topic of committed offsets is made when somebody first asks for a group's coordinator.
        with contextlib.suppress(KafkaError):
            await client.coordinator_lookup(CoordinationType.GROUP, config.group)

        async def ask(request: Any) -> Any:
            return await client.send(node, request, group=ConnectionGroup.COORDINATION)

        yield ask, name
    finally:
        await client.close()


async def init(ask: Ask, name: str) -> Epoch:
    while True:
        answer = await ask(InitProducerIdRequest(name, 15_000))
        if verdict(answer.error_code) is Verdict.DONE:
            return Epoch(answer.producer_id, answer.producer_epoch)


async def until_done(ask: Ask, request: Any, code_of: Callable[[Any], int]) -> Any:
    """Ask again while the broker says *not yet*."""
    async with asyncio.timeout(60):
        while True:
            answer = await ask(request)
            if verdict(code_of(answer)) not in {Verdict.AGAIN, Verdict.MOVED}:
                assert code_of(answer) == 0
                return answer
            await asyncio.sleep(0.01)


def produced_code(answer: Any) -> int:
    return int(answer.topics[0][1][0][1])


def committed_code(answer: Any) -> int:
    return int(answer.errors[0][1][0][1])


async def state(ask: Ask, name: str) -> str:
    ((_, _, found, *_),) = (await ask(DescribeTransactions(name))).transactions
    return str(found)


async def test_the_features_of_the_cluster_name_its_transaction_version(kafka: Any, topic_prefix: str) -> None:
    config = await topics(config_for(kafka, topic_prefix))
    async with coordinator(config) as (ask, _):
        assert finalized_features(await ask(ApiVersions("lapse", "1")))["transaction.version"] == 2


async def test_the_next_epoch_is_given_in_place_and_to_the_latest_only(kafka: Any, topic_prefix: str) -> None:
    """Asked again with the same epoch, the coordinator gives the same next one; an older one is refused."""
    config = await topics(config_for(kafka, topic_prefix))
    async with coordinator(config) as (ask, name):
        first = await init(ask, name)
        second = await ask(NextEpoch(name, 15_000, *first))
        assert (second.error_code, second.producer_id, second.producer_epoch) == (
            0,
            first.producer_id,
            first.number + 1,
        )
        again = await ask(NextEpoch(name, 15_000, *first))
        assert (again.error_code, again.producer_epoch) == (0, first.number + 1)
        await init(ask, name)
        late = await ask(NextEpoch(name, 15_000, *first))
        assert verdict(late.error_code) is Verdict.OVER


async def test_a_transaction_without_announcements_ends_with_the_next_epoch(kafka: Any, topic_prefix: str) -> None:
    """KIP-890: Produce and TxnOffsetCommit add what they touch; EndTxn, asked twice, gives the same next epoch."""
    config = await topics(config_for(kafka, topic_prefix))
    commands, tickets = config.topic(Output.COMMANDS.value), next(iter(config.inputs))
    async with coordinator(config) as (ask, name):
        epoch = await init(ask, name)
        (batch,) = Batches(epoch, "none", lambda topic: 10_000).of(commands, [Write(b"k", b"v")], 1_772_359_200_000)
        produced = await until_done(ask, ImplicitProduce(name, 15_000, 0, {commands: batch}), produced_code)
        assert [(topic, partitions[0][:2]) for topic, partitions, *_ in produced.topics] == [(commands, (0, 0))]
        offsets = [(tickets, [(0, 5, "note")])]
        await until_done(ask, ImplicitOffsetCommit(name, config.group, *epoch, offsets), committed_code)
        assert await state(ask, name) == "Ongoing"
        ended = await ask(EndTxnForNextEpoch(name, *epoch, True))
        assert (ended.error_code, ended.producer_id, ended.producer_epoch) == (0, epoch.producer_id, epoch.number + 1)
        # Not yet, until the markers are written.
        again = await until_done(ask, EndTxnForNextEpoch(name, *epoch, True), lambda answer: answer.error_code)
        assert (again.error_code, again.producer_epoch) == (0, epoch.number + 1)
        assert await state(ask, name) == "CompleteCommit"
    assert [record.value for record in await read_all(config, commands)] == [b"v"]
    assert [(at.offset, at.metadata) for at in (await committed_offsets(config)).values()] == [(5, "note")]


def test_a_broker_without_the_version_is_told_apart_before_anything_is_sent() -> None:
    with pytest.raises(IncompatibleBrokerVersion, match="NextEpoch needs version 3, the broker has 0-1"):
        NextEpoch("id", 15_000, 1, 2).prepare({22: (0, 1)})


@pytest.mark.parametrize(
    ("request_", "bytes_"),
    [
        (NextEpoch("ab", 1, 2, 3), b"\x03ab\0\0\0\x01\0\0\0\0\0\0\0\x02\0\x03\0"),
        (EndTxnForNextEpoch("ab", 2, 3, True), b"\x03ab\0\0\0\0\0\0\0\x02\0\x03\x01\0"),
        (DescribeTransactions("ab"), b"\x02\x03ab\0"),
        (ImplicitProduce("ab", 1, 0, {"t": b"x"}), b"\x03ab\xff\xff\0\0\0\x01\x02\x02t\x02\0\0\0\0\x02x\0\0\0"),
    ],
)
def test_the_layouts_are_kafkas(request_: Any, bytes_: bytes) -> None:
    versions = {request_.STRUCT.API_KEY: (request_.STRUCT.API_VERSION,) * 2}
    assert request_.prepare(versions).encode() == bytes_
