"""The pause: one record in a compacted topic of its own, which every process of `lapse apply` follows.

It stands in a topic because it must outlive restarts, hold without anybody running, and reach all processes at once.
`lapse apply pause` makes the topic when it is not there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

import msgspec
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.admin import NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from streams.core.errors import Failed
from streams.core.model import Micros
from streams.kafka.brokers import admin_client, partitions_of, patiently, plain_consumer, started_producer
from streams.kafka.bulk import read_to_ends
from streams.kafka.config import KafkaConfig
from streams.kafka.follow import Follower
from streams.wire import instants

logger = logging.getLogger(__name__)

KEY = b"pause"


class Pause(msgspec.Struct, frozen=True, kw_only=True):
    """Whether sending is paused, since when, by whom and why."""

    paused: bool
    at: str
    author: str | None = None
    reason: str | None = None


_decode = msgspec.json.Decoder(Pause).decode
_encode = msgspec.json.Encoder().encode


def pause_topic(config: KafkaConfig) -> str:
    """Return the name of the topic on the broker."""
    return f"{config.topic_prefix}{config.app_id}-apply"


async def read_pause(config: KafkaConfig) -> Pause | None:
    """Return what was said last; None when nothing was. Raises `Failed` when no broker answers."""
    found = _Latest()
    name = pause_topic(config)
    async with plain_consumer(config) as consumer:
        if name not in await patiently("Can't ask for the topics", config, consumer.topics):
            return None
        await partitions_of(config, consumer, name)
        tps = [TopicPartition(name, 0)]
        await read_to_ends(config, consumer, tps, lambda _, records: found.take(records), whole=True)
    return found.pause


async def set_pause(config: KafkaConfig, *, paused: bool, now: Micros, author: str | None, reason: str | None) -> None:
    """Pause or resume; returns once all in-sync replicas have it. Raises `Failed` when the brokers refuse."""
    await _require_topic(config)
    said = Pause(paused=paused, at=instants.text(now), author=author, reason=reason)
    producer = await started_producer(config, acks="all", enable_idempotence=True)
    try:
        await producer.send_and_wait(pause_topic(config), _encode(said), KEY, partition=0)
    except KafkaError as error:
        raise Failed(
            f"Can't write to {pause_topic(config)}: {error}. Nothing was changed, as far as is known."
        ) from error
    finally:
        await producer.stop()


async def _require_topic(config: KafkaConfig) -> None:
    name = pause_topic(config)
    async with admin_client(config) as admin:
        if name in await patiently("Can't ask for the topics", config, admin.list_topics):
            return
        new = NewTopic(name, 1, -1, {}, {"cleanup.policy": "compact"})
        answer = await patiently(f"Can't create {name}", config, lambda: admin.create_topics([new]))
    for _, code, *message in answer.topic_errors:
        error = for_code(code)
        if code and error is not TopicAlreadyExistsError:
            raise Failed(
                f"Can't create {name}, which holds the pause: {(message and message[0]) or error.__name__}. "
                "Create it with one partition and cleanup.policy=compact, or grant Create on it."
            )


class PauseReader:
    """Follows the pause. What was read last holds while the brokers are away."""

    def __init__(self, config: KafkaConfig, on_change: Callable[[Pause], None]) -> None:
        """`on_change` is called with each pause and each resumption."""
        latest = _Latest(on_change)
        self._follower = Follower(config, pause_topic(config), latest, what="the pause", may_be_missing=True)

    async def start(self) -> None:
        """Read what was said last, then follow. Raises `Failed` when no broker answers."""
        await self._follower.start()

    async def stop(self) -> None:
        """Stop following."""
        await self._follower.stop()


class _Latest:
    """The record that was read last."""

    def __init__(self, on_change: Callable[[Pause], None] = lambda _: None) -> None:
        self.pause: Pause | None = None
        self._on_change = on_change

    def take(self, records: Iterable[ConsumerRecord]) -> None:
        for record in records:
            self._take(record)

    async def take_new(self, record: ConsumerRecord) -> None:
        self._take(record)

    def _take(self, record: ConsumerRecord) -> None:
        if record.key != KEY:
            return
        try:
            pause = _decode(record.value or b"")
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            logger.error("the record at offset %d of the pause's topic is ignored: %s", record.offset, error)
            return
        if pause != self.pause:
            self.pause = pause
            self._on_change(pause)
