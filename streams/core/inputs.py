"""The inputs of a partition: queued fetches, the decoded head, and the limit on the share of dead letters."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, TypeAlias

import msgspec

from streams.core.errors import LapseError
from streams.core.model import Micros, Rejection, SessionUpdate, TicketUpdate
from streams.core.names import Result, Topic
from streams.core.plain import PlainTicket

DEAD_LETTER_WINDOW = 1000
DEAD_LETTER_JUDGED_FROM = 100
"""The share of bad records is computed over the latest `DEAD_LETTER_WINDOW` records of an input, and is not checked
before `DEAD_LETTER_JUDGED_FROM` records have been taken."""

Update: TypeAlias = TicketUpdate | PlainTicket | SessionUpdate


class RawRecord(Protocol):
    """A Kafka record as aiokafka's `ConsumerRecord` has it; `timestamp` in milliseconds."""

    @property
    def offset(self) -> int:
        """Offset in its topic-partition."""

    @property
    def timestamp(self) -> int:
        """Record timestamp, milliseconds since the epoch."""

    @property
    def key(self) -> bytes | None:
        """Key as received."""

    @property
    def value(self) -> bytes | None:
        """Value as received; None is a tombstone."""

    @property
    def headers(self) -> Iterable[tuple[str, bytes]]:
        """Headers as received."""


Decode: TypeAlias = Callable[[Topic, int, RawRecord, Micros], Update | Rejection]
"""Maps (topic, partition number, record, wall clock) to an update, or to the reason for rejecting the record."""


class DeadLetter(msgspec.Struct, frozen=True, gc=False):
    """A record that could not be used, and why."""

    topic: Topic
    record: RawRecord
    rejection: Rejection


class DeadLetterLimitExceeded(LapseError):
    """More than the allowed share of a topic-partition's recent records is bad; probably the topic is wrong."""

    def __init__(self, partition: int, last: DeadLetter, *, bad: int, judged: int, limit: float) -> None:
        """Describe the topic-partition, the number of bad records, and the last bad record."""
        super().__init__(
            f"{bad} of the last {judged} records of {last.topic}-{partition} are bad, more than dead_letter_limit "
            f"allows ({limit:.0%}); the last one, at offset {last.record.offset}, is {last.rejection.code}: "
            f"{last.rejection.message}. Nothing of this step was written. Is this the right topic? If it is, raise "
            "dead_letter_limit until the bad records are read past."
        )
        self.topic = last.topic
        self.partition = partition


class Input:
    """One input of the partition, read in offset order."""

    __slots__ = (
        "_bad_ordinals",
        "_chunks",
        "_last_bad",
        "_limit",
        "_partition",
        "applied",
        "arrived",
        "counts",
        "head",
        "index",
        "queued",
        "records",
        "taken",
        "taken_last",
        "topic",
    )

    def __init__(self, topic: Topic, partition: int, dead_letter_limit: float | None) -> None:
        """Start with an empty queue; `dead_letter_limit` is a share (0.5), None for no limit."""
        self.topic = topic
        self.counts: dict[str, int] = {}
        """Records of this slice by result, except applied ones."""
        self.applied = 0
        self.records: Sequence[RawRecord] = ()
        """The fetch that is being processed; `index` is the position in it."""
        self.index = 0
        self.arrived: Micros = 0
        """The clock time at which that fetch was answered."""
        self.head: Update | None = None
        """The next record, decoded; None when it has not been decoded yet."""
        self.taken_last: RawRecord | None = None
        self.queued = 0
        self.taken = 0
        self._partition = partition
        self._limit = dead_letter_limit
        self._chunks: deque[tuple[Micros, Sequence[RawRecord]]] = deque()
        self._bad_ordinals: deque[int] = deque()
        self._last_bad: DeadLetter | None = None

    def add(self, records: Sequence[RawRecord], arrived: Micros) -> None:
        """Queue one fetch."""
        self._chunks.append((arrived, records))
        self.queued += len(records)

    def raw(self) -> RawRecord | None:
        """Return the next record as received, None when nothing is queued."""
        while self.index >= len(self.records):
            if not self._chunks:
                return None
            self.arrived, self.records = self._chunks.popleft()
            self.index = 0
        return self.records[self.index]

    def take(self) -> RawRecord:
        """Take the next record and return it."""
        self.taken_last = record = self.records[self.index]
        self.index += 1
        self.queued -= 1
        self.taken += 1
        self.head = None
        return record

    @property
    def next_offset(self) -> int | None:
        """Offset of the first record not yet taken; None before any record is taken."""
        return None if self.taken_last is None else self.taken_last.offset + 1

    def reject(self, rejection: Rejection) -> DeadLetter:
        """Take the next record as a dead letter. Raises `DeadLetterLimitExceeded`."""
        self._last_bad = letter = DeadLetter(self.topic, self.take(), rejection)
        self.counts[Result.DEAD_LETTER] = self.counts.get(Result.DEAD_LETTER, 0) + 1
        if self._limit is not None:
            self._bad_ordinals.append(self.taken)
            self.judge_bad_share()
        return letter

    def judge_bad_share(self) -> None:
        """Raise `DeadLetterLimitExceeded` when the share of bad records among the latest ones is over the limit."""
        letter, ordinals = self._last_bad, self._bad_ordinals
        if letter is None or self._limit is None or self.taken < DEAD_LETTER_JUDGED_FROM:
            return
        while ordinals and ordinals[0] <= self.taken - DEAD_LETTER_WINDOW:
            ordinals.popleft()
        bad, judged = len(ordinals), min(self.taken, DEAD_LETTER_WINDOW)
        if bad > self._limit * judged:
            raise DeadLetterLimitExceeded(self._partition, letter, bad=bad, judged=judged, limit=self._limit)
