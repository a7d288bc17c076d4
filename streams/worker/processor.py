"""The loop of one partition: everything that lies in its two inboxes, in steps, in one transaction, and again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from aiokafka import TopicPartition

from streams.core.engine import SESSIONS, TICKETS
from streams.core.model import MILLISECOND, SECOND, Micros, Topic
from streams.core.partition import Partition, Step
from streams.kafka.config import COMMANDS, DEAD_LETTERS, TRANSITIONS, KafkaConfig
from streams.kafka.producer import PartitionProducer, Write
from streams.wire import encode
from streams.worker.batch import absorb, bulk
from streams.worker.census import Census
from streams.worker.inbox import Inbox
from streams.worker.observer import Observer

logger = logging.getLogger(__name__)

_SLICE = 500
"""Records taken at once, without giving the event loop a turn: some milliseconds."""

_BATCH_BYTES = 16 << 20
"""Bytes that one transaction writes at most, about."""


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
    """Steps one restored partition until it is suspended or fails.

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
        self._batch: Step | None = None
        self._sent: Step | None = None
        self._batch_began = 0.0
        self._batch_bytes = 0
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
        """Let the step in flight commit, then stop; return whether that was done in time and without error."""
        self._suspended = True
        self._wake.set()
        task = self._task
        if task is None:
            return True
        await asyncio.wait({task}, timeout=within)
        if not task.done():
            logger.warning("partition %d: the step in flight was abandoned", self.number)
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
        """Take steps while the transaction before is under way; when it has ended, write all of them in the next one.

        A step changes the tables at once. When its transaction fails, the tables are thrown away with everything else.
        """
        wake = self._wake
        try:
            while True:
                wake.clear()
                took_all = self._take()
                self._ease()
                if self._committing is not None and self._committing.done():
                    committing, self._committing = self._committing, None
                    committing.result()
                if self._committing is None:
                    if self._batch is not None and (took_all or self._is_full or self._suspended):
                        batch, self._batch = self._batch, None
                        self._sent = batch
                        self._committing = asyncio.create_task(self._commit(batch, self._batch_began))
                        self._committing.add_done_callback(lambda _: wake.set())
                    elif self._batch is None and self._suspended:
                        return
                if took_all or self._is_full or self._suspended:
                    await wake.wait()
                else:
                    # Slices, so that the loop gets round to heartbeats, answers and other partitions in between.
                    await asyncio.sleep(0)
        finally:
            if self._committing is not None and not self._committing.done():
                self._committing.cancel()

    def _take(self) -> bool:
        """Take the next slice of what has come; return whether that was all that may be taken now."""
        if self._suspended or self._is_full:
            return False
        began = time.perf_counter()
        self._feed()
        step = self.partition.step(self._clock(), self._ends(), _SLICE)
        if step is None:
            return True
        self.partition.commit(step)
        if self._batch is None:
            self._batch, self._batch_began, self._batch_bytes = step, began, 0
        else:
            absorb(self._batch, step)
        self._batch_bytes += bulk(step)
        return step.taken < _SLICE

    @property
    def _is_full(self) -> bool:
        """Whether what was taken is enough for one transaction."""
        batch = self._batch
        return batch is not None and (batch.taken >= self._config.step_records or self._batch_bytes >= _BATCH_BYTES)

    def _feed(self) -> None:
        for topic, inbox in self.inboxes.items():
            if inbox.queued:
                for records, arrived in inbox.take():
                    self.partition.add(topic, records, arrived)

    def _ends(self) -> dict[Topic, Micros | None]:
        """Tell for each input when it was last known to have nothing beyond what the partition has got."""
        return {topic: inbox.at_end_since for topic, inbox in self.inboxes.items()}

    async def _commit(self, step: Step, began: float) -> None:
        committing = time.perf_counter()
        offsets = {**self._offsets, **step.next_offsets}
        await self._producer.commit(self._writes(step), self._named(offsets), step.stream_time, self._clock())
        committed = time.perf_counter()
        self._offsets = offsets
        self._sent = None
        self.last_progress = time.monotonic()
        observer = self._observer
        observer.stepped(self.number, step, committed - began, committed - committing)
        if step.oldest_taken is not None:
            observer.event_age((self._clock() - step.oldest_taken) / SECOND)
        observer.pending_rounds(self.number, step.pending_rounds)
        self._tell_of(step)

    def _tell_of(self, step: Step) -> None:
        """Log what somebody has to look after, once a minute at most."""
        for topic in Topic:
            codes = Counter(bad.rejection.code for bad in step.dead_letters if bad.topic is topic)
            if codes:
                logger.warning(
                    "partition %d: %s of %s could not be used: %s; see %s",
                    self.number,
                    _records(codes.total()),
                    self.inboxes[topic].tp.topic,
                    ", ".join(f"{code} {n}" for code, n in codes.most_common()),
                    self._config.topic(DEAD_LETTERS),
                    extra={"limit": f"dead letters {topic}"},
                )
        for topic, count in step.misrouted.items():
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

    def _writes(self, step: Step) -> dict[str, Iterable[Write]]:
        config = self._config
        writes: dict[str, Iterable[Write]] = {}
        if step.commands:
            writes[config.topic(COMMANDS)] = [
                Write(*encode.command(command, config.app_id)) for command in step.commands
            ]
        if step.records:
            writes[config.topic(TRANSITIONS)] = [Write(*encode.record(record)) for record in step.records]
        if step.dead_letters:
            writes[config.topic(DEAD_LETTERS)] = [
                Write(*encode.dead_letter(letter, self.number, config.topic_prefix)) for letter in step.dead_letters
            ]
        if step.ticket_rows:
            writes[config.changelog(TICKETS)] = [Write(key.encode(), row) for key, row in step.ticket_rows.items()]
        if step.session_rows:
            writes[config.changelog(SESSIONS)] = [Write(key.encode(), row) for key, row in step.session_rows.items()]
        return writes

    # --- between steps -----------------------------------------------------------------------------------------------

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
        idle = inbox.complete and not self.waiting(topic) and not self._in_flight(topic)
        if idle and self._source.at_end(inbox.tp):
            return 0  # offsets between may belong to transaction markers, which no one reads
        end = self._source.stable_end(inbox.tp)
        return None if end is None else max(0, end - self._offsets[topic])

    def lag_seconds(self, topic: Topic) -> float | None:
        """Return the age of the oldest record that `lag` counts; None when it has not come yet.

        Steps in flight take from both inputs in the order of timestamps: what is oldest in them stands for both.
        """
        if self.lag(topic) == 0:
            return 0.0
        first = self.inboxes[topic].first
        known = [
            *(step.oldest_taken for step in self._in_flight(topic)),
            self.partition.next_timestamp(topic),
            None if first is None else first.timestamp * MILLISECOND,
        ]
        oldest = min((at for at in known if at is not None), default=None)
        return None if oldest is None else (self._clock() - oldest) / SECOND

    def _in_flight(self, topic: Topic) -> list[Step]:
        """Return the steps that took records of an input and are not yet committed."""
        committed = self._offsets[topic]
        return [step for step in (self._sent, self._batch) if step and step.next_offsets.get(topic, 0) > committed]

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
        observer.table_rows(number, rows[TICKETS], rows[SESSIONS])
        abandoned = self._census.advance()
        if abandoned is not None:
            observer.open_abandonments(number, abandoned)


def _records(count: int) -> str:
    return "1 record" if count == 1 else f"{count:,} records"
