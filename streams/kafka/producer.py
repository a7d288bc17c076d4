"""One transactional producer per partition. It writes a batch's records and input offsets in one transaction.

It implements Kafka's transaction protocol itself. Exactly once depends on three things that no Python client exposes:
which requests are retried, when an epoch may no longer be used, and how a predecessor's transaction ended.

**Two protocols.** Where the cluster's `transaction.version` is 2 (KIP-890), Produce and TxnOffsetCommit make their
partitions part of the transaction, and the EndTxn response contains the epoch of the next one: two round trips. Other
clusters need the partitions registered first, and an epoch serves many transactions: three round trips.

**Doubt.** A request without a response is sent again, which is safe within its transaction. The first copy may arrive
later, during a following transaction of the same epoch, and end it too early or set its offsets back. No broker can
detect that. So once a transaction with such a request has ended, its epoch is not used again: InitProducerId takes the
next epoch in place, and is refused when another producer has begun one since. A late copy then carries an old epoch.

**Lost markers.** The coordinator decides the end of a transaction and then has markers written to every partition. A
broker that restarts in between can mistake partitions whose leader it does not know yet for deleted ones, and skip
their markers (seen with Kafka 4.3.1: "while trying to send transaction markers"). The coordinator then considers the
transaction complete, but its records stay undecided on those partitions, and so does everything after them. The end of
any later transaction of that producer id decides them, with the outcome of that later transaction. So a starting
producer asks how the last transaction ended before it fences, and ends an empty transaction with the same outcome. The
coordinator keeps that information only until a new epoch begins, so the same is done after a doubtful epoch.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from typing import Any

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.errors import IncompatibleBrokerVersion, KafkaError
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import (
    AddOffsetsToTxnRequest,
    AddPartitionsToTxnRequest,
    EndTxnRequest,
    InitProducerIdRequest,
    TxnOffsetCommitRequest,
)

from streams.core.errors import CommitFailed, Failed, Unreachable
from streams.core.model import MILLISECOND, SECOND, Micros
from streams.kafka.answers import Verdict, name_of, verdict
from streams.kafka.batches import Batches, Epoch, size_alone
from streams.kafka.brokers import client_arguments
from streams.kafka.config import DEFAULT_MAX_MESSAGE_BYTES, KafkaConfig
from streams.kafka.exchange import Coordinator, Exchange, Patience, in_words
from streams.kafka.inside.requests import (
    ApiVersions,
    DescribeTransactions,
    EndTxnForNextEpoch,
    ImplicitOffsetCommit,
    ImplicitProduce,
    NextEpoch,
    finalized_features,
)
from streams.wire.writes import Write

logger = logging.getLogger(__name__)

_CLOSE_SECONDS = 0.5
_REQUESTS_IN_A_TRANSACTION = 3
"""A request without a response within this fraction of the transaction timeout is sent again."""

_TRANSACTIONS_IN_A_START = 4
"""A predecessor's last transaction may last its full timeout."""

_ALL_REPLICAS = -1
_ENDED = {"CompleteCommit": True, "CompleteAbort": False}
_METADATA = "lapse stream_time="


def offset_metadata(stream_time: Micros, act_from: Micros | None = None) -> str:
    """Return the metadata of a committed offset, from which a restart resumes the stream time and `act_from: now`.

    >>> stream_time_of(offset_metadata(1_700_000_000_000_000))
    1700000000000000
    >>> offset_metadata(1_700_000_000_000_000, act_from=1_600_000_000_000_000)
    'lapse stream_time=1700000000000000 act_from=1600000000000000'
    """
    return f"{_METADATA}{stream_time}" + ("" if act_from is None else f" act_from={act_from}")


def stream_time_of(metadata: str) -> Micros:
    """Read the stream time from `offset_metadata`; 0 when the offset was committed by other means.

    >>> stream_time_of("set by hand"), stream_time_of(offset_metadata(7, act_from=5))
    (0, 7)
    """
    return _number_in(metadata, "stream_time") or 0


def act_from_of(metadata: str) -> Micros | None:
    """Read `act_from` from `offset_metadata`; None when absent.

    >>> act_from_of(offset_metadata(7)), act_from_of(offset_metadata(7, act_from=5))
    (None, 5)
    """
    return _number_in(metadata, "act_from")


def _number_in(metadata: str, name: str) -> int | None:
    if not metadata.startswith(_METADATA):
        return None
    said = dict(word.partition("=")[::2] for word in metadata.split())
    digits = said.get(name, "")
    return int(digits) if digits.isdecimal() else None


class PartitionProducer:
    """Writes for one partition, from `start` until another producer starts with the same transactional id.

    After any error from `commit` the producer can't be used any more: `discard` it, and the tables with it.
    """

    def __init__(self, config: KafkaConfig, partition: int, max_message_bytes: Mapping[str, int] | None = None) -> None:
        """Prepare for one partition; nothing connects yet. `max_message_bytes` is each topic's limit."""
        self.partition = partition
        self.act_from: Micros | None = None
        """The resolved value of `act_from: now` for this partition; stored with every committed offset."""
        self.implicit = False
        """Whether partitions join the transaction implicitly and every transaction has its own epoch (KIP-890)."""
        self._config = config
        self._max_message_bytes = max_message_bytes or {}
        self._id = config.transactional_id(partition)
        self._client: AIOKafkaClient | None = None
        self._exchange: Exchange | None = None
        self._batches: Batches | None = None
        self._topics: set[str] = set()
        """The topics whose leaders are asked for."""
        self._usable = False
        self._last_committed: bool | None = None
        """How the previous transaction ended; None when that is unknown, or there was none."""

    # --- start -------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Fence the partition's previous producer, and wait until its last transaction has ended everywhere.

        Retries for `broker_patience`, but at most for the duration of a few transactions. Raises `Unreachable` when
        that time is over, `Failed` when the broker refuses, `Fenced` when another producer starts at the same time.
        After an error, call `discard`, or `start` again: only this object still knows how the previous transaction
        ended.
        """
        most = min(self._config.broker_patience, _TRANSACTIONS_IN_A_START * self._config.transaction_timeout)
        patience = Patience(f"Can't start the producer of partition {self.partition}", most / SECOND, Unreachable)
        await self.discard()
        self._client = client = await self._connected(patience)
        client.set_topics(self._config.written)
        self._topics = set(self._config.written)
        self._exchange = Exchange(client, self._id, self._config.group)
        self.implicit = await self._transaction_version(patience) >= 2
        self._begin(await self._first_epoch(patience))
        if self._last_committed is not None:
            await self._say_again(patience)
            if self._exchange.unanswered:
                await self._take_next_epoch(patience)
        self._usable = True

    async def _connected(self, patience: Patience) -> AIOKafkaClient:
        request_timeout = self._config.transaction_timeout // _REQUESTS_IN_A_TRANSACTION
        arguments = client_arguments(self._config) | {"request_timeout_ms": request_timeout // MILLISECOND}
        while True:
            client = AIOKafkaClient(**arguments)
            try:
                await client.bootstrap()
            except (KafkaError, OSError, TimeoutError) as error:
                await _close(client)
                await patience.again(f"no broker of {', '.join(self._config.brokers)} answers", error)
            except BaseException:
                await _close(client)
                raise
            else:
                return client

    async def _transaction_version(self, patience: Patience) -> int:
        """Return the cluster's finalized transaction protocol version; 0 when the broker does not report it."""
        try:
            request = ApiVersions("lapse", "1")
            answer = await self._ask(request, patience, transactional=False)
        except (IncompatibleBrokerVersion, CommitFailed):
            return 0
        return finalized_features(answer).get("transaction.version", 0)

    async def _first_epoch(self, patience: Patience) -> Epoch:
        """Begin an epoch in any state, after asking how the previous transaction ended.

        This ends a transaction that is still open: the coordinator asks for a retry, and then reports the outcome.
        """
        exchange = self._open()
        request = InitProducerIdRequest(self._id, self._config.transaction_timeout // MILLISECOND)
        while True:
            state = await self._state(patience)
            if state in _ENDED:
                self._last_committed = _ENDED[state]
            elif state not in {None, "Empty"}:
                self._last_committed = None
            answer = await exchange.ask_once(Coordinator.TRANSACTION, request, patience, transactional=False)
            if answer is None:
                continue
            if exchange.judge(answer.error_code, patience.what) is Verdict.DONE:
                return Epoch(answer.producer_id, answer.producer_epoch)
            exchange.forget(Coordinator.TRANSACTION, answer.error_code)
            await patience.again(name_of(answer.error_code))

    async def _state(self, patience: Patience) -> str | None:
        """Return the state of this id's latest transaction; None when the coordinator does not report or know it."""
        request = DescribeTransactions(self._id)
        while True:
            try:
                answer = await self._open().ask_once(Coordinator.TRANSACTION, request, patience, transactional=False)
            except IncompatibleBrokerVersion:
                return None
            if answer is None:
                continue
            ((code, _, state, *_),) = answer.transactions
            if verdict(code) in {Verdict.AGAIN, Verdict.MOVED}:
                self._open().forget(Coordinator.TRANSACTION, code)
                await patience.again(name_of(code))
                continue
            return None if code else str(state)

    # --- commit ------------------------------------------------------------------------------------------------------

    async def commit(
        self,
        writes: Mapping[str, Iterable[Write]],
        offsets: Mapping[str, int],
        stream_time: Micros,
        now: Micros,
        *,
        metadata: str | None = None,
    ) -> None:
        """Write records by topic, and the offsets of the inputs, in one transaction; return once it is committed.

        `writes` and `offsets` are keyed by broker topic names and go to this producer's partition. `now` becomes the
        records' timestamp. `metadata` replaces what is stored with the offsets.

        Raises `Fenced` when this epoch is over, `CommitFailed` when the brokers stay unavailable or
        the outcome is unknown, `Failed` when they refuse permanently.
        """
        what = f"Can't commit a batch of partition {self.partition}"
        if not self._usable:
            raise CommitFailed(f"{what}: its producer is not started, or has failed before.")
        self._usable = False
        patience = Patience(what, self._config.transaction_timeout / SECOND)
        try:
            if self._open().unanswered:
                await self._take_next_epoch(patience)
            made = self._batches_of(writes, now // MILLISECOND)
            self._refuse_too_large(made, what)
            metadata = offset_metadata(stream_time, self.act_from) if metadata is None else metadata
            read_to = [(topic, [(self.partition, offset, metadata)]) for topic, offset in offsets.items()]
            if not made and not read_to:
                self._usable = True
                return
            await self._know(made)
            if self.implicit:
                await _together(self._produce(made, what), self._commit_offsets(read_to, patience))
            else:
                await _together(
                    self._add_partitions_and_produce(made, what), self._add_and_commit_offsets(read_to, what)
                )
            await self._end(patience, commit=True)
        except IncompatibleBrokerVersion as error:
            # The broker supports other versions than at the start: the cluster is being upgraded or downgraded.
            raise CommitFailed(f"{what}: {error}") from error
        self._usable = True

    async def _know(self, topics: Iterable[str]) -> None:
        """Ask for the leaders of topics that few transactions write to, before the first one does."""
        for topic in topics:
            if topic not in self._topics:
                assert self._client is not None  # noqa: S101 set by `start`
                await self._client.add_topic(topic)
                self._topics.add(topic)

    def _batches_of(self, writes: Mapping[str, Iterable[Write]], timestamp: int) -> dict[str, list[bytes]]:
        assert self._batches is not None  # noqa: S101 set by `start`
        made = {topic: self._batches.of(topic, records, timestamp) for topic, records in writes.items()}
        return {topic: batches for topic, batches in made.items() if batches}

    def fits(self, topic: str, record: Write) -> bool:
        """Whether a record, uncompressed and alone in its batch, is within a topic's size limit."""
        return size_alone(record) <= self._limit_of(topic)

    def _limit_of(self, topic: str) -> int:
        return self._max_message_bytes.get(topic, DEFAULT_MAX_MESSAGE_BYTES)

    def _batch_bytes(self, topic: str) -> int:
        return min(self._config.producer_batch_bytes, self._limit_of(topic))

    def _refuse_too_large(self, batches: Mapping[str, Sequence[bytes]], what: str) -> None:
        """Raise `Failed` for a batch that the broker would refuse. Such a batch holds a single record."""
        for topic, several in batches.items():
            limit, size = self._limit_of(topic), max(map(len, several))
            if size > limit:
                raise Failed(
                    f"{what}: a record for {topic} has {size} bytes, and the topic takes max.message.bytes={limit}. "
                    "Raise it with kafka-configs, then start again."
                )

    async def _add_partitions_and_produce(self, batches: Mapping[str, Sequence[bytes]], what: str) -> None:
        if batches:
            await self._add_partitions(batches, self._patience(what))
            await self._produce(batches, what)

    async def _add_and_commit_offsets(self, offsets: list[Any], what: str) -> None:
        if offsets:
            await self._add_offsets(self._patience(what))
            await self._commit_offsets(offsets, self._patience(what))

    def _patience(self, what: str) -> Patience:
        return Patience(what, self._config.transaction_timeout / SECOND)

    async def _add_partitions(self, topics: Iterable[str], patience: Patience) -> None:
        request = AddPartitionsToTxnRequest(self._id, *self._epoch, [(topic, [self.partition]) for topic in topics])
        await self._ask(request, patience, code_of=_worst_code)

    async def _add_offsets(self, patience: Patience) -> None:
        request = AddOffsetsToTxnRequest(self._id, *self._epoch, self._config.group)
        await self._ask(request, patience)

    async def _commit_offsets(self, offsets: list[Any], patience: Patience) -> None:
        if offsets:
            kind = ImplicitOffsetCommit if self.implicit else TxnOffsetCommitRequest
            request = kind(self._id, self._config.group, *self._epoch, offsets)
            await self._open().ask(Coordinator.GROUP, request, _worst_code, patience)

    async def _produce(self, batches: Mapping[str, Sequence[bytes]], what: str) -> None:
        """Write each topic's batches in order, one per topic and request: a request may hold only one."""
        for number in range(max(map(len, batches.values()), default=0)):
            row = {topic: several[number] for topic, several in batches.items() if number < len(several)}
            await self._produce_row(row, self._patience(what))

    async def _produce_row(self, row: dict[str, bytes], patience: Patience) -> None:
        while row:
            by_leader: dict[int, dict[str, bytes]] = {}
            why = ""
            for topic, batch in row.items():
                leader = self._leader(topic)
                if leader is None:
                    why = f"{topic}-{self.partition} has no leader"
                else:
                    by_leader.setdefault(leader, {})[topic] = batch
            answers = await asyncio.gather(*(self._produce_to(leader, some) for leader, some in by_leader.items()))
            moved = bool(why)
            for topic, code in (found for answer in answers for found in answer.items()):
                if isinstance(code, str):
                    why, moved = code, True
                elif self._open().judge(code, f"{patience.what}: {topic}") is Verdict.DONE:
                    del row[topic]
                else:
                    why, moved = f"{topic}-{self.partition}: {name_of(code)}", moved or verdict(code) is Verdict.MOVED
            if row:
                await patience.again(why)
                if moved:
                    await self._open().refresh()

    async def _produce_to(self, leader: int, batches: Mapping[str, bytes]) -> dict[str, int | str]:
        """Return an error code for every topic, or the reason when there was no response."""
        exchange = self._open()
        timeout = self._config.transaction_timeout // MILLISECOND
        request: Any
        if self.implicit:
            request = ImplicitProduce(self._id, timeout, self.partition, batches)
        else:
            topics = [(topic, [(self.partition, batch)]) for topic, batch in batches.items()]
            request = ProduceRequest(self._id, _ALL_REPLICAS, timeout, topics)
        try:
            answer = await exchange.send(leader, request, ConnectionGroup.DEFAULT)
        except (KafkaError, OSError, TimeoutError) as error:
            if isinstance(error, IncompatibleBrokerVersion):
                raise
            return dict.fromkeys(batches, in_words(error))
        return {topic: partitions[0][1] for topic, partitions, *_ in answer.topics}

    def _leader(self, topic: str) -> int | None:
        assert self._client is not None  # noqa: S101 set by `start`
        leader = self._client.cluster.leader_for_partition(TopicPartition(topic, self.partition))
        return None if leader is None or leader < 0 else int(leader)

    async def _end(self, patience: Patience, *, commit: bool) -> None:
        """End the transaction. A retry is safe: a coordinator that has already ended it this way reports success."""
        if self.implicit:
            answer = await self._ask(EndTxnForNextEpoch(self._id, *self._epoch, commit), patience)
            self._last_committed = commit
            self._begin(Epoch(answer.producer_id, answer.producer_epoch))
        else:
            await self._ask(EndTxnRequest(self._id, *self._epoch, commit), patience)
            self._last_committed = commit

    # --- epochs ------------------------------------------------------------------------------------------------------

    def _begin(self, epoch: Epoch) -> None:
        """Use this epoch from now on. No request sent before carries it."""
        self._batches = Batches(epoch, self._config.compression, self._batch_bytes)
        self._open().unanswered = False

    @property
    def _epoch(self) -> Epoch:
        assert self._batches is not None  # noqa: S101 set by `start`
        return self._batches.epoch

    async def _take_next_epoch(self, patience: Patience) -> None:
        """Leave an epoch that a late request may still carry, and repeat the outcome of its last transaction."""
        exchange = self._open()
        while exchange.unanswered:
            logger.info("partition %d: a request was not answered; taking the next epoch", self.partition)
            request = NextEpoch(self._id, self._config.transaction_timeout // MILLISECOND, *self._epoch)
            try:
                answer = await self._ask(request, patience, transactional=False)
            except IncompatibleBrokerVersion as error:
                # The first version would take the epoch from any current owner, even a rightful one.
                raise CommitFailed(f"{patience.what}: the broker can't give the next epoch in place") from error
            self._begin(Epoch(answer.producer_id, answer.producer_epoch))
            if self._last_committed is not None:
                await self._say_again(patience)

    async def _say_again(self, patience: Patience) -> None:
        """End an empty transaction over all partitions written here with the outcome of the last transaction."""
        committed = bool(self._last_committed)
        await self._add_partitions(self._config.written, patience)
        await self._add_offsets(patience)
        await self._ask(EndTxnRequest(self._id, *self._epoch, committed), patience)

    # --- the rest ----------------------------------------------------------------------------------------------------

    async def _ask(
        self, request: Any, patience: Patience, code_of: Any = lambda answer: answer.error_code, **more: Any
    ) -> Any:
        return await self._open().ask(Coordinator.TRANSACTION, request, code_of, patience, **more)

    def _open(self) -> Exchange:
        if self._exchange is None:
            raise CommitFailed(f"The producer of partition {self.partition} is closed.")
        return self._exchange

    async def close(self) -> None:
        """Close the connections; no transaction may be open."""
        await self.discard()

    async def discard(self) -> None:
        """Close without finishing anything. The successor or the timeout ends an open transaction."""
        self._usable = False
        client, self._client, self._exchange = self._client, None, None
        if client is not None:
            await _close(client)


def _worst_code(answer: Any) -> int:
    """Return the most urgent error code of a response that has one for each topic-partition."""
    order = list(Verdict)
    codes = [code for _, partitions, *_ in answer.errors for _, code, *_ in partitions]
    return max(codes, key=lambda code: order.index(verdict(code)), default=0)


async def _together(*works: Coroutine[Any, Any, None]) -> None:
    """Run these concurrently. The first error cancels the others and is raised."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        # Retrieve the other errors here, or asyncio would log each of them.
        await asyncio.gather(*tasks, return_exceptions=True)


async def _close(client: AIOKafkaClient) -> None:
    with contextlib.suppress(KafkaError, OSError, TimeoutError):
        async with asyncio.timeout(_CLOSE_SECONDS):
            await client.close()
