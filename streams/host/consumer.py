"""A Faust consumer that delivers whole fetches: one message per topic and fetch, with all its records as the value.

Faust's own consumer delivers single records from a second thread, and tracks and commits every offset. Here aiokafka
runs in the worker's event loop, and nothing is acknowledged or committed: the processors commit offsets in their
transactions. The path from fetch to agent is as short as possible, because aiokafka sends the next fetch only when its
buffer is empty: a millisecond of delay here delays every record twice.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import ConsumerStoppedError, KafkaError, OffsetOutOfRangeError
from faust.transport import consumer as faust_consumer
from faust.transport.drivers import aiokafka as faust_driver
from faust.types import TP, ConsumerMessage, Message
from mode import Service

from streams.core.errors import Failed
from streams.core.model import MILLISECOND, SECOND, Micros
from streams.host.inbox import Fetch, Inbox
from streams.kafka.brokers import client_arguments, explained, is_passing, patiently
from streams.kafka.config import KafkaConfig
from streams.kafka.inside.fetch_answers import Answer, watch_fetches
from streams.kafka.inside.fetch_pace import hold_next_answer
from streams.kafka.inside.fetch_positions import fetch_position
from streams.kafka.inside.fetched_records import unwrap_fetched_records
from streams.kafka.inside.membership import generation_of, is_member, note_heartbeats, on_group_error
from streams.kafka.inside.metadata import leader_of
from streams.kafka.inside.undecodable import name_undecodable_batches

if TYPE_CHECKING:
    from streams.host.app import App

logger = logging.getLogger(__name__)

_GETMANY_MS = 1_000
_RETRY_SECONDS = 0.5
_ENOUGH_BYTES = 256 << 10
"""Bytes at which the broker answers at once: this much is available only when the worker is behind."""


class _RebalanceListener(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        self._consumer.app.on_rebalance_start()
        await self._consumer.on_partitions_revoked(faust_consumer.ensure_TPset(revoked))

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        generation = self._consumer.begin_generation(assigned)
        await self._consumer.on_partitions_assigned(faust_consumer.ensure_TPset(assigned), generation)


class Consumer(faust_consumer.Consumer):
    """One aiokafka consumer in Faust's group, reading committed records of both inputs."""

    app: App
    consumer_stopped_errors = (ConsumerStoppedError,)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Accept the arguments that Faust passes to a consumer."""
        super().__init__(*args, **kwargs)
        self._kafka: AIOKafkaConsumer | None = None
        self._answers: dict[TopicPartition, tuple[Micros, Micros]] = {}
        self.last_answer: float | None = None
        """`time.monotonic` at the latest fetch response."""
        self.last_heartbeat: float | None = None
        """`time.monotonic` when the group coordinator last accepted a heartbeat."""
        self.generation = -1
        """The group generation of the current assignment; -1 before the first."""

    # --- lifecycle ---------------------------------------------------------------------------------------------------

    async def on_start(self) -> None:
        """Connect. The consumer joins the group when Faust subscribes."""

        async def start() -> AIOKafkaConsumer:
            kafka = self._create()
            try:
                await kafka.start()
            except BaseException:
                await kafka.stop()
                raise
            return kafka

        self._kafka = await patiently("Can't start the consumer", self.app.runtime, start)
        unwrap_fetched_records(self._kafka)
        name_undecodable_batches(self._kafka)
        watch_fetches(self._kafka, self.app.clock, self._note_answer)
        note_heartbeats(self._kafka, self._note_heartbeat)
        on_group_error(self._kafka, self._on_group_error)

    def _on_group_error(self, error: BaseException) -> None:
        """End the worker when the group refuses it: waiting would not help, and nothing would show the cause."""
        if not is_passing(error):
            reason = explained("Can't join the group", self.app.runtime, error)
            self.app.fail(Failed(f"Can't join the group: {error}") if reason is error else reason)

    def _note_heartbeat(self) -> None:
        """Record that the group coordinator answered: a worker without partitions sends no other requests."""
        self.last_heartbeat = time.monotonic()

    def _create(self) -> AIOKafkaConsumer:
        config: KafkaConfig = self.app.runtime
        return AIOKafkaConsumer(
            **client_arguments(config),
            group_id=config.group,
            group_instance_id=config.group_instance_id,
            # Faust uses this assignor only when the app has Faust tables, and round robin otherwise. Round robin
            # separates the two topics of a partition as soon as partitions do not divide evenly among workers.
            partition_assignment_strategy=[self.app.assignor],
            enable_auto_commit=False,
            # Positions are always set by `seek`. An offset that the log no longer has is an error, never a silent skip.
            auto_offset_reset="none",
            isolation_level="read_committed",
            fetch_max_wait_ms=config.fetch_max_wait // MILLISECOND,
            max_partition_fetch_bytes=config.max_partition_fetch_bytes,
            fetch_max_bytes=config.fetch_max_bytes,
            session_timeout_ms=config.session_timeout // MILLISECOND,
            heartbeat_interval_ms=config.heartbeat_interval // MILLISECOND,
            rebalance_timeout_ms=config.rebalance_timeout // MILLISECOND,
            # Progress is monitored from outside. Leaving the group over a stall would only move the work.
            max_poll_interval_ms=2**31 - 1,
        )

    async def on_stop(self) -> None:
        """Leave the group and close the connections."""
        if self._kafka is not None:
            await self._kafka.stop()

    def close(self) -> None:
        """Do nothing. Faust calls this when a rebalance meets a stopping app; `on_stop` closes the connections."""

    @property
    def kafka(self) -> AIOKafkaConsumer:
        """The aiokafka consumer; available once started."""
        if self._kafka is None:
            raise ConsumerStoppedError
        return self._kafka

    # --- fetches -----------------------------------------------------------------------------------------------------

    async def _drain_messages(self, fetcher: Any) -> None:
        """Deliver fetches until Faust stops the fetcher. Any other end of this loop ends the worker."""
        try:
            while not self.should_stop and not fetcher.should_stop:
                if not self.flow_active:
                    await self.wait(self.can_resume_flow)  # type: ignore[arg-type]
                    continue
                await self._hand_over(await self._fetch())
        except ConsumerStoppedError:
            return
        except Exception as error:
            self.app.fail(error)

    async def _fetch(self) -> Mapping[TopicPartition, list[ConsumerRecord]]:
        try:
            return cast(Mapping[TopicPartition, list[ConsumerRecord]], await self.kafka.getmany(timeout_ms=_GETMANY_MS))
        except OffsetOutOfRangeError as error:
            raise await self._explain_gap(error) from error
        except KafkaError as error:
            if not error.retriable:
                reason = explained("Can't read the inputs", self.app.runtime, error)
                raise Failed(f"Can't read the inputs: {error}") if reason is error else reason from error
            logger.warning("Can't read the inputs: %s; trying again", error, extra={"limit": "fetch"})
            await asyncio.sleep(_RETRY_SECONDS)
            return {}

    async def _hand_over(self, fetched: Mapping[TopicPartition, list[ConsumerRecord]]) -> None:
        if not fetched:
            return
        # Do this at once: aiokafka sends the next fetch as soon as it gets to run.
        self._hold_next_answer(len({tp.partition for tp in fetched}))
        generation = generation_of(self.kafka)
        # Do all of it before the first await: the next response may arrive during one.
        inboxes, by_topic = [], defaultdict[str, list[Fetch]](list)
        for tp, records in fetched.items():
            inbox = self.app.inboxes.get(tp)
            if inbox is not None and inbox.generation == generation:
                inbox.expect()
                inboxes.append(inbox)
                asked, arrived = self._answers.get(tp, (0, 0))
                fetch = Fetch(tp, records, asked, arrived, generation, self.at_end(tp))
                by_topic[tp.topic].append(fetch)
        for fetches in by_topic.values():
            await self.callback(_to_message(fetches))
        for inbox in inboxes:
            if inbox.full:
                self.pause(inbox)

    def _hold_next_answer(self, partitions: int) -> None:
        """Let the broker hold its next response in proportion to the partitions, so that it carries more records.

        Each partition with records causes one transaction. Pausing on our side would cost the delay twice: aiokafka
        fetches ahead, so the pause would only yield the few records that arrived first.
        """
        config = self.app.runtime
        hold_next_answer(
            self.kafka,
            least_bytes=_ENOUGH_BYTES if partitions else 1,
            most_ms=(config.pause(partitions) if partitions else config.fetch_max_wait) // MILLISECOND,
        )

    def pause(self, inbox: Inbox) -> None:
        """Stop fetching for this inbox until `resume`. aiokafka discards a response that is still in flight."""
        if not inbox.paused and inbox.tp in self.kafka.assignment():
            inbox.paused = True
            self.kafka.pause(inbox.tp)

    def resume(self, inbox: Inbox) -> None:
        """Resume fetching for this inbox."""
        if inbox.paused and inbox.tp in self.kafka.assignment():
            inbox.paused = False
            self.kafka.resume(inbox.tp)

    async def _explain_gap(self, error: OffsetOutOfRangeError) -> Failed:
        """Return an error that names the offsets that the log has, for a read position outside them."""
        positions: dict[TopicPartition, int] = error.args[0]
        first = await self.kafka.beginning_offsets(list(positions))
        last = await self.kafka.end_offsets(list(positions))
        parts = []
        for tp, position in positions.items():
            name = f"{tp.topic}-{tp.partition}"
            if position < first[tp]:
                parts.append(
                    f"{name}: the next offset to read is {position}, but the log begins at {first[tp]}; records "
                    f"{position} to {first[tp] - 1} were removed before they were read. To go on without them, set the "
                    f"group's offset of {name} to {first[tp]} with kafka-consumer-groups"
                )
            else:
                parts.append(
                    f"{name}: the next offset to read is {position}, but the log ends at {last[tp]}. Was the topic "
                    "made anew? Then use another app_id, or reset the group and delete its changelogs"
                )
        return Failed("; ".join(parts) + ".")

    # --- fetch responses ---------------------------------------------------------------------------------------------

    def _note_answer(self, answer: Answer) -> None:
        """Record the time of every fetch response, including empty ones.

        A response is only known to be true as of its request: it may have waited in the socket while this process was
        frozen. So an end counts from the time of the request. Records also count from the time of the request, as long
        as the same broker serves the other topic of their partition: only one fetch at a time is in flight to a broker,
        so a later request means a later response. With two brokers that does not hold. Records then count from the time
        of the response, and the other topic's end must have been requested after that.
        """
        if not answer.has_data:
            self._hold_next_answer(0)
        answered_at = self.app.clock()
        if answer.answered:
            self.last_answer = time.monotonic()
        for tp in answer.answered:
            alone = leader_of(self.kafka, self._other_topic(tp)) != answer.node_id
            self._answers[tp] = (answer.asked_at, answered_at if alone else answer.asked_at)
            inbox = self.app.inboxes.get(tp)
            if inbox is not None and tp in answer.empty and self.at_end(tp):
                inbox.note_end(answer.asked_at)
        self.app.on_empty_answer(answer.empty)

    def _other_topic(self, tp: TopicPartition) -> TopicPartition:
        other = next(name for name in self.app.runtime.inputs if name != tp.topic)
        return TopicPartition(other, tp.partition)

    def at_end(self, tp: TopicPartition) -> bool:
        """Return whether all stable records that the latest fetch response reported have been consumed."""
        at = fetch_position(self.kafka, tp)
        return (
            at is not None
            and at.stable_end is not None
            and at.next_offset is not None
            and at.next_offset >= at.stable_end
        )

    def stable_end(self, tp: TopicPartition) -> int | None:
        """Return the last stable offset in the latest fetch response."""
        at = fetch_position(self.kafka, tp)
        return None if at is None else at.stable_end

    def held_back(self, tp: TopicPartition) -> int | None:
        """Return how many offsets the latest fetch response reports after the last stable offset."""
        at = fetch_position(self.kafka, tp)
        return None if at is None or at.stable_end is None or at.end is None else max(0, at.end - at.stable_end)

    # --- assignment --------------------------------------------------------------------------------------------------

    def begin_generation(self, assigned: Iterable[TopicPartition]) -> int:
        """Pause everything that was just assigned until its processor sets the position to read from."""
        kafka = self.kafka
        self._answers.clear()
        for tp in assigned:
            kafka.pause(tp)
            # With any position set, aiokafka does not look for a committed offset and fail when there is none.
            kafka.seek(tp, 0)
        self.generation = generation_of(kafka)
        self.app.consumer_generation_id = self.generation
        return self.generation

    def read_from(self, inbox: Inbox) -> None:
        """Start fetching for this inbox at the offset that it expects."""
        self._answers.pop(inbox.tp, None)
        self.kafka.seek(inbox.tp, inbox.next_offset)
        self.kafka.resume(inbox.tp)

    async def is_member(self, generation: int) -> bool:
        """Return whether the group coordinator confirms that this worker is a member in this generation."""
        return await is_member(self.kafka, generation)

    # --- Faust's commit, disabled ------------------------------------------------------------------------------------

    @Service.task
    async def _commit_handler(self) -> None:
        """Never commit."""

    @Service.task
    async def _commit_livelock_detector(self) -> None:
        """Do nothing: there is no commit that could hang."""

    async def commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Do nothing: the processors commit offsets in their transactions."""
        return False

    async def force_commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Do nothing."""
        return False

    async def wait_empty(self) -> None:
        """Return at once: no message is ever unacknowledged."""

    async def perform_seek(self) -> None:
        """Do nothing. Faust would seek to the committed offsets after a rebalance; the processors set positions."""

    def track_message(self, message: Message) -> None:
        """Track nothing: without commits the tracked messages would accumulate for ever."""

    def ack(self, message: Message) -> bool:
        """Do nothing: messages are not tracked."""
        message.acked = True
        return True

    # --- other methods that Faust requires ---------------------------------------------------------------------------

    async def subscribe(self, topics: Iterable[str]) -> None:
        """Join the group with these topics."""
        self.kafka.subscribe(topics=set(topics), listener=_RebalanceListener(self))

    def assignment(self) -> set[TP]:
        """Return the current assignment."""
        return faust_consumer.ensure_TPset(self.kafka.assignment()) if self._kafka is not None else set()

    def highwater(self, tp: TP) -> int:
        """Return the last stable offset of a topic-partition."""
        return self.stable_end(TopicPartition(*tp)) or 0

    def topic_partitions(self, topic: str) -> int | None:
        """Return how many partitions a topic has."""
        known = self.kafka.partitions_for_topic(topic)
        return len(known) if known else None

    async def position(self, tp: TP) -> int | None:
        """Return the offset of the next record to be fetched."""
        return cast(int, await self.kafka.position(TopicPartition(*tp)))

    async def earliest_offsets(self, *partitions: TP) -> Mapping[TP, int]:
        """Return the first offsets of the log."""
        found = await self.kafka.beginning_offsets([TopicPartition(*tp) for tp in partitions])
        return {TP(*tp): offset for tp, offset in found.items()}

    async def highwaters(self, *partitions: TP) -> Mapping[TP, int]:
        """Return the last stable offsets."""
        found = await self.kafka.end_offsets([TopicPartition(*tp) for tp in partitions])
        return {TP(*tp): offset for tp, offset in found.items()}

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        """Seek. Lapse itself never calls this."""
        for tp, offset in partitions.items():
            await self._seek(tp, offset)

    async def _seek(self, partition: TP, offset: int) -> None:
        self.kafka.seek(TopicPartition(*partition), offset)

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Do nothing."""
        return {}

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        return False

    def _new_topicpartition(self, topic: str, partition: int) -> TP:
        return TP(topic, partition)

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:  # noqa: ASYNC109 Faust's name
        return {}

    def _to_message(self, tp: TP, record: Any) -> ConsumerMessage:
        return _to_message(record)

    def key_partition(self, topic: str, key: bytes | None, partition: int | None = None) -> int | None:
        """Return the given partition. Lapse sends nothing through Faust."""
        return partition

    async def create_topic(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: `lapse topics create` creates the topics."""


def _to_message(fetches: Sequence[Fetch]) -> ConsumerMessage:
    """Build one message of all records that a fetch brought for a topic, addressed to one of its partitions.

    One message per partition would also work, but each message costs several iterations of the event loop.
    """
    first = fetches[0]
    last_record = first.records[-1]
    return ConsumerMessage(
        first.tp.topic,
        first.tp.partition,
        last_record.offset,
        first.arrived / SECOND,
        last_record.timestamp_type,
        None,
        None,
        cast(Any, fetches),
        None,
        0,
        0,
        TP(first.tp.topic, first.tp.partition),
        generation_id=first.generation,
    )


class Transport(faust_driver.Transport):
    """Faust's Kafka transport with our consumer."""

    Consumer = Consumer
