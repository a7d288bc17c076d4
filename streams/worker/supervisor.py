"""Opens, keeps and closes the partitions of this worker as the group assigns and revokes them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from typing import Any, cast

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from streams.core.engine import Engine
from streams.core.errors import Failed, Fenced
from streams.core.inputs import Decode
from streams.core.model import SECOND, Micros
from streams.core.names import Topic
from streams.core.partition import Partition
from streams.core.tables import RowCodec
from streams.host.app import App
from streams.kafka.brokers import patiently
from streams.kafka.config import KafkaConfig
from streams.kafka.producer import PartitionProducer, stream_time_of
from streams.wire.writes import Write
from streams.worker.inbox import Inbox
from streams.worker.observer import Observer
from streams.worker.processor import PartitionProcessor
from streams.worker.restore import END_KEY, restore
from streams.worker.silence import SilenceWatch

logger = logging.getLogger(__name__)

_FENCINGS = 6
_FENCING_WINDOW = 120.0
_REPORT_SECONDS = 1.0


class Supervisor:
    """The partitions of one worker.

    A partition that stays here over a rebalance keeps its producer and tables, provided that no generation was
    missed in between; every other one is opened from its changelogs. Nothing is read before its processor is open.
    """

    def __init__(
        self,
        app: App,
        engine: Engine,
        *,
        decode: Decode,
        rows: RowCodec,
        observer: Observer,
    ) -> None:
        """Serve `app`, whose signals it connects to; `engine` decides for all partitions."""
        self.processors: dict[int, PartitionProcessor] = {}
        """Open partitions by number."""
        self.partition_count = 0
        """Partitions of every topic, as checked before the start."""
        self.max_message_bytes: Mapping[str, int] = {}
        """What each topic takes, as found before the start."""
        self._app = app
        self._config: KafkaConfig = app.runtime
        self._engine = engine
        self._decode = decode
        self._rows = rows
        self._observer = observer
        self._opening: dict[int, asyncio.Task[None]] = {}
        self._opening_slots = asyncio.Semaphore(self._config.opening_at_once)
        self._assigned: frozenset[int] = frozenset()
        self._generation = -1
        self._closing = False
        self._fencings: deque[float] = deque()
        self._reporter: asyncio.Task[None] | None = None
        self._revoked_at: float | None = None
        app.on_partitions_revoked.connect(cast(Any, self._on_revoked))
        app.on_partitions_assigned.connect(cast(Any, self._on_assigned))
        app.on_empty_answer = self._on_empty_answer

    @property
    def joined(self) -> bool:
        """Whether the group has given this worker an assignment, if only an empty one."""
        return self._generation >= 0

    @property
    def assigned(self) -> frozenset[int]:
        """Partitions that this worker holds, restored or not."""
        return self._assigned

    @property
    def last_answer(self) -> float | None:
        """`time.monotonic` when a broker last answered a fetch or took a transaction.

        Without partitions there is neither; then a heartbeat counts. With partitions it does not: the group's
        coordinator may be well while the leaders of the partitions are away.
        """
        consumer = self._app.consumer
        answers = [consumer.last_answer, *(processor.last_progress for processor in self.processors.values())]
        if not self._assigned:
            answers.append(consumer.last_heartbeat)
        return max((at for at in answers if at is not None), default=None)

    @property
    def ready(self) -> bool:
        """Whether the group has assigned something, or nothing, and all of it is restored."""
        return self._generation >= 0 and not self._closing and self._assigned <= self.processors.keys()

    # --- rebalances --------------------------------------------------------------------------------------------------

    async def _on_revoked(self, app: Any, revoked: Collection[TopicPartition], **_: Any) -> None:
        """Let the steps in flight end; who keeps what is known when the assignment comes."""
        self._revoked_at = time.perf_counter()
        for task in self._opening.values():
            task.cancel()
        if self._opening:
            await asyncio.wait(self._opening.values(), timeout=5)
        self._opening.clear()
        await self._suspend_all(self._config.rebalance_timeout / SECOND / 2)

    async def _suspend_all(self, within: float) -> None:
        processors = list(self.processors.values())
        stopped = await asyncio.gather(*(processor.suspend(within) for processor in processors))
        broken = [processor for processor, clean in zip(processors, stopped, strict=True) if not clean]
        await asyncio.gather(*(self._close(processor, clean=False) for processor in broken))

    async def _on_assigned(self, app: Any, assigned: Collection[TopicPartition], **_: Any) -> None:
        if self._closing:
            return
        try:
            numbers = self._partitions_of(assigned)
        except Failed as error:
            self._app.fail(error)
            return
        generation = self._app.consumer.generation
        continuous = generation == self._generation + 1
        self._generation = generation
        kept = numbers & self.processors.keys() if continuous else frozenset[int]()
        given_up = [processor for number, processor in self.processors.items() if number not in kept]
        await asyncio.gather(*(self._close(processor, clean=True) for processor in given_up))
        self._observer.rebalanced(None if self._revoked_at is None else time.perf_counter() - self._revoked_at)
        self._revoked_at = None
        # Those opened anew are not ready, even if they were held before.
        self._observer.revoked(self._assigned - kept)
        self._observer.assigned(numbers)
        logger.info(
            "holding %d partitions in generation %d: %s; %d of them were here before",
            len(numbers),
            generation,
            sorted(numbers),
            len(kept),
        )
        self._assigned = numbers
        for number in sorted(kept):
            self._go_on(self.processors[number], generation)
        for number in sorted(numbers - kept):
            self._opening[number] = asyncio.create_task(self._open(number, generation), name=f"open-{number}")
        if self._reporter is None:
            self._reporter = asyncio.create_task(self._report())

    def _partitions_of(self, assigned: Collection[TopicPartition]) -> frozenset[int]:
        """Return the partitions assigned; both topics of each have to be here."""
        of: dict[str, set[int]] = {name: set() for name in self._config.inputs}
        for tp in assigned:
            of[tp.topic].add(tp.partition)
        tickets, sessions = of.values()
        if tickets != sessions:
            name_of_tickets, name_of_sessions = of
            raise Failed(
                f"The group gave this worker partitions {sorted(tickets)} of {name_of_tickets}, but {sorted(sessions)} "
                f"of {name_of_sessions}; the two topics of a partition belong together. Do all members of the group "
                f"{self._config.group} run the same version of Lapse, and have both topics as many partitions?"
            )
        if any(number >= self.partition_count for number in tickets):
            raise Failed(
                f"The topics had {self.partition_count} partitions when this worker started, now they have more. With "
                "more partitions, tickets go elsewhere than where their rows are. Make all seven topics anew with the "
                "new number, or start over with another app_id."
            )
        return frozenset(tickets)

    def _go_on(self, processor: PartitionProcessor, generation: int) -> None:
        limit = self._config.inbox_limit(len(self._assigned))
        for inbox in processor.inboxes.values():
            inbox.enter(generation, limit)
            self._app.inboxes[inbox.tp] = inbox
            self._app.consumer.read_from(inbox)
        processor.run(self._on_failure)

    # --- opening -----------------------------------------------------------------------------------------------------

    async def _open(self, number: int, generation: int) -> None:
        try:
            async with self._opening_slots:
                processor = await self._opened(number, generation)
        except asyncio.CancelledError:
            raise
        except Fenced as error:
            self._opening.pop(number, None)
            self._after_fencing(number, error)
        except Exception as error:
            self._opening.pop(number, None)
            self._app.fail(_explained(error, f"Can't open partition {number}"))
        else:
            self._opening.pop(number, None)
            self.processors[number] = processor
            self._go_on(processor, generation)

    async def _opened(self, number: int, generation: int) -> PartitionProcessor:
        """Open a partition; the order matters.

        The producer's start fences the predecessor and waits for its last transaction to end. Only then are the
        committed offsets and the changelogs' ends what they will stay.
        """
        config, began = self._config, time.perf_counter()
        producer = PartitionProducer(config, number, self.max_message_bytes)
        try:
            await producer.start()
            offsets, stream_time, is_new = await self._start_offsets(number)
            partition = Partition(
                self._engine,
                number=number,
                partition_count=self.partition_count,
                decode=self._decode,
                rows=self._rows,
                dead_letter_limit=config.dead_letter_limit,
                clock_grace=config.clock_grace,
                stream_time=stream_time,
            )

            async def write_end(changelog: str) -> None:
                await producer.commit({changelog: [Write(END_KEY, None)]}, {}, stream_time, self._app.clock())

            def take(table: str, rows: Iterable[tuple[bytes, bytes | None]]) -> int:
                count = partition.restore(table, rows)
                self._observer.restoring(number, count)
                return count

            def remaining(offsets: int) -> None:
                self._observer.restore_remaining(number, offsets)

            rows = await restore(config, number, take, write_end, remaining)
            partition.start()
            processor = self._processor(producer, partition, offsets, generation)
            if is_new:
                await processor.commit_start(stream_time)
        except BaseException:
            await producer.discard()
            raise
        self._observer.restored(number, rows, time.perf_counter() - began)
        for topic, offset in offsets.items():
            self._observer.committed(topic, number, offset)
        logger.info("partition %d: restored %d rows in %.2f s", number, rows, time.perf_counter() - began)
        return processor

    def _processor(
        self, producer: PartitionProducer, partition: Partition, offsets: dict[Topic, int], generation: int
    ) -> PartitionProcessor:
        wake = asyncio.Event()
        limit = self._config.inbox_limit(len(self._assigned))
        inboxes = {
            topic: Inbox(TopicPartition(name, producer.partition), offsets[topic], generation, limit, wake.set)
            for name, topic in self._config.inputs.items()
        }
        return PartitionProcessor(
            self._config,
            partition,
            producer,
            inboxes,
            offsets,
            source=self._app.consumer,
            clock=self._app.clock,
            observer=self._observer,
            wake=wake,
        )

    async def _start_offsets(self, number: int) -> tuple[dict[Topic, int], Micros, bool]:
        """Return from where to read both inputs, the stream time there, and whether the group never read one."""
        tps = {TopicPartition(name, number): topic for name, topic in self._config.inputs.items()}

        async def ask() -> tuple[dict[Topic, int], Micros, bool]:
            committed = await self._committed(list(tps))
            missing = [tp for tp in tps if tp not in committed]
            first = await self._app.consumer.kafka.beginning_offsets(missing) if missing else {}
            offsets = {topic: committed[tp][0] if tp in committed else first[tp] for tp, topic in tps.items()}
            stream_time = max((stream_time_of(metadata) for _, metadata in committed.values()), default=0)
            return offsets, stream_time, bool(missing)

        return await patiently(f"Can't read the offsets of partition {number}", self._config, ask)

    async def _committed(self, tps: list[TopicPartition]) -> dict[TopicPartition, tuple[int, str]]:
        found = await self._app.consumer.kafka._coordinator.fetch_committed_offsets(tps)
        return {tp: (at.offset, at.metadata) for tp, at in found.items() if at.offset >= 0}

    # --- failures ----------------------------------------------------------------------------------------------------

    def _on_failure(self, processor: PartitionProcessor, error: BaseException) -> None:
        if isinstance(error, Fenced):
            closing = asyncio.ensure_future(self._close(processor, clean=False))
            closing.add_done_callback(lambda _: self._after_fencing(processor.number, error))
        else:
            self._app.fail(_explained(error, f"Partition {processor.number}"))

    def _after_fencing(self, number: int, error: Fenced) -> None:
        """Ask the group who owns what.

        Either somebody else owns the partition, while we were frozen, or the broker ended our transaction for its age
        and the partition is still ours. Only the group knows; opening it unasked could fence its rightful owner.
        """
        self._observer.fenced()
        now = time.monotonic()
        self._fencings.append(now)
        while self._fencings[0] < now - _FENCING_WINDOW:
            self._fencings.popleft()
        if len(self._fencings) > _FENCINGS + len(self._assigned):
            self._app.fail(
                Failed(
                    f"Partition {number} was taken over again and again. Does another process use the transactional id "
                    f"{self._config.transactional_id(number)} without being a member of the group {self._config.group}?"
                )
            )
            return
        logger.warning("partition %d: %s; asking the group who owns it", number, error)
        if not self._closing:
            self._app.consumer.rejoin()

    async def _close(self, processor: PartitionProcessor, *, clean: bool) -> None:
        if self.processors.get(processor.number) is processor:
            del self.processors[processor.number]
        for inbox in processor.inboxes.values():
            if self._app.inboxes.get(inbox.tp) is inbox:
                del self._app.inboxes[inbox.tp]
        await processor.close(clean=clean)

    # --- the rest ----------------------------------------------------------------------------------------------------

    def _on_empty_answer(self, tps: Iterable[TopicPartition]) -> None:
        for number in {tp.partition for tp in tps}:
            processor = self.processors.get(number)
            if processor is not None:
                processor.on_empty_answer()

    async def _report(self) -> None:
        silence = SilenceWatch(self._config.brokers)
        while True:
            due = time.perf_counter() + _REPORT_SECONDS
            await asyncio.sleep(_REPORT_SECONDS)
            self._observer.loop_lag(time.perf_counter() - due)
            answered = self.last_answer
            if answered is not None:
                self._observer.answered(time.time() - (time.monotonic() - answered))
            silence.look(answered, time.monotonic())
            for processor in list(self.processors.values()):
                processor.report()

    async def close(self) -> None:
        """End the steps in flight, commit them, and close everything."""
        self._closing = True
        if self._reporter is not None:
            self._reporter.cancel()
        for task in self._opening.values():
            task.cancel()
        await self._suspend_all(self._config.stop_grace / SECOND)
        await asyncio.gather(*(self._close(processor, clean=True) for processor in list(self.processors.values())))


def _explained(error: BaseException, what: str) -> BaseException:
    """Give an error of the client a text that says where it happened."""
    return Failed(f"{what}: {error or type(error).__name__}") if isinstance(error, KafkaError) else error
