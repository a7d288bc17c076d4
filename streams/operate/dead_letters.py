"""The dead letters of an installation: list them, and replay them to the topics they came from.

A dead letter is the record as it was received, with the reason in headers (SPEC section 2). Sending it back helps when
the record itself was not the problem: a clock was behind, or a rule of the decoder has changed since.

A record that is sent back has the header `lapse.replayed.from`, which names its letter. If it is still bad, it comes
back as a new letter that also has this header: it *died again*. Such a letter is not sent back a second time. A letter
that was already sent back is not sent again either, unless it is named by its offset: an original is sent back once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from enum import StrEnum

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError, ProducerFenced

from streams.core.errors import Failed, Refused
from streams.core.model import MILLISECOND, Micros
from streams.core.names import Output
from streams.kafka.batches import size_alone
from streams.kafka.brokers import partitions_of, patiently, plain_consumer, started_producer
from streams.kafka.bulk import fetches_to_ends
from streams.kafka.config import KafkaConfig
from streams.kafka.topics import check_topics
from streams.operate.replay_ledger import Ledger, Place, note, read_ledger, require_ledger
from streams.wire.writes import Write

_OURS = ("lapse.error.", "lapse.source.", "lapse.replayed.")
REPLAYED_FROM = "lapse.replayed.from"
_AT_ONCE = 500
"""Maximum number of letters sent back in one transaction."""
_BYTES_AT_ONCE = 8 << 20
"""Approximate maximum number of bytes sent back in one transaction."""


class State(StrEnum):
    """The replay state of a letter."""

    WAITING = "waiting"
    """It was not sent back."""
    REPLAYED = "replayed"
    """It was sent back and has not died again so far."""
    DIED_AGAIN = "died again"
    """It was sent back and died again, or it is the letter of such a second death."""


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """One dead letter. Fields without a header are empty (the letter was not written by Lapse)."""

    partition: int
    offset: int
    """Its offset in the dead-letter topic."""
    at: Micros
    """When it was written to the dead-letter topic."""
    code: str
    path: str
    message: str
    source_topic: str
    """The name on the broker, with prefix."""
    source_partition: int | None
    source_offset: int | None
    source_timestamp: int | None
    """Milliseconds since the epoch."""
    replayed_from: str | None
    """The earlier letter that was sent back and died again as this one, as `topic/partition/offset`."""
    without_value: bool
    """Whether the record's value was too large to be included."""
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    """The headers of the record itself."""

    @property
    def place(self) -> Place:
        """Return its place in the dead-letter topic."""
        return Place(self.partition, self.offset)

    @property
    def earlier(self) -> Place | None:
        """Return the place of the earlier letter that died again as this one."""
        _, partition, offset = ("//" + (self.replayed_from or "")).rsplit("/", 2)
        return Place(int(partition), int(offset)) if partition.isdecimal() and offset.isdecimal() else None

    def was_sent(self, ledger: Ledger) -> bool:
        """Whether it was sent back according to the ledger."""
        return ledger.get(self.place) == self.at // MILLISECOND


def letter_of(record: ConsumerRecord) -> Letter:
    """Read a record of the dead-letter topic."""
    said: dict[str, str] = {}
    own = []
    for name, value in record.headers or ():
        if name.startswith(_OURS):
            said[name] = (value or b"").decode(errors="replace")  # the last header of a name belongs to this letter
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
        replayed_from=said.get(REPLAYED_FROM),
        without_value="lapse.source.size" in said or "lapse.source.omitted" in said,
        key=record.key,
        value=record.value,
        headers=tuple(own),
    )


# --- reading ---------------------------------------------------------------------------------------------------------


async def read_dead_letters(config: KafkaConfig, take: Callable[[Letter, State], object]) -> None:
    """Pass every current dead letter and its state to `take`, in offset order by partition.

    The topic is read twice, so that memory use grows only with the number of letters that were sent back.
    Raises `Refused` when the topic does not exist, `Failed` when no broker answers.
    """
    ledger = await read_ledger(config)
    died_again: set[Place] = set()
    if ledger:
        async for letters in _letters(config):
            died_again.update(earlier for letter in letters if (earlier := letter.earlier) is not None)
    async for letters in _letters(config):
        for letter in letters:
            if letter.replayed_from is not None or letter.place in died_again:
                state = State.DIED_AGAIN
            else:
                state = State.REPLAYED if letter.was_sent(ledger) else State.WAITING
            take(letter, state)


async def _letters(config: KafkaConfig) -> AsyncIterator[list[Letter]]:
    name = config.topic(Output.DEAD_LETTERS)
    async with plain_consumer(config) as consumer:
        tps = [TopicPartition(name, number) for number in await partitions_of(config, consumer, name)]
        async for _, records in fetches_to_ends(config, consumer, tps):
            yield [letter_of(record) for record in records]


# --- sending back ----------------------------------------------------------------------------------------------------


class Replayed(msgspec.Struct):
    """The result of a replay."""

    sent: Counter[str] = msgspec.field(default_factory=Counter)
    """Number of letters sent back, by code."""
    kept: Counter[str] = msgspec.field(default_factory=Counter)
    """Number of letters that can't be sent back, by reason."""
    sent_before: int = 0
    """Number of letters that had been sent back earlier."""
    died_again: int = 0
    """Number of letters whose records had been sent back and died again."""
    passed_over: int = 0
    """Number of letters that were not selected."""


async def replay(
    config: KafkaConfig,
    *,
    chosen: Callable[[Letter], bool] | None = None,
    places: Sequence[Place] = (),
    dry_run: bool = False,
) -> Replayed:
    """Write dead letters to the topic-partition they came from, with their key, value, headers and timestamp.

    An original is sent once, whatever fails and however often this is called: the record and the note that it was
    sent are written in one transaction. With `places`, exactly these letters are sent, whatever happened to them
    before. `dry_run` only counts. Raises `Refused` and `Failed`.
    """
    report = await check_topics(config)
    inputs = {topic.name: topic for topic in report.existing if topic.name in config.inputs}
    replaying = _Replaying(config, chosen, {name: topic.partitions for name, topic in inputs.items()}, report.limits)
    if dry_run:
        await replaying.run(None, await read_ledger(config), places)
        return replaying.done
    await require_ledger(config)
    async with _producer(config) as producer:
        # Read the ledger after the producer has started, which fences any other replay: only we add to it from now on.
        await replaying.run(producer, await read_ledger(config), places)
    return replaying.done


class _Replaying:
    def __init__(
        self,
        config: KafkaConfig,
        chosen: Callable[[Letter], bool] | None,
        partitions: dict[str, int],
        limits: dict[str, int],
    ) -> None:
        self.done = Replayed()
        self._config = config
        self._chosen = chosen
        self._partitions = partitions
        self._limits = limits

    async def run(self, producer: AIOKafkaProducer | None, ledger: Ledger, places: Sequence[Place]) -> None:
        if places:
            await self._send(producer, self._to_send(await self._named(places), None), {})
            return
        first = await self._first_offsets()
        gone: dict[Place, int | None] = {
            place: None for place in ledger if place.offset < first.get(place.partition, 0)
        }
        async for letters in _letters(self._config):
            await self._send(producer, self._to_send(letters, ledger), {})
        if producer is not None and gone:
            await self._send(producer, [], gone)

    def _to_send(self, letters: Sequence[Letter], ledger: Ledger | None) -> list[Letter]:
        """Return the letters to send, and count all letters. Without a ledger, they were named one by one."""
        to_send, done = [], self.done
        for letter in letters:
            if self._chosen is not None and not self._chosen(letter):
                done.passed_over += 1
            elif ledger is not None and letter.replayed_from is not None:
                done.died_again += 1
            elif ledger is not None and letter.was_sent(ledger):
                done.sent_before += 1
            elif (why := self._why_not(letter)) is not None:
                done.kept[why] += 1
            else:
                done.sent[letter.code] += 1
                to_send.append(letter)
        return to_send

    def _why_not(self, letter: Letter) -> str | None:
        """Return why a letter can't be sent back; None when it can."""
        if not letter.source_topic or letter.source_partition is None:
            return "does not say where it came from"
        if letter.source_topic not in self._partitions:
            return f"came from {letter.source_topic}, which is no input of this installation"
        if letter.source_partition >= self._partitions[letter.source_topic]:
            return f"came from a partition that {letter.source_topic} does not have"
        if letter.without_value or letter.code == "too_large":
            return "was too large to be carried: its value is gone"
        if size_alone(self._record(letter)) > self._limits[letter.source_topic]:
            return f"does not fit into {letter.source_topic} with the header that a replay adds"
        return None

    def _record(self, letter: Letter) -> Write:
        origin = f"{self._config.topic(Output.DEAD_LETTERS)}/{letter.place}".encode()
        return Write(letter.key, letter.value, [*letter.headers, (REPLAYED_FROM, origin)])

    async def _send(
        self, producer: AIOKafkaProducer | None, letters: list[Letter], changes: dict[Place, int | None]
    ) -> None:
        if producer is None:
            return
        some: list[Letter] = []
        size = 0
        for letter in letters:
            if some and (len(some) == _AT_ONCE or size + len(letter.value or b"") > _BYTES_AT_ONCE):
                await self._transact(producer, some, {})
                some, size = [], 0
            some.append(letter)
            size += len(letter.value or b"")
        if some or changes:
            await self._transact(producer, some, changes)

    async def _transact(
        self, producer: AIOKafkaProducer, letters: list[Letter], changes: dict[Place, int | None]
    ) -> None:
        async with producer.transaction():
            sent = []
            for letter in letters:
                key, value, headers = self._record(letter)
                sent.append(
                    await producer.send(
                        letter.source_topic,
                        key=key,
                        value=value,
                        partition=letter.source_partition,
                        timestamp_ms=letter.source_timestamp,
                        headers=headers,
                    )
                )
            noted = {letter.place: letter.at // MILLISECOND for letter in letters}
            await note(self._config, producer, {**changes, **noted})
            for future in sent:
                await future

    async def _first_offsets(self) -> dict[int, int]:
        name = self._config.topic(Output.DEAD_LETTERS)
        async with plain_consumer(self._config) as consumer:
            tps = [TopicPartition(name, number) for number in await partitions_of(self._config, consumer, name)]
            found = await patiently("Can't read the offsets", self._config, lambda: consumer.beginning_offsets(tps))
        return {tp.partition: offset for tp, offset in found.items()}

    async def _named(self, places: Sequence[Place]) -> list[Letter]:
        """Read only these letters. Raises `Refused` for a letter that does not exist."""
        name = self._config.topic(Output.DEAD_LETTERS)
        async with plain_consumer(self._config) as consumer:
            known = await partitions_of(self._config, consumer, name)
            found = []
            for place in dict.fromkeys(places):
                record = (
                    await self._at(consumer, TopicPartition(name, place.partition), place)
                    if (place.partition in known)
                    else None
                )
                if record is None:
                    raise Refused(f"There is no dead letter {place} in {name}; nothing was sent.")
                found.append(letter_of(record))
        return found

    async def _at(self, consumer: AIOKafkaConsumer, tp: TopicPartition, place: Place) -> ConsumerRecord | None:
        consumer.assign([tp])
        first, last = [
            (await patiently("Can't read the offsets", self._config, ask))[tp]
            for ask in (lambda: consumer.beginning_offsets([tp]), lambda: consumer.end_offsets([tp]))
        ]
        if not first <= place.offset < last:
            return None
        consumer.seek(tp, place.offset)
        while await consumer.position(tp) <= place.offset:
            fetched = await consumer.getmany(tp, timeout_ms=self._config.request_timeout // MILLISECOND, max_records=1)
            for record in fetched.get(tp, ()):
                return record if record.offset == place.offset else None
        return None


@asynccontextmanager
async def _producer(config: KafkaConfig) -> AsyncIterator[AIOKafkaProducer]:
    # The topics set the size limit, not the client.
    producer = await started_producer(
        config, transactional_id=f"{config.group}-dead-letter-replay", max_request_size=2**30
    )
    try:
        yield producer
    except ProducerFenced as error:
        raise Failed("Another replay has begun; this one stopped, and nothing was sent twice.") from error
    except KafkaError as error:
        raise Failed(f"Can't send the dead letters back: {error}") from error
    finally:
        await producer.stop()


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None
