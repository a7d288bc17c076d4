"""The types of the engine's inputs, rows and outputs.

Every instant and every duration in this package (`occurred_at`, `timestamp`, `due`, `wait`) is an integer number of
microseconds; instants count from the Unix epoch, UTC. Events are ordered by microseconds, while Kafka's record
timestamps are milliseconds. The wire package truncates what it writes to milliseconds.
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
    """One decoded, normalised record of the ticket topic; `changes` is None for a tombstone.

    `changes` is flat: custom fields are stored beside the members as `custom_fields_<id>`, a value of None clears its
    field, and the key `custom_fields` with None first clears all custom fields. `oversized` counts members that were
    dropped because of their size (their entry in `changes` is None).
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
    """One decoded, normalised record of the session topic; `state` is None for a tombstone."""

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
    """W3C trace context from the record's header, copied to the commands that result from it."""


class Rejection(msgspec.Struct, frozen=True, gc=False):
    """Why a record becomes a dead letter. `keep_value` is false when the value is too large to be copied into it."""

    code: str
    path: str
    message: str
    keep_value: bool = True


# --- rows ------------------------------------------------------------------------------------------------------------
# The number of elements of an array is its version: one with more elements than its struct has fields was written by a
# newer version, and is refused. deploy/decisions/0019-the-length-of-a-row-is-its-version.md says how to change a row.


class OrderKey(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """Determines whether the next event of this ticket and topic is new: SPEC section 2, *Order*."""

    occurred_at: Micros
    seen: tuple[str, ...] = ()
    """The last 64 event ids applied at exactly `occurred_at`, oldest first."""
    sequence: int | None = None
    deleted_at: Micros | None = None
    """Record timestamp of the latest tombstone: events that happened before it are stale."""


class TicketRow(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """The ticket row. `fields` is flat as in `TicketUpdate`, and None after a tombstone (the order key is kept)."""

    fields: dict[str, Value] | None
    order: OrderKey | None
    touched: Micros
    """Stream time at which the last event was applied."""


class Lapse(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """One transition into `inactive`, with what the rounds of its episode need."""

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


class PendingRound(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """A round that has not ended: it waits for `due` or, when `parked_until` is set, for its ticket."""

    due: Micros
    wait: Micros
    parked_until: Micros | None = None

    @property
    def next_at(self) -> Micros:
        """The stream time at which this round is due or its parking ends."""
        return self.due if self.parked_until is None else self.parked_until


class SessionRow(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """The session row: the session's state, its episode count and its pending rounds.

    `state` is None after a tombstone. `opened_at`, `abandoned` (instant and channel of the latest abandonment without
    a return) and the two flags are used only for the abandonment figures (SPEC section 8). `outstanding` holds
    (command id, issued at) of the commands that no ticket update has named yet. `holdout_group` is that of the latest
    abandonment without a return: one of `HOLDOUT_GROUPS`, or None while no round of it ended so. `held` holds the ids
    of commands that were held and not withdrawn since.
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
    holdout_group: str | None = None
    held: tuple[str, ...] = ()


# --- records out -----------------------------------------------------------------------------------------------------


class Kind(StrEnum):
    """The kind of a transition: the `kind` column of SPEC section 3."""

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
    HELD_OUT = "held_out"
    HELD = "held"


EVALUATED = frozenset(
    {
        RoundOutcome.COMMANDED,
        RoundOutcome.DRY_RUN,
        RoundOutcome.HELD_OUT,
        RoundOutcome.HELD,
        RoundOutcome.NO_OP,
        RoundOutcome.NO_MATCH,
    }
)
"""Outcomes of rounds in which triggers were evaluated."""

ACTING = frozenset({RoundOutcome.COMMANDED, RoundOutcome.DRY_RUN, RoundOutcome.HELD_OUT, RoundOutcome.HELD})
"""Outcomes of rounds that led to a command, or would have led to one without the setting that kept it back."""


class ShadowResult(StrEnum):
    """How a round of the live rules and the same round of the shadow compare: SPEC section 10, *Shadow*."""

    SAME = "same"
    ONLY_LIVE = "only_live"
    ONLY_SHADOW = "only_shadow"
    DIFFERENT = "different"


class Transition(msgspec.Struct, frozen=True, gc=False):
    """A transition that happened: one row of the table in SPEC section 3."""

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


class SilentState(msgspec.Struct, frozen=True, gc=False):
    """A session state that is written because a customer was silent, or writes again."""

    ticket_id: str
    event_id: str
    occurred_at: Micros
    state: str
    reason: str | None
    channel: str | None


class Cancelled(StrEnum):
    """What cancels pending rounds."""

    RESUMED = "resumed"
    SESSION_ENDED = "session_ended"
    OTHER_SESSION = "other_session"
    NEW_EPISODE = "new_episode"
    SESSION_CHANGED = "session_changed"
    TICKET_DELETED = "ticket_deleted"
    SESSION_FORGOTTEN = "session_forgotten"
    EXPIRED = "expired"


class Cancellation(msgspec.Struct, frozen=True, gc=False):
    """What cancelled a round, through which event, and when; an expiry has no event."""

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
    """Together with `lapse`, the input of the round, kept to explain it later; neither is written to a topic."""
    cancelled_by: Cancellation | None = None
    """Why the outcome is `cancelled`; also not written to a topic."""
    actions: tuple[FieldValue, ...] = ()
    """The actions of the command that it led to or would have led to; also not written to a topic."""
    held_by: tuple[str, ...] = ()
    """Of `held`: the triggers whose limit it would have passed, in firing order."""


class Side(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """How a round ended under one of two rule sets that are compared."""

    outcome: RoundOutcome
    triggers: tuple[str, ...] = ()
    actions: tuple[FieldValue, ...] = ()

    @property
    def acts(self) -> bool:
        """Whether the round led to a command, written or not."""
        return self.outcome in ACTING


class Difference(msgspec.Struct, frozen=True, gc=False):
    """A round in which the live rules and the shadow differ; `event_id` and `occurred_at` are the lapse's.

    A side is None when its rules had no round with this wait.
    """

    ticket_id: str
    event_id: str
    occurred_at: Micros
    episode: int
    wait: Micros
    revision: int
    """That of the shadow."""
    after_live: bool
    """Whether a live command of the same lapse was made before."""
    live: Side | None
    shadow: Side | None


class FieldValue(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
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
    revision: int | None = None
    """Number of the live revision in the rules topic; None when the rules come from a file."""


class Withdrawal(msgspec.Struct, frozen=True, gc=False):
    """A held command must not be released any more: what it answers is over."""

    ticket_id: str
    command_id: str


# --- facts -----------------------------------------------------------------------------------------------------------


class Fact(msgspec.Struct, frozen=True, gc=False):
    """Something to count: reported by the engine and counted by telemetry after the commit.

    `name` is one of the constants below. `labels` are raw values (telemetry bounds their number). `amount` is a count,
    or seconds for the `*_SECONDS` facts.
    """

    name: str
    labels: tuple[str, ...] = ()
    amount: float = 1


GROUP_ACTED_ON = "acted_on"
GROUP_HELD_OUT = "held_out"
HOLDOUT_GROUPS = (GROUP_ACTED_ON, GROUP_HELD_OUT)
"""The groups that a holdout compares, by how the abandonment's first round with a command, real or held out, ended."""

WITHIN_WINDOW = "yes"
AFTER_WINDOW = "no"

NONE = "none"
"""Label for a missing reason or channel."""

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
HOLDOUT_ABANDONMENT = "holdout_abandonment"  # labels: group; an abandonment's first command, real or held out
HOLDOUT_RETURN = "holdout_return"  # labels: group, whether within the false-abandonment window
SHADOW_ROUND = "shadow_round"  # labels: ShadowResult
SHADOW_TRIGGER_FIRED = "shadow_trigger_fired"  # labels: trigger id
COMMAND = "command"
HELD_COMMAND = "held_command"  # labels: trigger id; once for each limit that was passed
COMMAND_APPLIED = "command_applied"
COMMAND_APPLY_SECONDS = "command_apply_seconds"
OVERSIZED_MEMBER = "oversized_member"
EXPIRED_ROW = "expired_row"  # labels: table


END_OF_STATE: Micros = -1
"""Used in place of a wait for the timer that ends a ticket's state."""

ACTIVATION: Micros = -2
"""Used in place of a wait for the timer of a revision; it comes before all else due at its instant."""

SHADOW_ROUNDS: Micros = 1 << 62
"""Used in place of a wait for the timer of a ticket's shadow rounds; it comes after all else due at its instant."""


class Due(msgspec.Struct, frozen=True, gc=False):
    """Stream time has reached a timer of a ticket; `wait` identifies the round."""

    at: Micros
    wait: Micros
    ticket_id: str


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """The result of one engine step. Rows are set only if they changed; for deleted rows see `deleted`."""

    result: Result
    """`applied`, `stale` or `duplicate` for a record; `due` for a timer."""
    ticket: TicketRow | None = None
    session: SessionRow | None = None
    expired: tuple[Table, ...] = ()
    """Tables from which this ticket's row has been deleted (state_ttl)."""
    lapse: Lapse | None = None
    """The lapse that the record is, if it is one."""
    records: tuple[Transition | Evaluation, ...] = ()
    commands: tuple[Command, ...] = ()
    held: tuple[Command | Withdrawal, ...] = ()
    """Commands that the rate guard holds, and held commands that are withdrawn."""
    states: tuple[SilentState, ...] = ()
    """Session states to write; only `SilenceEngine` makes any."""
    own_rows: tuple[tuple[bytes, bytes | None], ...] = ()
    """Changed rows of the partition; None for a deleted row."""
    timers: tuple[tuple[Micros, Micros], ...] = ()
    """New timers of the ticket as (at, wait); the wait `END_OF_STATE` marks the end of its state."""
    facts: tuple[Fact, ...] = ()
    rounds: int = 0
    """Change in the number of the ticket's pending rounds."""
    rows_only: bool = False
    """True when the outcome has nothing but new rows, so that the caller can skip the other members."""
