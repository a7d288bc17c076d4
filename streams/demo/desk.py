"""Simulates the downstream helpdesk: applies commands to its tickets and writes updates to the ticket topic.

The plays of `streams.testing.traffic` do not know about commands. Every ticket update therefore passes through the
desk on its way to the broker, which adds the effects of commands. The status stays that of the play, because people
would change it at once.
"""

from __future__ import annotations

from typing import Any

import msgspec

from streams.core.names import Topic
from streams.core.normal import CUSTOM_FIELD_PREFIX
from streams.core.triggers import SET_FIELDS
from streams.testing.traffic import Record

_REMEMBERED = 50_000
"""Maximum number of tickets kept. The demo's conversations are closed long before their tickets are dropped."""


class _Ticket(msgspec.Struct):
    """The desk's state of a ticket: its tags as last seen, and the effects of commands."""

    tags: list[str] = []
    added: set[str] = msgspec.field(default_factory=set)
    removed: set[str] = msgspec.field(default_factory=set)
    fields: dict[str, Any] = msgspec.field(default_factory=dict)


class Desk:
    """All tickets that had a command or an update."""

    def __init__(self) -> None:
        """Start with no tickets."""
        self._tickets: dict[str, _Ticket] = {}

    def through(self, record: Record) -> Record:
        """Return the record with the effects of commands on its ticket; a broken record is returned unchanged."""
        if record.topic is not Topic.TICKETS or record.value is None:
            return record
        try:
            update = msgspec.json.decode(record.value)
            ticket, members = self._ticket(update["ticket_id"]), update["ticket"]
            ticket.tags = members["tags"]
        except (msgspec.DecodeError, UnicodeDecodeError, KeyError):
            return record
        if not (ticket.fields or ticket.added or ticket.removed):
            return record
        members.update(ticket.fields)
        members["tags"] = _tags(ticket)
        return record._replace(value=msgspec.json.encode(update))

    def apply(self, command: dict[str, Any], at: str, timestamp: int) -> Record:
        """Apply a command and return the resulting ticket update. `at` and `timestamp` are the current time."""
        ticket = self._ticket(command["ticket_id"])
        members: dict[str, Any] = {}
        for action in command["actions"]:
            field, value = action["field"], action["value"]
            if field == "add_tags":
                ticket.added |= set(value)
                ticket.removed -= set(value)
            elif field == "remove_tags":
                ticket.removed |= set(value)
                ticket.added -= set(value)
            elif field == "set_tags":
                ticket.tags, ticket.added, ticket.removed = list(value), set(value), set()
            elif field in SET_FIELDS or field.startswith(CUSTOM_FIELD_PREFIX):
                _set(members, field, value)
        ticket.fields.update(
            {name: value for name, value in members.items() if name not in {"status", "custom_fields"}}
        )
        update = {
            "event_id": f"applied-{command['command_id']}",
            "ticket_id": command["ticket_id"],
            "occurred_at": at,
            "command_id": command["command_id"],
            "ticket": {**members, "tags": _tags(ticket), "updated_at": at},
        }
        return Record(Topic.TICKETS, command["ticket_id"].encode(), msgspec.json.encode(update), timestamp)

    def _ticket(self, ticket_id: str) -> _Ticket:
        if ticket_id not in self._tickets and len(self._tickets) >= _REMEMBERED:
            del self._tickets[next(iter(self._tickets))]
        return self._tickets.setdefault(ticket_id, _Ticket())


def _set(members: dict[str, Any], field: str, value: Any) -> None:
    if field.startswith(CUSTOM_FIELD_PREFIX):
        members.setdefault("custom_fields", {})[field.removeprefix(CUSTOM_FIELD_PREFIX)] = value
    else:
        members[field] = value


def _tags(ticket: _Ticket) -> list[str]:
    return sorted((set(ticket.tags) | ticket.added) - ticket.removed)
