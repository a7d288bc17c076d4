"""A model of Kafka 4's brokers: logs, transaction coordinator and committed offsets, request by request.

It behaves as Kafka's `TransactionCoordinator`, `ProducerStateManager` and group coordinator do for what Lapse asks of
them, in either transaction protocol. `tests/kafka/test_model_of_the_brokers.py` puts the same requests to it and to a
real Apache Kafka.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from aiokafka import TopicPartition
from aiokafka.protocol.types import CompactArray, CompactString, Int16, TaggedFields

from tests.simulator.errors import Code
from tests.simulator.log import Log, Parsed, parse

Schedule = Callable[[float, Callable[[], None]], None]
"""Calls something after so many seconds."""

OFFSETS = TopicPartition("__consumer_offsets", 0)
"""Stands in a transaction for the group's offsets."""

_FEATURES = CompactArray(("name", CompactString("utf-8")), ("max", Int16), ("min", Int16), ("tags", TaggedFields))
_ONGOING, _EMPTY = "Ongoing", "Empty"
_PREPARE = {True: "PrepareCommit", False: "PrepareAbort"}
_COMPLETE = {True: "CompleteCommit", False: "CompleteAbort"}
_EPOCH_BY_TRANSACTION = 2
"""The transaction.version from which on every transaction has an epoch of its own."""

_FIRST_IMPLICIT_PRODUCE = 12
_FIRST_IMPLICIT_COMMIT = 5
_FIRST_IMPLICIT_END = 5


@dataclass(slots=True)
class Transaction:
    """What the coordinator knows of a transactional id."""

    transactional_id: str
    producer_id: int
    epoch: int
    timeout: float
    last_epoch: int = -1
    state: str = _EMPTY
    partitions: set[TopicPartition] = field(default_factory=set)
    number: int = 0
    """Counts its transactions."""

    @property
    def is_ending(self) -> bool:
        return self.state.startswith("Prepare")


@dataclass(frozen=True, slots=True)
class Committed:
    """A committed offset with its metadata."""

    offset: int
    metadata: str


class Broker:
    """All brokers of a cluster."""

    def __init__(
        self,
        topics: Iterable[str],
        partitions: int,
        *,
        transaction_version: int,
        schedule: Schedule,
        marker_delay: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """`marker_delay` gives the seconds until a marker is written after the end was decided."""
        self.logs = {TopicPartition(name, p): Log(f"{name}-{p}") for name in topics for p in range(partitions)}
        self.transactions: dict[str, Transaction] = {}
        self.offsets: dict[TopicPartition, Committed] = {}
        self.set_back: list[str] = []
        """Every time that a committed offset became lower."""
        self.transaction_version = transaction_version
        self._schedule = schedule
        self._marker_delay = marker_delay
        self._pending_offsets: dict[int, dict[TopicPartition, Committed]] = {}
        self._offsets_log = Log("__consumer_offsets-0")
        self._next_producer_id = 1_000

    @property
    def versions(self) -> dict[int, tuple[int, int]]:
        """The versions that the model understands, by API key."""
        return {0: (3, 12), 18: (0, 3), 22: (0, 3), 24: (0, 0), 25: (0, 0), 26: (0, 5), 28: (0, 5), 65: (0, 0)}

    def handle(self, request: Any) -> Any:
        """Answer a request struct."""
        return _HANDLERS[request.API_KEY](self, request)

    # --- features, state ---------------------------------------------------------------------------------------------

    def _api_versions(self, request: Any) -> Any:
        level = self.transaction_version
        return SimpleNamespace(error_code=0, tags={2: _FEATURES.encode([("transaction.version", level, level, {})])})

    def _describe(self, request: Any) -> Any:
        (transactional_id,) = request.transactional_ids
        found = self.transactions.get(transactional_id)
        if found is None:
            return SimpleNamespace(transactions=[(int(Code.TRANSACTIONAL_ID_NOT_FOUND), transactional_id, "")])
        return SimpleNamespace(transactions=[(0, transactional_id, found.state)])

    # --- InitProducerId ----------------------------------------------------------------------------------------------

    def _init_producer_id(self, request: Any) -> Any:
        given = (getattr(request, "producer_id", -1), getattr(request, "producer_epoch", -1))
        code = self._begin_epoch(request.transactional_id, request.transaction_timeout_ms / 1_000, *given)
        found = self.transactions[request.transactional_id]
        pair = (found.producer_id, found.epoch) if code is Code.NONE else (-1, -1)
        return SimpleNamespace(error_code=int(code), producer_id=pair[0], producer_epoch=pair[1])

    def _begin_epoch(self, transactional_id: str, timeout: float, producer_id: int, epoch: int) -> Code:
        found = self.transactions.get(transactional_id)
        if found is None:
            self._next_producer_id += 1
            self.transactions[transactional_id] = Transaction(transactional_id, self._next_producer_id, 0, timeout)
            return Code.NONE
        if producer_id not in (-1, found.producer_id):
            return Code.INVALID_PRODUCER_EPOCH  # PRODUCER_FENCED, for clients of these versions
        if found.is_ending:
            return Code.CONCURRENT_TRANSACTIONS
        if found.state == _ONGOING:
            self._fence_and_abort(found)
            return Code.CONCURRENT_TRANSACTIONS
        if epoch in (-1, found.epoch):
            found.last_epoch = -1 if epoch == -1 else found.epoch
            found.epoch += 1
        elif epoch != found.last_epoch:
            return Code.INVALID_PRODUCER_EPOCH
        # Otherwise whoever got this epoch asks once more: the same answer.
        found.timeout, found.state = timeout, _EMPTY
        return Code.NONE

    def _fence_and_abort(self, found: Transaction) -> None:
        found.last_epoch = found.epoch if self.transaction_version >= _EPOCH_BY_TRANSACTION else -1
        found.epoch += 1
        self._prepare(found, commit=False)

    # --- the transaction's partitions --------------------------------------------------------------------------------

    def _add(self, transactional_id: str, producer_id: int, epoch: int, tps: Iterable[TopicPartition]) -> Code:
        found = self.transactions.get(transactional_id)
        if found is None or found.producer_id != producer_id:
            return Code.INVALID_PRODUCER_ID_MAPPING
        if found.epoch != epoch:
            return Code.INVALID_PRODUCER_EPOCH  # PRODUCER_FENCED, for clients of these versions
        if found.is_ending:
            return Code.CONCURRENT_TRANSACTIONS
        if found.state != _ONGOING:
            found.state = _ONGOING
            found.partitions = set()
            found.number += 1
            self._schedule(found.timeout, lambda number=found.number: self._time_out(found, number))
        found.partitions.update(tps)
        return Code.NONE

    def _time_out(self, found: Transaction, number: int) -> None:
        if found.state == _ONGOING and found.number == number:
            self._fence_and_abort(found)

    def _verify(self, transactional_id: str, producer_id: int, epoch: int, tp: TopicPartition) -> Code:
        """What a leader asks the coordinator before the first batch of a transaction, in the classic protocol."""
        found = self.transactions.get(transactional_id)
        if found is None or found.producer_id != producer_id:
            return Code.INVALID_PRODUCER_ID_MAPPING
        if found.epoch != epoch:
            return Code.INVALID_PRODUCER_EPOCH
        if found.is_ending:
            return Code.NOT_ENOUGH_REPLICAS  # CONCURRENT_TRANSACTIONS, for clients of these versions
        if found.state != _ONGOING or tp not in found.partitions:
            return Code.INVALID_TXN_STATE
        return Code.NONE

    def _add_partitions(self, request: Any) -> Any:
        tps = [TopicPartition(topic, p) for topic, partitions in request.topics for p in partitions]
        code = self._add(request.transactional_id, request.producer_id, request.producer_epoch, tps)
        return SimpleNamespace(errors=[(tp.topic, [(tp.partition, int(code))]) for tp in tps])

    def _add_offsets(self, request: Any) -> Any:
        code = self._add(request.transactional_id, request.producer_id, request.producer_epoch, [OFFSETS])
        return SimpleNamespace(error_code=int(code))

    # --- Produce, TxnOffsetCommit ------------------------------------------------------------------------------------

    def _produce(self, request: Any) -> Any:
        implicit = request.API_VERSION >= _FIRST_IMPLICIT_PRODUCE
        answers = []
        for topic, partitions, *_ in request.topics:
            for number, data, *_tags in partitions:
                tp, batch = TopicPartition(topic, number), parse(data)
                code = self._append(request.transactional_id, tp, batch, implicit=implicit)
                answers.append((topic, [(number, int(code))]))
        return SimpleNamespace(topics=answers)

    def _append(self, transactional_id: str, tp: TopicPartition, batch: Parsed, *, implicit: bool) -> Code:
        log = self.logs[tp]
        if batch.producer_id not in log.open:
            log.verify(batch)
        code = self._join(transactional_id, log, tp, batch.producer_id, batch.epoch, implicit=implicit)
        return log.append(batch, from_zero=implicit) if code is Code.NONE else code

    def _join(
        self, transactional_id: str, log: Log, tp: TopicPartition, producer_id: int, epoch: int, *, implicit: bool
    ) -> Code:
        """Make sure that a transaction has this partition before something is written to it."""
        state = log.producers.get(producer_id)
        if state is not None and epoch < state.epoch:
            return Code.INVALID_PRODUCER_EPOCH
        if producer_id in log.open and state is not None and epoch == state.epoch:
            return Code.NONE
        return (self._add_one if implicit else self._verify)(transactional_id, producer_id, epoch, tp)

    def _add_one(self, transactional_id: str, producer_id: int, epoch: int, tp: TopicPartition) -> Code:
        return self._add(transactional_id, producer_id, epoch, [tp])

    def _txn_offset_commit(self, request: Any) -> Any:
        implicit = request.API_VERSION >= _FIRST_IMPLICIT_COMMIT
        producer_id, epoch, log = request.producer_id, request.producer_epoch, self._offsets_log
        code = self._join(request.transactional_id, log, OFFSETS, producer_id, epoch, implicit=implicit)
        if code is Code.NONE:
            offsets = {
                TopicPartition(topic, number): Committed(offset, more[-1] if not implicit else more[-2])
                for topic, several, *_ in request.topics
                for number, offset, *more in several
            }
            self._pending_offsets.setdefault(producer_id, {}).update(offsets)
            log.append(Parsed(producer_id, epoch, self._next_sequence(producer_id, epoch), [(0, None, None, ())]))
        answers = [(topic, [(each[0], int(code)) for each in several]) for topic, several, *_ in request.topics]
        return SimpleNamespace(errors=answers)

    def _next_sequence(self, producer_id: int, epoch: int) -> int:
        state = self._offsets_log.producers.get(producer_id)
        return 0 if state is None or state.epoch < epoch else state.last_sequence + 1

    # --- EndTxn ------------------------------------------------------------------------------------------------------

    def _end_txn(self, request: Any) -> Any:
        next_epoch = request.API_VERSION >= _FIRST_IMPLICIT_END
        transactional_id, commit = request.transactional_id, request.transaction_result
        code = self._end(
            transactional_id, request.producer_id, request.producer_epoch, commit=commit, next_epoch=next_epoch
        )
        found = self.transactions.get(transactional_id)
        pair = (found.producer_id, found.epoch) if found is not None and code is Code.NONE else (-1, -1)
        return SimpleNamespace(error_code=int(code), producer_id=pair[0], producer_epoch=pair[1])

    def _end(self, transactional_id: str, producer_id: int, epoch: int, *, commit: bool, next_epoch: bool) -> Code:
        found = self.transactions.get(transactional_id)
        if found is None or found.producer_id != producer_id:
            return Code.INVALID_PRODUCER_ID_MAPPING
        repeated = next_epoch and epoch == found.last_epoch and epoch + 1 == found.epoch
        if epoch != found.epoch and not repeated:
            return Code.PRODUCER_FENCED if next_epoch else Code.INVALID_PRODUCER_EPOCH
        if found.state in (_ONGOING, _EMPTY) and repeated:
            return Code.PRODUCER_FENCED
        if found.is_ending:
            return Code.CONCURRENT_TRANSACTIONS if found.state == _PREPARE[commit] else Code.INVALID_TXN_STATE
        if found.state == _COMPLETE[commit] and (repeated or not next_epoch):
            return Code.NONE
        if found.state != _ONGOING:
            if repeated or commit or not next_epoch:
                return Code.INVALID_TXN_STATE
            found.partitions = set()  # a transaction that never began may be aborted
        if next_epoch:
            found.last_epoch, found.epoch = found.epoch, found.epoch + 1
        self._prepare(found, commit=commit)
        return Code.NONE

    def _prepare(self, found: Transaction, *, commit: bool) -> None:
        """Decide the end, and have a marker written to every partition."""
        found.state = _PREPARE[commit] if found.partitions else _COMPLETE[commit]
        left = sorted(found.partitions)
        producer_id, epoch, number = found.producer_id, found.epoch, found.number
        waiting = set(left)

        def mark(tp: TopicPartition) -> None:
            if tp == OFFSETS:
                self._offsets_log.mark(producer_id, epoch, commit=commit)
                self._settle_offsets(self._pending_offsets.pop(producer_id, {}), commit=commit)
            else:
                self.logs[tp].mark(producer_id, epoch, commit=commit)
            waiting.discard(tp)
            if not waiting and found.number == number:
                found.state = _COMPLETE[commit]

        for tp in left:
            self._schedule(self._marker_delay(), lambda tp=tp: mark(tp))

    def _settle_offsets(self, offsets: dict[TopicPartition, Committed], *, commit: bool) -> None:
        if not commit:
            return
        for tp, committed in offsets.items():
            before = self.offsets.get(tp)
            if before is not None and committed.offset < before.offset:
                self.set_back.append(f"{tp.topic}-{tp.partition}: from {before.offset} to {committed.offset}")
            self.offsets[tp] = committed


_HANDLERS: dict[int, Callable[[Broker, Any], Any]] = {
    0: Broker._produce,
    18: Broker._api_versions,
    22: Broker._init_producer_id,
    24: Broker._add_partitions,
    25: Broker._add_offsets,
    26: Broker._end_txn,
    28: Broker._txn_offset_commit,
    65: Broker._describe,
}
