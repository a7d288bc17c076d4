"""The held commands of an installation: list them, release them, discard them (SPEC section 10, *Rate guard*).

The topic `held-commands` has each held command as it would have been written to `action-commands`, and after it, with
the same key, at most one marker that counts: `withdrawn` by the worker, `released` or `discarded` by these verbs. A
command without a marker waits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from aiokafka import AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError, ProducerFenced

from streams.core.errors import Failed
from streams.core.model import Micros
from streams.core.names import Output
from streams.kafka.brokers import partitions_of, plain_consumer, started_producer
from streams.kafka.bulk import read_to_ends
from streams.kafka.config import KafkaConfig
from streams.wire import instants
from streams.wire.encode import Encoded, marker
from streams.wire.shapes import CommandRecord, HeldState

RELEASED_AT = "lapse.released_at"
_AT_ONCE = 500
"""Maximum number of commands in one transaction."""


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """A held command that waits."""

    partition: int
    offset: int
    """Its offset in `held-commands`."""
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]
    command: CommandRecord

    @property
    def triggers(self) -> list[str]:
        """Return the ids of the triggers that fired."""
        return [trigger.id for trigger in self.command.triggers]


class Done(msgspec.Struct):
    """The result of a release or a discard."""

    written: Counter[str] = msgspec.field(default_factory=Counter)
    """Number of commands released or discarded, by each trigger that fired."""
    commands: int = 0
    passed_over: int = 0
    """Number of waiting commands that were not chosen."""


class _Marker(msgspec.Struct):
    command_id: str
    state: str


_decode_command = msgspec.json.Decoder(CommandRecord).decode
_decode_marker = msgspec.json.Decoder(_Marker).decode


async def read_held(config: KafkaConfig) -> list[Held]:
    """Return the held commands that wait, in offset order by partition.

    Raises `Refused` when the topic does not exist, `Failed` when no broker answers.
    """
    name = config.topic(Output.HELD_COMMANDS)
    waiting: dict[tuple[int, str], Held] = {}
    marked: set[tuple[int, str]] = set()

    def take(tp: TopicPartition, records: Sequence[ConsumerRecord]) -> None:
        for record in records:
            if (state := _marker_of(record)) is not None:
                marked.add((tp.partition, state.command_id))
                waiting.pop((tp.partition, state.command_id), None)
            elif (held := _held_of(record)) is not None:
                place = tp.partition, held.command.command_id
                if place not in marked:
                    waiting[place] = held

    async with plain_consumer(config) as consumer:
        tps = [TopicPartition(name, number) for number in await partitions_of(config, consumer, name)]
        await read_to_ends(config, consumer, tps, take)
    return sorted(waiting.values(), key=lambda held: (held.partition, held.offset))


def _marker_of(record: ConsumerRecord) -> _Marker | None:
    try:
        return _decode_marker(record.value or b"")
    except (msgspec.DecodeError, msgspec.ValidationError):
        return None


def _held_of(record: ConsumerRecord) -> Held | None:
    """Return a held command; None for a record that nobody but a stranger can have written."""
    try:
        command = _decode_command(record.value or b"")
    except (msgspec.DecodeError, msgspec.ValidationError):
        return None
    return Held(
        partition=record.partition,
        offset=record.offset,
        key=record.key or b"",
        value=record.value,
        headers=tuple(record.headers or ()),
        command=command,
    )


async def settle(
    config: KafkaConfig, state: HeldState, chosen: Callable[[Held], bool], clock: Callable[[], Micros]
) -> Done:
    """Release or discard the waiting commands that are chosen, each once.

    `state` is `released` or `discarded`. A released command and its marker are one transaction; `clock` gives the
    instant in its header. Starting the producer fences any other one, so that of two calls at once only the later goes
    on, and what the other had written is read. Raises `Refused` and `Failed`.
    """
    done = Done()
    async with _producer(config) as producer:
        # Read after the producer has started: from now on only this one adds `released` and `discarded` markers.
        some: list[Held] = []
        for held in await read_held(config):
            if not chosen(held):
                done.passed_over += 1
                continue
            done.commands += 1
            done.written.update(held.triggers)
            some.append(held)
            if len(some) == _AT_ONCE:
                await _transact(config, producer, some, state, clock())
                some = []
        if some:
            await _transact(config, producer, some, state, clock())
    return done


async def _transact(
    config: KafkaConfig, producer: AIOKafkaProducer, some: Sequence[Held], state: HeldState, now: Micros
) -> None:
    async with producer.transaction():
        sent = []
        for held in some:
            if state == "released":
                headers = [*held.headers, (RELEASED_AT, instants.text(now).encode())]
                command = Encoded(held.key, held.value, headers)
                sent.append(await _send(producer, config.topic(Output.COMMANDS), held.partition, command))
            said = marker(held.key, held.command.command_id, state)
            sent.append(await _send(producer, config.topic(Output.HELD_COMMANDS), held.partition, said))
        for future in sent:
            await future


async def _send(producer: AIOKafkaProducer, topic: str, partition: int, record: Encoded) -> Any:
    key, value, headers = record
    return await producer.send(topic, key=key, value=value, partition=partition, headers=headers)


@asynccontextmanager
async def _producer(config: KafkaConfig) -> AsyncIterator[AIOKafkaProducer]:
    # The topics set the size limit, not the client.
    producer = await started_producer(config, transactional_id=f"{config.group}-held", max_request_size=2**30)
    try:
        yield producer
    except ProducerFenced as error:
        raise Failed(
            "Another release or discard has begun; this one stopped, and nothing was released twice."
        ) from error
    except KafkaError as error:
        raise Failed(f"Can't write to {config.topic(Output.HELD_COMMANDS)}: {error}") from error
    finally:
        await producer.stop()
