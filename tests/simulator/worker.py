"""A worker: the real supervisor, processors, pipelines and transactional producers, over a model of the consumer.

What stands in for Faust and aiokafka's consumer does what `streams.host.consumer` does, on the model broker: one fetch
at a time for each node, ends that count from the request, fetches in transit through an agent, pauses, generations.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from streams.core.engine import Engine
from streams.core.model import SECOND, Micros
from streams.host.inbox import Fetch, Inbox
from streams.kafka.config import KafkaConfig
from streams.wire.decode import decode
from streams.wire.rows import MsgpackRows
from streams.worker.observer import Silent
from streams.worker.supervisor import Supervisor
from tests.simulator.errors import Code
from tests.simulator.group import GroupCoordinator
from tests.simulator.log import Entry
from tests.simulator.loop import Host
from tests.simulator.network import Network, node_of

_RETRY_SECONDS = 0.05
_RPC_SECONDS = 3.0


class Signal:
    """What the supervisor connects its handlers to."""

    def __init__(self) -> None:
        self.handlers: list[Any] = []

    def connect(self, handler: Any) -> None:
        self.handlers.append(handler)

    async def send(self, app: Any, tps: Iterable[TopicPartition]) -> None:
        for handler in self.handlers:
            await handler(app, tps)


class App:
    """What the supervisor uses of the Faust app."""

    def __init__(self, config: KafkaConfig, network: Network, clock: Callable[[], Micros]) -> None:
        self.runtime = config
        self.clock = clock
        self.inboxes: dict[TopicPartition, Inbox] = {}
        self.on_partitions_revoked = Signal()
        self.on_partitions_assigned = Signal()
        self.on_empty_answer: Callable[[Iterable[TopicPartition]], None] = lambda tps: None
        self.consumer = Consumer(self, network)
        self.failed: list[BaseException] = []

    def fail(self, error: BaseException) -> None:
        self.failed.append(error)


class Consumer:
    """The consumer: fetches of assigned topic-partitions, as far as they are read from and not paused."""

    def __init__(self, app: App, network: Network) -> None:
        self.generation = -1
        self.last_answer: float | None = None
        self.last_heartbeat: float | None = None
        self.kafka = self
        self.member_id: str | None = None
        self._app, self._network = app, network
        self._assigned: frozenset[TopicPartition] = frozenset()
        self._positions: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()
        self._ends: dict[TopicPartition, tuple[int, int]] = {}
        self._answers: dict[TopicPartition, tuple[Micros, Micros]] = {}
        self._changed = asyncio.Event()
        self.flows = asyncio.Event()
        """Whether agents get what was fetched; not during a rebalance, as with Faust."""
        self.in_transit: dict[str, asyncio.Queue[list[Fetch]]] = {name: asyncio.Queue() for name in app.runtime.inputs}

    # --- what the supervisor and the processors ask of it

    def at_end(self, tp: TopicPartition) -> bool:
        return tp in self._ends and tp in self._positions and self._positions[tp] >= self._ends[tp][0]

    def stable_end(self, tp: TopicPartition) -> int | None:
        return self._ends[tp][0] if tp in self._ends else None

    def held_back(self, tp: TopicPartition) -> int | None:
        return max(0, self._ends[tp][1] - self._ends[tp][0]) if tp in self._ends else None

    def pause(self, inbox: Inbox) -> None:
        if not inbox.paused and inbox.tp in self._assigned:
            inbox.paused = True
            self._paused.add(inbox.tp)

    def resume(self, inbox: Inbox) -> None:
        if inbox.paused and inbox.tp in self._assigned:
            inbox.paused = False
            self._paused.discard(inbox.tp)
            self._changed.set()

    def read_from(self, inbox: Inbox) -> None:
        self._answers.pop(inbox.tp, None)
        self._ends.pop(inbox.tp, None)
        self._positions[inbox.tp] = inbox.next_offset
        self._paused.discard(inbox.tp)
        self._changed.set()

    async def is_member(self, generation: int) -> bool:
        group = self._network.group
        try:
            code = await self._network.request(
                "Heartbeat", lambda: group.heartbeat(self.member_id, generation), _RPC_SECONDS
            )
        except (KafkaError, OSError, TimeoutError):
            return False
        return bool(code is Code.NONE and self.generation == generation)

    async def beginning_offsets(self, tps: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return await self._network.request("ListOffsets", lambda: dict.fromkeys(tps, 0), _RPC_SECONDS)

    # --- assignment

    def assign(self, generation: int, partitions: Iterable[int]) -> list[TopicPartition]:
        """Begin a generation. Nothing is fetched before a processor says from where."""
        tps = [TopicPartition(name, number) for name in self._app.runtime.inputs for number in sorted(partitions)]
        self.generation = generation
        self._assigned = frozenset(tps)
        self._positions.clear()
        self._paused.clear()
        self._answers.clear()
        self._ends.clear()
        return tps

    # --- fetching

    async def fetch_forever(self, node: int) -> None:
        while True:
            wanted = {
                tp: at
                for tp, at in sorted(self._positions.items())
                if tp not in self._paused and node_of(tp, self._network.nodes) == node
            }
            if not wanted:
                self._changed.clear()
                await self._changed.wait()
                continue
            asked, generation = self._app.clock(), self.generation
            try:
                answer = await self._fetch(wanted)
            except (KafkaError, OSError, TimeoutError):
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            self._take(asked, generation, wanted, answer)

    async def _fetch(self, wanted: Mapping[TopicPartition, int]) -> dict[TopicPartition, tuple[Any, ...]]:
        """Ask for records; the broker holds the answer for a while when there are none."""
        network, logs = self._network, self._network.broker.logs
        ends: dict[TopicPartition, int] = {tp: logs[tp].stable_end for tp in wanted}
        if all(at >= ends[tp] for tp, at in wanted.items()):
            held = self._app.runtime.fetch_max_wait / SECOND * network.rng.uniform(0.5, 1)
            await asyncio.sleep(max(held, network.idle_seconds))
        most = network.rng.choice([1, 2, 5, 50])

        def read() -> dict[TopicPartition, tuple[Any, ...]]:
            return {tp: (*logs[tp].read(at, most), logs[tp].stable_end, logs[tp].end) for tp, at in wanted.items()}

        return await network.request("Fetch", read, _RPC_SECONDS)

    def _take(
        self,
        asked: Micros,
        generation: int,
        wanted: Mapping[TopicPartition, int],
        answer: Mapping[TopicPartition, tuple[Any, ...]],
    ) -> None:
        if generation != self.generation:
            return
        loop = self._network.loop
        self.last_answer = loop.time()
        answered = self._app.clock()
        fetches: dict[str, list[Fetch]] = {}
        empty: list[TopicPartition] = []
        full: list[Inbox] = []
        for tp, (entries, position, stable, end) in answer.items():
            if tp in self._paused or self._positions.get(tp) != wanted[tp]:
                continue
            self._ends[tp] = (stable, end)
            self._positions[tp] = position
            nodes = self._network.nodes
            alone = node_of(self._other(tp), nodes) != node_of(tp, nodes)
            arrived = answered if alone else asked
            self._answers[tp] = (asked, arrived)
            inbox = self._app.inboxes.get(tp)
            if inbox is None or inbox.generation != generation:
                continue
            if entries:
                inbox.expect()
                records = [_record(tp, entry) for entry in entries]
                fetch = Fetch(tp, records, asked, arrived, generation, self.at_end(tp))
                fetches.setdefault(tp.topic, []).append(fetch)
                full.append(inbox)
            else:
                empty.append(tp)
                if self.at_end(tp):
                    inbox.note_end(asked)
        for name, several in fetches.items():
            self.in_transit[name].put_nowait(several)
        for inbox in full:
            if inbox.full:
                self.pause(inbox)
        self._app.on_empty_answer(empty)

    def _other(self, tp: TopicPartition) -> TopicPartition:
        return TopicPartition(next(name for name in self._app.runtime.inputs if name != tp.topic), tp.partition)

    async def deliver_forever(self, topic: str) -> None:
        """The agent of a topic: what was fetched gets to its inbox a little later, in order."""
        rng = self._network.rng
        while True:
            fetches = await self.in_transit[topic].get()
            if rng.random() < 0.3:
                await asyncio.sleep(rng.expovariate(500))
            await self.flows.wait()
            for fetch in fetches:
                inbox = self._app.inboxes.get(fetch.tp)
                if inbox is not None:
                    inbox.put(fetch)


def _record(tp: TopicPartition, entry: Entry) -> ConsumerRecord:
    return ConsumerRecord(
        *(tp.topic, tp.partition, entry.offset, entry.timestamp, 1, entry.key, entry.value, None, -1, -1),
        entry.headers,
    )


class Worker:
    """One worker process on its host."""

    def __init__(
        self,
        host: Host,
        config: KafkaConfig,
        engine: Engine,
        *,
        network: Network,
        group: GroupCoordinator,
        clock: Callable[[], Micros],
        partitions: int,
    ) -> None:
        self.host = host
        self.app = App(config, network, clock)
        self.supervisor = Supervisor(
            self.app,
            engine,
            decode=decode,
            rows=MsgpackRows(),
            observer=Silent(),
        )
        self.supervisor.partition_count = partitions
        self._network, self._group = network, group
        self._config = config
        self._rejoin = asyncio.Event()
        self._stopping = False
        self._joining = True

    async def run(self) -> None:
        """Run until the host ends."""
        loop = self._network.loop
        consumer = self.app.consumer
        self.supervisor.watch()
        for node in range(self._network.nodes):
            loop.spawn(self.host, consumer.fetch_forever(node), "fetch")
        for name in self._config.inputs:
            loop.spawn(self.host, consumer.deliver_forever(name), "agent")
        loop.spawn(self.host, self._heartbeats(), "heartbeats")
        while not self._stopping:
            self._joining = True
            try:
                generation, partitions = await self._join()
            except (KafkaError, OSError, TimeoutError):
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            tps = consumer.assign(generation, partitions)
            self._joining = False
            self._rejoin.clear()
            await self.app.on_partitions_assigned.send(self.app, tps)
            consumer.flows.set()
            await self._rejoin.wait()
            consumer.flows.clear()
            if not self._stopping:
                await self.app.on_partitions_revoked.send(self.app, tps)

    async def _join(self) -> tuple[int, frozenset[int]]:
        consumer, instance = self.app.consumer, self._config.group_instance_id
        member_id, joined = await self._network.request(
            "JoinGroup", lambda: self._group.join(consumer.member_id, instance), _RPC_SECONDS
        )
        consumer.member_id = member_id
        async with asyncio.timeout(2 * self._config.rebalance_timeout / SECOND):
            try:
                found: tuple[int, frozenset[int]] = await asyncio.shield(joined)
            except asyncio.CancelledError:
                if joined.cancelled():
                    raise TimeoutError from None
                raise
        await asyncio.sleep(self._network.latency())
        return found

    async def _heartbeats(self) -> None:
        consumer, group = self.app.consumer, self._group
        while True:
            await asyncio.sleep(self._config.heartbeat_interval / SECOND)
            member_id, generation = consumer.member_id, consumer.generation
            if member_id is None or self._stopping or self._joining:
                continue
            try:
                code = await self._network.request(
                    "Heartbeat",
                    lambda member_id=member_id, generation=generation: group.heartbeat(member_id, generation),
                    _RPC_SECONDS,
                )
            except (KafkaError, OSError, TimeoutError):
                continue
            if self._joining or (member_id, generation) != (consumer.member_id, consumer.generation):
                continue  # the answer is about a generation that is over
            if code is Code.NONE:
                consumer.last_heartbeat = self._network.loop.time()
            else:
                if code is Code.UNKNOWN_MEMBER_ID:
                    consumer.member_id = None
                    consumer.generation = -1
                self._rejoin.set()

    async def stop(self) -> None:
        """End as after SIGTERM."""
        self._stopping = True
        await self.supervisor.close()
        self._rejoin.set()
        member_id = self.app.consumer.member_id
        try:
            await self._network.request("LeaveGroup", lambda: self._group.leave(member_id), _RPC_SECONDS)
        except (KafkaError, OSError, TimeoutError):
            return


# --- what a restore reads with


class PlainConsumer:
    """What `read_to_ends` uses of a consumer that is in no group and reads committed records."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._positions: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()
        self._ends: dict[TopicPartition, tuple[int, int]] = {}

    def assign(self, tps: Sequence[TopicPartition]) -> None:
        self._positions = dict.fromkeys(tps, 0)

    def seek(self, tp: TopicPartition, offset: int) -> None:
        self._positions[tp] = offset

    def pause(self, tp: TopicPartition) -> None:
        self._paused.add(tp)

    async def position(self, tp: TopicPartition) -> int:
        return self._positions[tp]

    def last_stable_offset(self, tp: TopicPartition) -> int | None:
        return self._ends[tp][0] if tp in self._ends else None

    def highwater(self, tp: TopicPartition) -> int | None:
        return self._ends[tp][1] if tp in self._ends else None

    async def end_offsets(self, tps: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        logs = self._network.broker.logs
        return await self._network.request("ListOffsets", lambda: {tp: logs[tp].stable_end for tp in tps}, _RPC_SECONDS)

    async def beginning_offsets(self, tps: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return await self._network.request("ListOffsets", lambda: dict.fromkeys(tps, 0), _RPC_SECONDS)

    async def getmany(self, timeout_ms: int) -> dict[TopicPartition, list[ConsumerRecord]]:
        network, logs = self._network, self._network.broker.logs
        wanted = {tp: at for tp, at in self._positions.items() if tp not in self._paused}
        most = network.rng.choice([2, 10, 1_000])

        def read() -> dict[TopicPartition, tuple[Any, ...]]:
            return {tp: (*logs[tp].read(at, most), logs[tp].stable_end, logs[tp].end) for tp, at in wanted.items()}

        answer = await network.request("Fetch to restore", read, _RPC_SECONDS)
        found: dict[TopicPartition, list[ConsumerRecord]] = {}
        for tp, (entries, position, stable, end) in answer.items():
            self._positions[tp], self._ends[tp] = position, (stable, end)
            if entries:
                found[tp] = [_record(tp, entry) for entry in entries]
        if not found:
            await asyncio.sleep(timeout_ms / 1_000)
        return found


def plain_consumer_over(network: Network) -> Any:
    """Return what takes the place of `streams.kafka.brokers.plain_consumer`."""

    @asynccontextmanager
    async def plain_consumer(config: KafkaConfig, **_: Any) -> AsyncIterator[PlainConsumer]:
        await asyncio.sleep(network.latency())
        yield PlainConsumer(network)

    return plain_consumer


def committed_offsets_over(network: Network) -> Any:
    """Return what takes the place of `streams.kafka.inside.membership.committed_offsets`."""

    async def committed_offsets(kafka: Any, tps: Sequence[TopicPartition]) -> dict[TopicPartition, tuple[int, str]]:
        offsets = network.broker.offsets

        def ask() -> dict[TopicPartition, tuple[int, str]]:
            return {tp: (offsets[tp].offset, offsets[tp].metadata) for tp in tps if tp in offsets}

        return await network.request("OffsetFetch", ask, _RPC_SECONDS)

    return committed_offsets


async def topics_are_there(config: KafkaConfig) -> Any:
    """Take the place of `check_topics`: no topic is missing."""
    return SimpleNamespace(missing=[])
