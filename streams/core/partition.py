"""The processing loop of one partition: records in merged order, one step each; stream time, timers and tables.

The loop holds state but does no I/O: the caller passes in records, the ends of the topics and the clock time, and
writes each `Batch`. `streams.core.pipeline` forms the batches.
"""

from __future__ import annotations

import heapq
import sys
from collections.abc import Iterable, Mapping, Sequence

from streams.core.batch import Batch
from streams.core.engine import Engine
from streams.core.errors import NewerRow
from streams.core.guard import BLOCKS, HEADS, read_head
from streams.core.inputs import DEAD_LETTER_JUDGED_FROM, Decode, Input, RawRecord, Update
from streams.core.model import (
    ACTIVATION,
    END_OF_STATE,
    MILLISECOND,
    SHADOW_ROUNDS,
    Due,
    Micros,
    Outcome,
    Rejection,
    SessionRow,
    TicketRow,
)
from streams.core.names import Code, Result, Table, Topic
from streams.core.partitioning import partition_of
from streams.core.plain import PlainTicket, replace_row
from streams.core.revisions import RULES_KEY, Activation, Entry, InUse, Rulebook, Stops
from streams.core.shadow import KEYS as SHADOW_KEYS
from streams.core.shadow import Candidate, Seen, Shadow, ShadowRow
from streams.core.tables import OWN, ROW_LIMIT, SMALL_RECORD, RowCodec, Tables
from streams.core.taking_up import NOTHING_EFFECTIVE, RulesInUse, successor, unusable, without_a_lost_shadow

KEYS_KEPT = 1 << 16
"""Maximum number of tickets for which a partition caches whether the default partitioner maps their keys to it."""

SLICE_BYTES = 16 * 1024 * 1024
"""Maximum size of the input values of a slice, in bytes, so that a transaction of large records stays bounded."""

_SHADOW_ROUNDS_A_RECORD = 8
"""A slice runs at most so many rounds of a shadow for each record that it may take."""

_OWN_KINDS = (RULES_KEY, SHADOW_KEYS, HEADS, BLOCKS)


class Partition:
    """State of one partition. It lasts for one producer epoch and is discarded when a batch cannot be committed."""

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
        partitions: int = 1,
    ) -> None:
        """Start empty at `stream_time`.

        `dead_letter_limit` is a share (0.5), None for no limit. When `partition_count` is None, as for a capture, where
        it may be unknown, records are not checked for being misrouted, and limits are divided by `partitions`.
        """
        self.number = number
        self.stream_time = stream_time
        self.tables = Tables(rows, partition_count or partitions)
        self._rows = rows
        self._shadow: Shadow | None = None
        self._engine = engine
        self._as_configured = engine
        """The engine with the rules and the dry run that it was made with."""
        self._in_force: RulesInUse | None = None
        """None with rules from a file."""
        self._begin: dict[Topic, int] = {}
        self._replayed_partitions = 0
        self._partition_count = partition_count
        self._decode = decode
        self._grace = clock_grace
        self._tickets = Input(Topic.TICKETS, number, dead_letter_limit)
        self._sessions = Input(Topic.SESSIONS, number, dead_letter_limit)
        self._inputs = (self._tickets, self._sessions)
        self._timers: list[tuple[Micros, Micros, str]] = []
        self._pending_rounds = 0
        self._strays: dict[str, bool] = {}
        self._records_left = 0
        self._shadow_rounds_left = 0
        self._bytes_left = 0

    # --- opening -----------------------------------------------------------------------------------------------------

    def restore(self, table: str, rows: Iterable[tuple[bytes, bytes | None]]) -> int:
        """Load changelog records, oldest first, into the table (`tickets` or `sessions`); return their number."""
        target = Table(table)
        count = 0
        for key, value in rows:
            count += 1
            if key.startswith(OWN):
                self.tables.restore_own(key, value)
            else:
                self.tables.restore(target, key.decode(), value)
        return count

    def start(self) -> None:
        """Rebuild the timers from the restored rows; call once, before the first slice.

        Raises `NewerRow` or `msgspec.DecodeError` when a row can't be read: every row is decoded here, save those of
        rules and shadows, which `adopt` decodes.
        """
        tables, engine, timers = self.tables, self._engine, self._timers
        for key, row in tables.own.items():
            if not key.startswith(_OWN_KINDS):
                raise NewerRow(f"unknown kind of row: {key[len(OWN) :].partition(b'/')[0].decode(errors='replace')}")
            if key.startswith(HEADS):
                read_head(row)
        ending: set[str] = set()
        for ticket_id in tables.sessions:
            session = tables.session(ticket_id)
            assert session is not None  # noqa: S101 -- it is in the table
            self._pending_rounds += len(session.pending)
            timers.extend((entry.next_at, entry.wait, ticket_id) for entry in session.pending)
            if engine.end_of_state(None, session) is not None:
                ending.add(ticket_id)
        for ticket_id in tables.tickets:
            if engine.end_of_state(tables.ticket(ticket_id), None) is not None:
                ending.add(ticket_id)
        for ticket_id in ending:
            at = engine.end_of_state(tables.ticket(ticket_id), tables.session(ticket_id))
            if at is not None:
                timers.append((at, END_OF_STATE, ticket_id))
        heapq.heapify(timers)

    def follow_with(self, candidate: Candidate | None) -> None:
        """Evaluate a candidate beside the live rules from now on; None ends it.

        Call it after the restore, before the first slice: then what the rows hold of the same revision goes on. Or call
        it between two slices, to take up another candidate. What is pending of any other revision is dropped.
        """
        rows: dict[str, ShadowRow] = {}
        for key in self.tables.own_keys(SHADOW_KEYS):
            data = self.tables.own_row(key)
            row = None if data is None else self._rows.decode_shadow(data)
            if row is not None and candidate is not None and row.revision == candidate.revision:
                ticket_id = key[len(SHADOW_KEYS) :].decode()
                rows[ticket_id] = row
                for entry in row.pending:
                    heapq.heappush(self._timers, (entry.next_at, SHADOW_ROUNDS, ticket_id))
            else:
                self.tables.put_own(key, None)
        self._shadow = None if candidate is None else Shadow(candidate, self._engine.settings.rounds, rows)

    # --- revisions ---------------------------------------------------------------------------------------------------

    def adopt(self, book: Rulebook, clock: Micros, begin: Mapping[Topic, int]) -> str | None:
        """Use the rules of a rulebook; return why that is not possible yet. Call it after `start`.

        What the partition's row says it uses goes on; where that is gone from the rules topic, a newer revision takes
        its place (`successor`). A partition without a row takes the newest live revision that is effective by the
        clock. `begin` are the offsets of the next records.
        """
        data = self.tables.own_row(RULES_KEY)
        if data is None:
            in_force = RulesInUse.at_first(book, clock)
            if in_force is None:
                return NOTHING_EFFECTIVE
        else:
            row = without_a_lost_shadow(book, self._rows.decode_rules(data))
            first = successor(book, row, clock)
            why = unusable(book, row) if first is None else None
            if why is not None:
                return why
            in_force = RulesInUse(book, row, first, late=first is not None)
            if first is None:
                self._switch(in_force)
        self.follow_with(in_force.candidate)
        self._in_force = in_force
        self._begin = dict(begin)
        return None

    def replay(self, book: Rulebook, activation: Activation, batch: Batch) -> None:
        """Take an entry up where a worker did, as its activation says: with the rules that were in use from there on.

        Call it when the records before the activation's offsets were taken, and stream time is where it was.
        """
        self.stream_time = max(self.stream_time, activation.stream_time)
        if self._in_force is None:
            stopped = activation.stopped
            stops = Stops(everything=True) if stopped == "all" else Stops(ids=stopped)
            self._in_force = RulesInUse.of_the_past(book, stops)
            self._replayed_partitions = activation.partitions
            self._as_configured = self._as_configured.acting_from(activation.act_from)
            self._begin = {Topic(topic): offset for topic, offset in activation.offsets}
        self._take_up(self._in_force, book.entries[activation.number], batch, late=activation.late)

    @property
    def in_use(self) -> InUse | None:
        """What this partition has taken up; None before that, and with rules from a file."""
        return None if self._in_force is None or not self._in_force.row.revision else self._in_force.row

    def _learn(self, in_force: RulesInUse, batch: Batch) -> None:
        """Take up what the rulebook has that was not looked at, between two records."""
        for entry, late in in_force.news(self.stream_time):
            self._take_up(in_force, entry, batch, late=late)
        for at in in_force.timers(self.stream_time):
            heapq.heappush(self._timers, (at, ACTIVATION, ""))

    def _reach_revision(self, batch: Batch) -> None:
        """Take up the revision whose `effective_from` stream time has reached, unless a newer one is in use."""
        newest = None if self._in_force is None else self._in_force.due(self.stream_time)
        if self._in_force is not None and newest is not None:
            self._take_up(self._in_force, newest, batch, late=False)

    def _take_up(self, in_force: RulesInUse, entry: Entry, batch: Batch, *, late: bool) -> None:
        """Take up one entry: from here on it is in force. Its record and its row belong to this step's transaction."""
        before = in_force.row
        if in_force.take_up(entry, self.stream_time):
            row = in_force.row
            self._switch(in_force)
            if (row.shadow, row.stops) != (before.shadow, before.stops):
                self.follow_with(in_force.candidate)
            batch.records.append(
                Activation(
                    partition=self.number,
                    partitions=self._replayed_partitions or self._partition_count or 0,
                    number=entry.number,
                    kind=entry.kind,
                    previous=before.activation or None,
                    ruleset=entry.ruleset or row.ruleset,
                    stopped=row.stops.shown,
                    stream_time=self.stream_time,
                    offsets=tuple((source.topic.value, self._next_of(source)) for source in self._inputs),
                    late=late,
                    act_from=self._as_configured.settings.rounds.act_from,
                    author=entry.author,
                    reason=entry.reason,
                )
            )
        self.tables.put_own(RULES_KEY, self._rows.encode_rules(in_force.row))

    def _switch(self, in_force: RulesInUse) -> None:
        """Let the engine use what is in force."""
        self._engine = self._as_configured.ruled_by(in_force.rules, dry_run=in_force.row.stops.everything)

    def _next_of(self, source: Input) -> int:
        """Return the offset of the next record to be taken."""
        return self._begin.get(source.topic, 0) if source.next_offset is None else source.next_offset

    # --- reading -----------------------------------------------------------------------------------------------------

    def queued(self, topic: Topic) -> int:
        """Return the number of queued records of the topic."""
        return self._input(topic).queued

    def next_timestamp(self, topic: Topic) -> Micros | None:
        """Return the timestamp of the topic's next record, None when none is queued."""
        record = self._input(topic).raw()
        return None if record is None else record.timestamp * MILLISECOND

    @property
    def next_timer(self) -> Micros | None:
        """Stream time at which the earliest timer is due."""
        return self._timers[0][0] if self._timers else None

    @property
    def pending_rounds(self) -> int:
        """Number of rounds that are waiting or parked."""
        return self._pending_rounds

    @property
    def shadow(self) -> int | None:
        """Revision of the shadow in use, None without one."""
        return None if self._shadow is None else self._shadow.candidate.revision

    @property
    def table_rows(self) -> dict[Table, int]:
        """Number of settled rows by table; rows of unsettled batches are not counted yet."""
        return {Table.TICKETS: len(self.tables.tickets), Table.SESSIONS: len(self.tables.sessions)}

    @property
    def timers(self) -> Sequence[tuple[Micros, Micros, str]]:
        """The timers as a heap of (at, wait, ticket id); those of ended rounds stay in it until they are due."""
        return self._timers

    @property
    def encoded_sessions(self) -> Mapping[str, bytes]:
        """The settled session rows, encoded."""
        return self.tables.sessions

    def ticket(self, ticket_id: str) -> TicketRow | None:
        """Return the settled ticket row."""
        return self.tables.settled_ticket(ticket_id)

    def session(self, ticket_id: str) -> SessionRow | None:
        """Return the settled session row."""
        return self.tables.settled_session(ticket_id)

    def _input(self, topic: Topic) -> Input:
        return self._tickets if topic is Topic.TICKETS else self._sessions

    # --- taking records ----------------------------------------------------------------------------------------------

    def add(self, topic: Topic, records: Sequence[RawRecord], arrived: Micros) -> None:
        """Queue one fetch, in offset order; `arrived` is the clock time at which the fetch was answered."""
        self._input(topic).add(records, arrived)

    def take(self, batch: Batch, now: Micros, ends: Mapping[Topic, Micros | None], max_records: int) -> bool:
        """Take a slice into the batch; return whether nothing more can be taken now. Timers count as records.

        `ends` gives for each input the clock time of the latest fetch answer that found it at its end, with all its
        records added; None when it is not at its end. A head is held back while the other input is empty and has not
        been seen at its end since the head arrived. Raises `DeadLetterLimitExceeded`.
        """
        tickets, sessions = self._tickets, self._sessions
        tickets_end, sessions_end = ends.get(Topic.TICKETS), ends.get(Topic.SESSIONS)
        tables, large, applied = self.tables, self.tables.large, Result.APPLIED
        engine_step = self._engine.step
        partition_count, strays = self._partition_count, self._strays
        timers, decode, number = self._timers, self._decode, self.number
        self._records_left, self._bytes_left = max_records, SLICE_BYTES
        self._shadow_rounds_left = _SHADOW_ROUNDS_A_RECORD * max_records
        # Never between two timers of the same instant: a replay, which knows the instant, could not find the place.
        if self._in_force is not None and self._in_force.has_news and not (timers and timers[0][0] <= self.stream_time):
            self._learn(self._in_force, batch)
            engine_step = self._engine.step
        oldest = batch.oldest_taken
        took_all = False
        ticket, session = self._head(tickets, now, batch), self._head(sessions, now, batch)
        while self._records_left > 0 and self._bytes_left > 0:
            # Merged order: the lower timestamp first, the ticket on a tie; an empty input holds back the other input
            # until it has been seen at its end.
            if ticket is not None and (session is None or ticket.timestamp <= session.timestamp):
                if session is None and (sessions_end is None or sessions_end < tickets.arrived):
                    took_all = True
                    break
                source, update = tickets, ticket
            elif session is not None:
                if ticket is None and (tickets_end is None or tickets_end < sessions.arrived):
                    took_all = True
                    break
                source, update = sessions, session
            else:
                if tickets_end is not None and sessions_end is not None:
                    # Both inputs are at their end: stream time follows the clock, up to the earlier of the two times
                    # at which they were seen there.
                    took_all = self._run_timers(min(now, tickets_end, sessions_end) - self._grace, batch)
                else:
                    took_all = True
                break

            ticket_id, timestamp = update.ticket_id, update.timestamp
            if timers and timers[0][0] <= timestamp:
                if not self._run_timers(timestamp, batch):
                    break
                engine_step = self._engine.step  # a timer may have switched the rules
            elif timestamp > self.stream_time:
                self.stream_time = timestamp
            self._records_left -= 1
            self._bytes_left -= update.size
            if (update.size > SMALL_RECORD or ticket_id in large) and self._would_pass_limit(update):
                message = f"the row of ticket {ticket_id} would pass {ROW_LIMIT} bytes"
                self._reject(source, Rejection(Code.TOO_LARGE, "$", message), batch)
            else:
                # Inlined `Input.take`, to save the call.
                source.taken_last = record = source.records[source.index]
                source.index += 1
                source.queued -= 1
                source.taken += 1
                source.head = None
                if oldest is None or timestamp < oldest:
                    oldest = timestamp
                if partition_count is not None:
                    stray = strays.get(ticket_id)
                    if stray is None:
                        stray = self._is_stray(ticket_id, record)
                    if stray:
                        batch.misrouted[source.topic] += 1
                if isinstance(update, PlainTicket):
                    result = replace_row(tables, update, self.stream_time) or self._step_plain(update, batch)
                else:
                    outcome = engine_step(tables, update, self.stream_time)
                    result = outcome.result
                    tables.put(ticket_id, outcome)
                    if not outcome.rows_only:
                        self._take_outcome(ticket_id, outcome, batch)
                if result is applied:
                    source.applied += 1
                else:
                    source.counts[result] = source.counts.get(result, 0) + 1
                if source.taken == DEAD_LETTER_JUDGED_FROM:
                    source.judge_bad_share()
            # Inlined `_head` for the common case: the next record is queued and valid.
            head = None
            if source.index < len(source.records):
                decoded = decode(source.topic, number, source.records[source.index], now)
                if not isinstance(decoded, Rejection):
                    source.head = head = decoded
            if head is None:
                head = self._head(source, now, batch)
            if source is tickets:
                ticket = head
            else:
                session = head
        batch.oldest_taken = oldest
        self._end_slice(batch)
        return took_all

    def _step_plain(self, update: PlainTicket, batch: Batch) -> Result:
        """Pass a plain update that does not simply replace its row to the engine."""
        tables, ticket_id = self.tables, update.ticket_id
        outcome = self._engine.step(tables, update.whole(), self.stream_time)
        tables.put(ticket_id, outcome)
        if outcome.ticket is not None:
            tables.note_fields(ticket_id, outcome.ticket, update.shape.fields)
        if not outcome.rows_only:
            self._take_outcome(ticket_id, outcome, batch)
        return outcome.result

    def advance(self, batch: Batch, instant: Micros) -> None:
        """Advance stream time to `instant` without a record; used at the end of a backtest."""
        self._records_left = self._shadow_rounds_left = sys.maxsize
        self._run_timers(instant, batch)
        self._end_slice(batch)

    def _head(self, source: Input, now: Micros, batch: Batch) -> Update | None:
        """Decode the next valid record of an input; bad records before it become dead letters.

        None when there is none, or when bad records have used up the limits of the slice.
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
            self._reject(source, decoded, batch)
        return None

    def _reject(self, source: Input, rejection: Rejection, batch: Batch) -> None:
        letter = source.reject(rejection)
        key, count = letter.record.key, self._partition_count
        if key is not None and count is not None and partition_of(key, count) != self.number:
            batch.misrouted[source.topic] += 1
        batch.dead_letters.append(letter)
        batch.dead_letter_bytes += len(letter.record.value or b"")

    def _is_stray(self, ticket_id: str, record: RawRecord) -> bool:
        """Whether the default partitioner maps this ticket's key to another partition; cached, within bounds."""
        assert self._partition_count is not None  # noqa: S101 -- asked only where it is known
        if len(self._strays) >= KEYS_KEPT:
            self._strays.clear()
        stray = partition_of(record.key or b"", self._partition_count) != self.number
        self._strays[ticket_id] = stray
        return stray

    def _would_pass_limit(self, update: Update) -> bool:
        """Whether a row would exceed its limit: runs the step and discards its outcome."""
        if isinstance(update, PlainTicket):
            update = update.whole()
        return self.tables.would_pass_limit(self._engine.step(self.tables, update, self.stream_time))

    def _run_timers(self, to: Micros, batch: Batch) -> bool:
        """Advance stream time, running the timers that become due in the order (due, wait, ticket id).

        Each counts as a record of the slice. Those of a shadow don't, so that batches are the same without it:
        they have a limit of their own. Returns whether all were run. If not, stream time is at the last one.
        """
        timers = self._timers
        while timers and timers[0][0] <= to:
            at, wait, ticket_id = timers[0]
            if (self._shadow_rounds_left if wait == SHADOW_ROUNDS else self._records_left) <= 0:
                return False
            heapq.heappop(timers)
            self.stream_time = max(self.stream_time, at)
            if wait == SHADOW_ROUNDS:
                self._shadow_rounds_left -= 1
                self._reach_shadow(ticket_id, batch)
                continue
            if wait == ACTIVATION:
                self._reach_revision(batch)
                continue
            self._records_left -= 1
            outcome = self._engine.step(self.tables, Due(at, wait, ticket_id), self.stream_time)
            self.tables.put(ticket_id, outcome)
            if not outcome.rows_only:
                batch.timers += 1
                self._take_outcome(ticket_id, outcome, batch)
        self.stream_time = max(self.stream_time, to)
        return True

    def _take_outcome(self, ticket_id: str, outcome: Outcome, batch: Batch) -> None:
        """Add everything of an outcome except its new rows to the batch."""
        self._pending_rounds += outcome.rounds
        for table in outcome.expired:
            self.tables.delete(table, ticket_id)
        batch.records.extend(outcome.records)
        batch.commands.extend(outcome.commands)
        batch.held.extend(outcome.held)
        batch.states.extend(outcome.states)
        batch.facts.extend(outcome.facts)
        for at, wait in outcome.timers:
            heapq.heappush(self._timers, (at, wait, ticket_id))
        shadow = self._shadow
        if shadow is not None and (outcome.lapse is not None or ticket_id in shadow.rows):
            seen = shadow.follow(self.tables, ticket_id, outcome, self.stream_time)
            if seen is not None:
                self._take_seen(ticket_id, seen, batch)

    def _reach_shadow(self, ticket_id: str, batch: Batch) -> None:
        """Run the shadow rounds of a ticket that stream time has reached."""
        seen = None if self._shadow is None else self._shadow.reach(self.tables, ticket_id, self.stream_time)
        if seen is not None:
            self._take_seen(ticket_id, seen, batch)

    def _take_seen(self, ticket_id: str, seen: Seen, batch: Batch) -> None:
        """Add what the shadow found in a step to the batch."""
        assert self._shadow is not None  # noqa: S101 -- it found something
        batch.records.extend(seen.records)
        batch.facts.extend(seen.facts)
        for at in seen.timers:
            heapq.heappush(self._timers, (at, SHADOW_ROUNDS, ticket_id))
        if seen.changed:
            row = self._shadow.rows.get(ticket_id)
            key = SHADOW_KEYS + ticket_id.encode()
            self.tables.put_own(key, None if row is None else self._rows.encode_shadow(row))

    def _end_slice(self, batch: Batch) -> None:
        for source in self._inputs:
            if source.next_offset is not None:
                batch.next_offsets[source.topic] = source.next_offset
            if source.applied:
                batch.counts[source.topic, Result.APPLIED] += source.applied
                batch.taken += source.applied
                source.applied = 0
            for result, count in source.counts.items():
                batch.counts[source.topic, result] += count
                batch.taken += count
            source.counts.clear()
        batch.stream_time = self.stream_time
        batch.pending_rounds = self._pending_rounds
        batch.shadow = self.shadow
        batch.in_use = self.in_use
