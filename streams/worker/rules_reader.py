"""Follows the rules topic: reads it to its end before the first step, and every new entry within moments."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from streams.core.errors import LapseError
from streams.core.revisions import Compiled, Entry, Rulebook
from streams.kafka.brokers import partitions_of, plain_consumer
from streams.kafka.bulk import read_to_ends
from streams.kafka.config import KafkaConfig
from streams.wire.rule_entries import BadEntryError, decode_entry

logger = logging.getLogger(__name__)

_POLL_MS = 200
_RETRY_SECONDS = 1.0


class RulesReader:
    """Fills a rulebook. What was read once stays: a topic that is away, trimmed or made anew takes nothing back."""

    def __init__(self, config: KafkaConfig, book: Rulebook, on_change: Callable[[], None]) -> None:
        """`on_change` is called after entries were added."""
        self._config = config
        self._book = book
        self._on_change = on_change
        self._following: asyncio.Task[None] | None = None
        self._read = asyncio.Event()
        self._next: int | None = None
        """Offset after the last record that was there when the topic was read to its end."""

    async def start(self) -> None:
        """Read the topic to its end, then follow it. Raises `Refused` when it does not exist, `Failed` otherwise."""
        self._following = asyncio.create_task(self._follow(), name="rules topic")
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
                await self._read_on()
            except (KafkaError, LapseError, OSError, TimeoutError) as error:
                if not self._read.is_set():
                    raise
                logger.warning(
                    "can't read the rules topic: %s; the rules in use stay", error, extra={"limit": "rules topic"}
                )
                await asyncio.sleep(_RETRY_SECONDS)

    async def _read_on(self) -> None:
        config = self._config
        async with plain_consumer(config) as consumer:
            await partitions_of(config, consumer, config.rules_topic)
            tp = TopicPartition(config.rules_topic, 0)
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
                        await self._take_one(record)

    def _take(self, records: Iterable[ConsumerRecord]) -> None:
        """Take the entries that were there before the first step."""
        for record in records:
            self._next = record.offset + 1
            entry = self._entry(record)
            if entry is not None:
                self._add(record, entry, None)
        self._on_change()

    async def _take_one(self, record: ConsumerRecord) -> None:
        """Take a new entry. A large trigger file takes long to compile, and the partitions go on meanwhile."""
        entry = self._entry(record)
        if entry is not None:
            self._add(record, entry, await asyncio.to_thread(self._book.compiled, entry))
            self._on_change()

    def _entry(self, record: ConsumerRecord) -> Entry | None:
        """Read an entry; None when it is none, or is known."""
        try:
            entry = decode_entry(record.key, record.value)
        except BadEntryError as error:
            self._book.ignored += 1
            logger.error("the entry at offset %d of the rules topic is ignored: %s", record.offset, error)
            return None
        # It is read again after a trouble of the connection.
        return None if self._book.entries.get(entry.number) == entry else entry

    def _add(self, record: ConsumerRecord, entry: Entry, compiled: Compiled | None) -> None:
        book = self._book
        why = book.add(entry, compiled)
        if why is not None:
            logger.error("entry %d at offset %d of the rules topic is ignored: %s", entry.number, record.offset, why)
        elif entry.number in book.refused:
            logger.error(
                "revision %d can't be used by this version, and the one in use stays: %s",
                entry.number,
                book.refused[entry.number],
            )
        else:
            logger.info("the rules topic has entry %d: %s by %s", entry.number, entry.kind, entry.author or "somebody")
