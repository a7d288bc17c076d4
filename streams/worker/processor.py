"""The loop of one partition: feeds fetched records to the pipeline and commits its batches in Kafka transactions."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Protocol

from aiokafka import TopicPartition

from streams.core.batch import Batch
from streams.core.model import MILLISECOND, SECOND, Command, Micros
from streams.core.names import Output, Table, Topic
from streams.core.partition import Partition
from streams.core.pipeline import Pipeline
from streams.core.revisions import Activation, EntryKind
from streams.host.inbox import Inbox
from streams.kafka.config import KafkaConfig
from streams.kafka.producer import PartitionProducer
from streams.wire.writes import MakeWrites, Write, writes
from streams.worker.census import Census
from streams.worker.observer import Observer
from streams.worker.slots import CommitSlots

logger = logging.getLogger(__name__)

_FIRST_PLAUSIBLE: Micros = 946_684_800 * SECOND
"""The beginning of the year 2000. Timestamps in seconds, taken for milliseconds, fall into 1970."""


class Source(Protocol):
    """What a processor needs from the consumer."""

    def at_end(self, tp: TopicPartition) -> bool:
        """Return whether all records that the latest fetch response reported were handed over."""

    def stable_end(self, tp: TopicPartition) -> int | None:
        """Return the last stable offset, as of the latest fetch response."""

    def held_back(self, tp: TopicPartition) -> int | None:
        """Return how many offsets can't be read yet because of an open transaction."""

    def pause(self, inbox: Inbox) -> None:
        """Stop fetching for this inbox."""

    def resume(self, inbox: Inbox) -> None:
        """Resume fetching for this inbox."""


class PartitionProcessor:
    """Runs the pipeline of one restored partition until it is suspended or fails.

    It belongs to one producer and survives rebalances that leave the partition here: `suspend` stops the loop between
    two transactions, `run` starts it again.
    """

    def __init__(
        self,
        config: KafkaConfig,
        partition: Partition,
        producer: PartitionProducer,
        inboxes: Mapping[Topic, Inbox],
        offsets: Mapping[Topic, int],
        *,
        source: Source,
        clock: Callable[[], Micros],
        observer: Observer,
        wake: asyncio.Event,
        slots: CommitSlots | None = None,
        make_writes: MakeWrites = writes,
    ) -> None:
        """Continue from the committed `offsets`.

        `wake` is the event that the inboxes set; `slots` are shared by the partitions of a worker. `make_writes`
        returns what a batch writes.
        """
        self.number = producer.partition
        self.partition = partition
        self.inboxes = dict(inboxes)
        self._pipeline = Pipeline(partition, batch_records=config.batch_records)
        self._config = config
        self._producer = producer
        self._offsets = dict(offsets)
        self._source = source
        self._clock = clock
        self._observer = observer
        self._wake = wake
        self._slots = slots or CommitSlots()
        self._make_writes = make_writes
        self._census = Census(partition)
        self._suspended = False
        self._task: asyncio.Task[None] | None = None
        self._committing: asyncio.Task[None] | None = None
        self._batch_began = 0.0
        self.last_progress: float | None = None
        """`time.monotonic` at the last commit."""

    # --- lifecycle ---------------------------------------------------------------------------------------------------

    def run(self, on_failure: Callable[[PartitionProcessor, BaseException], None]) -> None:
        """Start the loop. If it fails, `on_failure` receives this processor and the error."""
        self._suspended = False
        self._wake.set()
        self._task = asyncio.create_task(self._loop(), name=f"partition-{self.number}")

        def ended(task: asyncio.Task[None]) -> None:
            error = None if task.cancelled() else task.exception()
            if error is not None:
                on_failure(self, error)

        self._task.add_done_callback(ended)

    def wake(self) -> None:
        """Let the loop look for something to do, such as new entries of the rulebook."""
        self._wake.set()

    async def suspend(self, within: float) -> bool:
        """Let the batch in progress commit, then stop; return whether that happened in time and without error."""
        self._suspended = True
        self._wake.set()
        task = self._task
        if task is None:
            return True
        await asyncio.wait({task}, timeout=within)
        if not task.done():
            logger.warning("partition %d: the batch under way was abandoned", self.number)
            task.cancel()
            await asyncio.wait({task}, timeout=1)
            return False
        return not task.cancelled() and task.exception() is None

    async def close(self, *, clean: bool) -> None:
        """Close the producer and drop the tables. `clean` means that no transaction is open."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            clean = False
        await (self._producer.close() if clean else self._producer.discard())

    # --- the loop ----------------------------------------------------------------------------------------------------

    async def _loop(self) -> None:
        """Process slices while a transaction is in progress; once it has ended, write all of them in the next one.

        When a transaction fails, the pipeline and its tables are discarded.
        """
        wake, pipeline = self._wake, self._pipeline
        try:
            while True:
                wake.clear()
                took_all = self._take()
                self._ease()
                if self._committing is not None and self._committing.done():
                    committing, self._committing = self._committing, None
                    committing.result()
                if self._committing is None:
                    if (took_all or pipeline.is_full or self._suspended) and not pipeline.is_empty:
                        self._committing = asyncio.create_task(self._commit())
                        self._committing.add_done_callback(lambda _: wake.set())
                    elif self._suspended:
                        return
                if took_all or pipeline.is_full or self._suspended:
                    await wake.wait()
                else:
                    # Yield between slices: the event loop also handles heartbeats, responses and other partitions.
                    await asyncio.sleep(0)
        finally:
            if self._committing is not None and not self._committing.done():
                self._committing.cancel()

    def _take(self) -> bool:
        """Process the next slice of fetched records; return whether nothing more can be processed now."""
        if self._suspended or self._pipeline.is_full:
            return False
        if self._pipeline.is_empty:
            self._batch_began = time.perf_counter()
        self._feed()
        return self._pipeline.slice(self._clock(), self._ends())

    def _feed(self) -> None:
        for topic, inbox in self.inboxes.items():
            if inbox.queued:
                for records, arrived in inbox.take():
                    self._pipeline.feed(topic, records, arrived)

    def _ends(self) -> dict[Topic, Micros | None]:
        """Return, per input, when it was last known to have no records beyond those the partition has received."""
        return {topic: inbox.at_end_since for topic, inbox in self.inboxes.items()}

    async def _commit(self) -> None:
        """Wait for this partition's turn, then commit all that was processed until then."""
        async with self._slots.turn():
            began, was_full = self._batch_began, self._pipeline.is_full
            batch = self._pipeline.hand_over()
            assert batch is not None  # noqa: S101 -- only a commit empties the pipeline
            if was_full:
                self._wake.set()
            committing = time.perf_counter()
            offsets = {**self._offsets, **batch.next_offsets}
            await self._producer.commit(self._writes(batch), self._named(offsets), batch.stream_time, self._clock())
            committed = time.perf_counter()
        self._offsets = offsets
        self._pipeline.settle()
        self.last_progress = time.monotonic()
        observer = self._observer
        observer.batch_committed(self.number, batch, committed - began, committed - committing)
        if batch.oldest_taken is not None:
            observer.event_age((self._clock() - batch.oldest_taken) / SECOND)
        observer.pending_rounds(self.number, batch.pending_rounds)
        if batch.in_use is not None:
            observer.rules_in_use(self.number, batch.in_use.revision)
        self._log(batch)

    def _log(self, batch: Batch) -> None:
        """Log what was taken up, and what needs an operator's attention, the latter at most once a minute."""
        for record in batch.records if batch.in_use is not None else ():
            if type(record) is Activation:
                logger.info("partition %d: %s", self.number, _activated(record))
        for topic in Topic:
            codes = Counter(bad.rejection.code for bad in batch.dead_letters if bad.topic is topic)
            if codes:
                logger.warning(
                    "partition %d: %s of %s could not be used: %s; see %s",
                    self.number,
                    _records(codes.total()),
                    self.inboxes[topic].tp.topic,
                    ", ".join(f"{code} {n}" for code, n in codes.most_common()),
                    self._config.topic(Output.DEAD_LETTERS),
                    extra={"limit": f"dead letters {topic}"},
                )
        if held := sum(isinstance(one, Command) for one in batch.held):
            logger.warning(
                "partition %d: limits hold %s; look at them with `lapse held list`, then release or discard them",
                self.number,
                "1 command" if held == 1 else f"{held:,} commands",
                extra={"limit": "held commands"},
            )
        if batch.oldest_taken is not None and batch.oldest_taken < _FIRST_PLAUSIBLE:
            logger.warning(
                "partition %d: a record of %s has the timestamp %d ms, which is before the year 2000. Kafka's "
                "timestamps are in milliseconds; does its producer write seconds? Waits follow these timestamps",
                self.number,
                " or ".join(inbox.tp.topic for inbox in self.inboxes.values()),
                batch.oldest_taken // MILLISECOND,
                extra={"limit": "implausible timestamps"},
            )
        for topic, count in batch.misrouted.items():
            logger.warning(
                "partition %d: murmur2 over the key puts %s of %s elsewhere; is the other topic keyed by the same "
                "partitioner? If not, the join finds nothing",
                *(self.number, _records(count), self.inboxes[topic].tp.topic),
                extra={"limit": f"misrouted {topic}"},
            )

    async def commit_start(self, stream_time: Micros) -> None:
        """Commit the start offsets for a group that has never read this partition."""
        await self._producer.commit({}, self._named(self._offsets), stream_time, self._clock())

    def _named(self, offsets: Mapping[Topic, int]) -> dict[str, int]:
        return {self.inboxes[topic].tp.topic: offset for topic, offset in offsets.items()}

    def _writes(self, batch: Batch) -> dict[str, list[Write]]:
        config = self._config
        letters = config.topic(Output.DEAD_LETTERS)
        made = self._make_writes(
            batch,
            app_id=config.app_id,
            partition=self.number,
            topic=config.topic,
            fits=lambda letter: self._producer.fits(letters, Write(*letter)),
        )
        return {
            config.changelog(name) if isinstance(name, Table) else config.topic(name): records
            for name, records in made.items()
        }

    # --- between slices ----------------------------------------------------------------------------------------------

    def _ease(self) -> None:
        """Resume fetching for inboxes that have drained enough."""
        for topic, inbox in self.inboxes.items():
            inbox.held = self.partition.queued(topic)
            if inbox.paused and inbox.eased:
                self._source.resume(inbox)

    def waiting(self, topic: Topic) -> int:
        """Return how many records of an input are waiting here."""
        return self.inboxes[topic].queued + self.partition.queued(topic)

    def on_empty_answer(self) -> None:
        """Wake the loop: records held back for the other topic may be released, or a timer may be due at both ends."""
        due = self.partition.next_timer
        if (
            (due is not None and self._clock() - self._config.clock_grace >= due)
            or self.partition.queued(Topic.TICKETS)
            or self.partition.queued(Topic.SESSIONS)
        ):
            self._wake.set()

    def position(self, topic: Topic) -> int:
        """Return the offset of the first record that is not yet processed and committed."""
        return self._offsets[topic]

    def lag(self, topic: Topic) -> int | None:
        """Return how many records of an input remain from `position` on; None before the first fetch response."""
        inbox = self.inboxes[topic]
        idle = inbox.complete and not self.waiting(topic) and not self._under_way(topic)
        if idle and self._source.at_end(inbox.tp):
            return 0  # the offsets between may belong to transaction markers, which are never read
        end = self._source.stable_end(inbox.tp)
        return None if end is None else max(0, end - self._offsets[topic])

    def lag_seconds(self, topic: Topic) -> float | None:
        """Return the age of the oldest record that `lag` counts; None when it has not been fetched yet.

        Batches take from both inputs in timestamp order, so their oldest record stands for both.
        """
        if self.lag(topic) == 0:
            return 0.0
        first = self.inboxes[topic].first
        known = [
            *(batch.oldest_taken for batch in self._under_way(topic)),
            self.partition.next_timestamp(topic),
            None if first is None else first.timestamp * MILLISECOND,
        ]
        oldest = min((at for at in known if at is not None), default=None)
        return None if oldest is None else (self._clock() - oldest) / SECOND

    def _under_way(self, topic: Topic) -> list[Batch]:
        """Return the uncommitted batches that contain records of an input."""
        committed = self._offsets[topic]
        return [batch for batch in self._pipeline.under_way if batch.next_offsets.get(topic, 0) > committed]

    def report(self) -> None:
        """Report this partition's progress and sizes to the observer."""
        observer, number, partition = self._observer, self.number, self.partition
        for topic, inbox in self.inboxes.items():
            end, held_back, lag = self._source.stable_end(inbox.tp), self._source.held_back(inbox.tp), self.lag(topic)
            if end is not None:
                observer.end(topic, number, end)
            if held_back is not None:
                observer.held_back(topic, number, held_back)
            if lag is not None:
                observer.lag(topic, number, lag, self.lag_seconds(topic))
        if partition.stream_time:
            observer.stream_time(number, partition.stream_time / SECOND)
        observer.pending_rounds(number, partition.pending_rounds)
        rows = partition.table_rows
        observer.table_rows(number, rows[Table.TICKETS], rows[Table.SESSIONS])
        abandoned = self._census.advance()
        if abandoned is not None:
            observer.open_abandonments(number, abandoned)


def _activated(record: Activation) -> str:
    """Say what was taken up, who published it and why; one line of the log."""
    what = f"revision {record.number}" if record.kind is EntryKind.LIVE else f"entry {record.number}, {record.kind}"
    who = f" by {record.author}" if record.author else ""
    why = f", because: {record.reason}" if record.reason else ""
    return f"took up {what} ({record.ruleset}){who}{', late' if record.late else ''}{why}"


def _records(count: int) -> str:
    return "1 record" if count == 1 else f"{count:,} records"
