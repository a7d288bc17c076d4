"""The flow of records through one partition, independent of how the results are written.

Records are fed in and taken in slices; slices fill a batch; the batch is handed over, written, committed and settled.

- *step*: one record through the engine
- *slice*: steps taken without yielding to the event loop
- *batch*: the slices of one transaction
- *commit*: the end of the transaction that writes a batch
- *settle*: the rows of a committed batch become the rows of the tables

The worker writes a batch in a Kafka transaction, the test driver to a log in memory, a backtest to files. All of them
run this pipeline, so what is tested for one of them holds for the others. Slices run ahead of the commit: while one
batch is being committed, the next is being filled and sees the rows of the first. When a batch cannot be committed, the
pipeline is discarded with its partition; there is nothing to undo.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from streams.core.batch import Batch
from streams.core.inputs import RawRecord
from streams.core.model import Micros
from streams.core.names import Topic
from streams.core.partition import Partition
from streams.core.revisions import Activation, Rulebook

SLICE_RECORDS = 500
"""Maximum number of records and due timers of a slice, which take a few milliseconds."""

BATCH_RECORDS = 10_000
"""A batch with this many records and due timers is full; the slice that fills it may exceed the number."""

BATCH_BYTES = 16 << 20
"""A batch whose rows and dead letters have this many bytes is full; only they can be large."""


class Pipeline:
    """Forms batches from the records of one partition."""

    def __init__(
        self, partition: Partition, *, slice_records: int = SLICE_RECORDS, batch_records: int = BATCH_RECORDS
    ) -> None:
        """Process the records of `partition`, which must be restored and started."""
        self.partition = partition
        self._slice_records = slice_records
        self._batch_records = batch_records
        self._filling = Batch()
        self._sent: Batch | None = None

    def feed(self, topic: Topic, records: Sequence[RawRecord], arrived: Micros) -> None:
        """Queue one fetch, in offset order; `arrived` is the clock time at which the fetch was answered."""
        self.partition.add(topic, records, arrived)

    def slice(self, now: Micros, ends: Mapping[Topic, Micros | None]) -> bool:
        """Take the next slice into the batch that is being filled; return whether nothing more can be taken now.

        `now` is the clock time; for `ends` see `Partition.take`. Raises `DeadLetterLimitExceeded`.
        """
        return self.partition.take(self._filling, now, ends, self._slice_records)

    def advance(self, instant: Micros) -> None:
        """Advance stream time to `instant` without a record, and run the timers due by then."""
        self.partition.advance(self._filling, instant)

    def replay(self, book: Rulebook, activation: Activation) -> None:
        """Take an entry of the rules topic up where a worker did; see `Partition.replay`."""
        self.partition.replay(book, activation, self._filling)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to hand over: no record was taken, and no timer had an effect."""
        batch = self._filling
        return not batch.taken and not batch.records and not self.partition.tables.changed

    @property
    def is_full(self) -> bool:
        """Whether the batch that is being filled is large enough for one transaction."""
        batch = self._filling
        return (
            batch.taken + batch.timers >= self._batch_records
            or self.partition.tables.changed_bytes + batch.dead_letter_bytes >= BATCH_BYTES
        )

    @property
    def under_way(self) -> list[Batch]:
        """The unsettled batches, oldest first: the one handed over, if any, and the one being filled."""
        return [self._filling] if self._sent is None else [self._sent, self._filling]

    def hand_over(self) -> Batch | None:
        """Return the batch for the caller to write; None when it is empty. The previous batch must be settled."""
        if self.is_empty:
            return None
        batch, self._filling = self._filling, Batch()
        batch.ticket_rows, batch.session_rows, batch.own_rows = self.partition.tables.hand_over()
        self._sent = batch
        return batch

    def settle(self) -> None:
        """Record that the batch handed over is committed: its rows become the rows of the tables."""
        self.partition.tables.settle()
        self._sent = None
