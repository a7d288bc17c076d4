"""Captures the inputs of a broker to a file, and writes a capture file back to the inputs of a broker."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from streams.core.errors import Failed, Refused
from streams.core.model import MILLISECOND
from streams.core.names import Output, Topic
from streams.core.revisions import Activation, EntryKind, InUse
from streams.kafka.brokers import partitions_of, plain_consumer, started_producer
from streams.kafka.bulk import read_to_ends
from streams.kafka.config import KafkaConfig
from streams.operate.rules_topic import read_in_use
from streams.wire import encode
from streams.wire.capture import (
    ACTIVATIONS,
    IN_FORCE,
    RULES,
    CapturedRecord,
    CaptureLineError,
    line,
    parse,
    rules_line,
)
from streams.wire.shapes import ActivationRecord

_BATCH_BYTES = 256 << 10
_ACTIVATION_KEYS = b"rules/"

Progress = Callable[[int], None]
"""Called with the number of records processed so far."""


async def capture(config: KafkaConfig, write: Callable[[bytes], object], progress: Progress | None = None) -> int:
    """Write every committed record of both inputs, up to their current ends, as capture lines; return how many.

    Lines are in offset order within each topic-partition. Raises `Refused` when an input does not exist.
    """
    done = 0
    inputs = config.inputs
    async with plain_consumer(config, max_partition_fetch_bytes=2 << 20) as consumer:
        tps = [
            TopicPartition(name, number) for name in inputs for number in await partitions_of(config, consumer, name)
        ]

        def take(tp: TopicPartition, records: Iterable[Any]) -> None:
            nonlocal done
            for record in records:
                write(line(inputs[tp.topic], tp.partition, record))
                done += 1
            if progress is not None:
                progress(done)

        await read_to_ends(config, consumer, tps, take)
    if config.rules == "topic":
        done += await _capture_rules(config, write)
    return done


async def _capture_rules(config: KafkaConfig, write: Callable[[bytes], object]) -> int:
    """Write the entries of the rules topic, and the activations; return how many lines that were.

    Where retention has removed activations, the row of the partition says what was in force at the beginning. Byte for
    byte, a replay needs a capture from the first record.
    """
    done = 0
    in_use = await read_in_use(config)  # first, so that what is taken up meanwhile is an activation after the row
    first: dict[int, int | None] = {}
    transitions = config.topic(Output.TRANSITIONS)
    names = {config.rules_topic: RULES, transitions: ACTIVATIONS}
    async with plain_consumer(config, max_partition_fetch_bytes=2 << 20) as consumer:
        tps = [TopicPartition(name, number) for name in names for number in await partitions_of(config, consumer, name)]

        def take(tp: TopicPartition, records: Iterable[Any]) -> None:
            nonlocal done
            for record in records:
                if tp.topic == transitions:
                    if not (record.key or b"").startswith(_ACTIVATION_KEYS):
                        continue
                    first.setdefault(tp.partition, _previous(record.value))
                write(line(names[tp.topic], tp.partition, record))
                done += 1

        await read_to_ends(config, consumer, tps, take)
    partitions = sum(tp.topic == transitions for tp in tps)
    for number, row in sorted(in_use.items()):
        if number not in first or first[number] == row.activation:
            for text in in_force_lines(number, partitions, row):
                write(text)
                done += 1
    return done


def in_force_lines(number: int, partitions: int, row: InUse) -> list[bytes]:
    """Return what a partition's row says is in force, as lines of a capture."""
    lines = []
    for activation in _in_force(number, partitions, row):
        key, value, _ = encode.record(activation)
        lines.append(line(ACTIVATIONS, number, CapturedRecord(IN_FORCE, row.since // MILLISECOND, key, value)))
    return lines


def _previous(activation: bytes | None) -> int | None:
    """Return what was taken up before an activation; None too when it can't be read."""
    try:
        return msgspec.json.decode(activation or b"", type=ActivationRecord).previous
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _in_force(number: int, partitions: int, row: InUse) -> list[Activation]:
    """Return what a partition's row says as activations at the beginning: the live rules, and the shadow."""
    live = Activation(
        partition=number,
        partitions=partitions,
        number=row.revision,
        kind=EntryKind.LIVE,
        previous=None,
        ruleset=row.ruleset,
        stopped=row.stops.shown,
        stream_time=row.since,
        offsets=tuple((topic.value, 0) for topic in Topic),
        late=False,
        act_from=None,
        author=row.author,
        reason=row.reason,
    )
    if row.shadow is None:
        return [live]
    shadow = msgspec.structs.replace(
        live, number=row.shadow, kind=EntryKind.SHADOW, previous=row.revision, ruleset=row.shadow_ruleset or ""
    )
    return [live, shadow]


async def feed(
    config: KafkaConfig, lines: Iterable[bytes], progress: Progress | None = None, *, name: str = "capture"
) -> int:
    """Write capture lines to the partitions they came from, with their timestamps; return how many.

    Raises `Refused`, with `name` and the line number, at a line that can't be written. Earlier lines have been written.
    """
    producer = await started_producer(config, enable_idempotence=True, max_batch_size=_BATCH_BYTES)
    try:
        return await _Feeder(config, producer, progress, name).feed(lines)
    except KafkaError as error:
        raise Failed(f"Can't write: {error}") from error
    finally:
        await producer.stop()


class _Feeder:
    def __init__(self, config: KafkaConfig, producer: AIOKafkaProducer, progress: Progress | None, name: str) -> None:
        self._name = name
        self._config = config
        self._producer = producer
        self._progress = progress
        self._open: dict[TopicPartition, Any] = {}
        self._partitions: dict[str, set[int]] = {}

    async def feed(self, lines: Iterable[bytes]) -> int:
        done = 0
        sent: list[Any] = []
        try:
            for number, text in enumerate(lines, 1):
                if text.strip():
                    sent += await self._write(text, number)
                    done += 1
                    if self._progress is not None and done % 1000 == 0:
                        self._progress(done)
        finally:
            sent += [await self._send(tp) for tp in list(self._open)]
            for future in sent:
                await future
        return done

    async def _write(self, text: bytes, number: int) -> list[Any]:
        if rules_line(text) is not None:
            return []  # who feeds records to another installation has rules there
        try:
            found = parse(text)
        except CaptureLineError as error:
            raise Refused(f"{self._name}:{number}: {error}") from error
        topic = self._config.topic(found.topic.value)
        known = self._partitions.get(topic)
        if known is None:
            known = self._partitions[topic] = set(await self._producer.partitions_for(topic))
        if found.partition not in known:
            raise Refused(
                f"{self._name}:{number}: partition {found.partition}, but {topic} has {len(known)}: feed it to topics "
                "with as many partitions as those that it was captured from."
            )
        tp = TopicPartition(topic, found.partition)
        sent = []
        if not self._append(tp, found.record):
            sent.append(await self._send(tp))
            self._append(tp, found.record)
        return sent

    def _append(self, tp: TopicPartition, record: Any) -> bool:
        batch = self._open.get(tp)
        if batch is None:
            batch = self._open[tp] = self._producer.create_batch()
        headers = list(record.headers)
        added = batch.append(timestamp=record.timestamp, key=record.key, value=record.value, headers=headers)
        return added is not None

    async def _send(self, tp: TopicPartition) -> Any:
        batch = self._open.pop(tp)
        batch.close()
        return await self._producer.send_batch(batch, tp.topic, partition=tp.partition)
