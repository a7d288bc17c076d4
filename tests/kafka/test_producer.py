"""The transactional producer on real brokers of both transaction protocols."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError, RequestTimedOutError
from aiokafka.protocol.transaction import EndTxnRequest
from aiokafka.structs import OffsetAndMetadata

from streams.core.errors import Failed, Fenced
from streams.core.names import Output, Topic
from streams.kafka.answers import Verdict, verdict
from streams.kafka.producer import PartitionProducer, offset_metadata, stream_time_of
from streams.wire.writes import Write
from tests.worker.kit import committed_offsets, config_for, producing, read_all, topics

NOW = 1_772_359_200_000_000


async def started(config: Any, partition: int = 0) -> PartitionProducer:
    producer = PartitionProducer(config, partition)
    await producer.start()
    return producer


async def settled_offset(config: Any, tp: TopicPartition, expected: int) -> Any:
    """What the group has committed, once it is there: a commit returns before its offsets are."""
    found: Any = None
    for _ in range(200):
        found = (await committed_offsets(config)).get(tp)
        if found is not None and found.offset == expected:
            break
        await asyncio.sleep(0.05)
    return found


async def test_records_and_offsets_of_one_commit_appear_together(either_kafka: Any, topic_prefix: str) -> None:
    config = await topics(config_for(either_kafka, topic_prefix), 2)
    commands, tickets = config.topic(Output.COMMANDS), config.topic(Topic.TICKETS.value)
    producer = await started(config, 1)
    headers = [("ce_id", b"c-1")]
    await producer.commit({commands: [Write(b"5158", b"{}", headers)]}, {tickets: 7}, 123, NOW)
    await producer.close()
    (record,) = await read_all(config, commands)
    assert (record.partition, record.key, record.value) == (1, b"5158", b"{}")
    assert (record.headers, record.timestamp) == (tuple(headers), NOW // 1000)
    assert (await settled_offset(config, TopicPartition(tickets, 1), 7)).offset == 7


async def test_offset_metadata_comes_back_with_the_offset(either_kafka: Any, topic_prefix: str) -> None:
    """It carries the stream time over a restart."""
    config = await topics(config_for(either_kafka, topic_prefix))
    tickets = config.topic(Topic.TICKETS.value)
    producer = await started(config)
    await producer.commit({}, {tickets: 0}, NOW, NOW)
    await producer.close()
    found = await settled_offset(config, TopicPartition(tickets, 0), 0)
    assert found == OffsetAndMetadata(0, offset_metadata(NOW))
    assert stream_time_of(found.metadata) == NOW


async def test_a_second_producer_of_the_same_id_fences_the_first(either_kafka: Any, topic_prefix: str) -> None:
    """However late the first wakes, and whatever it tries to write, nothing of it is seen."""
    config = await topics(config_for(either_kafka, topic_prefix))
    commands = config.topic(Output.COMMANDS)
    first = await started(config)
    await first.commit({commands: [Write(b"k", b"1")]}, {}, 0, NOW)
    second = await started(config)
    with pytest.raises(Fenced):
        await first.commit({commands: [Write(b"k", b"late")]}, {}, 0, NOW)
    await second.commit({commands: [Write(b"k", b"2")]}, {}, 0, NOW)
    assert [record.value for record in await read_all(config, commands)] == [b"1", b"2"]
    await first.discard()
    await second.close()


async def test_a_fenced_producer_leaves_no_error_that_nobody_looked_at(either_kafka: Any, topic_prefix: str) -> None:
    """Several requests fail at once; asyncio would log each error that nobody asked for, with a traceback."""
    config = await topics(config_for(either_kafka, topic_prefix))
    said: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
    first = await started(config)
    second = await started(config)
    writes = {topic: [Write(b"k", b"late" * 200_000), Write(b"k", b"later" * 150_000)] for topic in config.written}
    with pytest.raises(Fenced):
        await first.commit(writes, {config.topic(Topic.TICKETS.value): 7}, 0, NOW)
    await first.discard()
    del first
    await second.close()
    gc.collect()
    await asyncio.sleep(0)
    assert said == []


async def test_a_producer_that_never_wrote_is_fenced_as_well(either_kafka: Any, topic_prefix: str) -> None:
    config = await topics(config_for(either_kafka, topic_prefix))
    first, second = await started(config), await started(config)
    with pytest.raises(Fenced):
        await first.commit({config.topic(Output.COMMANDS): [Write(b"k", b"late")]}, {}, 0, NOW)
    await first.discard()
    await second.close()


async def test_starting_ends_the_open_transaction_of_the_one_before(either_kafka: Any, topic_prefix: str) -> None:
    """Only then are committed offsets and changelog ends what they will stay: the reason for the opening order."""
    config = await topics(config_for(either_kafka, topic_prefix))
    commands = config.topic(Output.COMMANDS)
    dead = AIOKafkaProducer(bootstrap_servers=either_kafka.bootstrap, transactional_id=config.transactional_id(0))
    await dead.start()
    await dead.begin_transaction()
    await dead.send_and_wait(commands, key=b"k", value=b"never", partition=0)
    successor = await started(config)
    try:
        assert await read_all(config, commands) == []
        assert [r.value for r in await read_all(config, commands, "read_uncommitted")] == [b"never"]
    finally:
        await successor.close()
        with pytest.raises(KafkaError):
            await dead.commit_transaction()
        await dead.stop()


async def test_large_transactions_go_in_several_batches(either_kafka: Any, topic_prefix: str) -> None:
    config = await topics(config_for(either_kafka, topic_prefix, producer_batch_bytes=10_000))
    transitions = config.topic(Output.TRANSITIONS)
    producer = await started(config)
    values = [b"%d" % number * 100 for number in range(500)]
    await producer.commit({transitions: [Write(b"k", value) for value in values]}, {}, 0, NOW)
    await producer.close()
    assert [record.value for record in await read_all(config, transitions)] == values


async def test_a_record_larger_than_a_batch_goes_alone(either_kafka: Any, topic_prefix: str) -> None:
    config = await topics(config_for(either_kafka, topic_prefix, producer_batch_bytes=10_000))
    commands = config.topic(Output.COMMANDS)
    producer = await started(config)
    values = [b"small", b"x" * 1_000_000, b"small"]
    await producer.commit({commands: [Write(b"k", value) for value in values]}, {}, 0, NOW)
    await producer.close()
    assert [record.value for record in await read_all(config, commands)] == values


async def test_a_batch_that_the_broker_refuses_fails_the_commit(either_kafka: Any, topic_prefix: str) -> None:
    config = await topics(config_for(either_kafka, topic_prefix), max_message_bytes="2000000")
    commands = config.topic(Output.COMMANDS)
    producer = await started(config)
    with pytest.raises(Failed, match="partition 0"):
        await producer.commit({commands: [Write(b"k", b"fits"), Write(b"k", b"x" * 2_500_000)]}, {}, 0, NOW)
    await producer.discard()
    successor = await started(config)
    await successor.close()
    assert await read_all(config, commands) == []


async def test_the_protocol_is_that_of_the_cluster(kafka: Any, classic_kafka: Any, topic_prefix: str) -> None:
    for broker, implicit in ((kafka, True), (classic_kafka, False)):
        producer = await started(await topics(config_for(broker, topic_prefix)))
        assert producer.implicit is implicit
        await producer.close()


async def test_a_transaction_takes_the_requests_that_its_protocol_needs(
    kafka: Any, classic_kafka: Any, topic_prefix: str
) -> None:
    """Two round trips with KIP-890, three without; records and offsets go side by side."""
    ends = ["EndTxnForNextEpoch"], ["EndTxnRequest"]
    joins = (
        ["ImplicitOffsetCommit", "ImplicitProduce"],
        [
            *("AddOffsetsToTxnRequest", "AddPartitionsToTxnRequest", "ProduceRequest", "TxnOffsetCommitRequest"),
        ],
    )
    for broker, first, last in zip((kafka, classic_kafka), joins, ends, strict=True):
        config = await topics(config_for(broker, topic_prefix))
        producer = await started(config)
        writes = {config.topic(name): [Write(b"k", b"v")] for name in (Output.COMMANDS, Output.TRANSITIONS)}
        # The first one looks up who coordinates the group.
        await producer.commit(writes, {config.topic(Topic.TICKETS.value): 0}, 0, NOW)
        sent = noting_requests(producer)
        await producer.commit(writes, {config.topic(Topic.TICKETS.value): 1}, 0, NOW)
        await producer.close()
        # Some are asked again while a broker that has just started is not ready.
        assert sorted({*sent} - {*last}) == first
        assert sorted({*sent} - {*first}) == last


def noting_requests(producer: Any) -> list[str]:
    """Return a list that gets the name of every request from now on."""
    sent: list[str] = []
    send = producer._client.send

    async def send_and_note(node: int, request: Any, **more: Any) -> Any:
        sent.append(type(request).__name__)
        return await send(node, request, **more)

    producer._client.send = send_and_note
    return sent


REQUESTS = {
    False: (
        *("AddPartitionsToTxnRequest", "AddOffsetsToTxnRequest", "ProduceRequest", "TxnOffsetCommitRequest"),
        "EndTxnRequest",
    ),
    True: ("ImplicitProduce", "ImplicitOffsetCommit", "EndTxnForNextEpoch"),
}


async def test_an_epoch_of_which_a_request_was_not_answered_is_used_no_more(
    either_kafka: Any, topic_prefix: str
) -> None:
    """Whatever of it arrives late is then refused, and what was committed stays committed, once."""
    config = await topics(config_for(either_kafka, topic_prefix))
    commands, tickets = config.topic(Output.COMMANDS), config.topic(Topic.TICKETS.value)
    producer = await started(config)
    kinds = REQUESTS[producer.implicit]
    for number, kind in enumerate(kinds):
        epoch = producer._epoch
        lose_an_answer(producer, kind)
        await producer.commit({commands: [Write(b"k", kind.encode())]}, {tickets: 2 * number + 1}, 0, NOW)
        await producer.commit({commands: [Write(b"k", b"next")]}, {tickets: 2 * number + 2}, 0, NOW)
        assert producer._epoch > epoch
        late = await producer._client.send(1, EndTxnRequest(config.transactional_id(0), *epoch, False))
        assert verdict(late.error_code) is Verdict.OVER
    await producer.close()
    expected = [value for kind in kinds for value in (kind.encode(), b"next")]
    assert [record.value for record in await read_all(config, commands)] == expected
    assert (await settled_offset(config, TopicPartition(tickets, 0), 2 * len(kinds))).offset == 2 * len(kinds)


async def test_the_next_epoch_is_not_taken_from_a_successor(classic_kafka: Any, topic_prefix: str) -> None:
    config = await topics(config_for(classic_kafka, topic_prefix))
    commands = config.topic(Output.COMMANDS)
    first = await started(config)
    lose_an_answer(first, "EndTxnRequest")
    await first.commit({commands: [Write(b"k", b"1")]}, {}, 0, NOW)
    second = await started(config)
    with pytest.raises(Fenced):
        await first.commit({commands: [Write(b"k", b"late")]}, {}, 0, NOW)
    await second.commit({commands: [Write(b"k", b"2")]}, {}, 0, NOW)
    assert [record.value for record in await read_all(config, commands)] == [b"1", b"2"]
    await first.discard()
    await second.close()


def lose_an_answer(producer: Any, kind: str) -> None:
    """Let the next request of this kind be done, and its answer be lost."""
    client = producer._client
    send = client.send

    async def send_and_lose(node: int, request: Any, **more: Any) -> Any:
        answer = await send(node, request, **more)
        if type(request).__name__ == kind:
            client.send = send
            raise RequestTimedOutError
        return answer

    client.send = send_and_lose


async def test_aborted_records_are_hidden_from_those_who_ask_for_committed_ones(kafka: Any, topic_prefix: str) -> None:
    config = await topics(config_for(kafka, topic_prefix))
    tickets = config.topic(Topic.TICKETS.value)
    async with producing(config, transactional_id=f"{topic_prefix}up") as upstream:
        await upstream.begin_transaction()
        await upstream.send_and_wait(tickets, key=b"k", value=b"no", partition=0)
        await upstream.abort_transaction()
        async with upstream.transaction():
            await upstream.send_and_wait(tickets, key=b"k", value=b"yes", partition=0)
    assert [record.value for record in await read_all(config, tickets)] == [b"yes"]
    assert [record.value for record in await read_all(config, tickets, "read_uncommitted")] == [b"no", b"yes"]
