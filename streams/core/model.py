"""The records the engine reads, keeps and returns.

Every instant and every duration in this package is an integer number of microseconds (instants: since the Unix
epoch, UTC), because the order of events counts microseconds while Kafka's record timestamps are milliseconds:
`occurred_at`, `timestamp`, `due`, `wait`. The wire cuts what it prints to milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, TypeAlias

import msgspec

from streams.core.names import Result, Table

Scalar: TypeAlias = str | int | float | bool
Value: TypeAlias = Scalar | list[Any] | None
"""A field's value: a scalar, a list (tags, multi-selects), or None for *no value*."""

Micros: TypeAlias = int

MILLISECOND: Micros = 1_000
SECOND: Micros = 1_000_000


# --- records in ------------------------------------------------------------------------------------------------------


class TicketUpdate(msgspec.Struct, frozen=True, gc=False):
    """One decoded, normalised record of the ticket topic; `changes is None` is a tombstone.

    `changes` is flat: custom fields stand beside the members as `custom_fields_<id>`, a value of None clears its
    field, and the key `custom_fields` with None clears all of them first. `oversized` counts members that were
    dropped for their size (their entry in `changes` is None).
    """

    ticket_id: str
    event_id: str
    occurred_at: Micros
    timestamp: Micros
    changes: dict[str, Value] | None
    sequence: int | None = None
    command_id: str | None = None
    oversized: int = 0
    size: int = 0


class SessionUpdate(msgspec.Struct, frozen=True, gc=False):
    """One decoded, normalised record of the session topic; `state is None` is a tombstone."""

    ticket_id: str
    event_id: str
    occurred_at: Micros
    timestamp: Micros
    state: str | None
    reason: str | None = None
    session_id: str | None = None
    channel: str | None = None
    sequence: int | None = None
    size: int = 0
    traceparent: str | None = None
    """W3C trace context of the record's header, for the commands that it leads to."""


class Rejection(msgspec.Struct, frozen=True, gc=False):
    """Why a record goes to the dead letters. `keep_value` is false where the value itself is too large to carry."""

    code: str
    path: str
    message: str
    keep_value: bool = True


# --- rows ------------------------------------------------------------------------------------------------------------


class OrderKey(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What decides whether the next event of this ticket and topic is new: SPEC section 2, *Order*."""

    occurred_at: Micros
    seen: tuple[str, ...] = ()
    """Event ids applied at exactly `occurred_at`, oldest first, the last 64."""
    sequence: int | None = None
    deleted_at: Micros | None = None
    """Record timestamp of the latest tombstone: whatever happened before it is stale."""


class TicketRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The ticket side. `fields` is flat as in `TicketUpdate`; None after a tombstone (the order key outlives it)."""

    fields: dict[str, Value] | None
    order: OrderKey | None
    touched: Micros
    """Stream time at which the last event was applied."""


class Lapse(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One transition into inactive, as the rounds of its episode need it."""

    event_id: str
    occurred_at: Micros
    timestamp: Micros
    episode: int
    before_state: str | None
    before_reason: str | None
    before_channel: str | None
    reason: str | None
    channel: str | None
    traceparent: str | None = None


class PendingRound(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A round that has not ended: waiting for `due`, or, when `parked_until` is set, for its ticket."""

    due: Micros
    wait: Micros
    parked_until: Micros | None = None

    @property
    def next_at(self) -> Micros:
        """The instant at which stream time alone moves this round on."""
        return self.due if self.parked_until is None else self.parked_until


class SessionRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The session side: state of the live exchange, its episode count and the rounds that wait.

    `state is None` after a tombstone. `opened_at`, `abandoned` (instant and channel of the latest abandonment that
    nobody has returned from) and the two flags serve the abandonment figures only (SPEC section 8); `outstanding`
    holds (command id, issued at) of commands no ticket update has named yet.
    """

    state: str | None
    reason: str | None
    since: Micros
    session_id: str | None
    channel: str | None
    episode: int
    order: OrderKey | None
    touched: Micros
    lapse: Lapse | None = None
    pending: tuple[PendingRound, ...] = ()
    opened_at: Micros | None = None
    abandoned: tuple[Micros, str | None] | None = None
    session_abandoned: bool = False
    ticket_abandoned: bool = False
    outstanding: tuple[tuple[str, Micros], ...] = ()


# --- records out -----------------------------------------------------------------------------------------------------


class Kind(StrEnum):
    """What a session event did: the `kind` column of SPEC section 3."""

    OPENED = "opened"
    LAPSED = "lapsed"
    FIRST_SEEN = "first_seen"
    REASON_CHANGED = "reason_changed"
    RESUMED = "resumed"
    ENDED = "ended"
    OTHER = "other"


class RoundOutcome(StrEnum):
    """How a round ended: SPEC section 4, *Outcome*."""

    COMMANDED = "commanded"
    NO_OP = "no_op"
    NO_MATCH = "no_match"
    UNJOINED = "unjoined"
    CANCELLED = "cancelled"
    CLOSED = "closed"
    HISTORIC = "historic"
    DRY_RUN = "dry_run"


class Transition(msgspec.Struct, frozen=True, gc=False):
    """One row of SPEC section 3 that happened."""

    ticket_id: str
    event_id: str
    occurred_at: Micros
    session_id: str | None
    kind: Kind
    before: str | None
    after: str
    reason: str | None
    episode: int
    channel: str | None


class Cancelled(StrEnum):
    """What cancels rounds that wait."""

    RESUMED = "resumed"
    SESSION_ENDED = "session_ended"
    OTHER_SESSION = "other_session"
    NEW_EPISODE = "new_episode"
    SESSION_CHANGED = "session_changed"
    TICKET_DELETED = "ticket_deleted"
    SESSION_FORGOTTEN = "session_forgotten"
    EXPIRED = "expired"


class Cancellation(msgspec.Struct, frozen=True, gc=False):
    """What cancelled a round, by which event, and when that happened; an expiry has no event."""

    what: Cancelled
    event_id: str | None
    at: Micros


class Evaluation(msgspec.Struct, frozen=True, gc=False):
    """The end of one round; `event_id` and `occurred_at` are the lapse's."""

    ticket_id: str
    event_id: str
    occurred_at: Micros
    episode: int
    wait: Micros
    outcome: RoundOutcome
    triggers: tuple[str, ...] = ()
    command_id: str | None = None
    lapse: Lapse | None = None
    ticket: TicketRow | None = None
    """With `lapse`, what the round looked at, for whoever explains it later; neither is written to a topic."""
    cancelled_by: Cancellation | None = None
    """Why the outcome is `cancelled`; not written to a topic either."""


class FieldValue(msgspec.Struct, frozen=True, gc=False):
    """One entry of a command's `actions`."""

    field: str
    value: Any


class Command(msgspec.Struct, frozen=True, gc=False):
    """What a round asks a downstream consumer to do to the ticket, in one update."""

    command_id: str
    ticket_id: str
    issued_at: Micros
    lapse: Lapse
    wait: Micros
    triggers: tuple[tuple[str, str], ...]
    """(id, title) of every trigger that fired, in firing order."""
    actions: tuple[FieldValue, ...]
    expected: Mapping[str, Value]
    ruleset: str


# --- facts -----------------------------------------------------------------------------------------------------------


class Fact(msgspec.Struct, frozen=True, gc=False):
    """Something worth counting, told by the engine, counted by telemetry after the commit.

    `name` is one of the constants below; `labels` are raw values (telemetry bounds them); `amount` is a count, or
    seconds for the `*_SECONDS` facts.
    """

    name: str
    labels: tuple[str, ...] = ()
    amount: float = 1


NONE = "none"
"""Label of a reason or a channel that an event does not have."""

TRANSITION = "transition"  # labels: kind, reason or "none", channel or "none"
SESSION = "session"  # labels: channel; a session's first event
SESSION_ABANDONED = "session_abandoned"  # labels: channel; a session's first abandonment
ABANDONMENT = "abandonment"  # labels: reason, channel; each episode
TICKET_ABANDONED = "ticket_abandoned"  # labels: channel; a ticket's first abandonment
FALSE_ABANDONMENT = "false_abandonment"  # labels: channel
TIME_TO_ABANDON_SECONDS = "time_to_abandon_seconds"
TIME_TO_RETURN_SECONDS = "time_to_return_seconds"
ROUND = "round"  # labels: outcome
TRIGGER_FIRED = "trigger_fired"  # labels: trigger id
COMMAND = "command"
COMMAND_APPLIED = "command_applied"
COMMAND_APPLY_SECONDS = "command_apply_seconds"
OVERSIZED_MEMBER = "oversized_member"
EXPIRED_ROW = "expired_row"  # labels: table


END_OF_STATE: Micros = -1
"""Stands for the wait of the timer that ends a ticket's state."""


class Due(msgspec.Struct, frozen=True, gc=False):
    """Stream time has reached a timer of a ticket; `wait` tells its rounds apart."""

    at: Micros
    wait: Micros
    ticket_id: str


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """All that one engine step changed or said. Rows are set only where they changed; see `deleted`."""

    result: Result
    """`applied`, `stale` or `duplicate` for a record; `due` for a timer."""
    ticket: TicketRow | None = None
    session: SessionRow | None = None
    expired: tuple[Table, ...] = ()
    """Tables whose row of this ticket is gone (state_ttl)."""
    records: tuple[Transition | Evaluation, ...] = ()
    commands: tuple[Command, ...] = ()
    timers: tuple[tuple[Micros, Micros], ...] = ()
    """New timers of the ticket as (at, wait); the wait `END_OF_STATE` is the end of its state."""
    facts: tuple[Fact, ...] = ()
    rounds: int = 0
    """By how many the ticket's pending rounds changed."""
    rows_only: bool = False
    """True when there is nothing here but new rows: the caller need not look further."""
