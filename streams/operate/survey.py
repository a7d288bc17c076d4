"""What a cluster tells about an installation without changing anything: the facts that `lapse doctor` judges."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from importlib.metadata import version
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.errors import IncompatibleBrokerVersion, KafkaError
from aiokafka.protocol.transaction import InitProducerIdRequest

from streams.core.errors import LapseError
from streams.core.partitioning import partition_of
from streams.kafka.answers import name_of
from streams.kafka.brokers import admin_client, bare_client, client_arguments, patiently, plain_consumer
from streams.kafka.config import KafkaConfig
from streams.kafka.inside.inspection import DescribeGroup, DescribeProducers, DescribeTopics, ListTransactions
from streams.kafka.inside.requests import ApiVersions, DescribeTransactions, finalized_features
from streams.kafka.topics import Report, check_topics, wanted_topics

SAMPLE = 2_000
"""How many of the latest records of each input are looked at, spread over its partitions."""

_SAMPLE_SECONDS = 10.0
_NONE_OPEN = -1
_NO_RIGHT = 53
_TRIAL_TIMEOUT_MS = 10_000


class Node(msgspec.Struct, frozen=True):
    """A broker of the cluster."""

    id: int
    address: str
    versions: Mapping[int, tuple[int, int]] | None
    """The lowest and highest version by API key; None when this broker did not answer."""
    features: Mapping[str, int] = {}
    milliseconds: float = 0.0
    """How long it took to answer."""


class Partition(msgspec.Struct):
    """One partition of a topic, and how far it was written and read."""

    leader: int
    replicas: int
    in_sync: int
    begin: int | None = None
    stable: int | None = None
    """The last stable offset, up to which `read_committed` readers read."""
    end: int | None = None
    committed: int | None = None
    """The offset that the group has committed; None when there is none."""


class TopicSeen(msgspec.Struct):
    """A topic as the cluster describes it to this user."""

    partitions: dict[int, Partition]
    rights: int
    """A bit for each of Kafka's ACL operations; negative when the brokers have no authorizer that tells."""


class Group(msgspec.Struct):
    """The workers' consumer group."""

    state: str
    members: list[str]
    """The address of each member."""
    rights: int


class OpenTransaction(msgspec.Struct, frozen=True):
    """A transaction that holds a partition's last stable offset back."""

    topic: str
    partition: int
    start_offset: int
    producer_id: int
    last_write_ms: int
    """When its producer last wrote to this partition, in milliseconds since 1970."""
    transactional_id: str | None
    """None when no broker knows a transaction of this producer: then nothing will end it by itself."""
    timeout_ms: int | None
    start_ms: int | None


class Sample(msgspec.Struct):
    """The latest records of an input."""

    records: int = 0
    without_key: int = 0
    elsewhere: int = 0
    """Records whose partition is not the one that murmur2 gives for their key."""
    newest_ms: int | None = None
    oldest_ms: int | None = None
    partitions: dict[bytes, set[int]] = msgspec.field(default_factory=dict)
    """In which partitions each key was seen."""
    trouble: str | None = None
    """Why records could not be read."""


class Survey(msgspec.Struct):
    """All facts. What could not be asked is missing, and `trouble` says why."""

    nodes: list[Node] = msgspec.field(default_factory=list)
    report: Report | None = None
    topics: dict[str, TopicSeen] = msgspec.field(default_factory=dict)
    group: Group | None = None
    transactional_error: str | None = None
    """The error with which a producer of this user would be refused; None when it is not."""
    transactions: list[OpenTransaction] = msgspec.field(default_factory=list)
    samples: dict[str, Sample] = msgspec.field(default_factory=dict)
    trouble: dict[str, str] = msgspec.field(default_factory=dict)
    """By subject: what went wrong when it was asked."""


async def survey(config: KafkaConfig, subjects: Collection[str] | None = None) -> Survey:
    """Ask the cluster about everything, or only about some subjects (keys of `Survey.trouble`).

    Raises `Refused` or `Failed` when no broker can be used at all.
    """
    found = Survey()
    async with bare_client(config) as client:
        found.nodes = [await _node(client, node) for node in client.cluster.brokers()]
        for subject, ask in (
            ("topics", _topics),
            ("group", _group),
            ("producer", _producer),
            ("offsets", _offsets),
            ("transactions", _transactions),
            ("records", _records),
        ):
            if subjects is not None and subject not in subjects:
                continue
            try:
                await ask(config, client, found)
            except (KafkaError, LapseError, OSError, TimeoutError) as error:
                found.trouble[subject] = str(error) or type(error).__name__
    return found


# --- brokers ---------------------------------------------------------------------------------------------------------


async def _node(client: AIOKafkaClient, broker: Any) -> Node:
    address = f"{broker.host}:{broker.port}"
    began = time.monotonic()
    try:
        answer = await client.send(broker.nodeId, ApiVersions("lapse", version("lapse")))
    except (KafkaError, OSError, TimeoutError):
        return Node(broker.nodeId, address, None)
    milliseconds = (time.monotonic() - began) * 1000
    versions = {key: (least, most) for key, least, most, *_ in answer.api_keys}
    return Node(broker.nodeId, address, versions, finalized_features(answer), milliseconds)


# --- topics and rights -----------------------------------------------------------------------------------------------


async def _topics(config: KafkaConfig, client: AIOKafkaClient, found: Survey) -> None:
    found.report = await check_topics(config)
    names = [topic.name for topic in wanted_topics(config)]
    answer = await client.send(client.get_random_node(), DescribeTopics(names))
    for code, name, _, partitions, rights, *_ in answer.topics:
        if code == 0:
            found.topics[name] = TopicSeen(
                {
                    number: Partition(leader, len(replicas), len(in_sync))
                    for _, number, leader, _, replicas, in_sync, *_ in partitions
                },
                rights,
            )


async def _group(config: KafkaConfig, client: AIOKafkaClient, found: Survey) -> None:
    node = await _coordinator(config, client, CoordinationType.GROUP, config.group)
    answer = await client.send(node, DescribeGroup(config.group), group=ConnectionGroup.COORDINATION)
    ((code, _, state, _, _, members, rights, *_),) = answer.groups
    if code != 0:
        found.trouble["group"] = name_of(code)
        return
    found.group = Group(state, [host.lstrip("/") for _, _, _, host, *_ in members], rights)


async def _producer(config: KafkaConfig, client: AIOKafkaClient, found: Survey) -> None:
    """Begin an epoch of a transactional id that no worker uses: to do it for a worker's would fence that worker."""
    name = f"{config.group}-doctor"
    node = await client.coordinator_lookup(CoordinationType.TRANSACTION, name)
    answer = await client.send(node, InitProducerIdRequest(name, _TRIAL_TIMEOUT_MS), group=ConnectionGroup.COORDINATION)
    if answer.error_code == _NO_RIGHT:
        found.transactional_error = name_of(answer.error_code)


async def _coordinator(config: KafkaConfig, client: AIOKafkaClient, kind: CoordinationType, name: str) -> int:
    """Return who coordinates a group or a transactional id; a new cluster needs a moment until there is one."""

    async def ask() -> int:
        node: int = await client.coordinator_lookup(kind, name)
        return node

    return await patiently(f"Can't find the coordinator of {name}", config, ask)


# --- offsets and transactions ----------------------------------------------------------------------------------------


async def _offsets(config: KafkaConfig, _: AIOKafkaClient, found: Survey) -> None:
    tps = [TopicPartition(name, number) for name, topic in found.topics.items() for number in topic.partitions]
    if not tps:
        return
    async with plain_consumer(config) as consumer:
        begin, stable = await consumer.beginning_offsets(tps), await consumer.end_offsets(tps)
    bare = AIOKafkaConsumer(**client_arguments(config), enable_auto_commit=False)
    await bare.start()
    try:
        end = await bare.end_offsets(tps)
    finally:
        await bare.stop()
    for tp in tps:
        partition = found.topics[tp.topic].partitions[tp.partition]
        partition.begin, partition.stable, partition.end = begin[tp], stable[tp], end[tp]
    async with admin_client(config) as admin:
        for tp, at in (await admin.list_consumer_group_offsets(config.group)).items():
            if tp.topic in found.topics and tp.partition in found.topics[tp.topic].partitions and at.offset >= 0:
                found.topics[tp.topic].partitions[tp.partition].committed = at.offset


async def _transactions(_: KafkaConfig, client: AIOKafkaClient, found: Survey) -> None:
    """Find who holds back the last stable offset where it lies before the end."""
    by_leader: dict[int, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for name, topic in found.topics.items():
        for number, partition in topic.partitions.items():
            if partition.stable is not None and partition.end is not None and partition.stable < partition.end:
                by_leader[partition.leader][name].append(number)
    open_ones: list[tuple[str, int, int, int, int]] = []
    for leader, partitions in by_leader.items():
        answer = await client.send(leader, DescribeProducers(partitions))
        open_ones += [
            (topic[0], described[0], start, producer_id, last_write)
            for topic in answer.topics
            for described in topic[1]
            for producer_id, _, _, last_write, _, start, *_ in described[3] or ()
            if start != _NONE_OPEN
        ]
    names = await _transactional_ids(client, found.nodes, {producer_id for *_, producer_id, _ in open_ones})
    described_ones = {name: await _described(client, name) for name in set(names.values())}
    for name, number, start, producer_id, last_write in sorted(open_ones):
        transactional_id = names.get(producer_id)
        timeout, began = described_ones.get(transactional_id or "", (None, None))
        found.transactions.append(
            OpenTransaction(name, number, start, producer_id, last_write, transactional_id, timeout, began)
        )


async def _transactional_ids(client: AIOKafkaClient, nodes: Iterable[Node], producer_ids: set[int]) -> dict[int, str]:
    names: dict[int, str] = {}
    if producer_ids:
        for node in nodes:
            with contextlib.suppress(IncompatibleBrokerVersion):
                answer = await client.send(node.id, ListTransactions(producer_ids))
                names |= {producer_id: name for name, producer_id, *_ in answer.transaction_states}
    return names


async def _described(client: AIOKafkaClient, name: str) -> tuple[int | None, int | None]:
    """Return the timeout of a transaction and when it began, both in milliseconds."""
    node = await client.coordinator_lookup(CoordinationType.TRANSACTION, name)
    answer = await client.send(node, DescribeTransactions(name), group=ConnectionGroup.COORDINATION)
    ((code, _, _, timeout, start, *_),) = answer.transactions
    return (None, None) if code else (timeout, start if start >= 0 else None)


# --- records ---------------------------------------------------------------------------------------------------------


async def _records(config: KafkaConfig, _: AIOKafkaClient, found: Survey) -> None:
    for name in config.inputs:
        topic = found.topics.get(name)
        if topic is not None:
            found.samples[name] = sample = Sample()
            each = max(1, SAMPLE // len(topic.partitions))
            spans = {
                TopicPartition(name, number): (max(partition.begin, partition.stable - each), partition.stable)
                for number, partition in topic.partitions.items()
                if partition.begin is not None and partition.stable is not None and partition.stable > partition.begin
            }
            if not spans:
                continue
            try:
                async with plain_consumer(config) as consumer:
                    await _read(consumer, spans, len(topic.partitions), sample)
            except (KafkaError, LapseError, OSError, TimeoutError, RuntimeError) as error:
                # RuntimeError: aiokafka's word for a codec whose library is missing.
                sample.trouble = str(error) or type(error).__name__


async def _read(
    consumer: AIOKafkaConsumer, spans: Mapping[TopicPartition, tuple[int, int]], partitions: int, sample: Sample
) -> None:
    """Read from the first to the second offset of each partition, or as far as a few seconds allow."""
    consumer.assign(list(spans))
    for tp, (first, _) in spans.items():
        consumer.seek(tp, first)
    reading = set(spans)
    deadline = time.monotonic() + _SAMPLE_SECONDS
    while reading and time.monotonic() < deadline:
        for records in (await consumer.getmany(timeout_ms=200)).values():
            for record in records:
                _note(sample, record, partitions)
        for tp in list(reading):
            if await consumer.position(tp) >= spans[tp][1]:
                reading.discard(tp)
                consumer.pause(tp)
        await asyncio.sleep(0)


def _note(sample: Sample, record: ConsumerRecord, partitions: int) -> None:
    sample.records += 1
    at = record.timestamp
    sample.newest_ms = at if sample.newest_ms is None else max(sample.newest_ms, at)
    sample.oldest_ms = at if sample.oldest_ms is None else min(sample.oldest_ms, at)
    if record.key is None:
        sample.without_key += 1
        return
    sample.partitions.setdefault(record.key, set()).add(record.partition)
    sample.elsewhere += partition_of(record.key, partitions) != record.partition
