"""Reads the tables of a partition back from their changelogs, in bulk, before its first step."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from streams.core.model import SECOND
from streams.runtime.brokers import is_passing, plain_consumer
from streams.runtime.config import SESSIONS_TABLE, TICKETS_TABLE, RuntimeConfig
from streams.runtime.errors import Failed

logger = logging.getLogger(__name__)

Restore = Callable[[str, Iterable[tuple[bytes, bytes | None]]], int]
"""Takes (table, changelog records as (key, value), oldest first); returns how many it took."""

_ANSWER_MS = 10
_POLL_MS = 20
_STALLED_SECONDS = 3.0
_RETRY_SECONDS = 0.2

END_KEY = b"\x00end"
"""Key of the tombstone that gives a changelog a readable end; no ticket id has it."""


async def restore(
    config: RuntimeConfig,
    partition: int,
    take: Restore,
    write_end: Callable[[str], Awaitable[None]],
) -> int:
    """Feed both changelogs of a partition, up to their last stable offset, to `take`; return the number of records.

    Call it with the partition's producer started, so that no transaction of a predecessor is open. Raises `Failed`
    when a transaction on a changelog does not end, or the brokers stay away.

    Compaction, retention and transaction markers can leave a log whose last offsets can't be read by anyone, so
    that waiting for the position to get there would never end. `write_end` is called with the changelog's name when
    it looks like that; it has to commit something harmless to it, which then is a readable end.
    """
    changelogs = {
        TopicPartition(config.changelog(table), partition): table for table in (TICKETS_TABLE, SESSIONS_TABLE)
    }
    # Small enough a bite that the partitions which already run do not wait long for the loop.
    async with plain_consumer(
        config, max_partition_fetch_bytes=2 << 20, fetch_max_bytes=4 << 20, fetch_max_wait_ms=_ANSWER_MS
    ) as consumer:
        consumer.assign(list(changelogs))
        reader = _Reader(config, consumer, changelogs, take, write_end)
        return await reader.run()


class _Reader:
    def __init__(
        self,
        config: RuntimeConfig,
        consumer: AIOKafkaConsumer,
        changelogs: Mapping[TopicPartition, str],
        take: Restore,
        write_end: Callable[[str], Awaitable[None]],
    ) -> None:
        self._config = config
        self._consumer = consumer
        self._changelogs = changelogs
        self._take = take
        self._write_end = write_end
        self._trouble_since: float | None = None

    async def run(self) -> int:
        consumer = self._consumer
        ends = await self._asked(lambda: consumer.end_offsets(list(self._changelogs)))
        first = await self._asked(lambda: consumer.beginning_offsets(list(self._changelogs)))
        for tp, offset in first.items():
            consumer.seek(tp, offset)
        rows = 0
        open_tps = set(self._changelogs)
        moved_at = time.monotonic()
        ends_written = False
        while open_tps:
            fetched = await self._asked(lambda: consumer.getmany(timeout_ms=_POLL_MS))
            for tp, records in fetched.items():
                rows += self._take(self._changelogs[tp], [(r.key, r.value) for r in records if r.key != END_KEY])
                moved_at = time.monotonic()
            for tp in list(open_tps):
                if await consumer.position(tp) >= ends[tp] and self._is_stable(tp):
                    open_tps.discard(tp)
            waited = time.monotonic() - moved_at
            if open_tps and waited > _STALLED_SECONDS:
                self._give_up_on_a_hanging_transaction(open_tps, waited)
                if not ends_written:
                    ends_written = True
                    for tp in open_tps:
                        if await consumer.position(tp) < ends[tp]:
                            await self._write_end(tp.topic)
        return rows

    def _is_stable(self, tp: TopicPartition) -> bool:
        """Whether the latest fetch answer showed no open transaction."""
        stable, high = self._consumer.last_stable_offset(tp), self._consumer.highwater(tp)
        return high is not None and (stable is None or stable >= high)

    def _give_up_on_a_hanging_transaction(self, tps: Iterable[TopicPartition], waited: float) -> None:
        """Raise when an open transaction has had the time in which the brokers would have given it up."""
        limit = 2 * self._config.transaction_timeout / SECOND
        hanging = [
            f"{tp.topic}-{tp.partition} (last stable offset {self._consumer.last_stable_offset(tp)}, "
            f"end {self._consumer.highwater(tp)})"
            for tp in tps
            if not self._is_stable(tp)
        ]
        if hanging and waited > limit:
            raise Failed(
                f"A transaction of somebody else hangs on {' and '.join(hanging)}, so its rows can't be read. Find it "
                "with `kafka-transactions.sh find-hanging`, abort it with `kafka-transactions.sh abort`, start again."
            )

    async def _asked(self, ask: Callable[[], Awaitable[Any]]) -> Any:
        """Ask the broker, again and again while it is away, at most for `config.patience` since it last answered."""
        while True:
            try:
                answer = await ask()
            except (KafkaError, OSError, TimeoutError) as error:
                if not is_passing(error):
                    raise Failed(f"Can't read the changelogs: {error}") from error
                now = time.monotonic()
                if self._trouble_since is None:
                    self._trouble_since = now
                if now - self._trouble_since > self._config.patience / SECOND:
                    raise Failed(f"Can't read the changelogs: {error}") from error
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                self._trouble_since = None
                return answer
