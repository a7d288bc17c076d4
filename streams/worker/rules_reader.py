"""Follows the rules topic: reads it to its end before the first step, and every new entry within moments."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from aiokafka import ConsumerRecord

from streams.core.revisions import Compiled, Entry, Rulebook
from streams.kafka.config import KafkaConfig
from streams.kafka.follow import Follower
from streams.wire.rule_entries import BadEntryError, decode_entry

logger = logging.getLogger(__name__)


class RulesReader:
    """Fills a rulebook. What was read once stays: a topic that is away, trimmed or made anew takes nothing back."""

    def __init__(self, config: KafkaConfig, book: Rulebook, on_change: Callable[[], None]) -> None:
        """`on_change` is called after entries were added."""
        self._book = book
        self._on_change = on_change
        self._follower = Follower(config, config.rules_topic, self, what="the rules topic")

    async def start(self) -> None:
        """Read the topic to its end, then follow it. Raises `Refused` when it does not exist, `Failed` otherwise."""
        await self._follower.start()

    async def stop(self) -> None:
        """Stop following."""
        await self._follower.stop()

    def take(self, records: Iterable[ConsumerRecord]) -> None:
        """Take the entries that were there before the first step."""
        for record in records:
            entry = self._entry(record)
            if entry is not None:
                self._add(record, entry, None)
        self._on_change()

    async def take_new(self, record: ConsumerRecord) -> None:
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
