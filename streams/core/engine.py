"""The engine: `step` is the only way anything changes.

Table of contents of the core. A step takes one input (a ticket update, a session update, or a timer that stream time
has reached), looks at the two rows of its ticket, and returns an `Outcome`: the new rows, what happened, what is to be
done, what is worth counting. It changes nothing itself.

- `ordering`: is the event new?
- `session`: the transition table
- `rounds`: what a lapse sets going, now and later
- `cycle`, `conditions`, `actions`: which triggers fire and what they make of the ticket
- `command`: what is asked for in the end
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import msgspec

from streams.core import model as m
from streams.core import ordering
from streams.core.cycle import Rules
from streams.core.model import (
    Due,
    Fact,
    Kind,
    Lapse,
    Micros,
    Outcome,
    SessionRow,
    SessionUpdate,
    TicketRow,
    TicketUpdate,
    Transition,
    Value,
)
from streams.core.normal import CUSTOM_FIELD_PREFIX
from streams.core.rounds import RoundBook, RoundPolicy
from streams.core.session import ACTIVE, ENDED, Change, change

TICKETS, SESSIONS = "tickets", "sessions"

OUTSTANDING_KEPT = 64
"""Commands per ticket that wait to be seen applied; a consumer that never reports back must not grow the row."""

DAY: Micros = 86_400 * m.SECOND


class EngineSettings(msgspec.Struct, frozen=True):
    """What the engine can be told, beside the rules."""

    rounds: RoundPolicy = RoundPolicy()
    first_inactive_lapses: bool = True
    state_ttl: Micros = 30 * DAY
    abandonment_reasons: frozenset[str] = frozenset({"user_inactive_or_offline"})
    false_abandonment_window: Micros = 300 * m.SECOND


class Tables(Protocol):
    """The rows of one partition as a step may read them."""

    def ticket(self, ticket_id: str) -> TicketRow | None:
        """Return the ticket's row, None when there is none."""

    def session(self, ticket_id: str) -> SessionRow | None:
        """Return the session's row, None when there is none."""


_STALE = Outcome(ordering.STALE, told=False)
_DUPLICATE = Outcome(ordering.DUPLICATE, told=False)
_NOTHING_DUE = Outcome("due", told=False)


class Engine:
    """Rules and settings; holds no state of its own."""

    def __init__(self, rules: Rules, settings: EngineSettings | None = None) -> None:
        """Bind the compiled rules to the settings."""
        self.rules = rules
        self.settings = settings or EngineSettings()

    def step(self, tables: Tables, record: TicketUpdate | SessionUpdate | Due, clock: Micros) -> Outcome:
        """Work out what one input does. `clock` is stream time, the input's own timestamp already counted in."""
        if type(record) is TicketUpdate:
            return self._ticket(tables, record, clock)
        if type(record) is SessionUpdate:
            return self._session(tables, record, clock)
        assert type(record) is Due  # noqa: S101
        return self._due(tables, record, clock)

    # --- ticket side -------------------------------------------------------------------------------------------------

    def _ticket(self, tables: Tables, update: TicketUpdate, clock: Micros) -> Outcome:
        row = tables.ticket(update.ticket_id)
        if update.changes is None:
            return self._ticket_deleted(tables, update.ticket_id, row, clock)
        order = None if row is None else row.order
        verdict = ordering.judge(order, update)
        if verdict is not ordering.APPLIED:
            return _STALE if verdict is ordering.STALE else _DUPLICATE

        existed = row is not None and row.fields is not None
        fields = _merge(row.fields if row is not None else None, update.changes)
        new_row = TicketRow(fields, ordering.advance(order, update), clock)
        timers: tuple[tuple[Micros, Micros], ...] = ()
        if fields.get("status") == "closed":
            timers = ((clock + self.settings.state_ttl, m.END_OF_STATE),)
        if existed and update.command_id is None and not update.oversized:
            return Outcome(ordering.APPLIED, ticket=new_row, timers=timers, told=bool(timers))

        facts = [Fact(m.OVERSIZED_MEMBER, amount=update.oversized)] if update.oversized else []
        session = tables.session(update.ticket_id)
        if session is None:
            return Outcome(ordering.APPLIED, ticket=new_row, timers=timers, facts=tuple(facts))
        book = self._book(update.ticket_id, new_row, session, clock)
        if not existed:
            # Only a ticket without a row has parked rounds.
            book.join(update.occurred_at)
        outstanding = session.outstanding
        for command_id, issued_at in session.outstanding:
            if command_id == update.command_id:
                outstanding = tuple(entry for entry in outstanding if entry[0] != command_id)
                facts.append(Fact(m.COMMAND_APPLIED))
                seconds = max(0, update.occurred_at - issued_at) / m.SECOND
                facts.append(Fact(m.COMMAND_APPLY_SECONDS, amount=seconds))
        new_session = self._close(book, msgspec.structs.replace(session, outstanding=outstanding))
        return Outcome(
            ordering.APPLIED,
            ticket=new_row,
            session=None if new_session == session else new_session,
            records=tuple(book.records),
            commands=tuple(book.commands),
            timers=timers + tuple(book.timers),
            facts=(*facts, *book.facts),
            rounds=len(book.pending) - len(session.pending),
        )

    def _ticket_deleted(self, tables: Tables, ticket_id: str, row: TicketRow | None, clock: Micros) -> Outcome:
        new_row = TicketRow(None, None if row is None else row.order, clock)
        timers = ((clock + self.settings.state_ttl, m.END_OF_STATE),)
        session = tables.session(ticket_id)
        if session is None or not session.pending:
            return Outcome(ordering.APPLIED, ticket=new_row, timers=timers)
        book = self._book(ticket_id, new_row, session, clock)
        book.cancel()
        return Outcome(
            ordering.APPLIED,
            ticket=new_row,
            session=self._close(book, session),
            records=tuple(book.records),
            timers=timers,
            facts=tuple(book.facts),
            rounds=-len(session.pending),
        )

    # --- session side ------------------------------------------------------------------------------------------------

    def _session(self, tables: Tables, update: SessionUpdate, clock: Micros) -> Outcome:
        row = tables.session(update.ticket_id)
        if update.state is None:
            return self._session_forgotten(update.ticket_id, row, clock)
        order = None if row is None else row.order
        verdict = ordering.judge(order, update)
        if verdict is not ordering.APPLIED:
            return _STALE if verdict is ordering.STALE else _DUPLICATE

        if (
            row is not None
            and update.state == row.state == ACTIVE
            and (update.session_id is None or update.session_id == row.session_id)
        ):
            return Outcome(ordering.APPLIED, session=_repeated(row, update, clock), told=False)
        done = change(row, update, first_inactive_lapses=self.settings.first_inactive_lapses)
        before = row if row is not None else _empty_row(clock)
        kind = done.kind
        new_session = done.new_session
        episode = before.episode + 1 if done.lapsed else before.episode
        facts: list[Fact] = []
        abandoned, opened_at = before.abandoned, None if new_session else before.opened_at
        session_abandoned, ticket_abandoned = before.session_abandoned and not new_session, before.ticket_abandoned
        if kind is not None:
            facts.append(Fact(m.TRANSITION, (kind.value, update.reason or m.NONE, done.channel or m.NONE)))
        if new_session:
            facts.append(Fact(m.SESSION, (done.channel or m.NONE,)))
        if kind is Kind.OPENED or kind is Kind.RESUMED:
            self._note_return(before, update.occurred_at, facts)
            abandoned, opened_at = None, update.occurred_at
        elif done.lapsed and done.reason in self.settings.abandonment_reasons:
            facts.extend(_abandonment_facts(done, before, opened_at, update.occurred_at))
            abandoned, session_abandoned, ticket_abandoned = (update.occurred_at, done.channel), True, True
        after = SessionRow(
            state=done.state,
            reason=done.reason,
            since=update.occurred_at if kind is not None and done.state != done.before_state else before.since,
            session_id=done.session_id,
            channel=done.channel,
            episode=episode,
            order=ordering.advance(order, update),
            touched=clock,
            lapse=before.lapse,
            pending=before.pending,
            opened_at=opened_at,
            abandoned=abandoned,
            session_abandoned=session_abandoned,
            ticket_abandoned=ticket_abandoned,
            outstanding=before.outstanding,
        )
        if kind is None:
            return Outcome(ordering.APPLIED, session=after, told=False)
        transition = Transition(
            ticket_id=update.ticket_id,
            event_id=update.event_id,
            occurred_at=update.occurred_at,
            session_id=done.session_id,
            kind=kind,
            before=done.before_state,
            after=update.state,
            reason=update.reason,
            episode=episode,
            channel=done.channel,
        )
        timers: tuple[tuple[Micros, Micros], ...] = ()
        if done.state == ENDED:
            timers = ((clock + self.settings.state_ttl, m.END_OF_STATE),)
        starts = done.lapsed and bool(self.rules.waits)
        if not before.pending and not starts:
            return Outcome(ordering.APPLIED, session=after, records=(transition,), timers=timers, facts=tuple(facts))

        book = self._book(update.ticket_id, tables.ticket(update.ticket_id) if starts else None, before, clock)
        if done.other_session:
            book.cancel()
        book.records.append(transition)
        if done.ends_waiting:
            book.cancel()
        if starts:
            book.begin(
                Lapse(
                    event_id=update.event_id,
                    occurred_at=update.occurred_at,
                    timestamp=update.timestamp,
                    episode=episode,
                    before_state=done.before_state,
                    before_reason=done.before_reason,
                    before_channel=done.before_channel,
                    reason=done.reason,
                    channel=done.channel,
                )
            )
        return Outcome(
            ordering.APPLIED,
            session=self._close(book, after),
            records=tuple(book.records),
            commands=tuple(book.commands),
            timers=timers + tuple(book.timers),
            facts=(*facts, *book.facts),
            rounds=len(book.pending) - len(before.pending),
        )

    def _session_forgotten(self, ticket_id: str, row: SessionRow | None, clock: Micros) -> Outcome:
        before = row if row is not None else _empty_row(clock)
        book = self._book(ticket_id, None, before, clock)
        book.cancel()
        after = msgspec.structs.replace(
            before,
            state=None,
            reason=None,
            since=clock,
            session_id=None,
            channel=None,
            touched=clock,
            opened_at=None,
            session_abandoned=False,
        )
        return Outcome(
            ordering.APPLIED,
            session=self._close(book, after),
            records=tuple(book.records),
            timers=((clock + self.settings.state_ttl, m.END_OF_STATE),),
            facts=tuple(book.facts),
            rounds=-len(before.pending),
        )

    def _note_return(self, row: SessionRow, occurred_at: Micros, facts: list[Fact]) -> None:
        if row.abandoned is None:
            return
        left_at, channel = row.abandoned
        away = max(0, occurred_at - left_at)
        facts.append(Fact(m.TIME_TO_RETURN_SECONDS, amount=away / m.SECOND))
        if away <= self.settings.false_abandonment_window:
            facts.append(Fact(m.FALSE_ABANDONMENT, (channel or m.NONE,)))

    # --- timers ------------------------------------------------------------------------------------------------------

    def _due(self, tables: Tables, due: Due, clock: Micros) -> Outcome:
        if due.wait == m.END_OF_STATE:
            return self._end_of_state(tables, due, clock)
        session = tables.session(due.ticket_id)
        if session is None or not session.pending:
            return _NOTHING_DUE
        book = self._book(due.ticket_id, tables.ticket(due.ticket_id), session, clock)
        if not book.reach(due.at, due.wait):
            return _NOTHING_DUE
        return Outcome(
            "due",
            session=self._close(book, session),
            records=tuple(book.records),
            commands=tuple(book.commands),
            timers=tuple(book.timers),
            facts=tuple(book.facts),
            rounds=len(book.pending) - len(session.pending),
        )

    def _end_of_state(self, tables: Tables, due: Due, clock: Micros) -> Outcome:
        ticket, session = tables.ticket(due.ticket_id), tables.session(due.ticket_id)
        at = self.end_of_state(ticket, session)
        if at is None:
            return _NOTHING_DUE
        if at > due.at:
            return Outcome("due", timers=((at, m.END_OF_STATE),))
        expired = tuple(
            table
            for table, row, ends in (
                (TICKETS, ticket, _is_over(ticket, session)),
                (SESSIONS, session, _is_over(ticket, session) or _is_forgotten(session)),
            )
            if row is not None and ends
        )
        facts = [Fact(m.EXPIRED_ROW, (table,)) for table in expired]
        records: tuple[m.Transition | m.Evaluation, ...] = ()
        if session is not None and session.pending:
            book = self._book(due.ticket_id, ticket, session, clock)
            book.cancel()
            records = tuple(book.records)
            facts.extend(book.facts)
        rounds = 0 if session is None else -len(session.pending)
        return Outcome("due", expired=expired, records=records, facts=tuple(facts), rounds=rounds)

    def end_of_state(self, ticket: TicketRow | None, session: SessionRow | None) -> Micros | None:
        """Return the stream time at which rows of a ticket go, None while nothing ends them."""
        if _is_over(ticket, session):
            touched = max(row.touched for row in (ticket, session) if row is not None)
            return touched + self.settings.state_ttl
        if session is not None and _is_forgotten(session):
            return session.touched + self.settings.state_ttl
        return None

    # --- shared ------------------------------------------------------------------------------------------------------

    def _book(self, ticket_id: str, ticket: TicketRow | None, session: SessionRow, clock: Micros) -> RoundBook:
        return RoundBook(
            ticket_id=ticket_id,
            ticket=ticket,
            lapse=session.lapse,
            pending=session.pending,
            rules=self.rules,
            policy=self.settings.rounds,
            now=clock,
        )

    @staticmethod
    def _close(book: RoundBook, row: SessionRow) -> SessionRow:
        """Return the row with the book's rounds; a lapse that no round needs any more is dropped."""
        outstanding = row.outstanding
        if book.commands:
            issued = tuple((command.command_id, command.issued_at) for command in book.commands)
            outstanding = (*outstanding, *issued)[-OUTSTANDING_KEPT:]
        return msgspec.structs.replace(
            row, lapse=book.lapse if book.pending else None, pending=tuple(book.pending), outstanding=outstanding
        )


def _merge(old: dict[str, Value] | None, changes: dict[str, Value]) -> dict[str, Value]:
    """Members present replace, members absent stay, None clears."""
    fields = old | changes if old else {**changes}
    if None in changes.values():
        if "custom_fields" in changes:
            for field in old or ():
                if field.startswith(CUSTOM_FIELD_PREFIX) and field not in changes:
                    del fields[field]
        for field, value in changes.items():
            if value is None:
                del fields[field]
    return fields


def _repeated(row: SessionRow, update: SessionUpdate, clock: Micros) -> SessionRow:
    """Return the row of a session that is told once more to be in the state that it is in: the commonest event."""
    return SessionRow(
        row.state,
        row.reason,
        row.since,
        row.session_id,
        row.channel if update.channel is None else update.channel,
        row.episode,
        ordering.advance(row.order, update),
        clock,
        row.lapse,
        row.pending,
        row.opened_at,
        row.abandoned,
        row.session_abandoned,
        row.ticket_abandoned,
        row.outstanding,
    )


def _abandonment_facts(done: Change, row: SessionRow, opened_at: Micros | None, occurred_at: Micros) -> Iterator[Fact]:
    channel = done.channel or m.NONE
    yield Fact(m.ABANDONMENT, (done.reason or m.NONE, channel))
    if done.new_session or not row.session_abandoned:
        yield Fact(m.SESSION_ABANDONED, (channel,))
    if not row.ticket_abandoned:
        yield Fact(m.TICKET_ABANDONED, (channel,))
    if opened_at is not None:
        yield Fact(m.TIME_TO_ABANDON_SECONDS, amount=max(0, occurred_at - opened_at) / m.SECOND)


def _empty_row(clock: Micros) -> SessionRow:
    return SessionRow(
        state=None, reason=None, since=clock, session_id=None, channel=None, episode=0, order=None, touched=clock
    )


def _is_over(ticket: TicketRow | None, session: SessionRow | None) -> bool:
    if ticket is not None and (ticket.fields is None or ticket.fields.get("status") == "closed"):
        return True
    return session is not None and session.state == ENDED


def _is_forgotten(session: SessionRow | None) -> bool:
    return session is not None and session.state is None
