"""The log of one topic-partition as Kafka keeps it: transactions, markers, last stable offset, sequence numbers."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from aiokafka.record.memory_records import MemoryRecords

from tests.simulator.errors import Code

_KEPT_BATCHES = 5
"""Kafka recognizes a repeated batch among so many of its producer's last ones."""


@dataclass(slots=True)
class Entry:
    """One offset. `committed` is None while its transaction is open, and True without a transaction."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    producer_id: int = -1
    control: bool = False
    committed: bool | None = True


@dataclass(slots=True)
class ProducerState:
    """What a leader knows of a producer id."""

    epoch: int
    last_sequence: int = -1
    batches: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=_KEPT_BATCHES))


class Parsed(NamedTuple):
    """A record batch as a producer sent it."""

    producer_id: int
    epoch: int
    sequence: int
    records: list[tuple[int, bytes | None, bytes | None, tuple[tuple[str, bytes], ...]]]


def parse(data: bytes) -> Parsed:
    """Read one record batch."""
    batch = MemoryRecords(data).next_batch()
    assert batch is not None
    records = [(r.timestamp, r.key, r.value, tuple(r.headers)) for r in batch]
    return Parsed(batch.producer_id, batch.producer_epoch, batch.base_sequence, records)


class Log:
    """One topic-partition."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.entries: list[Entry] = []
        self.open: dict[int, int] = {}
        """First offset of each open transaction, by producer id."""
        self.producers: dict[int, ProducerState] = {}
        self._verifying: dict[int, tuple[int, int]] = {}

    @property
    def end(self) -> int:
        """The high watermark: with one replica, the end."""
        return len(self.entries)

    @property
    def stable_end(self) -> int:
        """The last stable offset."""
        return min(self.open.values(), default=self.end)

    def put(self, timestamp: int, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]]) -> None:
        """Append one record without a transaction."""
        self.entries.append(Entry(self.end, timestamp, key, value, tuple(headers)))

    def verify(self, batch: Parsed) -> None:
        """Note that the coordinator is asked about a batch. What is appended next may not begin after it."""
        epoch, lowest = self._verifying.get(batch.producer_id, (batch.epoch, batch.sequence))
        if batch.epoch > epoch:
            epoch, lowest = batch.epoch, batch.sequence
        elif batch.epoch == epoch:
            lowest = min(lowest, batch.sequence)
        self._verifying[batch.producer_id] = epoch, lowest

    def append(self, batch: Parsed, *, from_zero: bool = True) -> Code:
        """Append a batch of a transaction that the coordinator knows.

        `from_zero` says whether sequences of a producer that is new here must begin with 0.
        """
        code = self.check(batch, from_zero=from_zero)
        if code is not Code.NONE or self.is_repeated(batch):
            return code
        self._verifying.pop(batch.producer_id, None)
        state = self._state(batch.producer_id, batch.epoch)
        self.open.setdefault(batch.producer_id, self.end)
        for timestamp, key, value, headers in batch.records:
            entry = Entry(self.end, timestamp, key, value, headers, batch.producer_id, committed=None)
            self.entries.append(entry)
        last = batch.sequence + len(batch.records) - 1
        state.last_sequence = last
        state.batches.append((batch.sequence, last))
        return Code.NONE

    def check(self, batch: Parsed, *, from_zero: bool = True) -> Code:
        """Judge epoch and sequence of a batch."""
        state = self.producers.get(batch.producer_id)
        _, lowest = self._verifying.get(batch.producer_id, (-1, batch.sequence))
        if batch.sequence > lowest:
            return Code.OUT_OF_ORDER_SEQUENCE_NUMBER
        if state is None:
            expected = 0 if from_zero else batch.sequence
        elif batch.epoch < state.epoch:
            return Code.INVALID_PRODUCER_EPOCH
        else:
            expected = 0 if batch.epoch > state.epoch else state.last_sequence + 1
        if batch.sequence == expected or self.is_repeated(batch):
            return Code.NONE
        return Code.OUT_OF_ORDER_SEQUENCE_NUMBER

    def is_repeated(self, batch: Parsed) -> bool:
        """Whether this batch was written before: it is then acknowledged and not written again."""
        state = self.producers.get(batch.producer_id)
        last = batch.sequence + len(batch.records) - 1
        return state is not None and state.epoch == batch.epoch and (batch.sequence, last) in state.batches

    def _state(self, producer_id: int, epoch: int) -> ProducerState:
        state = self.producers.get(producer_id)
        if state is None or state.epoch < epoch:
            state = self.producers[producer_id] = ProducerState(epoch)
        return state

    def mark(self, producer_id: int, epoch: int, *, commit: bool) -> None:
        """Write the marker that ends a transaction here."""
        first = self.open.pop(producer_id, None)
        if first is not None:
            for entry in self.entries[first:]:
                if entry.producer_id == producer_id and entry.committed is None:
                    entry.committed = commit
        self._state(producer_id, epoch)
        self.entries.append(Entry(self.end, 0, None, None, (), producer_id, control=True))

    def read(self, offset: int, most: int, *, committed: bool = True) -> tuple[list[Entry], int]:
        """Return at most so many records from an offset on, and the offset at which to go on."""
        found: list[Entry] = []
        end = self.stable_end if committed else self.end
        while offset < end and len(found) < most:
            entry = self.entries[offset]
            if not entry.control and (entry.committed or not committed):
                found.append(entry)
            offset += 1
        return found, offset

    def committed_records(self) -> list[Entry]:
        """Return what a reader of committed records sees."""
        return self.read(0, self.end)[0]
