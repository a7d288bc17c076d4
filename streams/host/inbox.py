"""Where the records of one topic-partition wait between the fetch and the step."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from aiokafka import ConsumerRecord, TopicPartition

from streams.core.model import Micros


class Fetch(NamedTuple):
    """What one fetch brought for one topic-partition. A Faust event has those of a topic as its value."""

    tp: TopicPartition
    records: Sequence[ConsumerRecord]
    """In offset order, never empty."""
    asked: Micros
    """The clock when the broker was asked: what `to_the_end` says held then, at the earliest."""
    arrived: Micros
    """The clock at which these records count as there; an end of the other topic from then on lets them go."""
    generation: int
    """The consumer group's generation at that moment."""
    to_the_end: bool
    """Whether the answer showed nothing beyond these records that may be read."""


class Inbox:
    """Takes fetches in offset order, without gap or repeat; what does not fit is dropped, since it will be read again.

    The consumer counts a fetch in with `expect` when it hands it to Faust, the agent brings it with `put`. Between the
    two it is under way, and an end that lies behind it is not reached yet.
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
        """Begin at `next_offset` in `generation`; `wake` is called when something came."""
        self.tp = tp
        self.next_offset = next_offset
        """Offset after the last record received."""
        self.generation = generation
        self.limit = limit
        """Records that may wait before no more are fetched."""
        self.queued = 0
        """Records that wait here."""
        self.held = 0
        """Records that were taken out and still wait, held back for the other topic."""
        self.paused = False
        """Whether the consumer was told to fetch no more of this topic-partition for now."""
        self.at_end_since: Micros | None = None
        """The clock when the latest answer was asked for up to whose end everything has come; None before the first."""
        self._fetches: deque[tuple[Sequence[ConsumerRecord], Micros]] = deque()
        self._handed = 0
        self._received = 0
        self._ends: deque[tuple[int, Micros]] = deque()
        self._wake = wake

    @property
    def complete(self) -> bool:
        """Whether everything that the consumer handed over has come."""
        return self._handed == self._received

    @property
    def first(self) -> ConsumerRecord | None:
        """The record that waits longest, None when none does."""
        return self._fetches[0][0][0] if self._fetches else None

    @property
    def full(self) -> bool:
        """Whether enough waits that no more should be fetched."""
        return self.queued + self.held >= self.limit

    @property
    def eased(self) -> bool:
        """Whether so little waits that fetching should go on."""
        return 2 * (self.queued + self.held) < self.limit

    def expect(self) -> None:
        """Note that a fetch of this generation is on its way through Faust."""
        self._handed += 1

    def note_end(self, asked: Micros) -> None:
        """Note that an answer, asked for then, showed nothing beyond what was handed over so far, under way or not."""
        if self.complete:
            self.at_end_since = asked
        else:
            self._ends.append((self._handed, asked))

    def put(self, fetch: Fetch) -> None:
        """Take a fetch; drop it when it is of another generation, and drop records that were received before."""
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
        """Return all fetches that wait, oldest first, with the clock at their arrival, and forget them."""
        taken, self._fetches = self._fetches, deque()
        self.queued = 0
        return taken

    def enter(self, generation: int, limit: int) -> None:
        """Go on in another generation: what is still under way belongs to the old one and will be read again."""
        self.generation = generation
        self.limit = limit
        self._handed = self._received = 0
        self._ends.clear()
        self.at_end_since = None
        self.paused = False
