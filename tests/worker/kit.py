"""What the tests on a real broker share: topics, records in, records out, a worker in this process."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from streams.core.batch import Batch
from streams.core.cycle import Rules
from streams.core.engine import Engine, EngineSettings
from streams.core.model import SECOND
from streams.core.names import Topic
from streams.core.partitioning import partition_of
from streams.host.app import App
from streams.host.clock import Clock
from streams.host.inbox import Inbox
from streams.kafka.brokers import admin_client, patiently
from streams.kafka.config import KafkaConfig
from streams.kafka.topics import create_topics
from streams.rules.triggers import parse_triggers
from streams.testing.traffic import Record
from streams.wire.decode import decode
from streams.wire.rows import MsgpackRows
from streams.worker.observer import Silent
from streams.worker.service import Worker
from streams.worker.status import WorkerStatus
from streams.worker.supervisor import Supervisor

TRIGGERS = """
triggers:
  - id: solve-abandoned
    title: Solve abandoned conversations
    conditions:
      all:
        - {field: status, operator: is, value: open}
        - {field: messaging_session_state, operator: changed_to, value: inactive}
    actions:
      - {field: status, value: solved}
"""


def config_for(kafka: Any, prefix: str, **changes: Any) -> KafkaConfig:
    """A worker's configuration with waits short enough for tests."""
    given: dict[str, Any] = {
        "brokers": (kafka.bootstrap,),
        "topic_prefix": prefix,
        "act_from_is_set": True,
        "session_timeout": 6 * SECOND,
        "heartbeat_interval": SECOND // 4,
        "rebalance_timeout": 10 * SECOND,
        "broker_patience": 20 * SECOND,
    }
    return KafkaConfig(**(given | changes))


def engine() -> Engine:
    parsed = parse_triggers(TRIGGERS)
    assert parsed.ruleset is not None, parsed.errors
    return Engine(Rules(parsed.ruleset), EngineSettings())


async def eventually(what: Callable[[], Any], within: float = 20.0) -> Any:
    """Return what `what` gives as soon as it is true."""
    deadline = time.monotonic() + within
    while not (found := what()):
        assert time.monotonic() < deadline, f"not within {within} s"
        await asyncio.sleep(0.02)
    return found


@contextlib.asynccontextmanager
async def producing(config: KafkaConfig, **arguments: Any) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(bootstrap_servers=list(config.brokers), **arguments)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def send(config: KafkaConfig, records: Iterable[Record], partitions: int) -> None:
    """Write records, each to the partition of its key; those of tickets are there before any of sessions.

    A worker that runs meanwhile is past the time of these records: a lapse that comes before its ticket is too late.
    """
    by_topic: dict[Topic, list[Record]] = {topic: [] for topic in Topic}
    for record in records:
        by_topic[record.topic].append(record)
    async with producing(config) as producer:
        for topic, of_topic in by_topic.items():
            for record in of_topic:
                await producer.send(
                    config.topic(topic.value),
                    key=record.key,
                    value=record.value,
                    partition=0 if record.key is None else partition_of(record.key, partitions),
                    timestamp_ms=record.timestamp,
                )
            await producer.flush()


async def read_all(config: KafkaConfig, topic: str, isolation: str = "read_committed") -> list[ConsumerRecord]:
    """Everything that a topic has now, for a reader of that isolation level, in offset order by partition."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=list(config.brokers), isolation_level=isolation, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        await consumer._client._wait_on_metadata(topic)
        tps = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic))]
        consumer.assign(tps)
        ends = await _settled_ends(config, consumer, tps)
        found: dict[TopicPartition, list[ConsumerRecord]] = {tp: [] for tp in tps}
        deadline = time.monotonic() + 15
        while any([await consumer.position(tp) < ends[tp] for tp in tps]):
            assert time.monotonic() < deadline
            for tp, records in (await consumer.getmany(timeout_ms=100)).items():
                found[tp] += records
        return [record for tp in tps for record in found[tp]]
    finally:
        await consumer.stop()


async def _settled_ends(config: KafkaConfig, consumer: Any, tps: list[TopicPartition]) -> dict[TopicPartition, int]:
    """The ends, once transactions that were just committed have their markers: a commit returns before that."""
    bare = AIOKafkaConsumer(bootstrap_servers=list(config.brokers))
    await bare.start()
    try:
        for _ in range(100):
            ends: dict[TopicPartition, int] = await consumer.end_offsets(tps)
            if ends == await bare.end_offsets(tps):
                break
            await asyncio.sleep(0.02)
        return ends
    finally:
        await bare.stop()


async def committed_offsets(config: KafkaConfig) -> dict[TopicPartition, Any]:
    """What the group has committed, with metadata."""
    async with admin_client(config) as admin:

        async def ask() -> dict[TopicPartition, Any]:
            found: dict[TopicPartition, Any] = await admin.list_consumer_group_offsets(config.group)
            return found

        return await patiently("offsets", config, ask)


class Notes(Silent):
    """An observer that remembers."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, Batch]] = []
        self.restored_rows: dict[int, int] = {}
        self.lags: dict[tuple[str, int], int] = {}
        self.rebalances = 0
        self.openings = 0

    @property
    def taken(self) -> int:
        return sum(batch.taken for _, batch in self.batches)

    def batch_committed(
        self, partition: int, batch: Batch, seconds: float, commit_seconds: float | None = None
    ) -> None:
        self.batches.append((partition, batch))

    def restored(self, partition: int, rows: int, seconds: float) -> None:
        self.openings += 1
        self.restored_rows[partition] = rows

    def rebalanced(self, seconds: float | None = None) -> None:
        self.rebalances += 1

    def lag(self, topic: Any, partition: int, records: int, seconds: float | None = None) -> None:
        self.lags[topic.value, partition] = records


class Running:
    """A worker in this process."""

    def __init__(self, config: KafkaConfig) -> None:
        self.config = config
        self.notes = Notes()
        self.status: WorkerStatus | None = None
        self.worker = Worker(
            config, engine(), decode=decode, rows=MsgpackRows(), observer=self.notes, beside=(self._remember,)
        )
        self.task: asyncio.Task[None] | None = None

    @contextlib.asynccontextmanager
    async def _remember(self, supervisor: Supervisor) -> AsyncIterator[None]:
        self.status = WorkerStatus(supervisor)
        self.app = supervisor._app
        yield

    @property
    def held(self) -> set[int]:
        partitions = [] if self.status is None else self.status.partitions()
        return {held.partition for held in partitions if held.state == "ready"}

    def start(self) -> Running:
        self.task = asyncio.create_task(self.worker.run())
        return self

    async def until(self, what: Callable[[], Any], within: float = 20.0) -> Any:
        """Wait for it; a worker that ends meanwhile fails the test with what ended it."""

        def look() -> Any:
            if self.task is not None and self.task.done():
                self.task.result()
                raise AssertionError("the worker has ended")
            return what()

        return await eventually(look, within)

    async def stop(self) -> None:
        self.worker.stop()
        if self.task is not None:
            await asyncio.wait_for(self.task, 30)


@contextlib.asynccontextmanager
async def running(config: KafkaConfig) -> AsyncIterator[Running]:
    """A worker from start to clean stop."""
    worker = Running(config).start()
    try:
        yield worker
    finally:
        if worker.task is not None and not worker.task.done():
            await worker.stop()


@contextlib.asynccontextmanager
async def hosting(config: KafkaConfig) -> AsyncIterator[App]:
    """A started app whose partitions are not opened by anybody: what the runtime stands on, by itself."""
    app = App(config, Clock())
    app.failure = asyncio.get_running_loop().create_future()
    await app.start()
    try:
        yield app
    finally:
        await app.stop()


def open_inbox(app: App, topic: str, partition: int, offset: int = 0, limit: int = 10_000) -> Inbox:
    """Begin to read a topic-partition that was assigned."""
    inbox = Inbox(TopicPartition(topic, partition), offset, app.consumer.generation, limit, lambda: None)
    app.inboxes[inbox.tp] = inbox
    app.consumer.read_from(inbox)
    return inbox


async def make_topic(config: KafkaConfig, name: str, partitions: int, **settings: str) -> None:
    """Make one topic as somebody else would have; `settings` with underscores for dots."""
    admin = AIOKafkaAdminClient(bootstrap_servers=list(config.brokers))
    await admin.start()
    try:
        configs = {key.replace("_", "."): value for key, value in settings.items()}
        await admin.create_topics([NewTopic(name, partitions, 1, topic_configs=configs)])
        for _ in range(100):
            if (await admin.describe_topics([name]))[0]["error_code"] == 0:
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"{name} was not made")
    finally:
        await admin.close()


async def topics(config: KafkaConfig, partitions: int = 1, **settings: str) -> KafkaConfig:
    """Make the topics of this configuration; return it."""
    named: Mapping[str, str] = {name.replace("_", "."): value for name, value in settings.items()}
    await create_topics(config, partitions, 1, named)
    return config
