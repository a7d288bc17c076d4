"""Builders for one small, valid record of each kind: a test states what matters, the rest has defaults.

>>> session_state("5158", "inactive", "user_inactive_or_offline", at="2026-03-01T10:05:00Z").value
b'{"ticket_id":"5158","occurred_at":"2026-03-01T10:05:00Z","state":"inactive","reason":"user_inactive_or_offline"}'
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import orjson

from streams.core.names import Topic
from streams.testing.traffic import Record

TICKET = "5158"
NOON = "2026-03-01T12:00:00Z"


def ticket_update(
    ticket_id: str = TICKET,
    *,
    at: str = NOON,
    event_id: str | None = None,
    sequence: int | None = None,
    command_id: str | None = None,
    **members: Any,
) -> Record:
    """Return a ticket update. `members` are the members of `ticket`; without any, the ticket is open.

    `at` (RFC 3339) is both `occurred_at` and the record's timestamp.
    """
    ticket = members or {"status": "open"}
    extra = {"event_id": event_id, "sequence": sequence, "command_id": command_id}
    return _record(Topic.TICKETS, ticket_id, at, extra, {"ticket": ticket})


def session_state(
    ticket_id: str = TICKET,
    state: str = "active",
    reason: str | None = None,
    *,
    at: str = NOON,
    session_id: str | None = None,
    channel: str | None = None,
    event_id: str | None = None,
    sequence: int | None = None,
) -> Record:
    """Return a session state of a ticket. Members that are None are left out."""
    extra = {"event_id": event_id, "sequence": sequence}
    said = {"state": state, "reason": reason, "session_id": session_id, "channel": channel}
    return _record(Topic.SESSIONS, ticket_id, at, extra, said)


def ticket_deleted(ticket_id: str = TICKET, *, at: str = NOON) -> Record:
    """Return the tombstone that deletes a ticket."""
    return Record(Topic.TICKETS, ticket_id.encode(), None, millis(at))


def session_forgotten(ticket_id: str = TICKET, *, at: str = NOON) -> Record:
    """Return the tombstone that deletes a session."""
    return Record(Topic.SESSIONS, ticket_id.encode(), None, millis(at))


def bad_record(code: str, topic: Topic = Topic.TICKETS, *, at: str = NOON) -> Record:
    """Return a record that becomes a dead letter with `code`. Raises KeyError for a code that is not in SPEC."""
    sound = ticket_update(at=at) if topic is Topic.TICKETS else session_state(at=at)
    value = sound.value or b""
    required = b'"ticket":' if topic is Topic.TICKETS else b'"state":'
    return {
        "not_json": sound._replace(value=value[:-1]),
        "invalid": sound._replace(value=value.replace(required, b'"payload":')),
        "missing_key": sound._replace(key=None),
        "key_mismatch": sound._replace(key=b"another"),
        "too_large": sound._replace(value=value[:-1] + b',"note":"' + b"x" * 1_048_577 + b'"}'),
        "bad_timestamp": sound._replace(value=value.replace(at.encode(), b"2999-01-01T00:00:00Z")),
    }[code]


def millis(instant: str) -> int:
    """Convert an RFC 3339 instant to a Kafka record timestamp: milliseconds since the Unix epoch."""
    return round(datetime.fromisoformat(instant).timestamp() * 1000)


def _record(topic: Topic, ticket_id: str, at: str, extra: dict[str, Any], said: dict[str, Any]) -> Record:
    members = {**extra, "ticket_id": ticket_id, "occurred_at": at, **said}
    value = orjson.dumps({name: member for name, member in members.items() if member is not None})
    return Record(topic, ticket_id.encode(), value, millis(at))
