"""A worker without Kafka: the real pipeline, codec and encoders over an in-memory log with transactions.

For tests of triggers and of Lapse itself, similar to Kafka Streams' `TopologyTestDriver`: pipe records in, read back
what a `read_committed` consumer would see. As in a worker, slices run ahead of the transaction in progress, and rows
settle when it has committed. A crash can be set before any write; the driver then restarts the worker from the
committed data, as a new process would start.

    driver = Driver(rules)
    driver.pipe("session-states", "5158", {"ticket_id": "5158", …}, timestamp_ms=1_772_359_500_000)
    driver.commands()
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

from streams.core.batch import Batch
from streams.core.cycle import Rules
from streams.core.engine import Engine, EngineSettings
from streams.core.model import MILLISECOND, Fact, Micros
from streams.core.names import Output, Table, Topic
from streams.core.partition import Partition
from streams.core.pipeline import BATCH_RECORDS, SLICE_RECORDS, Pipeline
from streams.core.revisions import Entry, Rulebook
from streams.core.shadow import Candidate
from streams.wire.capture import CapturedRecord
from streams.wire.decode import decode
from streams.wire.rows import MsgpackRows
from streams.wire.writes import Write, writes


class Crash(Exception):
    """Raised inside the driver at a crash point; `Driver.run` restarts the worker."""


class Transaction:
    """The writes of one batch, invisible until `Broker.commit`."""

    def __init__(self) -> None:
        """Start with no writes."""
        self.outputs: list[tuple[Output, Write]] = []
        self.rows: list[tuple[Table, Write]] = []
        self.offsets: dict[Topic, int] = {}
        self.stream_time: Micros = 0


_WriteOut: TypeAlias = Callable[[Transaction], None]


class Broker:
    """The data that survives a crash: the input logs and all writes of committed transactions."""

    def __init__(self) -> None:
        """Start with empty topics."""
        self.inputs: dict[Topic, list[CapturedRecord]] = {topic: [] for topic in Topic}
        self.outputs: dict[str, list[Write]] = {output: [] for output in Output}
        self.changelogs: dict[str, list[tuple[bytes, bytes | None]]] = {table: [] for table in Table}
        self.offsets: dict[Topic, int] = {}
        self.stream_time: Micros = 0
        self.transactions = 0

    def commit(self, transaction: Transaction) -> None:
        """Make all writes of a transaction visible at once."""
        for output, write in transaction.outputs:
            self.outputs[output].append(write)
        for table, write in transaction.rows:
            self.changelogs[table].append((write.key or b"", write.value))
        self.offsets.update(transaction.offsets)
        self.stream_time = transaction.stream_time
        self.transactions += 1


class NotReadyError(Exception):
    """The partition can't use its rules; the text says why."""


class Driver:
    """The worker of one partition, driven step by step by a test."""

    def __init__(
        self,
        rules: Rules,
        settings: EngineSettings | None = None,
        *,
        partition: int = 0,
        app_id: str = "lapse",
        now_ms: int | None = None,
        dead_letter_limit: float | None = None,
        slice_records: int = SLICE_RECORDS,
        batch_records: int = BATCH_RECORDS,
        shadow: Candidate | None = None,
        partitions: int = 1,
        book: Rulebook | None = None,
    ) -> None:
        """Start a worker. `now_ms` is its wall clock, by default late enough for every record piped in.

        `limit`s are divided by `partitions`. `shadow` is evaluated beside the rules, from the first record. With
        `book`, its revisions are the rules.
        `slice_records` and `batch_records` are the maximum sizes of a slice and a batch, for tests of these limits.
        """
        self.broker = Broker()
        self.restarts = 0
        self._facts: list[Fact] = []
        self._engine = Engine(rules, settings)
        self.partition = partition
        """Its number."""
        self._app_id = app_id
        self._now = 2**62 if now_ms is None else now_ms * MILLISECOND
        self._limit = dead_letter_limit
        self._slice_records = slice_records
        self._batch_records = batch_records
        self._shadow = shadow
        self._partitions = partitions
        self._book = book
        self._writes_left: int | None = None
        self._writes = 0
        self._pipeline = self._open()

    # --- feeding -----------------------------------------------------------------------------------------------------

    def pipe(
        self,
        topic: str,
        key: str | bytes | None,
        value: Mapping[str, Any] | bytes | None,
        timestamp_ms: int,
        *,
        offset: int | None = None,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> None:
        """Append one record to an input. The next `run` processes it, in merged order with all others."""
        log = self.broker.inputs[Topic(topic)]
        at = offset if offset is not None else (log[-1].offset + 1 if log else 0)
        raw_key = key.encode() if isinstance(key, str) else key
        raw_value = msgspec.json.encode(value) if isinstance(value, Mapping) else value
        record = CapturedRecord(at, timestamp_ms, raw_key, raw_value, tuple(headers))
        log.append(record)
        self._pipeline.feed(Topic(topic), [record], 0)

    def advance(self, to_ms: int) -> None:
        """Process the records piped in, then advance stream time to `to_ms`."""

        def take() -> None:
            self._fill()  # after a crash, the worker looks at the rules topic first
            self._pipeline.advance(to_ms * MILLISECOND)

        self.run()
        self._restarting(take)

    def run(self) -> None:
        """Process and commit all records piped in, one transaction per batch."""
        self._restarting(self._fill)

    def follow_with(self, shadow: Candidate | None) -> None:
        """Process the records piped in, then evaluate another candidate beside the rules; None ends it."""
        self.run()
        self._shadow = shadow
        self._pipeline.partition.follow_with(shadow)
        self.run()

    def learn(self, entry: Entry) -> None:
        """Process the records piped in; then the worker reads one more entry of the rules topic. Needs a `book`."""
        if self._book is None:
            raise ValueError("the rules of this driver come from a file: give it a book")
        self.run()
        self._book.add(entry)
        self.run()

    def crash_after(self, writes: int) -> None:
        """Crash once, after this many more writes (0: before the next write)."""
        self._writes_left = writes

    def crash(self) -> None:
        """Kill the worker between transactions and restart it."""
        self.restarts += 1
        self._pipeline = self._open()

    # --- reading -----------------------------------------------------------------------------------------------------

    def commands(self) -> list[Any]:
        """Return the committed commands as JSON."""
        return [json.loads(write.value or b"null") for write in self.read(Output.COMMANDS)]

    def records(self) -> list[Any]:
        """Return the committed transition, evaluation and shadow records as JSON, in the order in which they arose."""
        return [json.loads(write.value or b"null") for write in self.read(Output.TRANSITIONS)]

    def dead_letters(self) -> list[Write]:
        """Return the committed dead letters."""
        return self.read(Output.DEAD_LETTERS)

    def read(self, topic: str) -> list[Write]:
        """Process all records piped in, then return the contents of an output topic."""
        self.run()
        return list(self.broker.outputs[topic])

    @property
    def facts(self) -> Counter[tuple[str, ...]]:
        """Return how often each fact was reported, by its name and labels; a crash loses those of its commit."""
        return Counter((fact.name, *fact.labels) for fact in self._facts)

    @property
    def writes(self) -> int:
        """Number of writes so far, including those of aborted transactions: the number of possible crash points."""
        return self._writes

    @property
    def pending_rounds(self) -> int:
        """Number of rounds that are waiting or parked."""
        self.run()
        return self._pipeline.partition.pending_rounds

    # --- the worker --------------------------------------------------------------------------------------------------

    def _open(self) -> Pipeline:
        broker = self.broker
        partition = Partition(
            self._engine,
            number=self.partition,
            partition_count=None,
            decode=decode,
            rows=MsgpackRows(),
            dead_letter_limit=self._limit,
            clock_grace=0,
            stream_time=broker.stream_time,
            partitions=self._partitions,
        )
        for table, changelog in broker.changelogs.items():
            partition.restore(table, changelog)
        if self._shadow is not None:
            partition.follow_with(self._shadow)
        partition.start()
        if self._book is not None:
            why = partition.adopt(self._book, self._now, broker.offsets)
            if why is not None:
                raise NotReadyError(why)
        pipeline = Pipeline(partition, slice_records=self._slice_records, batch_records=self._batch_records)
        for topic, log in broker.inputs.items():
            rest = [record for record in log if record.offset >= broker.offsets.get(topic, 0)]
            if rest:
                pipeline.feed(topic, rest, 0)
        return pipeline

    def _restarting(self, take: Callable[[], None]) -> None:
        """Process and commit until nothing is left to commit; after a crash, continue with a new worker."""
        while True:
            take()
            batch = self._pipeline.hand_over()
            if batch is None:
                return
            try:
                self._fill()  # as a worker does: the next batch sees the rows of this one before they are committed
                self._carry_out(batch)
            except Crash:
                self.crash()

    def _fill(self) -> None:
        ends: dict[Topic, Micros | None] = dict.fromkeys(Topic, 0)
        while not self._pipeline.is_full and not self._pipeline.slice(self._now, ends):
            pass

    def _carry_out(self, batch: Batch) -> None:
        transaction = Transaction()
        for write in self._writes_of(batch):
            self._crash_point()
            write(transaction)
        self._crash_point()
        self.broker.commit(transaction)
        self._crash_point()
        self._pipeline.settle()
        self._facts.extend(batch.facts)

    def _writes_of(self, batch: Batch) -> Iterator[_WriteOut]:
        for name, records in writes(batch, app_id=self._app_id, partition=self.partition).items():
            for record in records:
                yield _row(name, record) if isinstance(name, Table) else _output(name, record)
        yield lambda transaction: transaction.offsets.update(batch.next_offsets)
        yield lambda transaction: setattr(transaction, "stream_time", batch.stream_time)

    def _crash_point(self) -> None:
        self._writes += 1
        if self._writes_left is not None:
            if self._writes_left == 0:
                self._writes_left = None
                raise Crash
            self._writes_left -= 1


def _output(output: Output, record: Write) -> _WriteOut:
    return lambda transaction: transaction.outputs.append((output, record))


def _row(table: Table, record: Write) -> _WriteOut:
    return lambda transaction: transaction.rows.append((table, record))
