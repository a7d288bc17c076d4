"""Bodies of Zendesk's webhooks to input records (SPEC sections 2 and 11). Pure: the same body gives the same records.

Three kinds of body come in:

- ticket events: a snapshot of the ticket in `detail`, without custom fields; one custom field at a time in `event`
- session posts: what the triggers in `deploy/zendesk` send, because no event carries a session's state
- everything else: messages, whose text nobody here needs, and types that are not known

Comments, texts of messages, subjects, descriptions and names of people are never taken over. Of a comment by the
customer only its time is, in `ticket.customer_message_at`, from which `lapse ingest --silence` tells who is silent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

import msgspec

from streams.core.model import MILLISECOND, Micros, Rejection
from streams.core.names import Code, Topic
from streams.core.normal import name
from streams.core.silence import CUSTOMER_MESSAGE_AT
from streams.wire import instants
from streams.wire.decode import decode_fully

TICKET_EVENT = "zen:event-type:ticket."
MESSAGE_EVENT = "zen:event-type:messaging_ticket."
_CUSTOM_FIELD_CHANGED = "zen:event-type:ticket.custom_field_changed"
_COMMENT_ADDED = "zen:event-type:ticket.comment_added"
_CREATED = "zen:event-type:ticket.created"
_DELETED = frozenset({"zen:event-type:ticket.soft_deleted", "zen:event-type:ticket.permanently_deleted"})
_GONE = frozenset({"deleted", "scrubbed"})
_SUBJECT = "zen:ticket:"

_SNAPSHOT: Mapping[str, str] = {
    "status": "status",
    "priority": "priority",
    "type": "type",
    "tags": "tags",
    "group_id": "group_id",
    "assignee_id": "assignee_id",
    "requester_id": "requester_id",
    "submitter_id": "submitter_id",
    "organization_id": "organization_id",
    "brand_id": "brand_id",
    "form_id": "ticket_form_id",
    "custom_status": "custom_status_id",
    "is_public": "is_public",
    "created_at": "created_at",
    "updated_at": "updated_at",
}
"""Members of `detail` by the name that triggers use for them."""

_SESSION_MEMBERS = ("state", "reason", "channel")


class Kind(StrEnum):
    """What a body was."""

    TICKET = "ticket"
    TICKET_DELETED = "ticket_deleted"
    SESSION = "session"
    MESSAGE = "message"
    """Known and of no use here."""
    UNKNOWN = "unknown"
    """A type that is not known; counted, so that somebody may ask for it."""
    UNUSABLE = "unusable"
    """Of a known kind, or no event at all, and broken."""


class Unusable(Exception):
    """A signed body that can't be used; `path` is where, `message` why."""

    def __init__(self, code: Code, path: str, message: str) -> None:
        """`code` is one of those of the worker's dead letters."""
        super().__init__(message)
        self.code = code
        self.path = path
        self.message = message


class InputRecord(msgspec.Struct, frozen=True):
    """One record to write. A ticket's deletion has no value."""

    topic: Topic
    key: bytes
    value: bytes | None


class Received(msgspec.Struct, frozen=True):
    """What a body is, and the record that it gives, if any."""

    kind: Kind
    record: InputRecord | None = None
    occurred_at: Micros | None = None
    """When the event happened, where the record says it."""


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


def is_session_post(body: bytes) -> bool:
    """Whether a body is a post of a session's state, which a trigger sends."""
    try:
        return _is_session_post(_decode(body))
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return False


def _is_session_post(event: Any) -> bool:
    return isinstance(event, dict) and event.get("type") is None and "ticket_id" in event and "state" in event


def type_of(body: bytes) -> str:
    """Return the type that a body names, for the headers of a dead letter; empty when there is none."""
    try:
        found = _decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return ""
    kind = found.get("type") if isinstance(found, dict) else None
    return kind if isinstance(kind, str) else ""


def receive(
    body: bytes, *, signature: str, signed_at: str, arrived_at: Micros, command_field: str | None = None
) -> Received:
    """Return what a signed body means.

    `signed_at` is the signature's timestamp, an RFC 3339 time. `command_field` is the id of the custom field that holds
    the id of the command that was applied, where there is one. Raises `Unusable`.
    """
    try:
        event = _decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Unusable(Code.NOT_JSON, "$", f"not JSON: {error}") from None
    if not isinstance(event, dict):
        raise Unusable(Code.INVALID, "$", "not an object")
    kind = event.get("type")
    if _is_session_post(event):
        return _usable(Kind.SESSION, _session(event, signature, signed_at), arrived_at)
    if not isinstance(kind, str) or not kind:
        raise Unusable(Code.INVALID, "$.type", "neither an event with a `type` nor a post of a session's state")
    if kind.startswith(TICKET_EVENT):
        record = _ticket(event, kind, command_field)
        return _usable(Kind.TICKET if record.value is not None else Kind.TICKET_DELETED, record, arrived_at)
    return Received(Kind.MESSAGE if kind.startswith(MESSAGE_EVENT) else Kind.UNKNOWN)


def _usable(kind: Kind, record: InputRecord, arrived_at: Micros) -> Received:
    """Let nothing pass that the worker would not take: whoever reads the dead letter has the event's own words here."""
    if record.value is None:
        return Received(kind, record)
    update = decode_fully(record.topic, 0, _Arrived(record, arrived_at // MILLISECOND), arrived_at)
    if isinstance(update, Rejection):
        raise Unusable(Code(update.code), update.path, update.message)
    return Received(kind, record, update.occurred_at)


class _Arrived:
    """A record as the worker would read it."""

    offset = 0
    headers = ()

    def __init__(self, record: InputRecord, timestamp: int) -> None:
        self.key = record.key
        self.value = record.value
        self.timestamp = timestamp


# --- sessions --------------------------------------------------------------------------------------------------------


def _session(post: Mapping[str, Any], signature: str, signed_at: str) -> InputRecord:
    ticket_id = _id(post.get("ticket_id"), "$.ticket_id")
    members = {member: value for member in _SESSION_MEMBERS if (value := _spelled(post.get(member))) is not None}
    if "state" not in members:
        raise Unusable(Code.INVALID, "$.state", "the state is empty")
    # Placeholders of Zendesk show minutes only, and no event id; the signature has both the second and a value of its
    # own for each post.
    record = {"event_id": signature, "ticket_id": ticket_id, "occurred_at": signed_at, **members}
    return InputRecord(Topic.SESSIONS, ticket_id.encode(), _encode(record))


def _spelled(value: Any) -> Any:
    """Return a title of Zendesk's screens as the name that triggers use. What is no text is for the checks to find."""
    return name(value) if isinstance(value, str) else value


# --- tickets ---------------------------------------------------------------------------------------------------------


def _ticket(event: Mapping[str, Any], kind: str, command_field: str | None) -> InputRecord:
    detail = event.get("detail")
    if not isinstance(detail, dict):
        raise Unusable(Code.INVALID, "$.detail", "the snapshot of the ticket is missing")
    ticket_id = _ticket_id(event, detail)
    status = _status(detail)
    if kind in _DELETED or status in _GONE:
        return InputRecord(Topic.TICKETS, ticket_id.encode(), None)
    ticket = {ours: _member(ours, detail[theirs]) for theirs, ours in _SNAPSHOT.items() if theirs in detail}
    if status is not None:
        ticket["status"] = status
    via = detail.get("via")
    if isinstance(via, dict) and isinstance(via.get("channel"), str):
        ticket["channel"] = name(via["channel"])
    record: dict[str, Any] = {
        "event_id": _id(event.get("id"), "$.id"),
        "ticket_id": ticket_id,
        "occurred_at": _time(event.get("time")),
        "ticket": ticket,
    }
    if _is_of_the_customer(event.get("event"), detail, kind):
        ticket[CUSTOMER_MESSAGE_AT] = record["occurred_at"]
    if kind == _CUSTOM_FIELD_CHANGED:
        field, value = _custom_field(event.get("event"))
        ticket["custom_fields"] = {field: value}
        if field == command_field and isinstance(value, str) and value:
            record["command_id"] = value
    return InputRecord(Topic.TICKETS, ticket_id.encode(), _encode(record))


def _is_of_the_customer(event: Any, detail: Mapping[str, Any], kind: str) -> bool:
    """Whether an event is a public comment that was not written by staff, or a ticket that its requester created."""
    if kind == _CREATED:
        actor, requester = detail.get("actor_id"), detail.get("requester_id")
        return isinstance(actor, str | int) and not isinstance(actor, bool) and bool(actor) and actor == requester
    comment = event.get("comment") if kind == _COMMENT_ADDED and isinstance(event, dict) else None
    author = comment.get("author") if isinstance(comment, dict) else None
    if not isinstance(comment, dict) or not isinstance(author, dict):
        return False
    return author.get("is_staff") is False and comment.get("is_public") is not False


def _ticket_id(event: Mapping[str, Any], detail: Mapping[str, Any]) -> str:
    """Return the id in the snapshot, which the subject must agree with where it has one."""
    subject = event.get("subject")
    in_subject = subject.removeprefix(_SUBJECT) if isinstance(subject, str) and subject.startswith(_SUBJECT) else None
    ticket_id = _id(detail.get("id", in_subject), "$.detail.id")
    if in_subject is not None and in_subject != ticket_id:
        raise Unusable(
            Code.INVALID, "$.subject", f"the subject is ticket {in_subject}, the snapshot ticket {ticket_id}"
        )
    return ticket_id


def _status(detail: Mapping[str, Any]) -> str | None:
    """Return the status as triggers know it. An archived ticket is a closed one."""
    status = detail.get("status")
    if not isinstance(status, str):
        return None
    found = name(status)
    return "closed" if found == "archived" else found


_READERS: Mapping[str, Callable[[Any], Any]] = {"priority": name, "type": name}


def _member(member: str, value: Any) -> Any:
    """Return a member's value; Zendesk writes an empty id as an empty text, and names in upper case."""
    value = _present(value)
    return _READERS[member](value) if member in _READERS and isinstance(value, str) else value


def _custom_field(event: Any) -> tuple[str, Any]:
    """Return id and value of the custom field that changed: `event.custom_field.id` and `event.current.value`."""
    field = event.get("custom_field") if isinstance(event, dict) else None
    if not isinstance(field, dict):
        raise Unusable(Code.INVALID, "$.event.custom_field", "the custom field that changed is not named")
    current = event.get("current")
    value = current.get("value") if isinstance(current, dict) else current
    return _id(field.get("id"), "$.event.custom_field.id"), _present(value)


def _present(value: Any) -> Any:
    """Return a value, None for an empty text."""
    return None if isinstance(value, str) and not value.strip() else value


def _id(value: Any, path: str) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value.strip():
        raise Unusable(Code.INVALID, path, "an id is missing, or is neither a text nor a number")
    return value.strip()


def _time(value: Any) -> str:
    if not isinstance(value, str) or instants.read(value) is None:
        raise Unusable(Code.INVALID, "$.time", "not a time with an offset, as RFC 3339 has it")
    return value
