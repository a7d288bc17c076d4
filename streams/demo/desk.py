"""Plays the helpdesk downstream: does to its tickets what commands ask for, and says so in the ticket topic.

The plays of `streams.testing.traffic` know nothing of commands, so every ticket update passes through the desk on its
way to the broker and gets what commands did to its ticket. The status stays the play's: people change it at once.
"""

from __future__ import annotations

from typing import Any

import msgspec

from streams.core.names import Topic
from streams.core.normal import CUSTOM_FIELD_PREFIX
from streams.core.triggers import SET_FIELDS
from streams.testing.traffic import Record

_REMEMBERED = 50_000
"""How many tickets the desk knows at a time; those of the demo's conversations are closed long before."""


class _Ticket(msgspec.Struct):
    """What the desk holds of a ticket: its tags as last seen, and what commands made of it."""

    tags: list[str] = []
    added: set[str] = msgspec.field(default_factory=set)
    removed: set[str] = msgspec.field(default_factory=set)
    fields: dict[str, Any] = msgspec.field(default_factory=dict)


class Desk:
    """Every ticket that a command was for, or that an update was seen of."""

    def __init__(self) -> None:
        """Begin with no tickets."""
        self._tickets: dict[str, _Ticket] = {}

    def through(self, record: Record) -> Record:
        """Return the record with what commands did to its ticket; a broken one as it is."""
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
        """Do what a command asks for and return the ticket update that says so; `at` and `timestamp` are now."""
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
