"""A worker without Kafka: the real partition, codec and encoders over an in-memory log with transactions.

For tests of triggers and of Lapse itself, in the manner of Kafka Streams' `TopologyTestDriver`: pipe records in, read
back what a `read_committed` consumer would see. A crash can be set before any write; the driver then restarts the
worker from what was committed, as a new process would be.

    driver = Driver(rules)
    driver.pipe("session-states", "5158", {"ticket_id": "5158", …}, timestamp_ms=1_772_359_500_000)
    driver.commands()
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from streams.core.cycle import Rules
from streams.core.engine import SESSIONS, TICKETS, Engine, EngineSettings
from streams.core.model import MILLISECOND, Micros, Topic
from streams.core.partition import Partition, Step
from streams.wire import encode
from streams.wire.capture import CapturedRecord
from streams.wire.decode import decode
from streams.wire.rows import MsgpackRows

COMMANDS, RECORDS, DEAD_LETTERS = "action-commands", "session-transitions", "dead-letters"


class Crash(Exception):
    """Raised inside the driver at a crash point; `Driver.run` restarts the worker."""


class Written(NamedTuple):
    """One record as a reader of an output topic gets it."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]

    def json(self) -> Any:
        """Return the value as JSON."""
        return json.loads(self.value or b"null")


class Transaction:
    """The writes of one step, invisible until `Broker.commit`."""

    def __init__(self) -> None:
        """Begin with nothing written."""
        self.outputs: list[tuple[str, Written]] = []
        self.rows: list[tuple[str, str, bytes | None]] = []
        self.offsets: dict[Topic, int] = {}
        self.stream_time: Micros = 0


class Broker:
    """What survives a crash: the input logs, and everything that committed transactions wrote."""

    def __init__(self) -> None:
        """Begin with empty topics."""
        self.inputs: dict[Topic, list[CapturedRecord]] = {topic: [] for topic in Topic}
        self.outputs: dict[str, list[Written]] = {COMMANDS: [], RECORDS: [], DEAD_LETTERS: []}
        self.changelogs: dict[str, list[tuple[bytes, bytes | None]]] = {TICKETS: [], SESSIONS: []}
        self.offsets: dict[Topic, int] = {}
        self.stream_time: Micros = 0
        self.transactions = 0

    def commit(self, transaction: Transaction) -> None:
        """Make all writes of a transaction visible at once."""
        for topic, written in transaction.outputs:
            self.outputs[topic].append(written)
        for table, key, value in transaction.rows:
            self.changelogs[table].append((key.encode(), value))
        self.offsets.update(transaction.offsets)
        self.stream_time = transaction.stream_time
        self.transactions += 1


class Driver:
    """One partition's worker, driven by hand."""

    def __init__(
        self,
        rules: Rules,
        settings: EngineSettings | None = None,
        *,
        partition: int = 0,
        app_id: str = "lapse",
        now_ms: int | None = None,
        dead_letter_limit: float | None = None,
        max_records: int = 10_000,
    ) -> None:
        """Start a worker; `now_ms` is its wall clock, by default late enough for every record piped in."""
        self.broker = Broker()
        self.restarts = 0
        self._engine = Engine(rules, settings)
        self._number = partition
        self._app_id = app_id
        self._now = 2**62 if now_ms is None else now_ms * MILLISECOND
        self._limit = dead_letter_limit
        self._max_records = max_records
        self._writes_left: int | None = None
        self._writes = 0
        self._partition = self._open()

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
        """Append one record to an input; it is taken by the next `run`, in merged order with all the others."""
        log = self.broker.inputs[Topic(topic)]
        at = offset if offset is not None else (log[-1].offset + 1 if log else 0)
        raw_key = key.encode() if isinstance(key, str) else key
        raw_value = msgspec.json.encode(value) if isinstance(value, Mapping) else value
        record = CapturedRecord(at, timestamp_ms, raw_key, raw_value, tuple(headers))
        log.append(record)
        self._partition.add(Topic(topic), [record], 0)

    def advance(self, to_ms: int) -> None:
        """Take what was piped in, then let stream time reach `to_ms`."""
        self.run()
        self._restarting(lambda: self._partition.drain_until(to_ms * MILLISECOND))

    def run(self) -> None:
        """Take everything that was piped in, step by step, each step one transaction."""
        self._restarting(lambda: self._partition.step(self._now, {topic: 0 for topic in Topic}, self._max_records))

    def crash_after(self, writes: int) -> None:
        """Crash once, when this many more writes were done (0: before the next one)."""
        self._writes_left = writes

    def crash(self) -> None:
        """Kill the worker between steps and start it again."""
        self.restarts += 1
        self._partition = self._open()

    # --- reading -----------------------------------------------------------------------------------------------------

    def commands(self) -> list[Any]:
        """Return the committed commands as JSON."""
        return [written.json() for written in self.read(COMMANDS)]

    def records(self) -> list[Any]:
        """Return the committed transition and evaluation records as JSON, in the order in which they arose."""
        return [written.json() for written in self.read(RECORDS)]

    def dead_letters(self) -> list[Written]:
        """Return the committed dead letters."""
        return self.read(DEAD_LETTERS)

    def read(self, topic: str) -> list[Written]:
        """Take everything that was piped in, then return what an output topic holds."""
        self.run()
        return list(self.broker.outputs[topic])

    @property
    def writes(self) -> int:
        """Writes done so far, those of aborted transactions included: the crash points there are."""
        return self._writes

    @property
    def pending_rounds(self) -> int:
        """Rounds that wait or are parked."""
        self.run()
        return self._partition.pending_rounds

    # --- the worker --------------------------------------------------------------------------------------------------

    def _open(self) -> Partition:
        broker = self.broker
        partition = Partition(
            self._engine,
            number=self._number,
            partition_count=None,
            decode=decode,
            rows=MsgpackRows(),
            dead_letter_limit=self._limit,
            clock_grace=0,
            stream_time=broker.stream_time,
        )
        for table, changelog in broker.changelogs.items():
            partition.restore(table, changelog)
        partition.start()
        for topic, log in broker.inputs.items():
            rest = [record for record in log if record.offset >= broker.offsets.get(topic, 0)]
            if rest:
                partition.add(topic, rest, 0)
        return partition

    def _restarting(self, next_step: Any) -> None:
        while True:
            try:
                step = next_step()
                if step is None:
                    return
                self._transact(step)
            except Crash:
                self.crash()

    def _transact(self, step: Step) -> None:
        transaction = Transaction()
        for write in self._writes_of(step):
            self._crash_point()
            write(transaction)
        self._crash_point()
        self.broker.commit(transaction)
        self._crash_point()
        self._partition.commit(step)

    def _writes_of(self, step: Step) -> Iterator[Any]:
        for command in step.commands:
            yield _output(COMMANDS, encode.command(command, self._app_id))
        for record in step.records:
            yield _output(RECORDS, encode.record(record))
        for letter in step.dead_letters:
            yield _output(DEAD_LETTERS, encode.dead_letter(letter, self._number))
        for table, rows in ((TICKETS, step.ticket_rows), (SESSIONS, step.session_rows)):
            for key, row in rows.items():
                yield _row(table, key, row)
        yield lambda transaction: transaction.offsets.update(step.next_offsets)
        yield lambda transaction: setattr(transaction, "stream_time", step.stream_time)

    def _crash_point(self) -> None:
        self._writes += 1
        if self._writes_left is not None:
            if self._writes_left == 0:
                self._writes_left = None
                raise Crash
            self._writes_left -= 1


def _output(topic: str, record: encode.Encoded) -> Any:
    written = Written(record.key, record.value, tuple(record.headers))
    return lambda transaction: transaction.outputs.append((topic, written))


def _row(table: str, key: str, row: bytes | None) -> Any:
    return lambda transaction: transaction.rows.append((table, key, row))
