"""Reads topic-partitions from beginning to end, in bulk."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from streams.core.errors import Failed, Unreachable
from streams.core.model import MILLISECOND, SECOND, Micros
from streams.kafka.brokers import explained, is_passing
from streams.kafka.config import KafkaConfig

WriteEnd = Callable[[str], Awaitable[None]]
"""Commits a tombstone for `END_KEY` to this topic."""

_POLL_MS = 20
_STALLED_SECONDS = 3.0
_RETRY_SECONDS = 0.2
_WHOLE_SECONDS = 30.0
"""How long a log of which no record may be missed may say nothing before its end."""


async def read_to_ends(
    config: KafkaConfig,
    consumer: AIOKafkaConsumer,
    tps: Sequence[TopicPartition],
    take: Callable[[TopicPartition, list[ConsumerRecord]], None],
    write_end: WriteEnd | None = None,
    *,
    remaining: Callable[[int], None] | None = None,
    since: Micros | None = None,
    whole: bool = False,
) -> None:
    """Read these topic-partitions from their beginning to their current last stable offset.

    With `since`, reading begins at the first record with this timestamp or a later one.

    Compaction, retention and transaction markers can leave a log whose last offsets have no readable records. Waiting
    for the position to reach the end would then never finish. In that case `write_end` commits a harmless record,
    which becomes a readable end. Without `write_end`, a log that returns nothing for some seconds counts as read.

    `write_end` is for a log that is a table and has no other writers: open transactions are awaited, and `Failed`
    is raised when one does not end.

    With `whole`, silence is never taken for the end: `Failed` is raised when the end is not reached in time. It is for
    logs of which no record may be missed.
    """
    fetches = fetches_to_ends(config, consumer, tps, write_end, remaining=remaining, since=since, whole=whole)
    async for tp, records in fetches:
        take(tp, records)


async def fetches_to_ends(
    config: KafkaConfig,
    consumer: AIOKafkaConsumer,
    tps: Sequence[TopicPartition],
    write_end: WriteEnd | None = None,
    *,
    remaining: Callable[[int], None] | None = None,
    since: Micros | None = None,
    whole: bool = False,
) -> AsyncIterator[tuple[TopicPartition, list[ConsumerRecord]]]:
    """Yield the fetches that `read_to_ends` reads. Read-ahead is limited to aiokafka's own."""
    consumer.assign(list(tps))
    reading = _ToEnds(config, consumer, tps, write_end, remaining=remaining, since=since, whole=whole)
    async for fetched in reading.read():
        yield fetched


class _ToEnds:
    def __init__(
        self,
        config: KafkaConfig,
        consumer: AIOKafkaConsumer,
        tps: Sequence[TopicPartition],
        write_end: WriteEnd | None,
        *,
        remaining: Callable[[int], None] | None,
        since: Micros | None,
        whole: bool,
    ) -> None:
        self._whole = whole
        self._config = config
        self._consumer = consumer
        self._write_end = write_end
        self._remaining = remaining
        self._since = since
        self._reading = set(tps)
        self._ends: dict[TopicPartition, int] = {}
        self._trouble_since: float | None = None

    async def read(self) -> AsyncIterator[tuple[TopicPartition, list[ConsumerRecord]]]:
        consumer = self._consumer
        self._ends = await self._asked(lambda: consumer.end_offsets(list(self._reading)))
        for tp, offset in (await self._beginnings()).items():
            consumer.seek(tp, offset)
        moved_at = time.monotonic()
        stall_handled = False
        while True:
            fetched = await self._asked(lambda: consumer.getmany(timeout_ms=_POLL_MS))
            for tp, records in fetched.items():
                yield tp, records if self._write_end else [r for r in records if r.offset < self._ends[tp]]
                moved_at = time.monotonic()
            for tp in list(self._reading):
                if self._is_stable(tp) and await consumer.position(tp) >= self._ends[tp]:
                    self._reading.discard(tp)
                    consumer.pause(tp)
            if self._remaining is not None:
                to_go = [max(0, self._ends[tp] - await consumer.position(tp)) for tp in self._reading]
                self._remaining(sum(to_go))
            if not self._reading:
                return
            stalled = time.monotonic() - moved_at
            if self._whole and stalled > _WHOLE_SECONDS:
                names = " and ".join(f"{tp.topic}-{tp.partition}" for tp in self._reading)
                raise Failed(f"{names} could not be read to its end: nothing came for {stalled:.0f} s.")
            if stalled > _STALLED_SECONDS and self._trouble_since is None and not self._whole:
                self._give_up_on_a_hanging_transaction(stalled)
                if not stall_handled:
                    await self._handle_stall()
                    stall_handled = True

    async def _beginnings(self) -> dict[TopicPartition, int]:
        consumer, since = self._consumer, self._since
        if since is None:
            begins: dict[TopicPartition, int] = await self._asked(
                lambda: consumer.beginning_offsets(list(self._reading))
            )
            return begins
        times = dict.fromkeys(self._reading, max(0, since // MILLISECOND))
        found = await self._asked(lambda: consumer.offsets_for_times(times))
        return {tp: self._ends[tp] if first is None else first.offset for tp, first in found.items()}

    async def _handle_stall(self) -> None:
        for tp in list(self._reading):
            if await self._consumer.position(tp) >= self._ends[tp]:
                continue
            if self._write_end is None:
                self._reading.discard(tp)
            else:
                await self._write_end(tp.topic)

    def _is_stable(self, tp: TopicPartition) -> bool:
        """Whether the latest fetch response showed no open transaction, where that matters.

        Committed rows of other producers may follow an open transaction: the real end is then further than it seemed.
        """
        if self._write_end is None:
            return True
        stable, high = self._consumer.last_stable_offset(tp), self._consumer.highwater(tp)
        if high is None or (stable is not None and stable < high):
            return False
        self._ends[tp] = max(self._ends[tp], high)
        return True

    def _give_up_on_a_hanging_transaction(self, stalled: float) -> None:
        """Raise when an open transaction has lasted longer than the time after which brokers abort it."""
        hanging = [
            f"{tp.topic}-{tp.partition} (last stable offset {self._consumer.last_stable_offset(tp)}, "
            f"end {self._consumer.highwater(tp)})"
            for tp in self._reading
            if not self._is_stable(tp)
        ]
        if hanging and stalled > 2 * self._config.transaction_timeout / SECOND:
            raise Failed(
                f"A transaction of somebody else hangs on {' and '.join(hanging)}, so its rows can't be read. Find it "
                "with `kafka-transactions.sh find-hanging`, abort it with `kafka-transactions.sh abort`, start again."
            )

    async def _asked(self, ask: Callable[[], Awaitable[Any]]) -> Any:
        """Ask the broker. While it is unavailable, retry for at most `broker_patience` since its last response."""
        while True:
            try:
                answer = await ask()
            except (KafkaError, OSError, TimeoutError) as error:
                if not is_passing(error):
                    reason = explained("Can't read the log", self._config, error)
                    raise Failed(f"Can't read the log: {error}") if reason is error else reason from error
                now = time.monotonic()
                if self._trouble_since is None:
                    self._trouble_since = now
                if now - self._trouble_since > self._config.broker_patience / SECOND:
                    raise Unreachable(f"Can't read the log: {error}") from error
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                self._trouble_since = None
                return answer
