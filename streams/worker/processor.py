"""The loop of one partition in a worker: fetched records into the pipeline, its batches into Kafka transactions."""

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
from streams.core.model import MILLISECOND, SECOND, Micros
from streams.core.names import Output, Table, Topic
from streams.core.partition import Partition
from streams.core.pipeline import Pipeline
from streams.host.inbox import Inbox
from streams.kafka.config import KafkaConfig
from streams.kafka.producer import PartitionProducer
from streams.wire.writes import Write, writes
from streams.worker.census import Census
from streams.worker.observer import Observer

logger = logging.getLogger(__name__)


class Source(Protocol):
    """What a processor asks of the consumer."""

    def at_end(self, tp: TopicPartition) -> bool:
        """Return whether all that the latest fetch answer showed was handed over."""

    def stable_end(self, tp: TopicPartition) -> int | None:
        """Return the end of what may be read, as of the latest fetch answer."""

    def held_back(self, tp: TopicPartition) -> int | None:
        """Return how much nobody may read yet, because of a transaction that is still open."""

    def pause(self, inbox: Inbox) -> None:
        """Fetch no more for this inbox."""

    def resume(self, inbox: Inbox) -> None:
        """Fetch again for this inbox."""


class PartitionProcessor:
    """Runs the pipeline of one restored partition until it is suspended or fails.

    It lives for one producer epoch and outlives rebalances that leave the partition here: `suspend` ends the loop
    between two transactions, `run` begins it again.
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
    ) -> None:
        """Go on after `offsets`, which are committed; `wake` is what the inboxes set."""
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
        self._census = Census(partition)
        self._suspended = False
        self._task: asyncio.Task[None] | None = None
        self._committing: asyncio.Task[None] | None = None
        self._batch_began = 0.0
        self.last_progress: float | None = None
        """`time.monotonic` at the last commit."""

    # --- life --------------------------------------------------------------------------------------------------------

    def run(self, on_failure: Callable[[PartitionProcessor, BaseException], None]) -> None:
        """Begin the loop; `on_failure` gets this processor and the error that ended it."""
        self._suspended = False
        self._wake.set()
        self._task = asyncio.create_task(self._loop(), name=f"partition-{self.number}")

        def ended(task: asyncio.Task[None]) -> None:
            error = None if task.cancelled() else task.exception()
            if error is not None:
                on_failure(self, error)

        self._task.add_done_callback(ended)

    async def suspend(self, within: float) -> bool:
        """Let the batch under way commit, then stop; return whether that was done in time and without error."""
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
        """Give the producer up; `clean` when no transaction is open. The tables go with it."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            clean = False
        await (self._producer.close() if clean else self._producer.discard())

    # --- the loop ----------------------------------------------------------------------------------------------------

    async def _loop(self) -> None:
        """Take slices while a transaction is under way; once it has ended, write all of them in the next one.

        When a transaction fails, the pipeline is thrown away with its tables.
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
                    if (took_all or pipeline.is_full or self._suspended) and (batch := pipeline.hand_over()):
                        self._committing = asyncio.create_task(self._commit(batch, self._batch_began))
                        self._committing.add_done_callback(lambda _: wake.set())
                    elif self._suspended:
                        return
                if took_all or pipeline.is_full or self._suspended:
                    await wake.wait()
                else:
                    # Slices, so that the loop gets round to heartbeats, answers and other partitions in between.
                    await asyncio.sleep(0)
        finally:
            if self._committing is not None and not self._committing.done():
                self._committing.cancel()

    def _take(self) -> bool:
        """Take the next slice of what has come; return whether that was all that may be taken now."""
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
        """Tell for each input when it was last known to have nothing beyond what the partition has got."""
        return {topic: inbox.at_end_since for topic, inbox in self.inboxes.items()}

    async def _commit(self, batch: Batch, began: float) -> None:
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
        self._log(batch)

    def _log(self, batch: Batch) -> None:
        """Log what somebody has to look after, once a minute at most."""
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
        for topic, count in batch.misrouted.items():
            logger.warning(
                "partition %d: murmur2 over the key puts %s of %s elsewhere; is the other topic keyed by the same "
                "partitioner? If not, the join finds nothing",
                *(self.number, _records(count), self.inboxes[topic].tp.topic),
                extra={"limit": f"misrouted {topic}"},
            )

    async def commit_start(self, stream_time: Micros) -> None:
        """Commit the offsets from which a group that never read this partition begins."""
        await self._producer.commit({}, self._named(self._offsets), stream_time, self._clock())

    def _named(self, offsets: Mapping[Topic, int]) -> dict[str, int]:
        return {self.inboxes[topic].tp.topic: offset for topic, offset in offsets.items()}

    def _writes(self, batch: Batch) -> dict[str, list[Write]]:
        config = self._config
        letters = config.topic(Output.DEAD_LETTERS)
        made = writes(
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
        """Let the consumer fetch again what has been worked off."""
        for topic, inbox in self.inboxes.items():
            inbox.held = self.partition.queued(topic)
            if inbox.paused and inbox.eased:
                self._source.resume(inbox)

    def waiting(self, topic: Topic) -> int:
        """Return how many records of an input wait here."""
        return self.inboxes[topic].queued + self.partition.queued(topic)

    def on_empty_answer(self) -> None:
        """Look again: what was held back for the other topic may go, or a timer is due now that both are at an end."""
        due = self.partition.next_timer
        if (
            (due is not None and self._clock() - self._config.clock_grace >= due)
            or self.partition.queued(Topic.TICKETS)
            or self.partition.queued(Topic.SESSIONS)
        ):
            self._wake.set()

    def position(self, topic: Topic) -> int:
        """Return the offset of the first record that is not committed as taken."""
        return self._offsets[topic]

    def lag(self, topic: Topic) -> int | None:
        """Return how many records of an input follow `position`; None before the first fetch answer."""
        inbox = self.inboxes[topic]
        idle = inbox.complete and not self.waiting(topic) and not self._under_way(topic)
        if idle and self._source.at_end(inbox.tp):
            return 0  # offsets between may belong to transaction markers, which no one reads
        end = self._source.stable_end(inbox.tp)
        return None if end is None else max(0, end - self._offsets[topic])

    def lag_seconds(self, topic: Topic) -> float | None:
        """Return the age of the oldest record that `lag` counts; None when it has not come yet.

        Batches take from both inputs in the order of timestamps: what is oldest in them stands for both.
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
        """Return the batches that took records of an input and are not yet committed."""
        committed = self._offsets[topic]
        return [batch for batch in self._pipeline.under_way if batch.next_offsets.get(topic, 0) > committed]

    def report(self) -> None:
        """Tell the observer how far this partition is, and how much it holds."""
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


def _records(count: int) -> str:
    return "1 record" if count == 1 else f"{count:,} records"
