"""Follows a topic of one partition: reads it to its end first, and then every new record within moments."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Protocol

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from streams.core.errors import LapseError
from streams.kafka.brokers import partitions_of, patiently, plain_consumer
from streams.kafka.bulk import read_to_ends
from streams.kafka.config import KafkaConfig

logger = logging.getLogger(__name__)

_POLL_MS = 200
_RETRY_SECONDS = 1.0


class Reader(Protocol):
    """What a follower hands records to. After a trouble of the connection all of them come again."""

    def take(self, records: Iterable[ConsumerRecord]) -> None:
        """Take records that were there when the topic was read to its end, some at a time."""
        ...

    async def take_new(self, record: ConsumerRecord) -> None:
        """Take a record that has come since."""
        ...


class Follower:
    """Works from `start` to `stop`. What was read once holds while the brokers, or the topic, are away."""

    def __init__(
        self, config: KafkaConfig, topic: str, reader: Reader, *, what: str, may_be_missing: bool = False
    ) -> None:
        """`what` names the topic in warnings. One that may be missing counts as read to its end until it is made."""
        self._config = config
        self._topic = topic
        self._reader = reader
        self._what = what
        self._may_be_missing = may_be_missing
        self._following: asyncio.Task[None] | None = None
        self._read = asyncio.Event()
        self._next: int | None = None
        """Offset after the last record that was there when the topic was read to its end."""

    async def start(self) -> None:
        """Read the topic to its end, then follow it. Raises `Refused` when it must exist and does not, or `Failed`."""
        self._following = asyncio.create_task(self._follow(), name=self._what)
        read = asyncio.ensure_future(self._read.wait())
        try:
            await asyncio.wait({read, self._following}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            read.cancel()
        if self._following.done():
            self._following.result()

    async def stop(self) -> None:
        """Stop following."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)

    async def _follow(self) -> None:
        while True:
            try:
                async with plain_consumer(self._config) as consumer:
                    await self._read_on(consumer)
            except (KafkaError, LapseError, OSError, TimeoutError) as error:
                if not self._read.is_set():
                    raise
                logger.warning(
                    "can't read %s: %s; what was read before holds", self._what, error, extra={"limit": self._what}
                )
                await asyncio.sleep(_RETRY_SECONDS)

    async def _read_on(self, consumer: AIOKafkaConsumer) -> None:
        config = self._config
        if self._may_be_missing:
            while self._topic not in await patiently("Can't ask for the topics", config, consumer.topics):
                self._read.set()
                await asyncio.sleep(_RETRY_SECONDS)
        await partitions_of(config, consumer, self._topic)
        tp = TopicPartition(self._topic, 0)
        self._next = None
        await read_to_ends(config, consumer, [tp], lambda _, records: self._take(records), whole=True)
        self._read.set()
        # Records that came after the end was asked for were fetched and not handed over: they are read again.
        if self._next is None:
            self._next = (await consumer.beginning_offsets([tp]))[tp]
        consumer.seek(tp, self._next)
        consumer.resume(tp)
        while True:
            fetched = await consumer.getmany(timeout_ms=_POLL_MS)
            for records in fetched.values():
                for record in records:
                    await self._reader.take_new(record)

    def _take(self, records: list[ConsumerRecord]) -> None:
        self._reader.take(records)
        if records:
            self._next = records[-1].offset + 1
