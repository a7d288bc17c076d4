"""One transactional producer per partition: what a step writes, and the offsets it has read to, in one transaction."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Iterable, Mapping
from typing import Any, TypeVar

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import (
    IllegalOperation,
    InvalidProducerIdMapping,
    InvalidTxnState,
    KafkaError,
    NotEnoughReplicasError,
    OutOfOrderSequenceNumber,
    ProducerClosed,
    ProducerFenced,
)
from aiokafka.producer.sender import AddPartitionsToTxnHandler
from aiokafka.structs import OffsetAndMetadata

from streams.core.errors import Failed, Fenced
from streams.core.model import MILLISECOND, SECOND, Micros
from streams.kafka.brokers import client_arguments, patiently
from streams.kafka.config import KafkaConfig
from streams.kafka.inside import predecessor
from streams.wire.writes import Write as Write  # noqa: PLC0414

logger = logging.getLogger(__name__)

T = TypeVar("T")

_QUICK_BACKOFF = 0.005
"""aiokafka's own, 100 ms, lands in every commit: brokers answer *not yet* while they verify or end a transaction."""

_AGAIN_SOON = 0.001
"""While the transaction before is being ended, which takes the broker a millisecond or two."""

_SLOW_BACKOFF = 0.2
_SLOW_AFTER = 0.5
"""A transaction that takes longer than this waits for a broker that is away; asking 200 times a second won't help."""

_DISCARD_SECONDS = 2.0

_EPOCH_IS_OVER = (ProducerFenced, InvalidTxnState, InvalidProducerIdMapping, OutOfOrderSequenceNumber)

_METADATA = "lapse stream_time="


def offset_metadata(stream_time: Micros) -> str:
    """Return what travels with a committed offset, so that a restart resumes the stream time.

    >>> stream_time_of(offset_metadata(1_700_000_000_000_000))
    1700000000000000
    """
    return f"{_METADATA}{stream_time}"


def stream_time_of(metadata: str) -> Micros:
    """Read `offset_metadata`; 0 where somebody else committed the offset.

    >>> stream_time_of("set by hand")
    0
    """
    digits = metadata.removeprefix(_METADATA)
    return int(digits) if metadata.startswith(_METADATA) and digits.isdecimal() else 0


class _PromptAddPartitions(AddPartitionsToTxnHandler):  # type: ignore[misc]
    """aiokafka waits a fixed 20 ms when the transaction before is just being ended; ours take less than that."""

    def handle_response(self, resp: Any) -> float | None:
        backoff: float | None = super().handle_response(resp)
        return None if backoff is None else min(backoff, _AGAIN_SOON)


class PartitionProducer:
    """The right to write for a partition, from `start` until somebody else starts one with the same transactional id.

    After any error from `commit` the producer is of no more use: `discard` it, and with it the tables.
    """

    def __init__(self, config: KafkaConfig, partition: int) -> None:
        """Prepare for one partition; nothing is connected yet."""
        self.partition = partition
        self._config = config
        self._kafka: AIOKafkaProducer | None = None
        self._last_committed: bool | None = None

    async def start(self) -> None:
        """Fence whoever wrote for this partition before, and wait until their last transaction has ended everywhere."""
        config = self._config

        async def start() -> AIOKafkaProducer:
            kafka = AIOKafkaProducer(
                **client_arguments(config),
                transactional_id=config.transactional_id(self.partition),
                transaction_timeout_ms=config.transaction_timeout // MILLISECOND,
                retry_backoff_ms=int(_QUICK_BACKOFF * 1000),
                max_batch_size=config.producer_batch_bytes,
            )
            _tune(kafka, config)
            last = predecessor.follow(kafka)
            try:
                await kafka.start()
                if last.committed is not None:
                    self._last_committed = last.committed
                if self._last_committed is not None:
                    async with asyncio.timeout(config.transaction_timeout / SECOND):
                        await predecessor.say_again(kafka, self._last_committed, self._written(), config.group)
            except BaseException:
                await _discard(kafka)
                raise
            return kafka

        self._kafka = await patiently(f"Can't start the producer of partition {self.partition}", config, start)

    def _written(self) -> list[TopicPartition]:
        return [TopicPartition(topic, self.partition) for topic in self._config.written]

    async def commit(
        self, writes: Mapping[str, Iterable[Write]], offsets: Mapping[str, int], stream_time: Micros, now: Micros
    ) -> None:
        """Write records by topic, and the offsets of the inputs, in one transaction; return when it is committed.

        `writes` and `offsets` go by names on the broker, and to this producer's partition. `now` becomes the records'
        timestamp. Raises `Fenced` when this epoch is over, `Failed` when the brokers refuse or stay away.
        """
        what = f"Can't commit a step of partition {self.partition}"
        try:
            await self._within(self._transaction(writes, offsets, stream_time, now), what)
        except (KafkaError, IllegalOperation) as error:
            reason = self._what_ended(error)
            if isinstance(reason, _EPOCH_IS_OVER):
                raise Fenced(f"{what}: {reason!r}") from error
            raise Failed(f"{what}: {_text(reason)}") from error

    def _what_ended(self, error: KafkaError | IllegalOperation) -> BaseException:
        """Return what ended the transaction: aiokafka wraps it, or says to what came later only that it is over."""
        reason: BaseException | None = error.__cause__ if isinstance(error.__cause__, KafkaError) else None
        ended = self._started()._txn_manager.wait_for_transaction_end()
        if isinstance(error, IllegalOperation) and ended.done():
            reason = ended.exception()
        return reason or error

    async def _transaction(
        self, writes: Mapping[str, Iterable[Write]], offsets: Mapping[str, int], stream_time: Micros, now: Micros
    ) -> None:
        kafka = self._started()
        await kafka.begin_transaction()
        batches = [(topic, self._batches(records, now)) for topic, records in writes.items()]
        metadata = offset_metadata(stream_time)
        read_to = {
            TopicPartition(topic, self.partition): OffsetAndMetadata(offset, metadata)
            for topic, offset in offsets.items()
        }
        sent: list[asyncio.Future[Any]] = []
        try:
            # Noted one by one: a comprehension would lose those before one that fails. The first batch of every topic
            # is handed in before anything waits, so that the transaction's partitions are announced in one request.
            for topic, several in batches:
                for batch in several[:1]:
                    sent.append(await self._send(topic, batch))  # noqa: PERF401
            if read_to:
                sent.append(asyncio.ensure_future(kafka.send_offsets_to_transaction(read_to, self._config.group)))
            for topic, several in batches:
                for batch in several[1:]:
                    sent.append(await self._send(topic, batch))  # noqa: PERF401
            # aiokafka commits whether or not a batch has failed: every single one has to be looked at.
            await asyncio.gather(*sent)
        finally:
            for future in sent:
                if future.done():
                    _look_at(future)
                else:
                    future.cancel()
        await kafka.commit_transaction()

    def _batches(self, records: Iterable[Write], now: Micros) -> list[Any]:
        kafka = self._started()
        timestamp = now // MILLISECOND
        batches: list[Any] = []
        append = None
        for key, value, headers in records:
            if append is None or append(timestamp=timestamp, key=key, value=value, headers=headers) is None:
                batch = kafka.create_batch()
                batches.append(batch)
                append = batch.append
                append(timestamp=timestamp, key=key, value=value, headers=headers)
        for batch in batches:
            batch.close()
        return batches

    async def _send(self, topic: str, batch: Any) -> asyncio.Future[Any]:
        sent: asyncio.Future[Any] = await self._started().send_batch(batch, topic, partition=self.partition)
        return sent

    async def _within(self, work: Awaitable[T], what: str) -> T:
        """Wait for the work, with less haste once it is clear that a broker is away, and not for ever."""
        task = asyncio.ensure_future(work)
        try:
            done, _ = await asyncio.wait({task}, timeout=_SLOW_AFTER)
            if not done:
                logger.warning("partition %d: the transaction takes long; trying on", self.partition)
                sender = self._started()._sender
                sender._retry_backoff = _SLOW_BACKOFF
                done, _ = await asyncio.wait({task}, timeout=self._config.patience / SECOND)
                sender._retry_backoff = _QUICK_BACKOFF
            if not done:
                raise Failed(f"{what}: the brokers did not take it for {self._config.patience // SECOND} s.")
            return task.result()
        finally:
            if not task.done():
                task.cancel()

    async def close(self) -> None:
        """Close the connections; no transaction may be open."""
        if self._kafka is not None:
            kafka, self._kafka = self._kafka, None
            with contextlib.suppress(KafkaError, OSError, TimeoutError):
                async with asyncio.timeout(_DISCARD_SECONDS):
                    await kafka.stop()

    async def discard(self) -> None:
        """Close without finishing anything: an open transaction is left for its successor, or its time-out, to end."""
        if self._kafka is not None:
            kafka, self._kafka = self._kafka, None
            await _discard(kafka)

    def _started(self) -> AIOKafkaProducer:
        if self._kafka is None:
            raise ProducerClosed
        return self._kafka


def _tune(kafka: AIOKafkaProducer, config: KafkaConfig) -> None:
    sender = kafka._sender
    logging.getLogger("aiokafka.producer.sender").addFilter(_without_verification)
    # A batch without a leader would be given up after the request time-out; how long we wait is for `_within` to say.
    kafka._message_accumulator._batch_ttl = config.patience / SECOND + 60

    async def add_partitions(tps: Any) -> Any:
        node_id = await sender._find_coordinator(1, sender._txn_manager.transactional_id)
        return await _PromptAddPartitions(sender, tps).do(node_id)

    sender._do_add_partitions_to_txn = add_partitions

    # When a producer is fenced, aiokafka tells its own futures as well, and nobody asks those: asyncio would log each
    # with a traceback, whenever the collector comes by.
    accumulator, transactions = kafka._message_accumulator, kafka._txn_manager
    append_batch, begin = accumulator._append_batch, transactions.begin_transaction

    def append(builder: Any, tp: Any) -> Any:
        batch = append_batch(builder, tp)
        batch._drain_waiter.add_done_callback(_look_at)
        return batch

    def begin_transaction() -> None:
        begin()
        transactions._transaction_waiter.add_done_callback(_look_at)

    accumulator._append_batch, transactions.begin_transaction = append, begin_transaction


def _look_at(future: asyncio.Future[Any]) -> None:
    """Count a future's error as seen; whoever has to know of it learns it from another one."""
    if not future.cancelled():
        future.exception()


def _without_verification(entry: logging.LogRecord) -> bool:
    """Keep out what brokers of version 4 say at every transaction, while they verify a partition of it.

    When it is no passing thing, the transaction takes long, and that is logged.
    """
    return not (isinstance(entry.args, tuple) and NotEnoughReplicasError in entry.args)


async def _discard(kafka: AIOKafkaProducer) -> None:
    kafka._closed = True
    task = kafka._sender.sender_task
    if task is not None and not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=_DISCARD_SECONDS)
    kafka._message_accumulator.fail_all(ProducerClosed())
    with contextlib.suppress(KafkaError, OSError, TimeoutError):
        async with asyncio.timeout(_DISCARD_SECONDS):
            await kafka.client.close()


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__
