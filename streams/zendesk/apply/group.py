"""The consumer group: which partitions this process has, and their opening and closing.

A partition opens in this order: start its producer, which fences the process that had it before and ends that one's
last transaction; read the committed offset; read on from there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Collection, Iterable, Mapping

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import KafkaError

from streams.core.errors import Failed, ReopenPartition, Unreachable
from streams.core.model import MILLISECOND, SECOND
from streams.core.names import Output
from streams.kafka.brokers import client_arguments, explained, is_passing
from streams.kafka.inside.membership import committed_offsets
from streams.kafka.inside.undecodable import name_undecodable_batches
from streams.kafka.producer import PartitionProducer
from streams.telemetry.apply import ApplyMetrics
from streams.zendesk.apply.config import ApplyConfig
from streams.zendesk.apply.gate import Gate
from streams.zendesk.apply.partition import Carries, Partition

logger = logging.getLogger(__name__)

_POLL_MS = 100
_RETRY_SECONDS = 0.5
_CLOSE_SECONDS = 1.0
_AT_ONCE = 1_000


class Group(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka has no types
    """The partitions of this process, from `run` until it is cancelled."""

    def __init__(
        self,
        config: ApplyConfig,
        carrier: Carries,
        gate: Gate,
        metrics: ApplyMetrics,
        limits: Mapping[str, int],
    ) -> None:
        """`limits` are `max.message.bytes` by topic."""
        self._config = config
        self._carrier = carrier
        self._gate = gate
        self._metrics = metrics
        self._limits = limits
        self._topic = config.topic(Output.COMMANDS)
        self._consumer: AIOKafkaConsumer | None = None
        self._open: dict[int, Partition] = {}
        self._opening: dict[int, asyncio.Task[None]] = {}
        self._progress_at = time.monotonic()
        self.trouble: str | None = "the group has not been joined yet"
        """Why this process is not at work; None when it is."""

    @property
    def is_ready(self) -> bool:
        """Whether every partition that this process has is open."""
        return self.trouble is None and not self._opening

    async def run(self) -> None:
        """Work until cancelled. Raises `LapseError` when it can't go on."""
        while True:
            try:
                await self._consume()
            except (KafkaError, OSError, TimeoutError) as error:
                if not is_passing(error):
                    reason = explained(f"Can't read {self._topic}", self._config, error)
                    raise Failed(f"Can't read {self._topic}: {error}") if reason is error else reason from error
                self._note_trouble(f"can't read {self._topic}: {error}")
                await asyncio.sleep(_RETRY_SECONDS)

    async def _consume(self) -> None:
        config = self._config
        consumer = AIOKafkaConsumer(
            **client_arguments(config),
            group_id=config.group,
            group_instance_id=config.group_instance_id,
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=config.session_timeout // MILLISECOND,
            heartbeat_interval_ms=config.heartbeat_interval // MILLISECOND,
            rebalance_timeout_ms=config.rebalance_timeout // MILLISECOND,
            max_poll_interval_ms=config.rebalance_timeout // MILLISECOND,
        )
        self._consumer = consumer
        try:
            await consumer.start()
            name_undecodable_batches(consumer)
            consumer.subscribe([self._topic], listener=self)
            while True:
                await self._step(consumer)
        finally:
            await self._close({*self._open, *self._opening})
            self._consumer = None
            with contextlib.suppress(KafkaError, OSError, TimeoutError):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await consumer.stop()

    async def _step(self, consumer: AIOKafkaConsumer) -> None:
        """Fetch once, hand over what came, and look whether all is well."""
        fetched = await consumer.getmany(timeout_ms=_POLL_MS, max_records=_AT_ONCE)
        for tp, records in fetched.items():
            partition = self._open.get(tp.partition)
            if partition is not None:
                partition.add(records)
        for number, partition in list(self._open.items()):
            tp = TopicPartition(self._topic, number)
            if partition.failed.done():
                await self._reopen(number, partition)
            elif partition.has_room:
                consumer.resume(tp)
            else:
                consumer.pause(tp)
        for task in [task for task in self._opening.values() if task.done()]:
            task.result()
        self._opening = {number: task for number, task in self._opening.items() if not task.done()}
        if consumer.assignment() and not self._opening:
            self._progress_at = time.monotonic()
        commands = [command for partition in self._open.values() for command in partition.commands]
        self._metrics.waiting(len(commands), sum(map(self._gate.holds, commands)))

    async def _reopen(self, number: int, partition: Partition) -> None:
        """Open a partition again whose producer failed. Any other error is raised."""
        error = partition.failed.exception()
        await self._close([number])
        if not isinstance(error, ReopenPartition):
            raise error if error is not None else RuntimeError("a partition ended by itself")
        logger.warning("partition %d is opened again: %s", number, error)
        self._begin_to_open(number)

    # --- rebalances --------------------------------------------------------------------------------------------------

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Commit what has ended, and close."""
        await self._close([tp.partition for tp in revoked])

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Open; nothing is fetched before a partition knows where to go on."""
        self.trouble = None
        if self._consumer is not None:
            self._consumer.pause(*assigned)
        for tp in assigned:
            self._begin_to_open(tp.partition)
        logger.info("partitions of %s: %s", self._topic, ", ".join(str(tp.partition) for tp in assigned) or "none")

    def _begin_to_open(self, number: int) -> None:
        consumer = self._consumer
        assert consumer is not None  # noqa: S101 partitions are assigned to a consumer
        self._opening[number] = asyncio.create_task(self._open_one(consumer, number), name=f"open {number}")

    async def _open_one(self, consumer: AIOKafkaConsumer, number: int) -> None:
        tp = TopicPartition(self._topic, number)
        consumer.pause(tp)
        producer = PartitionProducer(self._config, number, self._limits)
        while True:
            try:
                await producer.start()
                committed = (await committed_offsets(consumer, [tp])).get(tp)
                first = (await consumer.beginning_offsets([tp]))[tp]
                break
            except (ReopenPartition, Unreachable, KafkaError, OSError, TimeoutError) as error:
                await producer.discard()
                if isinstance(error, KafkaError) and not is_passing(error):
                    raise
                self._note_trouble(f"partition {number} can't be opened: {error}")
                await asyncio.sleep(_RETRY_SECONDS)
            except BaseException:
                await producer.discard()
                raise
        self.trouble = None
        offset, metadata = (first, "") if committed is None or committed[0] < first else committed
        self._open[number] = Partition(
            self._config, producer, self._carrier, self._metrics, committed=offset, metadata=metadata
        )
        consumer.seek(tp, offset)
        consumer.resume(tp)

    async def _close(self, numbers: Iterable[int]) -> None:
        numbers = list(numbers)
        opening = [task for number in numbers if (task := self._opening.pop(number, None)) is not None]
        for task in opening:
            task.cancel()
        await asyncio.gather(*opening, return_exceptions=True)
        closing = [one for number in numbers if (one := self._open.pop(number, None)) is not None]
        await asyncio.gather(*(partition.close(_CLOSE_SECONDS) for partition in closing))

    def _note_trouble(self, trouble: str) -> None:
        """Remember a trouble of the brokers. Raises `Unreachable` after `broker_patience` without any progress."""
        self.trouble = trouble
        waited = time.monotonic() - self._progress_at
        if waited > self._config.broker_patience / SECOND:
            raise Unreachable(f"No progress for {waited:.0f} s: {trouble}")
        logger.warning("%s; trying again", trouble, extra={"limit": "group"})
