"""The queue that holds the records of one topic-partition between fetch and step."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from aiokafka import ConsumerRecord, TopicPartition

from streams.core.model import Micros


class Fetch(NamedTuple):
    """The records that one fetch brought for one topic-partition. The value of a Faust event is a topic's fetches."""

    tp: TopicPartition
    records: Sequence[ConsumerRecord]
    """In offset order, never empty."""
    asked: Micros
    """The time of the request: the earliest time at which `to_the_end` is known to be true."""
    arrived: Micros
    """The time from which these records count as present. An end of the other topic at or after it releases them."""
    generation: int
    """The consumer group's generation at the time of the fetch."""
    to_the_end: bool
    """Whether the response showed no further readable records after these."""


class Inbox:
    """Accepts fetches in offset order, without gaps or repeats. A fetch that does not fit is dropped and read again.

    The consumer announces a fetch with `expect` when it passes it to Faust, and the agent delivers it with `put`.
    Between the two calls the fetch is in transit, and an end that comes after it is not yet reached.
    """

    __slots__ = (
        "_ends",
        "_fetches",
        "_handed",
        "_received",
        "_wake",
        "at_end_since",
        "generation",
        "held",
        "limit",
        "next_offset",
        "paused",
        "queued",
        "tp",
    )

    def __init__(
        self, tp: TopicPartition, next_offset: int, generation: int, limit: int, wake: Callable[[], None]
    ) -> None:
        """Start at `next_offset` in `generation`. `wake` is called when something arrives."""
        self.tp = tp
        self.next_offset = next_offset
        """Offset after the last record received."""
        self.generation = generation
        self.limit = limit
        """Number of waiting records at which fetching pauses."""
        self.queued = 0
        """Number of records in this inbox."""
        self.held = 0
        """Number of records that were taken out but are still held back to wait for the other topic."""
        self.paused = False
        """Whether the consumer has paused this topic-partition."""
        self.at_end_since: Micros | None = None
        """The request time of the latest response whose end has been reached here; None before the first."""
        self._fetches: deque[tuple[Sequence[ConsumerRecord], Micros]] = deque()
        self._handed = 0
        self._received = 0
        self._ends: deque[tuple[int, Micros]] = deque()
        self._wake = wake

    @property
    def complete(self) -> bool:
        """Whether everything that the consumer handed over has arrived."""
        return self._handed == self._received

    @property
    def first(self) -> ConsumerRecord | None:
        """The oldest waiting record, None when the inbox is empty."""
        return self._fetches[0][0][0] if self._fetches else None

    @property
    def full(self) -> bool:
        """Whether so many records wait that fetching should pause."""
        return self.queued + self.held >= self.limit

    @property
    def eased(self) -> bool:
        """Whether so few records wait that fetching should resume."""
        return 2 * (self.queued + self.held) < self.limit

    def expect(self) -> None:
        """Record that a fetch of this generation is in transit through Faust."""
        self._handed += 1

    def note_end(self, asked: Micros) -> None:
        """Record that a response, requested at `asked`, showed nothing beyond what has been handed over so far."""
        if self.complete:
            self.at_end_since = asked
        else:
            self._ends.append((self._handed, asked))

    def put(self, fetch: Fetch) -> None:
        """Add a fetch. A fetch of another generation, and records that were already received, are dropped."""
        if fetch.generation != self.generation:
            return
        self._received += 1
        if fetch.to_the_end:
            self.at_end_since = fetch.asked
        while self._ends and self._ends[0][0] <= self._received:
            self.at_end_since = self._ends.popleft()[1]
        records = fetch.records
        if records[0].offset < self.next_offset:
            records = [record for record in records if record.offset >= self.next_offset]
            if not records:
                return
        self.next_offset = records[-1].offset + 1
        self.queued += len(records)
        self._fetches.append((records, fetch.arrived))
        self._wake()

    def take(self) -> deque[tuple[Sequence[ConsumerRecord], Micros]]:
        """Remove and return all waiting fetches, oldest first, each with its time of arrival."""
        taken, self._fetches = self._fetches, deque()
        self.queued = 0
        return taken

    def enter(self, generation: int, limit: int) -> None:
        """Switch to another generation. Fetches in transit belong to the old one and will be read again."""
        self.generation = generation
        self.limit = limit
        self._handed = self._received = 0
        self._ends.clear()
        self.at_end_since = None
        self.paused = False
