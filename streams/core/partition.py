"""One partition of the two inputs: merged order, stream time, timers, tables; a batch in, a `Step` out.

This is the loop around `Engine.step` that live, backtest and test driver share. It holds state but touches nothing
outside: the caller brings records, says which topics are at their end and what the clock shows, and writes what a
`Step` says.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol, TypeAlias

import msgspec

from streams.core.engine import SESSIONS, TICKETS, Engine
from streams.core.model import (
    END_OF_STATE,
    MILLISECOND,
    Command,
    Due,
    Evaluation,
    Fact,
    Micros,
    Outcome,
    Rejection,
    SessionRow,
    SessionUpdate,
    TicketRow,
    TicketUpdate,
    Topic,
    Transition,
)
from streams.core.partitioning import partition_of

ROW_LIMIT = 256 * 1024
"""Bytes an encoded row may have (SPEC section 2); an event that would make it larger is a dead letter."""

SMALL_RECORD = 16 * 1024
LARGE_ROW = ROW_LIMIT - 4 * SMALL_RECORD
"""A row grows by at most four times the bytes of a record (custom fields get their prefix), so a small record cannot
take one past its limit that is not large."""

KEYS_KEPT = 1 << 16
"""Tickets of which a partition remembers whether their keys are where the default partitioner puts them."""

STEP_BYTES = 16 * 1024 * 1024
"""Bytes of input values a step takes at most, so that a transaction of large records stays bounded."""

DEAD_LETTER_WINDOW = 1000
DEAD_LETTER_JUDGED_FROM = 100

Update: TypeAlias = TicketUpdate | SessionUpdate


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
"""(topic, partition number, record, wall clock) to an update or the reason why there is none."""


class RowCodec(Protocol):
    """Rows to bytes and back. Both directions are exact: what is decoded equals what was encoded."""

    def encode_ticket(self, row: TicketRow) -> bytes:
        """Encode a ticket row."""

    def decode_ticket(self, data: bytes) -> TicketRow:
        """Decode a ticket row."""

    def encode_session(self, row: SessionRow) -> bytes:
        """Encode a session row."""

    def decode_session(self, data: bytes) -> SessionRow:
        """Decode a session row."""


class DeadLetter(msgspec.Struct, frozen=True, gc=False):
    """A record that could not be used, and why."""

    topic: Topic
    record: RawRecord
    rejection: Rejection


class Step(msgspec.Struct):
    """Everything that one transaction writes, in the order in which it arose."""

    next_offsets: dict[Topic, int]
    """Offsets to commit, per input: of the first record not yet taken. Only inputs that have been read."""
    stream_time: Micros = 0
    """Stream time after the step; travels as metadata of the committed offsets so that a restart resumes it."""
    taken: int = 0
    """Input records that this step takes, whatever became of them."""
    records: list[Transition | Evaluation] = msgspec.field(default_factory=list)
    commands: list[Command] = msgspec.field(default_factory=list)
    dead_letters: list[DeadLetter] = msgspec.field(default_factory=list)
    ticket_rows: dict[str, bytes | None] = msgspec.field(default_factory=dict)
    """Changed rows by ticket id, encoded; None deletes (a tombstone in the changelog)."""
    session_rows: dict[str, bytes | None] = msgspec.field(default_factory=dict)
    counts: Counter[tuple[Topic, str]] = msgspec.field(default_factory=Counter)
    """Records by topic and result: applied, stale, duplicate, dead_letter."""
    misrouted: Counter[Topic] = msgspec.field(default_factory=Counter)
    facts: list[Fact] = msgspec.field(default_factory=list)
    pending_rounds: int = 0
    """Rounds of this partition that wait or are parked after the step."""
    oldest_taken: Micros | None = None
    """Lowest record timestamp among the records taken, for the age of what is being read."""


class DeadLetterLimitExceeded(Exception):
    """More than the allowed share of a topic-partition's recent records is bad: probably the wrong topic."""

    def __init__(self, partition: int, last: DeadLetter, *, bad: int, judged: int, limit: float) -> None:
        """Say which topic-partition, how many of how many, and what the last bad record looked like."""
        super().__init__(
            f"{bad} of the last {judged} records of {last.topic}-{partition} are bad, more than dead_letter_limit "
            f"allows ({limit:.0%}); the last one, at offset {last.record.offset}, is {last.rejection.code}: "
            f"{last.rejection.message}. Nothing of this step was written. Is this the right topic? If it is, raise "
            "dead_letter_limit until the bad records are read past."
        )
        self.topic = last.topic
        self.partition = partition


class _Input:
    """One input of the partition: fetches that wait to be merged, the decoded head, and how many were bad."""

    __slots__ = (
        "arrived",
        "bad_ordinals",
        "chunks",
        "counts",
        "head",
        "index",
        "last_bad",
        "next_offset",
        "queued",
        "records",
        "seen",
        "topic",
    )

    def __init__(self, topic: Topic) -> None:
        self.topic = topic
        self.counts: dict[str, int] = {}
        """Records of this step by result; plain strings, because hashing an enumeration is slow."""
        self.chunks: deque[tuple[Micros, Sequence[RawRecord]]] = deque()
        self.records: Sequence[RawRecord] = ()
        self.index = 0
        self.arrived: Micros = 0
        self.head: Update | None = None
        self.next_offset: int | None = None
        self.queued = 0
        self.seen = 0
        self.bad_ordinals: deque[int] = deque()
        self.last_bad: DeadLetter | None = None

    def add(self, records: Sequence[RawRecord], arrived: Micros) -> None:
        self.chunks.append((arrived, records))
        self.queued += len(records)

    def raw(self) -> RawRecord | None:
        """Return the raw head, None when nothing is queued."""
        while self.index >= len(self.records):
            if not self.chunks:
                return None
            self.arrived, self.records = self.chunks.popleft()
            self.index = 0
        return self.records[self.index]

    def take(self) -> RawRecord:
        """Step past the head, now taken, and return it."""
        record = self.records[self.index]
        self.next_offset = record.offset + 1
        self.index += 1
        self.queued -= 1
        self.seen += 1
        self.head = None
        return record

    def bad_share(self) -> tuple[int, int]:
        """Return how many of how many recent records were bad."""
        while self.bad_ordinals and self.bad_ordinals[0] <= self.seen - DEAD_LETTER_WINDOW:
            self.bad_ordinals.popleft()
        return len(self.bad_ordinals), min(self.seen, DEAD_LETTER_WINDOW)


class _View:
    """The tables as a step sees them: committed rows underneath, rows of this step on top; all of them encoded.

    A row is encoded as soon as it has changed. Keeping it decoded until the end of the step would save encoding the
    few that change again, and cost more: objects of thousands of rows do not fit the processor's caches.
    """

    def __init__(self, codec: RowCodec) -> None:
        self._codec = codec
        self.tickets: dict[str, bytes] = {}
        self.sessions: dict[str, bytes] = {}
        self.new_tickets: dict[str, bytes | None] = {}
        self.new_sessions: dict[str, bytes | None] = {}
        self.large: set[str] = set()
        """Tickets that have, or once had, a row above `LARGE_ROW`."""

    def ticket(self, ticket_id: str) -> TicketRow | None:
        data = self.new_tickets.get(ticket_id)
        if data is None:
            if ticket_id in self.new_tickets or (data := self.tickets.get(ticket_id)) is None:
                return None
        return self._codec.decode_ticket(data)

    def session(self, ticket_id: str) -> SessionRow | None:
        data = self.new_sessions.get(ticket_id)
        if data is None:
            if ticket_id in self.new_sessions or (data := self.sessions.get(ticket_id)) is None:
                return None
        return self._codec.decode_session(data)

    def take(self, ticket_id: str, outcome: Outcome) -> None:
        """Put the new rows of an outcome on top."""
        if outcome.ticket is not None:
            self.new_tickets[ticket_id] = data = self._codec.encode_ticket(outcome.ticket)
            if len(data) > LARGE_ROW:
                self.large.add(ticket_id)
        if outcome.session is not None:
            self.new_sessions[ticket_id] = data = self._codec.encode_session(outcome.session)
            if len(data) > LARGE_ROW:
                self.large.add(ticket_id)

    def restore(self, table: dict[str, bytes], ticket_id: str, row: bytes | None) -> None:
        """Take one changelog record."""
        if row is None:
            table.pop(ticket_id, None)
        else:
            table[ticket_id] = row
            if len(row) > LARGE_ROW:
                self.large.add(ticket_id)

    def would_pass_limit(self, outcome: Outcome) -> bool:
        """Whether a row of this outcome is over `ROW_LIMIT`."""
        ticket, session = outcome.ticket, outcome.session
        return (ticket is not None and len(self._codec.encode_ticket(ticket)) > ROW_LIMIT) or (
            session is not None and len(self._codec.encode_session(session)) > ROW_LIMIT
        )

    def settle(self) -> None:
        """Make the rows of a committed step the ones underneath."""
        _overlay(self.tickets, self.new_tickets)
        _overlay(self.sessions, self.new_sessions)
        self.new_tickets = {}
        self.new_sessions = {}


class Partition:
    """State of one partition between transactions. Thrown away when a transaction fails: it lives one epoch."""

    def __init__(
        self,
        engine: Engine,
        *,
        number: int,
        partition_count: int | None,
        decode: Decode,
        rows: RowCodec,
        dead_letter_limit: float | None,
        clock_grace: Micros,
        stream_time: Micros = 0,
    ) -> None:
        """Begin empty at `stream_time`.

        `dead_letter_limit` is a share (0.5), None for no limit. Where `partition_count` is None, as in a capture that
        cannot tell, records are not checked for being misrouted.
        """
        self.number = number
        self.stream_time = stream_time
        self._engine = engine
        self._partition_count = partition_count
        self._decode = decode
        self._limit = dead_letter_limit
        self._grace = clock_grace
        self._view = _View(rows)
        self._tickets = _Input(Topic.TICKETS)
        self._sessions = _Input(Topic.SESSIONS)
        self._timers: list[tuple[Micros, Micros, str]] = []
        self._pending_rounds = 0
        self._strays: dict[str, bool] = {}
        self._records_left = 0
        self._bytes_left = 0

    # --- opening -----------------------------------------------------------------------------------------------------

    def restore(self, table: str, rows: Iterable[tuple[bytes, bytes | None]]) -> int:
        """Take changelog records, oldest first, into the table (`tickets` or `sessions`); return how many."""
        view = self._view
        target = {TICKETS: view.tickets, SESSIONS: view.sessions}[table]
        count = 0
        for key, value in rows:
            count += 1
            view.restore(target, key.decode(), value)
        return count

    def start(self) -> None:
        """Rebuild the timers from the restored rows; call once, before the first step."""
        view, engine, timers = self._view, self._engine, self._timers
        ending: set[str] = set()
        for ticket_id in view.sessions:
            session = view.session(ticket_id)
            assert session is not None  # noqa: S101 -- it is in the table
            self._pending_rounds += len(session.pending)
            timers.extend((entry.next_at, entry.wait, ticket_id) for entry in session.pending)
            if engine.end_of_state(None, session) is not None:
                ending.add(ticket_id)
        for ticket_id in view.tickets:
            if engine.end_of_state(view.ticket(ticket_id), None) is not None:
                ending.add(ticket_id)
        for ticket_id in ending:
            at = engine.end_of_state(view.ticket(ticket_id), view.session(ticket_id))
            if at is not None:
                timers.append((at, END_OF_STATE, ticket_id))
        heapq.heapify(timers)

    # --- feeding -----------------------------------------------------------------------------------------------------

    def add(self, topic: Topic, records: Sequence[RawRecord], arrived: Micros) -> None:
        """Queue one fetch, in offset order; `arrived` is the clock when the fetch was answered."""
        self._input(topic).add(records, arrived)

    def queued(self, topic: Topic) -> int:
        """Return how many records of the topic wait to be taken."""
        return self._input(topic).queued

    def next_timestamp(self, topic: Topic) -> Micros | None:
        """Return the timestamp of the topic's record that is to be taken next, None when none waits."""
        record = self._input(topic).raw()
        return None if record is None else record.timestamp * MILLISECOND

    @property
    def next_timer(self) -> Micros | None:
        """Stream time at which the earliest timer is due."""
        return self._timers[0][0] if self._timers else None

    @property
    def pending_rounds(self) -> int:
        """Rounds that wait or are parked."""
        return self._pending_rounds

    @property
    def table_rows(self) -> dict[str, int]:
        """Rows held, by table."""
        return {TICKETS: len(self._view.tickets), SESSIONS: len(self._view.sessions)}

    @property
    def timers(self) -> Sequence[tuple[Micros, Micros, str]]:
        """The timers as a heap of (at, wait, ticket id); those of rounds that have ended stay until they are due."""
        return self._timers

    @property
    def encoded_sessions(self) -> Mapping[str, bytes]:
        """The session rows as they are kept."""
        return self._view.sessions

    def ticket(self, ticket_id: str) -> TicketRow | None:
        """Return the committed ticket row."""
        return self._view.ticket(ticket_id)

    def session(self, ticket_id: str) -> SessionRow | None:
        """Return the committed session row."""
        return self._view.session(ticket_id)

    def _input(self, topic: Topic) -> _Input:
        return self._tickets if topic is Topic.TICKETS else self._sessions

    # --- stepping ----------------------------------------------------------------------------------------------------

    def step(self, now: Micros, ends: Mapping[Topic, Micros | None], max_records: int = 10_000) -> Step | None:
        """Take what may be taken; None when there is nothing to write.

        `ends` tells for each input the clock at the latest fetch answer that found it at its end with everything up to
        there added; None when it is not at its end. A head is held back while the other input is empty and was not
        seen at its end since the head arrived. Raises `DeadLetterLimitExceeded`.
        """
        step = Step({})
        tickets, sessions = self._tickets, self._sessions
        tickets_end, sessions_end = ends.get(Topic.TICKETS), ends.get(Topic.SESSIONS)
        view, engine_step = self._view, self._engine.step
        partition_count, strays = self._partition_count, self._strays
        timers, decode, number = self._timers, self._decode, self.number
        self._records_left, self._bytes_left = max_records, STEP_BYTES
        ticket, session = self._head(tickets, now, step), self._head(sessions, now, step)
        while self._records_left > 0 and self._bytes_left > 0:
            # Merged order: the lower timestamp first, the ticket on a tie; an empty input holds the other one back
            # until it was seen at its end.
            if ticket is not None and (session is None or ticket.timestamp <= session.timestamp):
                if session is None and (sessions_end is None or sessions_end < tickets.arrived):
                    break
                source, update = tickets, ticket
            elif session is not None:
                if ticket is None and (tickets_end is None or tickets_end < sessions.arrived):
                    break
                source, update = sessions, session
            else:
                if tickets_end is not None and sessions_end is not None:
                    # Both inputs at their end: stream time follows the clock, as far as both were seen there.
                    self._advance(min(now, tickets_end, sessions_end) - self._grace, step)
                break

            ticket_id, timestamp = update.ticket_id, update.timestamp
            self._records_left -= 1
            self._bytes_left -= update.size
            if (update.size > SMALL_RECORD or ticket_id in view.large) and self._too_large(update):
                message = f"the row of ticket {ticket_id} would pass {ROW_LIMIT} bytes"
                self._reject(source, Rejection("too_large", "$", message), step)
            else:
                if timers and timers[0][0] <= timestamp:
                    self._advance(timestamp, step)
                elif timestamp > self.stream_time:
                    self.stream_time = timestamp
                record = source.take()
                step.taken += 1
                if step.oldest_taken is None or timestamp < step.oldest_taken:
                    step.oldest_taken = timestamp
                if partition_count is not None:
                    stray = strays.get(ticket_id)
                    if stray is None:
                        stray = self._is_stray(ticket_id, record)
                    if stray:
                        step.misrouted[source.topic] += 1
                outcome = engine_step(view, update, self.stream_time)
                source.counts[outcome.result] = source.counts.get(outcome.result, 0) + 1
                view.take(ticket_id, outcome)
                if outcome.told:
                    self._note(ticket_id, outcome, step)
                if source.seen == DEAD_LETTER_JUDGED_FROM:
                    self._judge_bad_share(source)
            # `_head`, whose call is worth sparing where the next record is at hand and good.
            head = None
            if source.index < len(source.records):
                decoded = decode(source.topic, number, source.records[source.index], now)
                if not isinstance(decoded, Rejection):
                    source.head = head = decoded
            if head is None:
                head = self._head(source, now, step)
            if source is tickets:
                ticket = head
            else:
                session = head
        return self._finish(step)

    def drain_until(self, instant: Micros) -> Step | None:
        """Let stream time reach `instant` with no record; a backtest ends with this."""
        step = Step({})
        self._advance(instant, step)
        return self._finish(step)

    def _head(self, source: _Input, now: Micros, step: Step) -> Update | None:
        """Decode the next usable record of an input; bad ones on the way are taken at once.

        None when there is none, or when bad ones have used up what the step may take.
        """
        if source.head is not None:
            return source.head
        while (record := source.raw()) is not None and self._records_left > 0 and self._bytes_left > 0:
            decoded = self._decode(source.topic, self.number, record, now)
            if not isinstance(decoded, Rejection):
                source.head = decoded
                return decoded
            self._records_left -= 1
            self._bytes_left -= len(record.value or b"")
            self._reject(source, decoded, step)
        return None

    def _reject(self, source: _Input, rejection: Rejection, step: Step) -> None:
        record = source.take()
        letter = DeadLetter(source.topic, record, rejection)
        key, count = record.key, self._partition_count
        if key is not None and count is not None and partition_of(key, count) != self.number:
            step.misrouted[source.topic] += 1
        step.taken += 1
        step.dead_letters.append(letter)
        source.counts["dead_letter"] = source.counts.get("dead_letter", 0) + 1
        source.bad_ordinals.append(source.seen)
        source.last_bad = letter
        self._judge_bad_share(source)

    def _judge_bad_share(self, source: _Input) -> None:
        bad, judged = source.bad_share()
        letter = source.last_bad
        if letter is None or self._limit is None or judged < DEAD_LETTER_JUDGED_FROM:
            return
        if bad > self._limit * judged:
            raise DeadLetterLimitExceeded(self.number, letter, bad=bad, judged=judged, limit=self._limit)

    def _is_stray(self, ticket_id: str, record: RawRecord) -> bool:
        """Whether the default partitioner would have put this ticket's key elsewhere; remembered, within bounds."""
        assert self._partition_count is not None  # noqa: S101 -- asked only where it is known
        if len(self._strays) >= KEYS_KEPT:
            self._strays.clear()
        stray = partition_of(record.key or b"", self._partition_count) != self.number
        self._strays[ticket_id] = stray
        return stray

    def _too_large(self, update: Update) -> bool:
        """Whether a row would pass its limit: tried out, since only a record that is used moves stream time on."""
        clock = max(self.stream_time, update.timestamp)
        return self._view.would_pass_limit(self._engine.step(self._view, update, clock))

    def _advance(self, to: Micros, step: Step) -> None:
        """Move stream time on, running what falls due on the way in the order (due, wait, ticket id)."""
        timers = self._timers
        while timers and timers[0][0] <= to:
            at, wait, ticket_id = heapq.heappop(timers)
            self.stream_time = max(self.stream_time, at)
            outcome = self._engine.step(self._view, Due(at, wait, ticket_id), self.stream_time)
            self._view.take(ticket_id, outcome)
            if outcome.told:
                self._note(ticket_id, outcome, step)
        self.stream_time = max(self.stream_time, to)

    def _note(self, ticket_id: str, outcome: Outcome, step: Step) -> None:
        """Take over everything of an outcome but its new rows."""
        self._pending_rounds += outcome.rounds
        for table in outcome.expired:
            if table == TICKETS:
                self._view.new_tickets[ticket_id] = None
            else:
                self._view.new_sessions[ticket_id] = None
        step.records.extend(outcome.records)
        step.commands.extend(outcome.commands)
        step.facts.extend(outcome.facts)
        for at, wait in outcome.timers:
            heapq.heappush(self._timers, (at, wait, ticket_id))

    def _finish(self, step: Step) -> Step | None:
        view = self._view
        if not step.taken and not view.new_tickets and not view.new_sessions and not step.records:
            return None
        step.ticket_rows, step.session_rows = view.new_tickets, view.new_sessions
        for source in (self._tickets, self._sessions):
            if source.next_offset is not None:
                step.next_offsets[source.topic] = source.next_offset
            for result, count in source.counts.items():
                step.counts[source.topic, result] = count
        step.stream_time = self.stream_time
        step.pending_rounds = self._pending_rounds
        return step

    def commit(self, step: Step) -> None:
        """Settle a step whose transaction committed."""
        self._view.settle()
        for source in (self._tickets, self._sessions):
            source.counts = {}


def _overlay(table: dict[str, bytes], rows: Mapping[str, bytes | None]) -> None:
    if None in rows.values():
        for key, row in rows.items():
            if row is None:
                table.pop(key, None)
            else:
                table[key] = row
    else:
        table.update(rows)  # type: ignore[arg-type]
