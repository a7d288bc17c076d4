"""Opens, keeps and closes the partitions of this worker as the group assigns and revokes them."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Collection, Iterable, Mapping
from typing import Any, cast

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from msgspec import structs

from streams.core.engine import Engine
from streams.core.errors import Failed, Fenced, ReopenPartition, Unreachable
from streams.core.inputs import Decode
from streams.core.model import SECOND, Micros
from streams.core.names import Table, Topic
from streams.core.partition import Partition
from streams.core.revisions import Rulebook
from streams.core.tables import RowCodec
from streams.host.app import App
from streams.host.inbox import Inbox
from streams.kafka.brokers import is_passing, patiently
from streams.kafka.config import KafkaConfig
from streams.kafka.inside.membership import committed_offsets
from streams.kafka.producer import PartitionProducer, act_from_of, stream_time_of
from streams.kafka.topics import check_topics
from streams.wire.rows import UNREADABLE, unreadable
from streams.wire.writes import MakeWrites, Write, writes
from streams.worker.observer import Observer
from streams.worker.processor import PartitionProcessor
from streams.worker.progress import Progress
from streams.worker.restore import END_KEY, restore
from streams.worker.silence import SilenceWatch
from streams.worker.slots import CommitSlots

logger = logging.getLogger(__name__)

_FIRST_BACKOFF = 0.2
_LAST_BACKOFF = 5.0
_OPENING_SECONDS = 15
"""Silence of the brokers after which an attempt to open a partition yields to others and is retried."""
_RULES_SECONDS = 0.25
"""How often a partition that waits for its rules looks again."""
_MISSING_SECONDS = 10.0
_CANCEL_SECONDS = 0.5
_REPORT_SECONDS = 1.0


class Supervisor:
    """The partitions of one worker.

    A partition that stays here across a rebalance keeps its producer and tables, provided that no generation was
    missed in between. Every other partition is restored from its changelogs. Nothing is read before its processor is
    open.

    A partition that can't commit or can't be opened is opened again until it succeeds, while the others continue. The
    worker ends when there was no progress for `broker_patience`, or when waiting would not help.
    """

    def __init__(
        self,
        app: App,
        engine: Engine,
        *,
        decode: Decode,
        rows: RowCodec,
        observer: Observer,
        book: Rulebook | None = None,
        make_writes: MakeWrites = writes,
    ) -> None:
        """Connect to the signals of `app`. All partitions share `engine`, which makes the decisions.

        `make_writes` returns what a batch writes. With a rulebook, each partition uses the revision that it has taken
        up instead of the engine's rules.
        """
        self.processors: dict[int, PartitionProcessor] = {}
        """Open partitions by number."""
        self.partition_count = 0
        """Number of partitions of every topic, as checked before the start."""
        self.max_message_bytes: Mapping[str, int] = {}
        """`max.message.bytes` of each topic, as found before the start."""
        self.waiting_for_rules: dict[int, str] = {}
        """Partitions that are restored and can't use their rules yet, and why."""
        self._book = book
        self._make_writes = make_writes
        self._started_at = app.clock()
        self._app = app
        self._config: KafkaConfig = app.runtime
        self._engine = engine
        self._decode = decode
        self._rows = rows
        self._observer = observer
        self._opening: dict[int, asyncio.Task[None]] = {}
        self._reopening: set[asyncio.Task[None]] = set()
        self._opening_slots = asyncio.Semaphore(self._config.opening_at_once)
        self._commit_slots = CommitSlots()
        self._assigned: frozenset[int] = frozenset()
        self._generation = -1
        self._closing = False
        self._rebalancing = False
        self._attempts: dict[int, int] = {}
        self._missing_since: float | None = None
        self._progress = Progress(time.monotonic())
        self._trouble = "no broker has answered yet"
        self._reporter: asyncio.Task[None] | None = None
        self._revoked_at: float | None = None
        app.on_partitions_revoked.connect(cast(Any, self._on_revoked))
        app.on_partitions_assigned.connect(cast(Any, self._on_assigned))
        app.on_empty_answer = self._on_empty_answer

    @property
    def joined(self) -> bool:
        """Whether the group has given this worker an assignment, even an empty one."""
        return self._generation >= 0

    @property
    def assigned(self) -> frozenset[int]:
        """Partitions that this worker holds, restored or not."""
        return self._assigned

    @property
    def last_answer(self) -> float | None:
        """`time.monotonic` when a broker last answered a fetch or accepted a transaction.

        Without an open partition there is neither, so a heartbeat counts. With an open partition it does not: the group
        coordinator may be available while the leaders of the partitions are not.
        """
        consumer = self._app.consumer
        answers = [consumer.last_answer, *(processor.last_progress for processor in self.processors.values())]
        if not self.processors:
            answers.append(consumer.last_heartbeat)
        return max((at for at in answers if at is not None), default=None)

    @property
    def ready(self) -> bool:
        """Whether the group has given an assignment, even an empty one, and all of it is restored."""
        return self._generation >= 0 and not self._closing and self._assigned <= self.processors.keys()

    # --- rebalances --------------------------------------------------------------------------------------------------

    async def _on_revoked(self, app: Any, revoked: Collection[TopicPartition], **_: Any) -> None:
        """Let the batches in flight finish. Which partitions stay here is only known at the next assignment."""
        self._revoked_at = time.perf_counter()
        self._rebalancing = True
        await self._stop_opening()
        await self._suspend_all(self._config.rebalance_timeout / SECOND / 2)

    async def _stop_opening(self) -> None:
        tasks = list(self._opening.values())
        self._opening.clear()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_CANCEL_SECONDS)

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
        # Partitions that are reopened are not ready, even if they were held before.
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
        self._rebalancing = False
        self._attempts.clear()
        for number in sorted(kept):
            self._go_on(self.processors[number], generation)
        for number in sorted(numbers - kept):
            self._begin_opening(number)

    def _partitions_of(self, assigned: Collection[TopicPartition]) -> frozenset[int]:
        """Return the assigned partitions. Both topics of each must be assigned to this worker."""
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
                "more partitions, tickets go elsewhere than where their rows are. Make all topics of this "
                "installation anew with the new number, or start over with another app_id."
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

    def _begin_opening(self, number: int) -> None:
        opening = self._open(number, self._generation)
        self._opening[number] = asyncio.create_task(opening, name=f"open-{number}")

    async def _open(self, number: int, generation: int) -> None:
        """Open a partition, with retries until it succeeds.

        Before each retry, ask the group whether the partition is still ours: otherwise opening it would fence its
        rightful owner. If it is not ours, aiokafka notices that as well and requests a new assignment.
        """
        producer = PartitionProducer(self._config, number, self.max_message_bytes)
        try:
            while True:
                attempts = self._attempts.get(number, 0)
                self._attempts[number] = attempts + 1
                if attempts:
                    await asyncio.sleep(_backoff(attempts))
                    if not await self._app.consumer.is_member(generation):
                        continue
                try:
                    if attempts:
                        await self._miss_topics()
                    processor = await self._opened(producer, generation)
                except (ReopenPartition, Unreachable, KafkaError, OSError, TimeoutError) as error:
                    if not _may_pass(error):
                        raise
                    self._note_trouble(f"Can't open partition {number}", error)
                else:
                    break
        except Exception as error:
            self._app.fail(self._explained(error, f"Can't open partition {number}"))
            return
        self._opening.pop(number, None)
        self._progress.made(time.monotonic())
        self.processors[number] = processor
        self._go_on(processor, generation)

    async def _miss_topics(self) -> None:
        """Raise `Failed` when topics are gone, and not just unknown to a broker that has only started."""
        needed = {*self._config.inputs, *self._config.written}
        missing = sorted(needed & {*(await check_topics(self._briefly)).missing})
        now = time.monotonic()
        if not missing:
            self._missing_since = None
        elif self._missing_since is None:
            self._missing_since = now
        elif now - self._missing_since > _MISSING_SECONDS:
            raise Failed(f"These topics no longer exist: {', '.join(missing)}.")

    @property
    def _briefly(self) -> KafkaConfig:
        """The configuration for a single attempt, with a shorter patience."""
        patience = min(self._config.broker_patience, _OPENING_SECONDS * SECOND)
        return structs.replace(self._config, broker_patience=patience)

    async def _opened(self, producer: PartitionProducer, generation: int) -> PartitionProcessor:
        """Open a partition. The order matters.

        The producer's start fences the predecessor and waits for its last transaction to end. Only then are the
        committed offsets and the ends of the changelogs final.
        """
        number, began = producer.partition, time.perf_counter()
        try:
            await producer.start()
            async with self._opening_slots:
                processor, rows = await self._restored(producer, generation)
        except BaseException:
            await producer.discard()
            raise
        self._observer.restored(number, rows, time.perf_counter() - began)
        logger.info("partition %d: restored %d rows in %.2f s", number, rows, time.perf_counter() - began)
        return processor

    async def _restored(self, producer: PartitionProducer, generation: int) -> tuple[PartitionProcessor, int]:
        """Restore the state of a partition; return its processor and the number of rows."""
        config, number = self._briefly, producer.partition
        offsets, stream_time, act_from, is_new = await self._start_offsets(config, number)
        engine = self._engine
        if config.act_from_now:
            # Commit before the first step, or a restart would treat records that arrived meanwhile as history.
            is_new = is_new or act_from is None
            producer.act_from = self._started_at if act_from is None else act_from
            engine = engine.acting_from(producer.act_from)
        partition = Partition(
            engine,
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
            self._progress.made(time.monotonic())
            return count

        def remaining(offsets: int) -> None:
            self._observer.restore_remaining(number, offsets)

        rows = await restore(config, number, take, write_end, remaining)
        partition.start()
        if self._book is not None:
            await self._adopt_rules(self._book, partition, offsets)
        processor = self._processor(producer, partition, offsets, generation)
        if is_new:
            await processor.commit_start(stream_time)
        for topic, offset in offsets.items():
            self._observer.committed(topic, number, offset)
        return processor, rows

    async def _adopt_rules(self, book: Rulebook, partition: Partition, offsets: Mapping[Topic, int]) -> None:
        """Wait until the rules that the partition is to use can be used."""
        number = partition.number
        try:
            while (why := partition.adopt(book, self._app.clock(), offsets)) is not None:
                if self.waiting_for_rules.get(number) != why:
                    logger.error("partition %d is not ready: %s", number, why)
                self.waiting_for_rules[number] = why
                self._progress.made(time.monotonic())
                await asyncio.sleep(_RULES_SECONDS)
        finally:
            self.waiting_for_rules.pop(number, None)

    def on_rules(self) -> None:
        """Let every partition look at the new entries of the rulebook."""
        for processor in self.processors.values():
            processor.wake()

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
            slots=self._commit_slots,
            make_writes=self._make_writes,
        )

    async def _start_offsets(
        self, config: KafkaConfig, number: int
    ) -> tuple[dict[Topic, int], Micros, Micros | None, bool]:
        """Return the start offsets of both inputs, the stream time there, the resolved `act_from: now`, and whether
        the group has never read one of them."""
        tps = {TopicPartition(name, number): topic for name, topic in config.inputs.items()}
        kafka = self._app.consumer.kafka

        async def ask() -> tuple[dict[Topic, int], Micros, Micros | None, bool]:
            committed = await committed_offsets(kafka, list(tps))
            missing = [tp for tp in tps if tp not in committed]
            first = await kafka.beginning_offsets(missing) if missing else {}
            offsets = {topic: committed[tp][0] if tp in committed else first[tp] for tp, topic in tps.items()}
            stream_time = max((stream_time_of(metadata) for _, metadata in committed.values()), default=0)
            fixed = [at for _, metadata in committed.values() if (at := act_from_of(metadata)) is not None]
            return offsets, stream_time, min(fixed, default=None), bool(missing)

        return await patiently(f"Can't read the offsets of partition {number}", config, ask)

    # --- failures ----------------------------------------------------------------------------------------------------

    def _explained(self, error: BaseException, what: str) -> BaseException:
        """Say where an error of the client happened, and what to do about a row that can't be read."""
        if isinstance(error, UNREADABLE):
            # Bad records are dead letters, so only a row of a table can raise this.
            changelogs = " or ".join(dict.fromkeys(self._config.changelog(table) for table in Table))
            return Failed(f"{what}: {unreadable(error, changelogs)}")
        return Failed(f"{what}: {error or type(error).__name__}") if isinstance(error, KafkaError) else error

    def _on_failure(self, processor: PartitionProcessor, error: BaseException) -> None:
        if not _may_pass(error):
            self._app.fail(self._explained(error, f"Partition {processor.number}"))
            return
        if isinstance(error, Fenced):
            self._observer.fenced()
        self._note_trouble(f"Partition {processor.number} is opened again", error)
        if processor.last_progress is not None:
            self._attempts.pop(processor.number, None)
        reopening = asyncio.create_task(self._reopen(processor), name=f"reopen-{processor.number}")
        self._reopening.add(reopening)
        reopening.add_done_callback(self._reopening.discard)

    async def _reopen(self, processor: PartitionProcessor) -> None:
        """Close a partition and open it again, unless a rebalance has begun, which decides its fate."""
        number = processor.number
        for inbox in processor.inboxes.values():
            self._app.consumer.pause(inbox)
        await self._close(processor, clean=False)
        self._observer.revoked({number})
        if self._closing or self._rebalancing or number not in self._assigned or number in self._opening:
            return
        self._observer.assigned({number})
        self._attempts[number] = max(1, self._attempts.get(number, 0))
        self._begin_opening(number)

    def _note_trouble(self, what: str, error: BaseException) -> None:
        self._trouble = f"{what}: {error or type(error).__name__}"
        logger.warning("%s", self._trouble, extra={"limit": what})

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

    def watch(self) -> None:
        """Start reporting, and ending a worker that makes no progress."""
        self._reporter = asyncio.create_task(self._report(), name="report")

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
            self._end_without_progress()
            for processor in list(self.processors.values()):
                processor.report()
            if self._book is not None:
                self._report_rules(self._book)

    def _report_rules(self, book: Rulebook) -> None:
        now = self._app.clock()
        newest = book.newest(now)
        behind = 0
        for number, processor in self.processors.items():
            in_use = processor.partition.in_use
            if in_use is not None:
                self._observer.rules_in_use(number, in_use.revision)
                if newest is not None and in_use.revision < newest.number:
                    behind = now - max(newest.effective_from or 0, newest.published_at)
        self._observer.rules(behind / SECOND, book.ignored + len(book.refused))

    def _end_without_progress(self) -> None:
        """End the worker when nothing was opened, restored or committed for too long although there is work to do."""
        for processor in self.processors.values():
            self._progress.made(processor.last_progress)
        if self._assigned <= self.processors.keys():
            # All partitions are open: when idle, a fetch response or a heartbeat counts as progress.
            self._progress.made(self.last_answer)
        without = self._progress.without(time.monotonic())
        if without > self._config.broker_patience / SECOND:
            self._app.fail(Failed(f"No progress for {without:.0f} s. The latest trouble: {self._trouble}"))

    async def close(self) -> None:
        """Finish and commit the batches in flight, and close everything. What takes too long is left to a successor."""
        self._closing = True
        if self._reporter is not None:
            self._reporter.cancel()
        await self._stop_opening()
        await self._suspend_all(self._config.stop_grace / SECOND)
        await asyncio.gather(*(self._close(processor, clean=True) for processor in list(self.processors.values())))


def _backoff(attempts: int) -> float:
    """Return the seconds before the next attempt."""
    return min(_LAST_BACKOFF, _FIRST_BACKOFF * 2.0 ** (attempts - 1)) * random.uniform(0.5, 1.0)  # noqa: S311


def _may_pass(error: BaseException) -> bool:
    """Whether reopening the partition may help after this error."""
    return isinstance(error, ReopenPartition | Unreachable) or is_passing(error)
