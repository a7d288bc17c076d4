"""The simulator's model of the brokers answers as Apache Kafka does: the same requests, put to both.

Scripts are drawn by seed: requests with the right epoch and sequence, and with those of an earlier transaction, such as
a request that arrives late or twice. Every answer must carry the same error code, epoch and state; at the end the
topics must hold the same records at the same offsets for readers of committed records, and the group the same offsets.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.errors import KafkaError
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import (
    AddOffsetsToTxnRequest,
    AddPartitionsToTxnRequest,
    EndTxnRequest,
    InitProducerIdRequest,
    TxnOffsetCommitRequest,
)
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from streams.core.names import Output
from streams.kafka.answers import Verdict, name_of, verdict
from streams.kafka.batches import Epoch
from streams.kafka.brokers import admin_client, patiently
from streams.kafka.config import KafkaConfig
from streams.kafka.exchange import Coordinator
from streams.kafka.inside.requests import (
    ApiVersions,
    DescribeTransactions,
    EndTxnForNextEpoch,
    ImplicitOffsetCommit,
    ImplicitProduce,
    NextEpoch,
    finalized_features,
)
from tests.simulator.broker import Broker
from tests.worker.kit import config_for, read_all, topics

SCRIPTS = (*range(4), 40, 41, 47)
"""Seeds. The last ones end a transaction again after its epoch was given up."""

STEPS = 24
WITHIN_SECONDS = 60.0
TIMEOUT_MS = 60_000
NOW_MS = 1_772_359_200_000


class Side:
    """The brokers of one side. `implicit` is the newer of the two protocols."""

    def __init__(self, written: tuple[str, ...], *, implicit: bool) -> None:
        self.written, self.implicit = written, implicit

    async def send(self, to: Coordinator | None, script: Script, request: Any) -> Any:
        """Send a request to one of the script's coordinators, or to the leader; return the answer."""
        raise NotImplementedError

    async def ask(
        self, to: Coordinator | None, script: Script, request: Any, code_of: Callable[[Any], int]
    ) -> tuple[int, Any]:
        """Return error code and answer; while the brokers are busy with the transaction before, ask again."""
        deadline = time.monotonic() + WITHIN_SECONDS
        while True:
            answer = await self.send(to, script, request)
            code = code_of(answer)
            if verdict(code) not in {Verdict.AGAIN, Verdict.MOVED}:
                return code, answer
            assert time.monotonic() < deadline, f"still {name_of(code)} after {WITHIN_SECONDS:.0f} s"
            await asyncio.sleep(0.005)


class Simulated(Side):
    """The model. Markers are written at once."""

    def __init__(self, written: tuple[str, ...], *, implicit: bool) -> None:
        super().__init__(written, implicit=implicit)
        self.broker = Broker(written, 1, transaction_version=2 if implicit else 1, schedule=_unless_it_is_a_timeout)

    async def send(self, to: Coordinator | None, script: Script, request: Any) -> Any:
        return self.broker.handle(request.prepare(self.broker.versions))

    def take_offset(self) -> int | None:
        """Return the offset that was committed last, and forget it: the model has one group only."""
        found = self.broker.offsets.pop(TopicPartition(self.written[0], 0), None)
        return None if found is None else found.offset


class Real(Side):
    """Apache Kafka."""

    def __init__(self, client: AIOKafkaClient, written: tuple[str, ...], *, implicit: bool) -> None:
        super().__init__(written, implicit=implicit)
        self.client = client

    async def send(self, to: Coordinator | None, script: Script, request: Any) -> Any:
        if to is None:
            return await self.client.send(await self._leader(), request, group=ConnectionGroup.DEFAULT)
        node = await self._coordinator(to, script.id if to is Coordinator.TRANSACTION else script.group)
        return await self.client.send(node, request, group=ConnectionGroup.COORDINATION)

    async def _leader(self) -> int:
        """Return the only broker, once it leads the topics."""
        deadline = time.monotonic() + WITHIN_SECONDS
        while True:
            leaders = {self.client.cluster.leader_for_partition(TopicPartition(topic, 0)) for topic in self.written}
            if leaders.isdisjoint({None, -1}):
                return int(leaders.pop())
            assert time.monotonic() < deadline, f"no leader for {self.written} after {WITHIN_SECONDS:.0f} s"
            await self.client.force_metadata_update()

    async def _coordinator(self, kind: Coordinator, key: str) -> Any:
        """Find a coordinator. The broker makes its topic at the first question, which takes a while."""
        deadline = time.monotonic() + WITHIN_SECONDS
        while True:
            try:
                return await self.client.coordinator_lookup(int(kind), key)
            except KafkaError:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.05)


def _unless_it_is_a_timeout(seconds: float, do: Callable[[], None]) -> None:
    if not seconds:
        do()


@contextlib.asynccontextmanager
async def connected(config: KafkaConfig, written: tuple[str, ...]) -> AsyncIterator[Real]:
    client = AIOKafkaClient(bootstrap_servers=list(config.brokers))
    await client.bootstrap()
    await client.set_topics(written)
    try:
        answer = await client.send(client.get_random_node(), ApiVersions("lapse", "1"))
        yield Real(client, written, implicit=finalized_features(answer)["transaction.version"] >= 2)
    finally:
        await client.close()


class Script:
    """One transactional id, and what its producers ask for."""

    def __init__(self, side: Side, name: str, seed: int) -> None:
        self.side, self.id, self.group = side, f"{name}-{seed}", f"{name}-group-{seed}"
        self.rng = random.Random(f"script/{seed}")
        self.epochs: list[Epoch] = []
        self.sequences: dict[tuple[Epoch, str], int] = {}
        self.seen: list[str] = []
        self.written = 0

    async def run(self) -> list[str]:
        """Run the whole script, and leave no transaction open; return what was answered."""
        await self.begin()
        steps = [self.write] * 6 + [self.commit_offset] * 3 + [self.end] * 5 + [self.next_epoch, self.begin]
        if not self.side.implicit:
            steps += [self.add_partitions] * 5 + [self.add_offsets] * 2
        for _ in range(STEPS):
            await self.rng.choice(steps)()
            await self.describe()
        await self.begin()
        await self.describe()
        return self.seen

    def epoch(self) -> Epoch:
        """Most often the latest epoch, now and then an earlier one."""
        earlier = self.epochs[-4:-1]
        return self.rng.choice(earlier) if earlier and self.rng.random() < 0.25 else self.epochs[-1]

    def note(self, what: str, code: int, epoch: int | None = None) -> None:
        self.seen.append(f"{what}: {name_of(code)}" + ("" if epoch is None else f", epoch {epoch}"))

    async def begin(self) -> None:
        code, answer = await self.side.ask(
            Coordinator.TRANSACTION, self, InitProducerIdRequest(self.id, TIMEOUT_MS), _code
        )
        self.note("InitProducerId", code, answer.producer_epoch)
        self.epochs.append(Epoch(answer.producer_id, answer.producer_epoch))

    async def next_epoch(self) -> None:
        given = self.epoch()
        code, answer = await self.side.ask(Coordinator.TRANSACTION, self, NextEpoch(self.id, TIMEOUT_MS, *given), _code)
        self.note(f"InitProducerId after {given.number}", code, answer.producer_epoch)
        if not code:
            self.epochs.append(Epoch(answer.producer_id, answer.producer_epoch))

    async def describe(self) -> None:
        deadline = time.monotonic() + WITHIN_SECONDS
        while True:
            _, answer = await self.side.ask(
                Coordinator.TRANSACTION, self, DescribeTransactions(self.id), lambda a: a.transactions[0][0]
            )
            code, _, state, *_ = answer.transactions[0]
            if not state.startswith("Prepare"):
                break
            assert time.monotonic() < deadline, f"still {state} after {WITHIN_SECONDS:.0f} s"
            await asyncio.sleep(0.005)
        self.note(f"state {state}", code)

    async def add_partitions(self) -> None:
        epoch, names = self.epoch(), self.rng.sample(self.side.written, self.rng.choice([1, 2]))
        request = AddPartitionsToTxnRequest(self.id, *epoch, [(name, [0]) for name in names])
        code, _ = await self.side.ask(Coordinator.TRANSACTION, self, request, _first_code)
        self.note(f"AddPartitions {epoch.number}", code)

    async def add_offsets(self) -> None:
        epoch = self.epoch()
        code, _ = await self.side.ask(
            Coordinator.TRANSACTION, self, AddOffsetsToTxnRequest(self.id, *epoch, self.group), _code
        )
        self.note(f"AddOffsets {epoch.number}", code)

    async def write(self) -> None:
        epoch, topic = self.epoch(), self.rng.choice(self.side.written)
        expected = self.sequences.get((epoch, topic), 0)
        sequence = max(0, expected + self.rng.choice([0, 0, 0, 0, 0, -1, 1]))
        self.written += 1
        value = f"{self.id.rpartition('-')[2]}/{self.written}"
        builder = DefaultRecordBatchBuilder(2, 0, 1, *epoch, sequence, 1_000)
        builder.append(0, NOW_MS, b"k", value.encode(), [])
        batch = bytes(builder.build())
        request: Any
        if self.side.implicit:
            request = ImplicitProduce(self.id, TIMEOUT_MS, 0, {topic: batch})
        else:
            request = ProduceRequest(self.id, -1, TIMEOUT_MS, [(topic, [(0, batch)])])
        code, _ = await self.side.ask(None, self, request, lambda answer: answer.topics[0][1][0][1])
        self.note(f"Produce {value} {epoch.number} as {sequence}", code)
        if not code:
            self.sequences[epoch, topic] = max(expected, sequence + 1)

    async def commit_offset(self) -> None:
        epoch, offset = self.epoch(), self.rng.randrange(100)
        kind = ImplicitOffsetCommit if self.side.implicit else TxnOffsetCommitRequest
        request = kind(self.id, self.group, *epoch, [(self.side.written[0], [(0, offset, "")])])
        code, _ = await self.side.ask(Coordinator.GROUP, self, request, _first_code)
        self.note(f"TxnOffsetCommit {offset} {epoch.number}", code)

    async def end(self) -> None:
        epoch, commit = self.epoch(), self.rng.random() < 0.7
        kind = EndTxnForNextEpoch if self.side.implicit else EndTxnRequest
        code, answer = await self.side.ask(Coordinator.TRANSACTION, self, kind(self.id, *epoch, commit), _code)
        next_epoch = answer.producer_epoch if self.side.implicit else None
        self.note(f"EndTxn {epoch.number} {'commit' if commit else 'abort'}", code, next_epoch)
        if next_epoch is not None and not code and (given := Epoch(answer.producer_id, next_epoch)) != self.epochs[-1]:
            self.epochs.append(given)


async def _until_committed(
    config: KafkaConfig, admin: Any, group: str, tp: TopicPartition, expected: int | None
) -> None:
    """Wait until a group has committed an offset: a transaction ends before that is to be seen."""
    deadline = time.monotonic() + WITHIN_SECONDS
    while True:
        offsets = await patiently("offsets", config, lambda: admin.list_consumer_group_offsets(group))
        found = offsets.get(tp)
        have = None if found is None or found.offset < 0 else found.offset
        if have == expected:
            return
        assert time.monotonic() < deadline, f"{group} has committed {have}, and the model says {expected}"
        await asyncio.sleep(0.05)


def _code(answer: Any) -> int:
    return int(answer.error_code)


def _first_code(answer: Any) -> int:
    return int(answer.errors[0][1][0][1])


async def test_the_model_answers_as_a_broker_does(either_kafka: Any, topic_prefix: str) -> None:
    config = await topics(config_for(either_kafka, topic_prefix))
    written = (config.topic(Output.COMMANDS), config.topic(Output.TRANSITIONS))
    offsets: dict[str, int | None] = {}
    async with connected(config, written) as real:
        model = Simulated(written, implicit=real.implicit)
        for seed in SCRIPTS:
            here, there = Script(model, topic_prefix, seed), Script(real, topic_prefix, seed)
            assert await here.run() == await there.run(), f"script {seed}"
            offsets[here.group] = model.take_offset()
    assert any(offset is not None for offset in offsets.values())
    async with admin_client(config) as admin:
        for group, offset in offsets.items():
            await _until_committed(config, admin, group, TopicPartition(written[0], 0), offset)
    for topic in written:
        want = [(record.offset, record.value) for record in await read_all(config, topic)]
        entries = model.broker.logs[TopicPartition(topic, 0)].committed_records()
        assert [(entry.offset, entry.value) for entry in entries] == want
        assert want
