"""The way of records through one partition, whoever carries out what comes of it.

Fed records are taken in slices, slices fill a batch, the batch is handed over, carried out, and settled.

- *step*: one record through the engine
- *slice*: steps taken without giving the event loop a turn
- *batch*: the slices of one transaction
- *commit*: the end of the transaction that carries a batch out
- *settle*: the rows of a committed batch become the rows of the tables

The worker carries a batch out in a Kafka transaction, the test driver in a log in memory, a backtest in files. All of
them run this pipeline, so what is proven of one holds for the others. Slices run ahead of the commit: while one batch
is being carried out, the next is being filled, and sees the rows of the first. When a batch can't be carried out, the
pipeline is thrown away with its partition; there is nothing to undo.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from streams.core.batch import Batch
from streams.core.inputs import RawRecord
from streams.core.model import Micros
from streams.core.names import Topic
from streams.core.partition import Partition

SLICE_RECORDS = 500
"""Records of a slice at most: some milliseconds."""

BATCH_RECORDS = 10_000
"""A batch that has so many records is full; the slice that fills it may take it past that."""

BATCH_BYTES = 16 << 20
"""A batch whose rows and dead letters have so many bytes is full: they alone can be large."""


class Pipeline:
    """The records of one partition on their way into batches."""

    def __init__(
        self, partition: Partition, *, slice_records: int = SLICE_RECORDS, batch_records: int = BATCH_RECORDS
    ) -> None:
        """Take records of `partition`, which is restored and started."""
        self.partition = partition
        self._slice_records = slice_records
        self._batch_records = batch_records
        self._filling = Batch()
        self._sent: Batch | None = None

    def feed(self, topic: Topic, records: Sequence[RawRecord], arrived: Micros) -> None:
        """Queue one fetch, in offset order; `arrived` is the clock when the fetch was answered."""
        self.partition.add(topic, records, arrived)

    def slice(self, now: Micros, ends: Mapping[Topic, Micros | None]) -> bool:
        """Take the next slice into the batch that is being filled; return whether that was all that may be taken now.

        `now` is the clock; for `ends` see `Partition.take`. Raises `DeadLetterLimitExceeded`.
        """
        return self.partition.take(self._filling, now, ends, self._slice_records)

    def advance(self, instant: Micros) -> None:
        """Let stream time reach `instant` with no record, and run what is due by then."""
        self.partition.advance(self._filling, instant)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to hand over: no record taken, and no timer did anything."""
        batch = self._filling
        return not batch.taken and not batch.records and not self.partition.tables.changed

    @property
    def is_full(self) -> bool:
        """Whether what was taken is enough for one transaction."""
        batch = self._filling
        return (
            batch.taken >= self._batch_records
            or self.partition.tables.changed_bytes + batch.dead_letter_bytes >= BATCH_BYTES
        )

    @property
    def under_way(self) -> list[Batch]:
        """The batches that are not settled, oldest first: the one handed over, if any, and the one being filled."""
        return [self._filling] if self._sent is None else [self._sent, self._filling]

    def hand_over(self) -> Batch | None:
        """Return the batch for somebody to carry out; None when it is empty. The one before must be settled."""
        if self.is_empty:
            return None
        batch, self._filling = self._filling, Batch()
        batch.ticket_rows, batch.session_rows = self.partition.tables.hand_over()
        self._sent = batch
        return batch

    def settle(self) -> None:
        """The batch that was handed over is committed: its rows become the tables'."""
        self.partition.tables.settle()
        self._sent = None
