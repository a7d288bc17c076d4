"""The rules topic from outside: read it, publish to it, and see what the partitions have in use."""

from __future__ import annotations

import getpass
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError, ProducerFenced

from streams.core.errors import Failed, Refused
from streams.core.model import Micros
from streams.core.names import Table
from streams.core.revisions import RULES_KEY, Compile, Entry, InUse, Rulebook
from streams.kafka.brokers import partitions_of, plain_consumer, started_producer
from streams.kafka.bulk import read_to_ends
from streams.kafka.config import KafkaConfig
from streams.wire.rows import UNREADABLE, MsgpackRows, unreadable
from streams.wire.rule_entries import BadEntryError, decode_entry, encode_entry

_LARGEST_ENTRY = 16 << 20


async def read_rules(config: KafkaConfig, compile: Compile) -> Rulebook:
    """Return everything in the rules topic. Raises `Refused` without the topic, `Failed` when no broker answers."""
    book = Rulebook(compile)

    def take(_: TopicPartition, records: list[ConsumerRecord]) -> None:
        for record in records:
            try:
                book.add(decode_entry(record.key, record.value))
            except BadEntryError:
                book.ignored += 1

    async with plain_consumer(config) as consumer:
        await _require(config, consumer)
        await read_to_ends(config, consumer, [TopicPartition(config.rules_topic, 0)], take, whole=True)
    return book


async def _require(config: KafkaConfig, consumer: AIOKafkaConsumer) -> None:
    try:
        await partitions_of(config, consumer, config.rules_topic)
    except Refused as error:
        raise Refused(f"{error} Make it with `lapse topics create --rules topic`.") from None


async def publish(
    config: KafkaConfig, compile: Compile, make: Callable[[Rulebook], Entry], *, go_on: bool = False
) -> Entry:
    """Write one entry and return it. `make` is given all entries so far and returns the next one.

    The topic is read after the producer has fenced every other publisher, so that two never make the same number.
    With `go_on`, an empty topic is taken for one that was made anew: numbers go on after the highest in use.
    Raises `Failed` when another publisher was faster.
    """
    async with _publisher(config) as producer:
        book = await read_rules(config, compile)
        entry = make(book)
        if not book.entries:
            in_use = (await read_in_use(config)).values()
            highest = max((number for one in in_use for number in (one.activation, one.entry)), default=0)
            if highest and not go_on:
                raise Refused(
                    f"{config.rules_topic} is empty, and partitions have taken entry {highest} up: the topic was made "
                    "anew. `lapse rules publish --continue` numbers on after it."
                )
            entry = _renumbered(entry, highest + 1)
        key, value = encode_entry(entry)
        try:
            async with producer.transaction():
                await producer.send_and_wait(config.rules_topic, value, key, partition=0)
        except ProducerFenced:
            raise Failed(
                "Somebody else has published at the same moment, and nothing was written. Look at `lapse rules list`, "
                "and publish again."
            ) from None
    return entry


def _renumbered(entry: Entry, number: int) -> Entry:
    members = {name: getattr(entry, name) for name in entry.__struct_fields__}
    return Entry(**{**members, "number": number})


@asynccontextmanager
async def _publisher(config: KafkaConfig) -> AsyncIterator[AIOKafkaProducer]:
    producer = await started_producer(
        config,
        "Can't publish",
        transactional_id=config.rules_transactional_id,
        max_request_size=_LARGEST_ENTRY,
    )
    try:
        yield producer
    finally:
        try:
            await producer.stop()
        except KafkaError:
            pass  # it was fenced, or the brokers went away: the entry is committed by now, or it is not


async def read_in_use(config: KafkaConfig) -> dict[int, InUse]:
    """Return what each partition has in use, from the sessions changelog; partitions that have nothing are left out."""
    codec = MsgpackRows()
    rows: dict[int, bytes | None] = {}

    def take(tp: TopicPartition, records: list[ConsumerRecord]) -> None:
        for record in records:
            if record.key == RULES_KEY:
                rows[tp.partition] = record.value

    name = config.changelog(Table.SESSIONS)
    async with plain_consumer(config, max_partition_fetch_bytes=4 << 20) as consumer:
        tps = [TopicPartition(name, number) for number in await partitions_of(config, consumer, name)]
        await read_to_ends(config, consumer, tps, take)
    try:
        return {number: codec.decode_rules(row) for number, row in rows.items() if row is not None}
    except UNREADABLE as error:
        raise Failed(f"Can't read which revisions are in use: {unreadable(error, name)}") from None


async def count_partitions(config: KafkaConfig) -> int:
    """Return how many partitions the inputs have."""
    async with plain_consumer(config) as consumer:
        return len(await partitions_of(config, consumer, config.changelog(Table.SESSIONS)))


def now() -> Micros:
    """Return this machine's clock."""
    return time.time_ns() // 1000


def default_author() -> str | None:
    """Return the name of the user who runs this process, where it has one."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return None
