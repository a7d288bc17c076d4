"""Silence as presence: an engine that finds who has not written for too long, for channels that report no presence.

It takes the same records as the engine of the worker and decides on session states instead of commands. For a ticket
on a channel that has a wait, the *mark* is the instant from which silence counts: the customer's latest message, or a
later `active` that somebody else reported. When stream time reaches mark + wait, the session becomes `inactive` with
the reason `silent`; with the next message it becomes `active` again.

**It reads the topic that it writes.** Its own states are known by their event id and decide nothing: what they say is
in the row since the step that made them. States of others are judged by the order rules of the worker, against a row
that counts our own states too, so that both sides agree about what is stale.

- A session that somebody else has reported as `inactive` or `ended` is left alone, until somebody reports `active`.
- Until a state of ours is read back, what is read of others comes before it in the topic. Of the same instant or an
  earlier one, it changes nothing: the worker takes ours after it, and ours holds.
- The event id holds the mark. A mark only ever grows, so no two states of a ticket have the same id, and a step that
  is repeated after a crash makes the same one.
- The instant of a state is never before the latest one known for the session: otherwise the worker would take it for
  stale. A message that arrives after its wait was over, but was written before, makes the session active at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias, cast

import msgspec
from msgspec.structs import replace

from streams.core import model as m
from streams.core import ordering
from streams.core.cycle import Rules
from streams.core.engine import Engine, EngineSettings
from streams.core.model import (
    Due,
    Fact,
    Micros,
    OrderKey,
    Outcome,
    PendingRound,
    SessionRow,
    SessionUpdate,
    SilentState,
    TicketRow,
    TicketUpdate,
)
from streams.core.names import Result, Table
from streams.core.normal import name
from streams.core.session import ACTIVE, ENDED, INACTIVE
from streams.core.tables import Tables
from streams.core.triggers import Ruleset

SILENT = "silent"
"""The reason of every `inactive` that is written here."""

CUSTOMER_MESSAGE_AT = "customer_message_at"
"""The member of a ticket update that tells when the customer wrote, as an RFC 3339 time."""

OWN_STATES = "lapse-silence/"
"""How the event id of every state that is written here begins."""

ReadInstant: TypeAlias = Callable[[str], Micros | None]
"""Reads an RFC 3339 time; None when it is none."""


class SilenceRow(SessionRow, frozen=True, gc=False):
    """What is known about one ticket. `streams.wire.silence` says which members of the session row it uses.

    The one pending round is the wait that is running.
    """

    mark: Micros | None = None
    """The instant from which silence counts; None before the first message or `active`."""
    ours: bool = False
    """Whether `inactive` was written here, so that the next message ends it."""
    ticket_channel: str | None = None
    over: bool = False
    """Whether the ticket is closed or deleted."""
    deleted_at: Micros | None = None
    """Record timestamp of the ticket's latest tombstone: updates that happened before it are stale."""
    unread: int = 0
    """How many of our own states were written and not yet read back."""


_NOTHING = Outcome(Result.APPLIED, rows_only=True)
_STALE = Outcome(Result.STALE, rows_only=True)
_DUPLICATE = Outcome(Result.DUPLICATE, rows_only=True)
_NOTHING_DUE = Outcome(Result.DUE, rows_only=True)


class SilenceEngine(Engine):
    """Waits by channel; holds no state of its own."""

    def __init__(
        self, waits: Mapping[str, Micros], read_instant: ReadInstant, settings: EngineSettings | None = None
    ) -> None:
        """`waits`: how long a customer may be silent, by normalised channel. Of the settings, `act_from` and
        `state_ttl` are used."""
        super().__init__(Rules(Ruleset(())), settings)
        self._waits = waits
        self._read_instant = read_instant

    def step(self, tables: Tables, record: TicketUpdate | SessionUpdate | Due, clock: Micros) -> Outcome:
        """Return the outcome of one input; see `Engine.step`."""
        row = cast(SilenceRow | None, tables.session(record.ticket_id))
        if type(record) is TicketUpdate:
            return self._on_update(row, record, clock)
        if type(record) is SessionUpdate:
            return self._on_state(row, record, clock)
        assert type(record) is Due  # noqa: S101
        return self._on_timer(row, record, clock)

    def end_of_state(self, ticket: TicketRow | None, session: SessionRow | None) -> Micros | None:
        """Return the stream time at which the row of a ticket expires; None while it does not expire."""
        if session is None or not _is_over(cast(SilenceRow, session)):
            return None
        return session.touched + self.settings.state_ttl

    # --- ticket updates ----------------------------------------------------------------------------------------------

    def _on_update(self, row: SilenceRow | None, update: TicketUpdate, clock: Micros) -> Outcome:
        if update.changes is None:
            before = row or _empty(clock)
            deleted_at = max(update.timestamp, before.deleted_at or update.timestamp)
            return self._stored(row, replace(before, over=True, deleted_at=deleted_at), clock)
        if row is not None and row.deleted_at is not None and update.occurred_at < row.deleted_at:
            return _STALE
        said = update.changes.get("channel")
        channel = name(said) if isinstance(said, str) else None
        written_at = self._written_at(update)
        if row is None and channel not in self._waits and (written_at is None or channel is not None):
            return _NOTHING
        before = row or _empty(clock)
        after = replace(
            before,
            ticket_channel=channel or before.ticket_channel,
            # Nothing reopens a closed ticket. An update after a deletion is that of a ticket that was restored.
            over=update.changes.get("status") == "closed" or (before.over and before.deleted_at is None),
        )
        if written_at is not None and (before.mark is None or written_at > before.mark) and not after.over:
            return self._heard(update.ticket_id, row, after, written_at, clock)
        return _NOTHING if row == after else self._stored(row, after, clock)

    def _written_at(self, update: TicketUpdate) -> Micros | None:
        """Return when the customer wrote, as the update says it; never later than the update itself."""
        value = (update.changes or {}).get(CUSTOMER_MESSAGE_AT)
        written_at = self._read_instant(value) if isinstance(value, str) else None
        return None if written_at is None else min(written_at, max(update.occurred_at, update.timestamp))

    def _heard(
        self, ticket_id: str, row: SilenceRow | None, after: SilenceRow, written_at: Micros, clock: Micros
    ) -> Outcome:
        """Return the outcome of a message of the customer: the wait begins anew, and our own `inactive` ends."""
        after = replace(after, mark=written_at)
        if not after.ours:
            return self._stored(row, after, clock, waits=True)
        state = _state(ticket_id, after, ACTIVE, None, written_at)
        return self._stored(row, _with(after, state, ours=False), clock, waits=True, state=state)

    # --- session states ----------------------------------------------------------------------------------------------

    def _on_state(self, row: SilenceRow | None, update: SessionUpdate, clock: Micros) -> Outcome:
        if update.event_id.startswith(OWN_STATES):
            if row is None or not row.unread:
                return _NOTHING
            return self._stored(row, replace(row, unread=row.unread - 1), clock)
        if row is None and update.channel not in self._waits:
            return _NOTHING
        before = row or _empty(clock)
        if update.state is None:
            order = ordering.delete(before.order, update.timestamp)
            return self._stored(
                row, replace(before, state=None, reason=None, channel=None, mark=None, ours=False, order=order), clock
            )
        verdict = ordering.judge(before.order, update)
        if verdict is not Result.APPLIED:
            return _STALE if verdict is Result.STALE else _DUPLICATE
        if before.unread and before.order is not None and update.occurred_at <= before.order.occurred_at:
            return _STALE
        stays_ended = before.state == ENDED and update.state == INACTIVE
        after = replace(
            before,
            state=before.state if stays_ended else update.state,
            reason=update.reason if update.state == INACTIVE and not stays_ended else None,
            since=update.occurred_at,
            channel=update.channel or before.channel,
            order=ordering.advance(before.order, update),
            ours=False,
        )
        if update.state == ACTIVE and after.order is not None:
            # The instant in the order key: a state with a sequence may be older than the state before it.
            after = replace(after, mark=max(after.order.occurred_at, before.mark or after.order.occurred_at))
        return self._stored(row, after, clock, waits=True)

    # --- timers ------------------------------------------------------------------------------------------------------

    def _on_timer(self, row: SilenceRow | None, due: Due, clock: Micros) -> Outcome:
        if due.wait == m.END_OF_STATE:
            return self._on_end_of_state(row, due)
        if row is None or not any((entry.due, entry.wait) == (due.at, due.wait) for entry in row.pending):
            return _NOTHING_DUE
        act_from = self.settings.rounds.act_from
        # The channel may have lost its wait in a restart since the wait began.
        if self._wait_of(row) is None or (act_from is not None and due.at < act_from):
            return self._stored(row, row, clock, result=Result.DUE)
        state = _state(due.ticket_id, row, INACTIVE, SILENT, due.at)
        return self._stored(row, _with(row, state, ours=True), clock, state=state, result=Result.DUE)

    def _on_end_of_state(self, row: SilenceRow | None, due: Due) -> Outcome:
        at = self.end_of_state(None, row)
        if at is None:
            return _NOTHING_DUE
        if at > due.at:
            return Outcome(Result.DUE, timers=((at, m.END_OF_STATE),))
        return Outcome(Result.DUE, expired=(Table.SESSIONS,), facts=(Fact(m.EXPIRED_ROW, (Table.SESSIONS,)),))

    # --- shared ------------------------------------------------------------------------------------------------------

    def _wait_of(self, row: SilenceRow) -> Micros | None:
        """Return how long this customer may be silent: the session's channel counts, then that of the ticket."""
        for channel in (row.channel, row.ticket_channel):
            if channel is not None and channel in self._waits:
                return self._waits[channel]
        return None

    def _stored(
        self,
        before: SilenceRow | None,
        after: SilenceRow,
        clock: Micros,
        *,
        waits: bool = False,
        state: SilentState | None = None,
        result: Result = Result.APPLIED,
    ) -> Outcome:
        """Return the outcome that stores a row.

        With `waits` the wait begins anew where there is something to wait for. Without, the wait that was running goes
        on after a record; after a timer it is over.
        """
        pending = before.pending if before is not None and result is not Result.DUE else ()
        wait = self._wait_of(after)
        if _is_over(after) or after.state == INACTIVE or after.mark is None or wait is None:
            pending = ()
        elif waits or (not pending and before is not None and self._wait_of(before) is None):
            pending = (PendingRound(after.mark + wait, wait),)
        had = () if before is None else before.pending
        timers = tuple((entry.due, entry.wait) for entry in pending if entry not in had)
        after = replace(after, pending=pending, touched=clock)
        at = self.end_of_state(None, after)
        return Outcome(
            result,
            session=after,
            states=() if state is None else (state,),
            timers=timers if at is None else (*timers, (at, m.END_OF_STATE)),
            rounds=len(pending) - len(had),
        )


def _is_over(row: SilenceRow) -> bool:
    """Whether nothing more is expected: the ticket is closed or deleted, the session ended or was forgotten."""
    return row.over or row.state == ENDED or (row.state is None and row.mark is None)


def _state(ticket_id: str, row: SilenceRow, state: str, reason: str | None, at: Micros) -> SilentState:
    occurred_at = at if row.order is None else max(at, row.order.occurred_at)
    # Instants are written with milliseconds. Rounded down, this one could come before the latest one known.
    occurred_at = -(-occurred_at // m.MILLISECOND) * m.MILLISECOND
    event_id = f"{OWN_STATES}{ticket_id}/{row.mark}/{state}"
    return SilentState(ticket_id, event_id, occurred_at, state, reason, row.channel or row.ticket_channel)


def _with(row: SilenceRow, state: SilentState, *, ours: bool) -> SilenceRow:
    """Return the row as the worker's will be once it has read the state."""
    order: OrderKey = ordering.advance(row.order, _Ordered(state.event_id, state.occurred_at))
    return replace(
        row,
        state=state.state,
        reason=state.reason,
        since=state.occurred_at,
        order=order,
        ours=ours,
        unread=row.unread + 1,
    )


class _Ordered(msgspec.Struct, frozen=True, gc=False):
    """A state of ours as the order rules see it."""

    event_id: str
    occurred_at: Micros
    sequence: int | None = None


def _empty(clock: Micros) -> SilenceRow:
    return SilenceRow(
        state=None, reason=None, since=clock, session_id=None, channel=None, episode=0, order=None, touched=clock
    )
