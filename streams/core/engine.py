"""The engine: every change of state goes through `step`.

A step takes one input (a ticket update, a session update, or a timer that stream time has reached), reads the two rows
of its ticket, and returns an `Outcome`: the new rows, the records and commands to write, the timers to set, and the
facts to count. It changes nothing itself. The other modules of the core:

- `ordering`: whether the event is new
- `session`: the transition table
- `rounds`: the rounds that a lapse starts, now and later
- `abandonment`: the abandonment figures
- `cycle`, `conditions`, `actions`: which triggers fire and how they change the ticket
- `command`: the resulting command
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from typing import Self, TypeAlias

import msgspec

from streams.core import abandonment, ordering
from streams.core import model as m
from streams.core.cycle import Rules
from streams.core.guard import Guard
from streams.core.model import (
    Cancellation,
    Cancelled,
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
from streams.core.names import Result, Table
from streams.core.normal import CUSTOM_FIELD_PREFIX
from streams.core.rounds import RoundPolicy, Rounds
from streams.core.session import ACTIVE, ENDED, Change, change
from streams.core.tables import Tables

OUTSTANDING_KEPT = 64
"""Maximum number of outstanding commands per ticket, so that the row stays bounded if a consumer never reports back."""

DAY: Micros = 86_400 * m.SECOND

_CANCELLED_BY = {
    Kind.RESUMED: Cancelled.RESUMED,
    Kind.ENDED: Cancelled.SESSION_ENDED,
    Kind.LAPSED: Cancelled.NEW_EPISODE,
}
"""Why a transition of the same session cancels rounds; for any other kind, the session has left `inactive`."""


class EngineSettings(msgspec.Struct, frozen=True):
    """The settings of the engine, apart from the rules."""

    rounds: RoundPolicy = RoundPolicy()
    first_inactive_lapses: bool = True
    state_ttl: Micros = 30 * DAY
    abandonment_reasons: frozenset[str] = frozenset({"user_inactive_or_offline"})
    false_abandonment_window: Micros = 300 * m.SECOND


_STALE = Outcome(Result.STALE, rows_only=True)
_DUPLICATE = Outcome(Result.DUPLICATE, rows_only=True)
_NOTHING_DUE = Outcome(Result.DUE, rows_only=True)

_Timers: TypeAlias = tuple[tuple[Micros, Micros], ...]


class Engine:
    """Rules and settings; holds no state of its own."""

    def __init__(self, rules: Rules, settings: EngineSettings | None = None) -> None:
        """Set the compiled rules and the settings."""
        self.rules = rules
        self.settings = settings or EngineSettings()

    def acting_from(self, act_from: Micros | None) -> Self:
        """Return the same engine with another instant before which lapses are historic."""
        return self._with(self.rules, msgspec.structs.replace(self.settings.rounds, act_from=act_from))

    def ruled_by(self, rules: Rules, *, dry_run: bool) -> Self:
        """Return the same engine with other rules. `dry_run` holds in addition to the setting."""
        dry_run = dry_run or self.settings.rounds.dry_run
        return self._with(rules, msgspec.structs.replace(self.settings.rounds, dry_run=dry_run))

    def _with(self, rules: Rules, rounds: RoundPolicy) -> Self:
        engine = copy(self)
        engine.rules, engine.settings = rules, msgspec.structs.replace(self.settings, rounds=rounds)
        return engine

    def step(self, tables: Tables, record: TicketUpdate | SessionUpdate | Due, clock: Micros) -> Outcome:
        """Return the outcome of one input. `clock` is stream time, already advanced to the input's own timestamp."""
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
            return self._ticket_deleted(tables, update, row, clock)
        order = None if row is None else row.order
        verdict = ordering.judge(order, update)
        if verdict is not Result.APPLIED:
            return _STALE if verdict is Result.STALE else _DUPLICATE

        existed = row is not None and row.fields is not None
        fields = _merge(row.fields if row is not None else None, update.changes)
        new_row = TicketRow(fields, ordering.advance(order, update), clock)
        closed = fields.get("status") == "closed"
        timers = self._end_timer(clock) if closed else ()
        session = tables.session(update.ticket_id) if closed or not existed or update.command_id is not None else None
        withdraws = closed and session is not None and bool(session.held)
        if existed and update.command_id is None and not update.oversized and not withdraws:
            return Outcome(Result.APPLIED, ticket=new_row, timers=timers, rows_only=not timers)

        facts = [Fact(m.OVERSIZED_MEMBER, amount=update.oversized)] if update.oversized else []
        if session is None:
            return Outcome(Result.APPLIED, ticket=new_row, timers=timers, facts=tuple(facts))
        rounds = self._rounds(tables, update.ticket_id, new_row, session, clock)
        if withdraws:
            rounds.withdraw()
        if not existed:
            # Only a ticket that had no row has parked rounds.
            rounds.join(update.occurred_at)
        outstanding = session.outstanding
        for command_id, issued_at in session.outstanding:
            if command_id == update.command_id:
                outstanding = tuple(entry for entry in outstanding if entry[0] != command_id)
                facts.append(Fact(m.COMMAND_APPLIED))
                seconds = max(0, update.occurred_at - issued_at) / m.SECOND
                facts.append(Fact(m.COMMAND_APPLY_SECONDS, amount=seconds))
        after = msgspec.structs.replace(session, outstanding=outstanding)
        outcome = _outcome(rounds, session, after, ticket=new_row, timers=timers, facts=facts)
        return msgspec.structs.replace(outcome, session=None) if outcome.session == session else outcome

    def _ticket_deleted(self, tables: Tables, update: TicketUpdate, row: TicketRow | None, clock: Micros) -> Outcome:
        ticket_id = update.ticket_id
        new_row = TicketRow(None, ordering.delete(None if row is None else row.order, update.timestamp), clock)
        timers = self._end_timer(clock)
        session = tables.session(ticket_id)
        if session is None or not (session.pending or session.held):
            return Outcome(Result.APPLIED, ticket=new_row, timers=timers)
        rounds = self._rounds(tables, ticket_id, new_row, session, clock)
        rounds.cancel(Cancellation(Cancelled.TICKET_DELETED, update.event_id, update.occurred_at))
        return _outcome(rounds, session, session, ticket=new_row, timers=timers)

    # --- session side ------------------------------------------------------------------------------------------------

    def _session(self, tables: Tables, update: SessionUpdate, clock: Micros) -> Outcome:
        row = tables.session(update.ticket_id)
        if update.state is None:
            return self._session_forgotten(tables, update, row, clock)
        order = None if row is None else row.order
        verdict = ordering.judge(order, update)
        if verdict is not Result.APPLIED:
            return _STALE if verdict is Result.STALE else _DUPLICATE

        if (
            row is not None
            and update.state == row.state == ACTIVE
            and (update.session_id is None or update.session_id == row.session_id)
        ):
            return Outcome(Result.APPLIED, session=_repeated(row, update, clock), rows_only=True)
        settings = self.settings
        done = change(row, update, first_inactive_lapses=settings.first_inactive_lapses)
        before = row if row is not None else _empty_row(clock)
        figures, facts = abandonment.count(
            before,
            done,
            update,
            reasons=settings.abandonment_reasons,
            false_window=settings.false_abandonment_window,
        )
        after = _row_after(before, done, update, figures, clock)
        if done.kind is None:
            return Outcome(Result.APPLIED, session=after, rows_only=True)
        transition = Transition(
            ticket_id=update.ticket_id,
            event_id=update.event_id,
            occurred_at=update.occurred_at,
            session_id=done.session_id,
            kind=done.kind,
            before=done.before_state,
            after=update.state,
            reason=update.reason,
            episode=after.episode,
            channel=done.channel,
        )
        timers = self._end_timer(clock) if done.state == ENDED else ()
        lapse = None
        if done.lapsed:
            lapse = Lapse(
                event_id=update.event_id,
                occurred_at=update.occurred_at,
                timestamp=update.timestamp,
                episode=after.episode,
                before_state=done.before_state,
                before_reason=done.before_reason,
                before_channel=done.before_channel,
                reason=done.reason,
                channel=done.channel,
                traceparent=update.traceparent,
            )
        starts = lapse is not None and bool(self.rules.waits)
        if not before.pending and not before.held and not starts:
            return Outcome(
                Result.APPLIED, session=after, lapse=lapse, records=(transition,), timers=timers, facts=tuple(facts)
            )

        ticket = tables.ticket(update.ticket_id) if starts else None
        rounds = self._rounds(tables, update.ticket_id, ticket, before, clock)
        if done.other_session:
            rounds.cancel(Cancellation(Cancelled.OTHER_SESSION, update.event_id, update.occurred_at))
        rounds.records.append(transition)
        if done.ends_waiting:
            why = _CANCELLED_BY.get(done.kind, Cancelled.SESSION_CHANGED)
            rounds.cancel(Cancellation(why, update.event_id, update.occurred_at))
        if lapse is not None and starts:
            rounds.begin(lapse)
        return _outcome(rounds, before, after, lapse=lapse, timers=timers, facts=facts)

    def _session_forgotten(
        self, tables: Tables, update: SessionUpdate, row: SessionRow | None, clock: Micros
    ) -> Outcome:
        before = row if row is not None else _empty_row(clock)
        rounds = self._rounds(tables, update.ticket_id, None, before, clock)
        rounds.cancel(Cancellation(Cancelled.SESSION_FORGOTTEN, update.event_id, update.occurred_at))
        after = msgspec.structs.replace(
            before,
            state=None,
            reason=None,
            since=clock,
            session_id=None,
            channel=None,
            order=ordering.delete(before.order, update.timestamp),
            touched=clock,
            opened_at=None,
            session_abandoned=False,
        )
        return _outcome(rounds, before, after, timers=self._end_timer(clock))

    # --- timers ------------------------------------------------------------------------------------------------------

    def _due(self, tables: Tables, due: Due, clock: Micros) -> Outcome:
        if due.wait == m.END_OF_STATE:
            return self._end_of_state(tables, due, clock)
        session = tables.session(due.ticket_id)
        if session is None or not session.pending:
            return _NOTHING_DUE
        rounds = self._rounds(tables, due.ticket_id, tables.ticket(due.ticket_id), session, clock)
        if not rounds.reach(due.at, due.wait):
            return _NOTHING_DUE
        return _outcome(rounds, session, session, result=Result.DUE)

    def _end_of_state(self, tables: Tables, due: Due, clock: Micros) -> Outcome:
        ticket, session = tables.ticket(due.ticket_id), tables.session(due.ticket_id)
        at = self.end_of_state(ticket, session)
        if at is None:
            return _NOTHING_DUE
        if at > due.at:
            return Outcome(Result.DUE, timers=((at, m.END_OF_STATE),))
        expired = tuple(
            table
            for table, row, ends in (
                (Table.TICKETS, ticket, _is_over(ticket, session)),
                (Table.SESSIONS, session, _is_over(ticket, session) or _is_forgotten(session)),
            )
            if row is not None and ends
        )
        facts = tuple(Fact(m.EXPIRED_ROW, (table,)) for table in expired)
        if session is None or not (session.pending or session.held):
            return Outcome(Result.DUE, expired=expired, facts=facts)
        rounds = self._rounds(tables, due.ticket_id, ticket, session, clock)
        rounds.cancel(Cancellation(Cancelled.EXPIRED, None, due.at))
        outcome = _outcome(rounds, session, session, result=Result.DUE, facts=facts)
        return msgspec.structs.replace(outcome, session=None, expired=expired)

    def end_of_state(self, ticket: TicketRow | None, session: SessionRow | None) -> Micros | None:
        """Return the stream time at which the rows of a ticket expire; None while they do not expire."""
        if _is_over(ticket, session):
            touched = max(row.touched for row in (ticket, session) if row is not None)
            return touched + self.settings.state_ttl
        if session is not None and _is_forgotten(session):
            return session.touched + self.settings.state_ttl
        return None

    # --- shared ------------------------------------------------------------------------------------------------------

    def _rounds(
        self, tables: Tables, ticket_id: str, ticket: TicketRow | None, session: SessionRow, clock: Micros
    ) -> Rounds:
        limits = self.rules.limits
        return Rounds(
            ticket_id=ticket_id,
            ticket=ticket,
            lapse=session.lapse,
            pending=session.pending,
            rules=self.rules,
            policy=self.settings.rounds,
            now=clock,
            held=session.held,
            guard=Guard(tables, limits, clock) if limits else None,
        )

    def _end_timer(self, clock: Micros) -> _Timers:
        return ((clock + self.settings.state_ttl, m.END_OF_STATE),)


def _outcome(
    rounds: Rounds,
    before: SessionRow,
    after: SessionRow,
    *,
    result: Result = Result.APPLIED,
    ticket: TicketRow | None = None,
    lapse: Lapse | None = None,
    timers: _Timers = (),
    facts: Iterable[Fact] = (),
) -> Outcome:
    """Return the outcome of a step that used rounds; a lapse that no round needs any more is dropped from the row."""
    outstanding, group = after.outstanding, after.holdout_group
    if rounds.holdout_group is not None and group is None and abandonment.is_of(after.abandoned, rounds.lapse):
        group = rounds.holdout_group
        rounds.facts.append(Fact(m.HOLDOUT_ABANDONMENT, (group,)))
    if rounds.issued:
        outstanding = (*outstanding, *rounds.issued)[-OUTSTANDING_KEPT:]
    return Outcome(
        result,
        ticket=ticket,
        session=msgspec.structs.replace(
            after,
            lapse=rounds.lapse if rounds.pending else None,
            pending=tuple(rounds.pending),
            outstanding=outstanding,
            holdout_group=group,
            held=rounds.held_ids,
        ),
        lapse=lapse,
        records=tuple(rounds.records),
        commands=tuple(rounds.commands),
        held=tuple(rounds.held),
        own_rows=rounds.guard_rows,
        timers=timers + tuple(rounds.timers),
        facts=(*facts, *rounds.facts),
        rounds=len(rounds.pending) - len(before.pending),
    )


def _merge(old: dict[str, Value] | None, changes: dict[str, Value]) -> dict[str, Value]:
    """Merge changes into fields: a member that is present replaces, one that is absent stays, None clears."""
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
    """Return the row after an event that repeats the session's current state, which is the most common event."""
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
        row.holdout_group,
        row.held,
    )


def _row_after(
    before: SessionRow, done: Change, update: SessionUpdate, figures: abandonment.Figures, clock: Micros
) -> SessionRow:
    """Return the row of a session after an event, with its rounds unchanged."""
    changed = done.kind is not None and done.state != done.before_state
    return SessionRow(
        state=done.state,
        reason=done.reason,
        since=update.occurred_at if changed else before.since,
        session_id=done.session_id,
        channel=done.channel,
        episode=before.episode + 1 if done.lapsed else before.episode,
        order=ordering.advance(before.order, update),
        touched=clock,
        lapse=before.lapse,
        pending=before.pending,
        opened_at=figures.opened_at,
        abandoned=figures.abandoned,
        session_abandoned=figures.session_abandoned,
        ticket_abandoned=figures.ticket_abandoned,
        outstanding=before.outstanding,
        holdout_group=figures.holdout_group,
        held=before.held,
    )


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
