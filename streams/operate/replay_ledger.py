"""Which dead letters were sent back: a compacted topic that only `dead-letters replay` writes.

The group's committed offsets can't store this. They are one number per partition, while a replay selects some letters
and skips others. Brokers also delete them after a week without members.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError, for_code

from streams.core.errors import Failed
from streams.kafka.brokers import admin_client, partitions_of, patiently, plain_consumer
from streams.kafka.bulk import read_to_ends
from streams.kafka.config import KafkaConfig


class Place(NamedTuple):
    """The place of a letter in the dead-letter topic."""

    partition: int
    offset: int

    def __str__(self) -> str:
        """Render in the form that `--offset` accepts.

        >>> str(Place(1, 17))
        '1/17'
        """
        return f"{self.partition}/{self.offset}"


Ledger = dict[Place, int]
"""Timestamp in milliseconds of every letter sent back. It detects a recreated topic, whose offsets restart at 0."""


def ledger_topic(config: KafkaConfig) -> str:
    """Return the name of the topic on the broker."""
    return f"{config.group}-replays"


async def read_ledger(config: KafkaConfig) -> Ledger:
    """Return the letters sent back so far; empty when the topic does not exist."""
    found: Ledger = {}
    async with plain_consumer(config) as consumer:
        topics = await patiently("Can't ask for the topics", config, consumer.topics)
        name = ledger_topic(config)
        if name not in topics:
            return found
        tps = [TopicPartition(name, number) for number in await partitions_of(config, consumer, name)]

        def take(_: TopicPartition, records: Iterable[ConsumerRecord]) -> None:
            for record in records:
                place, timestamp = _place(record.key), record.value
                if place is None:
                    continue
                if timestamp is None:
                    found.pop(place, None)
                elif timestamp.isdigit():
                    found[place] = int(timestamp)

        await read_to_ends(config, consumer, tps, take)
    return found


async def require_ledger(config: KafkaConfig) -> None:
    """Create the topic if it does not exist. Raises `Failed` when the broker refuses."""
    name = ledger_topic(config)
    async with admin_client(config) as admin:
        if name in await patiently("Can't ask for the topics", config, admin.list_topics):
            return
        answer = await patiently(f"Can't create {name}", config, lambda: _create(admin, name))
    for _, code, *message in answer.topic_errors:
        error = for_code(code)
        if code and error is not TopicAlreadyExistsError:
            raise Failed(
                f"Can't create {name}, which notes what was sent back: {(message and message[0]) or error.__name__}. "
                "Create it with one partition and cleanup.policy=compact, or grant Create on it."
            )


async def note(config: KafkaConfig, producer: AIOKafkaProducer, changes: Mapping[Place, int | None]) -> None:
    """Write changes within the producer's open transaction; None removes a letter."""
    for place, timestamp in changes.items():
        value = None if timestamp is None else str(timestamp).encode()
        await producer.send(ledger_topic(config), key=str(place).encode(), value=value, partition=0)


async def _create(admin: AIOKafkaAdminClient, name: str) -> Any:
    configs = {"cleanup.policy": "compact"}
    return await admin.create_topics([NewTopic(name, 1, -1, {}, configs)])


def _place(key: bytes | None) -> Place | None:
    partition, _, offset = (key or b"").decode(errors="replace").partition("/")
    return Place(int(partition), int(offset)) if partition.isdecimal() and offset.isdecimal() else None
