"""The dead letters of an installation: look at them, and send them back to where they came from.

A dead letter is the record as it was received, with the why in headers (SPEC section 2). Sending one back helps when
what was wrong was not the record: a clock that was behind, a rule of the decoder that has changed since. A record that
is still bad comes back as a new dead letter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from aiokafka import AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError, ProducerFenced
from aiokafka.structs import OffsetAndMetadata

from streams.core.errors import Failed
from streams.core.model import MILLISECOND, Micros
from streams.core.names import Code, Output
from streams.kafka.brokers import client_arguments, partitions_of, patiently, plain_consumer
from streams.kafka.bulk import read_to_ends
from streams.kafka.config import KafkaConfig

_OURS = ("lapse.error.", "lapse.source.", "lapse.replayed.")
_REPLAYED = "lapse.replayed.from"
_AT_ONCE = 500
"""Letters sent back in one transaction."""


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """One dead letter; what it does not say of itself is empty (somebody else wrote it)."""

    partition: int
    offset: int
    """Where it stands in the topic of dead letters."""
    at: Micros
    """When it was written there."""
    code: str
    path: str
    message: str
    source_topic: str
    """As on the broker, with prefix."""
    source_partition: int | None
    source_offset: int | None
    source_timestamp: int | None
    """Milliseconds since the epoch."""
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    """The record's own."""

    @property
    def why_not_replayable(self) -> str | None:
        """Say why it can't be sent back; None when it can."""
        if not self.source_topic or self.source_partition is None:
            return "does not say where it came from"
        if self.code == Code.TOO_LARGE:
            return "was too large to be carried: its value is gone"
        return None


def letter_of(record: ConsumerRecord) -> Letter:
    """Read a record of the topic of dead letters."""
    said: dict[str, str] = {}
    own = []
    for name, value in record.headers or ():
        if name.startswith(_OURS):
            said[name] = value.decode(errors="replace")  # the last of a name is the one of this very letter
        else:
            own.append((name, value))
    return Letter(
        partition=record.partition,
        offset=record.offset,
        at=record.timestamp * MILLISECOND,
        code=said.get("lapse.error.code", ""),
        path=said.get("lapse.error.path", ""),
        message=said.get("lapse.error.message", ""),
        source_topic=said.get("lapse.source.topic", ""),
        source_partition=_number(said.get("lapse.source.partition")),
        source_offset=_number(said.get("lapse.source.offset")),
        source_timestamp=_number(said.get("lapse.source.timestamp")),
        key=record.key,
        value=record.value,
        headers=tuple(own),
    )


async def read_dead_letters(config: KafkaConfig, take: Callable[[Letter], object]) -> None:
    """Give every dead letter that there is now to `take`, in offset order by partition.

    Raises `Refused` when the topic does not exist, `Failed` when no broker answers.
    """
    await _read(config, lambda _, letters: [take(letter) for letter in letters])


class Replayed(msgspec.Struct):
    """What a replay did."""

    sent: Counter[str] = msgspec.field(default_factory=Counter)
    """Letters sent back, by code."""
    kept: Counter[str] = msgspec.field(default_factory=Counter)
    """Letters that can't be sent back, by the reason."""
    passed_over: int = 0
    """Letters that were not chosen."""


async def replay(
    config: KafkaConfig,
    *,
    chosen: Callable[[Letter], bool] | None = None,
    again: bool = False,
    dry_run: bool = False,
) -> Replayed:
    """Write dead letters to the topic-partition they came from, with their key, value, headers and timestamp.

    Goes on after what an earlier replay has sent, unless `again`; what is sent and how far it went are one transaction
    each 500 letters, so that nothing is sent twice whatever breaks. A replay of only those `chosen` starts at the
    beginning and notes nothing. `dry_run` only counts. Raises `Refused` and `Failed`.
    """
    done = Replayed()
    waiting: dict[int, list[Letter]] = {}

    def take(tp: TopicPartition, letters: Iterable[Letter]) -> None:
        waiting.setdefault(tp.partition, []).extend(letters)

    group = f"{config.group}-dead-letter-replay"
    await _read(config, take, None if again or chosen is not None else group)
    if dry_run:
        for letters in waiting.values():
            _choose(letters, chosen, done)
        return done
    async with _producer(config, group) as producer:
        for number, letters in sorted(waiting.items()):
            for start in range(0, len(letters), _AT_ONCE):
                some = letters[start : start + _AT_ONCE]
                upto = None if chosen is not None else some[-1].offset + 1
                await _send_back(config, producer, _choose(some, chosen, done), {number: upto}, group)
    return done


def _choose(letters: Iterable[Letter], chosen: Callable[[Letter], bool] | None, done: Replayed) -> list[Letter]:
    """Return those to send, and count all of them."""
    to_send = []
    for letter in letters:
        if chosen is not None and not chosen(letter):
            done.passed_over += 1
        elif (why := letter.why_not_replayable) is not None:
            done.kept[why] += 1
        else:
            done.sent[letter.code] += 1
            to_send.append(letter)
    return to_send


async def _send_back(
    config: KafkaConfig,
    producer: AIOKafkaProducer,
    letters: list[Letter],
    read_to: Mapping[int, int | None],
    group: str,
) -> None:
    name = config.topic(Output.DEAD_LETTERS)
    offsets = {
        TopicPartition(name, number): OffsetAndMetadata(offset, "")
        for number, offset in read_to.items()
        if offset is not None
    }
    async with producer.transaction():
        sent = [
            await producer.send(
                letter.source_topic,
                key=letter.key,
                value=letter.value,
                partition=letter.source_partition,
                timestamp_ms=letter.source_timestamp,
                headers=[
                    *letter.headers,
                    ("lapse.replayed.from", f"{name}/{letter.partition}/{letter.offset}".encode()),
                ],
            )
            for letter in letters
        ]
        for future in sent:
            await future
        if offsets:
            await producer.send_offsets_to_transaction(offsets, group)


@asynccontextmanager
async def _producer(config: KafkaConfig, transactional_id: str) -> AsyncIterator[AIOKafkaProducer]:
    async def start() -> AIOKafkaProducer:
        producer = AIOKafkaProducer(
            **client_arguments(config), transactional_id=transactional_id, compression_type=config.compression_type
        )
        try:
            await producer.start()
        except BaseException:
            await producer.stop()
            raise
        return producer

    producer = await patiently("Can't connect", config, start)
    try:
        yield producer
    except ProducerFenced as error:
        raise Failed("Another replay has begun; this one stopped, and nothing was sent twice.") from error
    except KafkaError as error:
        raise Failed(f"Can't send the dead letters back: {error}") from error
    finally:
        await producer.stop()


async def _read(
    config: KafkaConfig, take: Callable[[TopicPartition, list[Letter]], object], after_group: str | None = None
) -> None:
    """Read to the present end; only what comes after the group's offsets, when a group is given."""
    name = config.topic(Output.DEAD_LETTERS)
    async with plain_consumer(config, **({"group_id": after_group} if after_group else {})) as consumer:
        tps = [TopicPartition(name, number) for number in await partitions_of(config, consumer, name)]
        start: dict[TopicPartition, int] = {}
        if after_group:
            consumer.assign(tps)
            start = {tp: await consumer.committed(tp) or 0 for tp in tps}

        def letters(tp: TopicPartition, records: list[Any]) -> None:
            take(tp, [letter_of(record) for record in records if record.offset >= start.get(tp, 0)])

        await read_to_ends(config, consumer, tps, letters)


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None
