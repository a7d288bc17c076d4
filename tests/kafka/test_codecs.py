"""Kafka's compression codecs on a real broker: in inputs, outputs, tables, dead letters, captures, replay."""

from __future__ import annotations

import json
import struct
from collections import Counter
from collections.abc import Iterator
from typing import Any

import aiokafka.codec
import pytest
from aiokafka import TopicPartition

from streams.core.errors import Refused
from streams.core.names import Output, Topic
from streams.kafka.brokers import plain_consumer
from streams.kafka.bulk import read_to_ends
from streams.kafka.config import KafkaConfig
from streams.kafka.inside import undecodable
from streams.operate.capture import capture, feed
from streams.operate.dead_letters import read_dead_letters, replay
from streams.operate.state import read_state
from streams.testing.builders import session_state, ticket_update
from streams.testing.traffic import Record
from tests.worker.kit import config_for, producing, read_all, running, topics

CODECS = ("gzip", "snappy", "lz4", "zstd")
NUMBERS = {0: "none", 1: "gzip", 2: "snappy", 3: "lz4", 4: "zstd"}


def opened_and_left(ticket: int) -> list[Record]:
    at = f"2026-03-01T12:{ticket // 60:02}:{ticket % 60:02}"
    return [
        ticket_update(str(ticket), at=f"{at}Z", status="open"),
        session_state(str(ticket), "active", at=f"{at}.1Z"),
        session_state(str(ticket), "inactive", "user_inactive_or_offline", at=f"{at}.2Z"),
    ]


async def send_mixed(config: KafkaConfig, first: int, codecs: tuple[str | None, ...]) -> int:
    """Write ten tickets with each codec, and one bad record with each; return how many tickets."""
    for topic in (Topic.TICKETS, Topic.SESSIONS):
        for number, codec in enumerate(codecs):
            async with producing(config, compression_type=codec) as producer:
                batch = producer.create_batch()
                for ticket in range(first + number * 10, first + number * 10 + 10):
                    for record in opened_and_left(ticket):
                        if record.topic is topic:
                            batch.append(timestamp=record.timestamp, key=record.key, value=record.value)
                if topic is Topic.SESSIONS:
                    batch.append(timestamp=record.timestamp, key=b"1", value=b"no JSON of ours" * 100)
                await (await producer.send_batch(batch, config.topic(topic.value), partition=0))
    return len(codecs) * 10


def codecs_of(kafka: Any, topic: str) -> Counter[str]:
    """Read from the broker's own files with which codec the batches of partition 0 are kept."""
    return Counter(
        codec for log in sorted((kafka._dir / "data" / f"{topic}-0").glob("*.log")) for codec in _batches(log)
    )


def _batches(log: Any) -> Iterator[str]:
    data, at = log.read_bytes(), 0
    while at + 61 <= len(data):
        (length,) = struct.unpack_from(">i", data, at + 8)
        (attributes,) = struct.unpack_from(">h", data, at + 21)
        if length <= 0:
            return  # the file is longer than what was written to it
        if not attributes & 0x20:  # a transaction marker
            yield NUMBERS[attributes & 7]
        at += 12 + length


@pytest.mark.parametrize("codec", ["none", *CODECS])
async def test_inputs_of_every_codec_mixed_come_out_in_the_codec_that_was_set(
    kafka: Any, topic_prefix: str, codec: str
) -> None:
    config = await topics(config_for(kafka, topic_prefix, compression=codec))
    tickets = await send_mixed(config, 100, (None, *CODECS))
    async with running(config) as worker:
        await worker.until(lambda: worker.notes.taken >= tickets * 3 + 5)
    more = await send_mixed(config, 200, CODECS)
    async with running(config) as worker:
        assert await worker.until(lambda: worker.notes.restored_rows) == {0: 2 * tickets}
        await worker.until(lambda: worker.notes.taken >= more * 3 + 4)
    commands = [json.loads(record.value) for record in await read_all(config, config.topic(Output.COMMANDS))]
    assert Counter(command["ticket_id"] for command in commands) == Counter(
        str(ticket) for first, count in ((100, tickets), (200, more)) for ticket in range(first, first + count)
    )
    assert set(codecs_of(kafka, config.topic("session-states"))) == {"none", *CODECS}
    for written in config.written:
        assert set(codecs_of(kafka, written)) == {codec}, written


@pytest.mark.parametrize("codec", CODECS)
async def test_what_the_broker_compresses_itself_is_read_everywhere(kafka: Any, topic_prefix: str, codec: str) -> None:
    """`compression.type` of a topic has the broker compress with its own libraries, which are Java's."""
    there = await topics(config_for(kafka, f"{topic_prefix}a."), compression_type=codec)
    here = await topics(config_for(kafka, f"{topic_prefix}b.", compression=codec))
    tickets = await send_mixed(there, 100, (None,))
    for topic in ("ticket-updates", "session-states"):
        assert set(codecs_of(kafka, there.topic(topic))) == {codec}
    for _ in range(2):  # the second one restores
        async with running(there) as worker:
            await worker.until(lambda: worker.status and worker.held == {0})
            await worker.until(lambda: worker.notes.restored_rows.get(0) or worker.notes.taken >= tickets * 3 + 1)
    assert worker.notes.restored_rows == {0: 2 * tickets}
    assert len(await read_all(there, there.topic(Output.COMMANDS))) == tickets
    [state] = await read_state(there, "105")
    assert state.ticket is not None
    assert state.session is not None
    lines: list[bytes] = []
    assert await capture(there, lines.append) == tickets * 3 + 1
    assert await feed(here, lines) == len(lines)
    assert set(codecs_of(kafka, here.topic("session-states"))) == {codec}
    letters: list[Any] = []
    await read_dead_letters(there, lambda letter, _: letters.append(letter))
    assert [letter.code for letter in letters] == ["not_json"]
    assert (await replay(there)).sent == {"not_json": 1}
    assert (await read_all(there, there.topic("session-states")))[-1].value == b"no JSON of ours" * 100
    assert set(codecs_of(kafka, there.topic(Output.DEAD_LETTERS))) == {codec}


async def test_a_batch_that_cannot_be_decoded_is_named_by_a_worker_and_by_every_verb(
    kafka: Any, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = await topics(config_for(kafka, topic_prefix))
    await send_mixed(config, 100, (None, "lz4"))
    monkeypatch.setattr(aiokafka.codec, "has_lz4", lambda: False)
    says = rf"{topic_prefix}(ticket-updates|session-states)-0: the record batch at offset \d+ can't be decoded \(.*Lib"
    with pytest.raises(Refused, match=says):
        async with running(config) as worker:
            await worker.until(lambda: False, within=60)
    with pytest.raises(Refused, match=says):
        await capture(config, lambda line: None)
    monkeypatch.undo()
    async with running(config) as worker:
        await worker.until(lambda: worker.notes.taken)
        await worker.until(lambda: len(worker.notes.lags) == 2 and not any(worker.notes.lags.values()))
    assert len(await read_all(config, config.topic(Output.COMMANDS))) == 20, "nothing was lost before the bad batch"


async def test_reading_to_the_end_ends_at_such_a_batch(
    kafka: Any, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = await topics(config_for(kafka, topic_prefix))
    await send_mixed(config, 100, ("zstd",))
    monkeypatch.setattr(aiokafka.codec, "has_zstd", lambda: False)
    tp = TopicPartition(config.topic("ticket-updates"), 0)
    async with plain_consumer(config) as consumer:
        with pytest.raises(undecodable.Undecodable):
            await read_to_ends(config, consumer, [tp], lambda tp, records: None)
