"""The records as JSON has them: what `decode` reads and `encode` writes, and what the schemas are made from.

Inputs may have members that are not named here; they are ignored. Outputs have exactly these.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta

Id: TypeAlias = str | int
Sequence: TypeAlias = Annotated[
    int, Meta(ge=0, le=2**63 - 1, description="Grows with every event of the ticket on this topic.")
]
Instant: TypeAlias = Annotated[datetime, Meta(tz=True, description="RFC 3339, with offset.")]
UtcText: TypeAlias = Annotated[
    str,
    Meta(
        pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z$",
        description="RFC 3339, UTC, with milliseconds only when they are not zero.",
        extra_json_schema={"format": "date-time"},
    ),
]
TicketId: TypeAlias = Annotated[Id, Meta(description="Ticket id; equal to the record's key.")]
EventId: TypeAlias = Annotated[Id | None, Meta(description="Names the event; without it, the header `ce_id` does.")]


class TicketRecord(msgspec.Struct):
    """A ticket update. A null value instead (no JSON at all) says that the ticket was deleted."""

    ticket_id: TicketId
    occurred_at: Instant
    ticket: Annotated[
        dict[str, Any],
        Meta(description="Members present replace what is known, members absent stay, null clears."),
    ]
    event_id: EventId = None
    sequence: Sequence | None = None
    command_id: Annotated[Id | None, Meta(description="The command that caused this update, if one did.")] = None


class SessionRecord(msgspec.Struct):
    """A state of a messaging session. A null value instead (no JSON at all) says that the session is forgotten."""

    ticket_id: TicketId
    occurred_at: Instant
    state: Annotated[str, Meta(description="`active` (or `open`), `inactive`, `ended`, or any other name.")]
    reason: Annotated[str | None, Meta(description="Why it became inactive.")] = None
    session_id: Annotated[Id | None, Meta(description="Stays as known when absent.")] = None
    channel: Annotated[str | None, Meta(description="Stays as known when absent.")] = None
    event_id: EventId = None
    sequence: Sequence | None = None


class TransitionOfCommand(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, rename={"before": "from"}):
    """The lapse that a command answers."""

    episode: Annotated[int, Meta(ge=1, description="The ticket's n-th lapse.")]
    before: Annotated[str | None, Meta(description="State before; null when nothing was known.")]
    to: Literal["inactive"] = "inactive"
    reason: str | None
    occurred_at: UtcText
    event_id: str


class FiredTrigger(msgspec.Struct, forbid_unknown_fields=True):
    """A trigger that fired."""

    id: str
    title: str


class ActionOfCommand(msgspec.Struct, forbid_unknown_fields=True):
    """One thing to do to the ticket; a value of null clears the field."""

    field: str
    value: Any


class CommandRecord(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """An action command: one update of one ticket, the net effect of all triggers that fired in a round."""

    command_id: Annotated[str, Meta(pattern="^[0-9a-f-]{36}$", description="The same for the same round, always.")]
    type: Literal["ticket.update"] = "ticket.update"
    ticket_id: str
    issued_at: UtcText
    transition: TransitionOfCommand
    wait_ms: Annotated[int, Meta(ge=0, description="The `wait` of the triggers that fired.")]
    triggers: Annotated[list[FiredTrigger], Meta(min_length=1, description="In firing order.")]
    actions: Annotated[list[ActionOfCommand], Meta(min_length=1)]
    expected: Annotated[dict[str, Any], Meta(description="Values to compare before writing: a safe update.")]
    ruleset: Annotated[str, Meta(pattern="^[0-9a-f]{12}$", description="Names exactly this set of triggers.")]


class TransitionRecord(
    msgspec.Struct,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="type",
    tag="transition",
    rename={"before": "from", "after": "to"},
):
    """A session changed its state."""

    ticket_id: str
    event_id: str
    occurred_at: UtcText
    session_id: str | None
    kind: Literal["opened", "lapsed", "first_seen", "reason_changed", "resumed", "ended", "other"]
    before: Annotated[str | None, Meta(description="State before; null when nothing was known.")]
    after: str
    reason: Annotated[str | None, Meta(description="The event's reason.")]
    episode: Annotated[int, Meta(ge=0, description="Lapses of the ticket so far.")]
    channel: str | None


class EvaluationRecord(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag="evaluation"):
    """A round ended; `event_id` and `occurred_at` are those of its lapse."""

    ticket_id: str
    event_id: str
    occurred_at: UtcText
    episode: Annotated[int, Meta(ge=1)]
    wait_ms: Annotated[int, Meta(ge=0)]
    outcome: Literal["commanded", "no_op", "no_match", "unjoined", "cancelled", "closed", "historic", "dry_run"]
    triggers: Annotated[list[str], Meta(description="Ids of the triggers that fired.")]
    command_id: str | None


class CaptureRecord(msgspec.Struct, kw_only=True):
    """One line of a capture: a record of one of the two inputs."""

    topic: Annotated[Literal["ticket-updates", "session-states"], Meta(description="Default name, without prefix.")]
    partition: Annotated[int, Meta(ge=0)]
    offset: Annotated[int, Meta(ge=0)]
    timestamp: Annotated[int, Meta(description="The record's timestamp, milliseconds since the epoch.")]
    key: str | None
    value: Annotated[
        dict[str, Any] | str | None,
        Meta(description="The JSON object; null for a tombstone; a string with the bytes of anything else."),
    ]
    headers: Annotated[dict[str, str], Meta(description="`ce_id`, where the record had one.")] = {}


SizeText: TypeAlias = Annotated[str, Meta(pattern=r"^\d+$", description="Bytes of a value too large to carry.")]
DigestText: TypeAlias = Annotated[str, Meta(pattern="^[0-9a-f]{64}$", description="Of a value too large to carry.")]


class DeadLetterHeaders(
    msgspec.Struct,
    kw_only=True,
    rename=lambda name: "lapse." + name.replace("_", ".", 1),
):
    """The headers that a dead letter has beside the record's own; all are text."""

    error_code: Literal["too_large", "missing_key", "not_json", "invalid", "key_mismatch", "bad_timestamp"]
    error_path: Annotated[str, Meta(description="Where in the value; `$key` and `$timestamp` are of the record.")]
    error_message: str
    source_topic: Annotated[str, Meta(description="As on the broker, with prefix.")]
    source_partition: Annotated[str, Meta(pattern=r"^\d+$")]
    source_offset: Annotated[str, Meta(pattern=r"^\d+$")]
    source_timestamp: Annotated[str, Meta(pattern=r"^-?\d+$", description="Milliseconds since the epoch.")]
    source_size: SizeText | None = None
    source_sha256: DigestText | None = None
