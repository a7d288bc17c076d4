"""The records as JSON has them: what `decode` reads and `encode` writes, and what the schemas are made from.

Inputs may have members that are not named here; they are ignored. Outputs have exactly these.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, UnsetType

from streams.wire import instants

Id: TypeAlias = str | int
Sequence: TypeAlias = Annotated[
    Annotated[int, Meta(ge=0, le=2**63 - 1)] | None,
    Meta(description="Grows with every event of the ticket on this topic; decides which of two events is newer."),
]
Instant: TypeAlias = Annotated[
    str,
    Meta(
        description="RFC 3339, with offset; digits beyond microseconds are cut.",
        extra_json_schema={"pattern": instants.PATTERN},
    ),
]
UtcText: TypeAlias = Annotated[
    str,
    Meta(
        pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z$",
        description="RFC 3339, UTC, with milliseconds only when they are not zero.",
        extra_json_schema={"format": "date-time"},
    ),
]
TicketId: TypeAlias = Annotated[
    Id,
    Meta(
        description="Ticket id; equal to the record's key.",
        extra_json_schema={"not": {"enum": ["", "__NULL__"]}},
    ),
]
EventId: TypeAlias = Annotated[
    Id | None,
    Meta(description="Names the event; without it the header `ce_id` does, else topic, partition and offset."),
]

_TICKET_MEMBERS: dict[str, Any] = {
    "tags": {
        "description": "The list of tags, or the same as text with spaces between; replaces.",
        "type": ["array", "string", "null"],
        "items": {"type": ["string", "number", "boolean", "null"]},
    },
    "custom_fields": {
        "description": "Values by field id, or a list of {id, value}; merges per id, null clears an id or all.",
        "type": ["object", "array", "null"],
        "items": {
            "type": "object",
            "properties": {"id": {"type": ["string", "integer"], "minLength": 1}},
            "required": ["id"],
        },
    },
}
"""What `decode` looks into, of a ticket's members; all others are taken as they are."""

TicketIdText: TypeAlias = Annotated[str, Meta(description="Ticket id; the record's key.")]
EventIdText: TypeAlias = Annotated[str, Meta(description="The session event that was the transition.")]
LapseIdText: TypeAlias = Annotated[str, Meta(description="The session event that was the lapse.")]
Reason: TypeAlias = Annotated[str | None, Meta(description="The reason that the event gave, as a name; null for none.")]
CommandId: TypeAlias = Annotated[
    str,
    Meta(
        pattern="^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$",
        description="UUID, the same for the same round whatever crashed: the key to apply a command once.",
    ),
]
WaitMillis: TypeAlias = Annotated[int, Meta(ge=0, description="The `wait` of the round's triggers, milliseconds.")]
Episode: TypeAlias = Annotated[int, Meta(ge=1, description="The ticket's n-th lapse.")]


class TicketRecord(msgspec.Struct):
    """A ticket update. A null value instead (no JSON at all) says that the ticket was deleted."""

    ticket_id: TicketId
    occurred_at: Instant
    ticket: Annotated[
        dict[str, Any],
        Meta(
            description="Members present replace what is known, members absent stay, null clears.",
            extra_json_schema={"properties": _TICKET_MEMBERS},
        ),
    ]
    event_id: EventId = None
    sequence: Sequence = None
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
    sequence: Sequence = None


class TransitionOfCommand(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, rename={"before": "from"}):
    """The lapse that a command answers."""

    episode: Episode
    before: Annotated[str | None, Meta(description="State before; null when nothing was known.")]
    to: Literal["inactive"] = "inactive"
    reason: Reason
    occurred_at: UtcText
    event_id: LapseIdText


class FiredTrigger(msgspec.Struct, forbid_unknown_fields=True):
    """A trigger that fired."""

    id: Annotated[str, Meta(description="As in the trigger file.")]
    title: Annotated[str, Meta(description="As in the trigger file, for people.")]


class ActionOfCommand(msgspec.Struct, forbid_unknown_fields=True):
    """One thing to do to the ticket; a value of null clears the field."""

    field: Annotated[str, Meta(description="Zendesk's name of the action, such as `status` or `add_tags`.")]
    value: Annotated[Any, Meta(description="Tags are a sorted list; passed-on actions are as in the trigger file.")]


class CommandRecord(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """An action command: one update of one ticket, the net effect of all triggers that fired in a round."""

    command_id: CommandId
    type: Literal["ticket.update"] = "ticket.update"
    ticket_id: TicketIdText
    issued_at: UtcText
    transition: TransitionOfCommand
    wait_ms: WaitMillis
    triggers: Annotated[list[FiredTrigger], Meta(min_length=1, description="In firing order.")]
    actions: Annotated[
        list[ActionOfCommand],
        Meta(min_length=1, description="Fields in the order first set, then tags, then passed-on actions."),
    ]
    expected: Annotated[dict[str, Any], Meta(description="Values to compare before writing: a safe update.")]
    ruleset: Annotated[str, Meta(pattern="^[0-9a-f]{12}$", description="Names exactly this set of triggers.")]
    revision: (
        Annotated[int, Meta(ge=1, description="Number of the revision in the rules topic; only with `rules: topic`.")]
        | UnsetType
    ) = UNSET


HeldState: TypeAlias = Literal["withdrawn", "released", "discarded"]
"""What became of a held command."""


class HeldMarker(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What became of a held command, in `held-commands`; of several markers of one command the first counts."""

    command_id: CommandId
    state: Annotated[
        HeldState,
        Meta(
            description="withdrawn: by the worker, because the session left `inactive`, a new episode began, or the "
            "ticket was deleted or closed; released, discarded: by `lapse held`."
        ),
    ]


class ApplyResultRecord(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How a command ended at Zendesk's API, in `action-results`; each command has exactly one."""

    command_id: CommandId
    result: Annotated[
        Literal["applied", "overtaken", "gone", "refused", "expired"],
        Meta(
            description="applied: the ticket was updated; overtaken: an expected value was another one; gone: the "
            "ticket is closed or deleted; refused: Zendesk does not take the update, see `apply-dead-letters`; "
            "expired: the command was older than `apply_max_age`."
        ),
    ]
    status: Annotated[
        int | None, Meta(description="HTTP status of the answer that decided it; null when none was needed.")
    ]
    at: UtcText
    ticket_id: TicketIdText
    not_done: (
        Annotated[list[str], Meta(description="Actions that the API can't carry out; only where there are any.")]
        | UnsetType
    ) = UNSET


class ApplyDeadLetterHeaders(
    msgspec.Struct,
    kw_only=True,
    rename=lambda name: "lapse." + name.replace("_", ".", 1),
):
    """The headers that a letter in `apply-dead-letters` has beside the command's own; all are text."""

    error_code: Annotated[
        Literal["refused", "invalid"],
        Meta(description="refused: Zendesk does not take the update; invalid: the record is no command."),
    ]
    error_message: Annotated[str, Meta(description="Why, for people.")]
    source_topic: Annotated[str, Meta(description="As on the broker, with prefix.")]
    source_partition: Annotated[str, Meta(pattern=r"^\d+$", description="Partition that the command was read from.")]
    source_offset: Annotated[str, Meta(pattern=r"^\d+$", description="Offset in that partition.")]
    source_timestamp: Annotated[str, Meta(pattern=r"^-?\d+$", description="Milliseconds since the epoch.")]
    apply_status: Annotated[str, Meta(pattern=r"^\d+$", description="HTTP status of the answer.")] | UnsetType = UNSET
    apply_answer: Annotated[str, Meta(description="The answer's body, its first 4 KiB.")] | UnsetType = UNSET


class TransitionRecord(
    msgspec.Struct,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="type",
    tag="transition",
    rename={"before": "from", "after": "to"},
):
    """A session changed its state."""

    ticket_id: TicketIdText
    event_id: EventIdText
    occurred_at: UtcText
    session_id: Annotated[str | None, Meta(description="As known; null when no event of the session named it.")]
    kind: Annotated[
        Literal["opened", "lapsed", "first_seen", "reason_changed", "resumed", "ended", "other"],
        Meta(description="What happened; `lapsed` is the one that starts rounds."),
    ]
    before: Annotated[str | None, Meta(description="State before; null when nothing was known.")]
    after: Annotated[str, Meta(description="The event's state.")]
    reason: Reason
    episode: Annotated[int, Meta(ge=0, description="Lapses of the ticket so far.")]
    channel: Annotated[str | None, Meta(description="As known; null when no event of the session named it.")]


Outcome: TypeAlias = Literal[
    "commanded",
    "no_op",
    "no_match",
    "unjoined",
    "cancelled",
    "closed",
    "historic",
    "dry_run",
    "held_out",
    "held",
]


class EvaluationRecord(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag="evaluation"):
    """A round ended; `event_id` and `occurred_at` are those of its lapse."""

    ticket_id: TicketIdText
    event_id: LapseIdText
    occurred_at: UtcText
    episode: Episode
    wait_ms: WaitMillis
    outcome: Annotated[
        Outcome,
        Meta(description="How the round ended."),
    ]
    triggers: Annotated[list[str], Meta(description="Ids of the triggers that fired, in firing order.")]
    command_id: Annotated[
        CommandId | None,
        Meta(
            description="The command that the round led to (`dry_run`, `held_out`, `held`: would have); null if there "
            "is none."
        ),
    ]
    held_by: Annotated[
        list[str] | UnsetType,
        Meta(description="Only with `held`: ids of the triggers whose `limit` it would have passed."),
    ] = UNSET


class SideOfShadow(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How a round ended under one of the two rule sets."""

    outcome: Annotated[
        Outcome,
        Meta(description="How the round ended, as in an evaluation; `commanded` of the shadow: it would have been."),
    ]
    triggers: Annotated[list[str], Meta(description="Ids of the triggers that fired, in firing order.")]
    actions: Annotated[
        list[ActionOfCommand], Meta(description="Of the command that there was or would have been; else empty.")
    ]


class ShadowRecord(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag="shadow"):
    """A round in which a shadow and the live rules differ; `event_id` and `occurred_at` are those of its lapse."""

    ticket_id: TicketIdText
    event_id: LapseIdText
    occurred_at: UtcText
    episode: Episode
    wait_ms: WaitMillis
    revision: Annotated[int, Meta(ge=1, description="Of the shadow: its number in the rules topic.")]
    after_live: Annotated[bool, Meta(description="Whether a live command of the same lapse was made before.")]
    live: Annotated[SideOfShadow | None, Meta(description="The live rules; null: they had no round with this wait.")]
    shadow: Annotated[SideOfShadow | None, Meta(description="The shadow; null: it had no round with this wait.")]


class OffsetsOfActivation(
    msgspec.Struct,
    kw_only=True,
    forbid_unknown_fields=True,
    rename={"tickets": "ticket-updates", "sessions": "session-states"},
):
    """The next record of each input to be taken."""

    tickets: Annotated[int, Meta(ge=0)]
    sessions: Annotated[int, Meta(ge=0)]


class ActivationRecord(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag="activation"):
    """A partition took an entry of the rules topic up; the record's key is `rules/` and the partition."""

    partition: Annotated[int, Meta(ge=0)]
    partitions: Annotated[int, Meta(ge=0, description="How many the inputs have.")]
    number: Annotated[int, Meta(ge=1, description="Of the entry.")]
    kind: Literal["live", "shadow", "shadow_off", "stop", "resume"]
    previous: Annotated[int | None, Meta(description="The entry taken up before; null for the first.")]
    ruleset: Annotated[
        str, Meta(pattern="^[0-9a-f]{12}$", description="The live rules from here on; for a shadow, the candidate.")
    ]
    stopped: Annotated[list[str] | Literal["all"], Meta(description="Triggers that are stopped from here on.")]
    stream_time_us: Annotated[int, Meta(ge=0, description="Microseconds since 1970.")]
    offsets: OffsetsOfActivation
    late: Annotated[bool, Meta(description="Whether stream time had passed effective_from when it became known.")]
    act_from: Annotated[str | None, Meta(description="The setting, as an instant; null for the beginning.")]
    author: str | None
    reason: str | None


class RuleEntry(msgspec.Struct, kw_only=True, omit_defaults=True):
    """An entry of the rules topic; the record's key is the number as text."""

    number: Annotated[int, Meta(ge=1, description="1, 2, … without gaps.")]
    kind: Literal["live", "shadow", "shadow_off", "stop", "resume"]
    published_at: Instant
    author: str | None = None
    reason: str | None = None
    ruleset: Annotated[str | None, Meta(description="Digest of the rules in the source.")] = None
    source: Annotated[str | None, Meta(description="The text of the trigger file.")] = None
    based_on: Annotated[int | None, Meta(description="The revision that it replaces, or goes back to.")] = None
    effective_from: Instant | None = None
    triggers: Annotated[list[str] | Literal["all"] | None, Meta(description="What is stopped or resumed.")] = None


class CaptureRecord(msgspec.Struct, kw_only=True):
    """One line of a capture: a record of one of the two inputs."""

    topic: Annotated[Literal["ticket-updates", "session-states"], Meta(description="Default name, without prefix.")]
    partition: Annotated[int, Meta(ge=0, le=2**31 - 1, description="Partition that it was read from.")]
    offset: Annotated[int, Meta(ge=0, le=2**63 - 1, description="Offset in that partition.")]
    timestamp: Annotated[
        int,
        Meta(
            ge=-(2**63) + 1,
            le=2**63 - 1,
            description="The record's timestamp, milliseconds since the epoch; -1 where it has none.",
        ),
    ]
    key: Annotated[str | None, Meta(description="The record's key as text; null when it has none.")]
    value: Annotated[
        dict[str, Any] | str | None,
        Meta(description="The JSON object; null for a tombstone; a string with the bytes of anything else."),
    ]
    headers: Annotated[dict[str, str | None] | None, Meta(description="`ce_id`, where the record had one.")] = None


SizeText: TypeAlias = Annotated[str, Meta(pattern=r"^\d+$", description="Bytes of a value too large to carry.")]
DigestText: TypeAlias = Annotated[str, Meta(pattern="^[0-9a-f]{64}$", description="Of a value too large to carry.")]

OmittedText: TypeAlias = Annotated[
    Literal["headers", "headers,key"], Meta(description="What else of the record did not fit into this topic.")
]
PlaceText: TypeAlias = Annotated[
    str,
    Meta(pattern=r"/\d+/\d+$", description="Of a record that was sent back and died again: the letter that it was."),
]


class DeadLetterHeaders(
    msgspec.Struct,
    kw_only=True,
    rename=lambda name: "lapse." + name.replace("_", ".", 1),
):
    """The headers that a dead letter has beside the record's own; all are text."""

    error_code: Annotated[
        Literal["too_large", "missing_key", "not_json", "invalid", "key_mismatch", "bad_timestamp"],
        Meta(description="What is wrong, the first of these that applies."),
    ]
    error_path: Annotated[str, Meta(description="Where in the value; `$key` and `$timestamp` are of the record.")]
    error_message: Annotated[str, Meta(description="The same for people.")]
    source_topic: Annotated[str, Meta(description="As on the broker, with prefix.")]
    source_partition: Annotated[str, Meta(pattern=r"^\d+$", description="Partition that the record was read from.")]
    source_offset: Annotated[str, Meta(pattern=r"^\d+$", description="Offset in that partition.")]
    source_timestamp: Annotated[str, Meta(pattern=r"^-?\d+$", description="Milliseconds since the epoch.")]
    source_size: SizeText | UnsetType = UNSET
    source_sha256: DigestText | UnsetType = UNSET
    source_omitted: OmittedText | UnsetType = UNSET
    replayed_from: PlaceText | UnsetType = UNSET
