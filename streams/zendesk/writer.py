"""Writes input records and dead letters; each counts as written once all in-sync replicas have acknowledged it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections.abc import Sequence

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from streams.core.errors import Refused
from streams.core.names import Code, Output
from streams.core.partitioning import partition_of
from streams.kafka.brokers import started_producer
from streams.kafka.config import KafkaConfig
from streams.kafka.topics import check_topics
from streams.zendesk.events import InputRecord, Unusable

WRITE_SECONDS = 8.0
"""Zendesk waits 12 s for an answer; this leaves it time to get one."""

_LARGEST_RECORD = (1 << 20) + (64 << 10)
_LINGER_MS = 2
_ASK_SECONDS = 2.0
_CLOSE_SECONDS = 2.0
SOURCE = "zendesk-webhook"
"""What the header `lapse.source.topic` says. Without partition and offset, `dead-letters replay` leaves it alone."""


class NotWrittenError(Exception):
    """The brokers have not acknowledged a record in time. It may be written all the same, later."""


class Writer:
    """One producer for all requests. It writes again what a broker did not answer; the worker drops the duplicates."""

    def __init__(self, config: KafkaConfig, *, keep_bodies: bool = False) -> None:
        """`keep_bodies`: whether dead letters carry the body that could not be used."""
        self._config = config
        self._keep_bodies = keep_bodies
        self._producer: AIOKafkaProducer | None = None
        self._asking: asyncio.Task[None] | None = None
        self.trouble: str | None = "the brokers have not been reached yet"
        """Why the latest record could not be written; None once one was, or the producer has started."""

    async def start(self) -> None:
        """Wait for the brokers. Raises `Refused` when a topic is missing, `Unreachable` after `broker_patience`."""
        ours = {*self._config.inputs, self._config.topic(Output.DEAD_LETTERS)}
        missing = [name for name in (await check_topics(self._config)).missing if name in ours]
        if missing:
            raise Refused(
                f"{' and '.join(missing)} at {', '.join(self._config.brokers)} "
                f"{'does' if len(missing) == 1 else 'do'} not exist or may not be described by this user. Make them "
                "with `lapse topics create`."
            )

        self._producer = await started_producer(
            self._config,
            acks="all",
            linger_ms=_LINGER_MS,
            max_request_size=_LARGEST_RECORD,
            partitioner=_murmur2,
        )
        self.trouble = None
        self._asking = asyncio.create_task(self._ask_while_in_trouble(self._producer), name="ask the brokers")

    async def stop(self) -> None:
        """Close. Every request was answered by now, so what is not acknowledged need not be waited for."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)
        if self._producer is not None:
            with contextlib.suppress(TimeoutError, KafkaError):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await self._producer.stop()

    async def _ask_while_in_trouble(self, producer: AIOKafkaProducer) -> None:
        """Notice that the brokers are back, without a request: a proxy may send none before this is ready again."""
        while True:
            await asyncio.sleep(_ASK_SECONDS)
            if self.trouble is not None:
                with contextlib.suppress(TimeoutError, KafkaError, OSError):
                    async with asyncio.timeout(_ASK_SECONDS):
                        await producer.client.fetch_all_metadata()
                    self.trouble = None

    async def write(self, record: InputRecord, arrived_ms: int) -> None:
        """Write one input record. Raises `NotWrittenError`, and `Unusable` when it is too large for its topic."""
        topic = self._config.topic(record.topic.value)
        try:
            await self._send(topic, record.key, record.value, arrived_ms, ())
        except MessageSizeTooLargeError as error:
            raise Unusable(Code.TOO_LARGE, "$", f"the record does not fit into {topic}: {error}") from None

    async def write_letter(self, body: bytes, kind: str, why: Unusable, arrived_ms: int) -> None:
        """Write a dead letter for a signed body; `kind` is the type that it names. Raises `NotWrittenError`.

        The key is the body's SHA-256: the ticket may be unknown, and aiokafka writes no record without key and value.
        """
        digest = hashlib.sha256(body).hexdigest().encode()
        headers = [
            ("lapse.error.code", why.code.value.encode()),
            ("lapse.error.path", why.path.encode()),
            ("lapse.error.message", why.message.encode("utf-8", "replace")),
            ("lapse.source.topic", SOURCE.encode()),
            ("lapse.source.timestamp", str(arrived_ms).encode()),
            ("lapse.source.type", kind.encode("utf-8", "replace")),
            ("lapse.source.size", str(len(body)).encode()),
            ("lapse.source.sha256", digest),
        ]
        topic = self._config.topic(Output.DEAD_LETTERS)
        if self._keep_bodies:
            try:
                await self._send(topic, digest, body, arrived_ms, headers)
            except MessageSizeTooLargeError:
                pass
            else:
                return
        await self._send(topic, digest, None, arrived_ms, headers)

    async def _send(
        self, topic: str, key: bytes, value: bytes | None, timestamp: int, headers: Sequence[tuple[str, bytes]]
    ) -> None:
        if self._producer is None:
            raise NotWrittenError(self.trouble)
        began = time.monotonic()
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                sent = await self._producer.send(topic, value, key, timestamp_ms=timestamp, headers=headers)
                # A time-out must not cancel the batch, in which other requests' records are too.
                await asyncio.shield(sent)
        except MessageSizeTooLargeError:
            raise
        except (KafkaError, TimeoutError, OSError) as error:
            waited = time.monotonic() - began
            self.trouble = f"{topic}: {str(error) or 'no acknowledgement'} after {waited:.0f} s"
            raise NotWrittenError(self.trouble) from error
        self.trouble = None


def _murmur2(key: bytes, partitions: list[int], _: list[int]) -> int:
    """Choose the partition of a key as Kafka's Java client does."""
    return partitions[partition_of(key, len(partitions))]
