"""Restores the tables of a partition from their changelogs, in bulk, before its first step."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from aiokafka import ConsumerRecord, TopicPartition

from streams.core.names import Table
from streams.kafka.brokers import plain_consumer
from streams.kafka.bulk import WriteEnd, read_to_ends
from streams.kafka.config import KafkaConfig
from streams.kafka.inside.fetched_records import unwrap_fetched_records

Restore = Callable[[str, Iterable[tuple[bytes, bytes | None]]], int]
"""Takes (table, changelog records as (key, value), oldest first); returns the number of records taken."""

_ANSWER_MS = 10

END_KEY = b"\x00end"
"""Key of the tombstone that gives a changelog a readable end; no ticket id has it."""


async def restore(
    config: KafkaConfig,
    partition: int,
    take: Restore,
    write_end: WriteEnd,
    remaining: Callable[[int], None] | None = None,
) -> int:
    """Pass both changelogs of a partition, up to their last stable offsets, to `take`; return the number of records.

    `remaining` is called repeatedly with the number of offsets still to read.
    Start the partition's producer first, so that no transaction of a predecessor is open. Raises `Failed` when
    another producer's transaction on a changelog does not end, or the brokers stay unavailable.
    """
    tables = {TopicPartition(config.changelog(table), partition): table for table in Table}
    rows = 0

    def take_rows(tp: TopicPartition, records: Iterable[ConsumerRecord]) -> None:
        nonlocal rows
        rows += take(tables[tp], [(record.key, record.value) for record in records if record.key != END_KEY])

    # Small fetches, so that partitions that are already running do not wait long for the event loop.
    async with plain_consumer(
        config, max_partition_fetch_bytes=2 << 20, fetch_max_bytes=4 << 20, fetch_max_wait_ms=_ANSWER_MS
    ) as consumer:
        unwrap_fetched_records(consumer)
        await read_to_ends(config, consumer, list(tables), take_rows, write_end, remaining=remaining)
    return rows
