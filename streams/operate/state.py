"""One ticket's rows, read from a broker's changelogs: what a worker would know of it after a restart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from aiokafka import ConsumerRecord, TopicPartition

from streams.core.errors import Failed
from streams.core.model import SessionRow, TicketRow
from streams.core.names import Table
from streams.core.partitioning import partition_of
from streams.core.revisions import RULES_KEY, InUse
from streams.kafka.brokers import partitions_of, plain_consumer
from streams.kafka.bulk import read_to_ends
from streams.kafka.config import KafkaConfig
from streams.wire.rows import UNREADABLE, MsgpackRows, unreadable


class TicketState(msgspec.Struct, frozen=True):
    """Both rows of a ticket in one partition; None for a missing row."""

    partition: int
    expected_partition: int
    """The partition that murmur2 gives for the ticket's key. Another one means a producer with another partitioner."""
    ticket: TicketRow | None
    session: SessionRow | None
    in_use: InUse | None = None
    """What the partition has taken up of the rules topic; None with rules from a file."""


async def read_state(
    config: KafkaConfig, ticket_id: str, progress: Callable[[int], None] | None = None
) -> list[TicketState]:
    """Return the ticket's rows from each partition that has any: nearly always one or none.

    Only the partition of the ticket's key is read, or all of them when that one has no rows. `progress` is called with
    the number of rows read. Raises `Refused` when a changelog does not exist, `Failed` when no broker answers.
    """
    key = ticket_id.encode()
    names = {config.changelog(table): table for table in Table}
    rows: dict[tuple[int, str], bytes | None] = {}
    rules: dict[int, bytes | None] = {}
    read = 0

    def take(tp: TopicPartition, records: list[ConsumerRecord]) -> None:
        nonlocal read
        read += len(records)
        for record in records:
            if record.key == key:
                rows[tp.partition, names[tp.topic]] = record.value
            elif record.key == RULES_KEY:
                rules[tp.partition] = record.value
        if progress is not None:
            progress(read)

    async with plain_consumer(config, max_partition_fetch_bytes=4 << 20) as consumer:
        partitions = {name: await partitions_of(config, consumer, name) for name in names}
        expected = partition_of(key, min(len(numbers) for numbers in partitions.values()))
        for wanted in (True, False):
            tps = [
                TopicPartition(name, number)
                for name, numbers in partitions.items()
                for number in numbers
                if (number == expected) is wanted
            ]
            if tps and not any(rows.values()):
                await read_to_ends(config, consumer, tps, take)
    codec = MsgpackRows()
    decoders = {Table.TICKETS: codec.decode_ticket, Table.SESSIONS: codec.decode_session}

    def decoded(table: Table, row: bytes | None, decode: Callable[[bytes], Any]) -> Any:
        try:
            return None if row is None else decode(row)
        except UNREADABLE as error:
            why = unreadable(error, config.changelog(table))
            raise Failed(f"Can't read the state of ticket {ticket_id}: {why}") from None

    found = []
    for number in sorted({number for number, _ in rows}):
        ticket, session = (decoded(table, rows.get((number, table)), decode) for table, decode in decoders.items())
        if ticket is not None or session is not None:
            in_use = decoded(Table.SESSIONS, rules.get(number), codec.decode_rules)
            found.append(TicketState(number, expected, ticket, session, in_use))
    return found
