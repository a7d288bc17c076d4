"""What a command asks of the API, given the ticket as it was read. Pure: no clock, no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from streams.core import normal
from streams.core.actions import is_passed_on
from streams.core.model import Micros
from streams.core.normal import CUSTOM_FIELD_PREFIX
from streams.wire import instants
from streams.zendesk.apply.results import Ending, Result

RELEASED_AT = "lapse.released_at"
"""Header of a command that was held: when it was released."""

REPLY = "reply_public"
_TAG_ACTIONS = frozenset({"add_tags", "remove_tags", "set_tags"})
_NOT_IN_THE_API = frozenset({"routing_channel"})
"""Fields that triggers can set and the ticket API has no property for: neither read, nor set, nor compared."""
_STAMP = "updated_at"
_GONE = frozenset({"closed", "deleted", "archived", "scrubbed"})


class Action(msgspec.Struct, frozen=True):
    """One thing to do to the ticket."""

    field: str
    value: Any


class FiredTrigger(msgspec.Struct, frozen=True):
    """A trigger that fired."""

    id: str


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """What is needed of a record of `action-commands`. Members that a newer version adds are ignored."""

    command_id: str
    ticket_id: str
    issued_at: str
    triggers: list[FiredTrigger]
    actions: list[Action]
    expected: dict[str, Any] = {}

    @property
    def trigger_ids(self) -> frozenset[str]:
        """Return the ids of the triggers that fired."""
        return frozenset(trigger.id for trigger in self.triggers)

    @property
    def passes_on(self) -> bool:
        """Whether an action is passed on, such as a reply."""
        return any(is_passed_on(action.field) for action in self.actions)


class NotACommandError(ValueError):
    """A record of `action-commands` is none of Lapse's; the text says why."""


_decode = msgspec.json.Decoder(Command).decode


def decode_command(value: bytes | None) -> Command:
    """Read a command. Raises `NotACommandError`."""
    try:
        command = _decode(value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NotACommandError(str(error)) from None
    # The id becomes a part of a path.
    if not (command.ticket_id.isascii() and command.ticket_id.isdecimal()):
        raise NotACommandError(f"`ticket_id` is {command.ticket_id!r:.40}, and ids of Zendesk are whole numbers")
    if instants.read(command.issued_at) is None:
        raise NotACommandError(f"`issued_at` is {command.issued_at!r:.40}, which is no time as RFC 3339 has it")
    return command


def age_counts_from(command: Command, headers: Iterable[tuple[str, bytes | None]]) -> Micros:
    """Return the instant from which a command's age counts: its release if it was held, else its issue."""
    for name, value in headers:
        if name == RELEASED_AT and (released := instants.read((value or b"").decode("utf-8", "replace"))) is not None:
            return released
    return instants.read(command.issued_at) or 0


class Send(msgspec.Struct, frozen=True, kw_only=True):
    """An update to send. `ticket` is the body's member of that name."""

    ticket: Mapping[str, Any]
    stamp: str
    """`updated_at` of the ticket as it was read."""
    not_done: tuple[str, ...] = ()
    """Actions that the API can't carry out."""


def plan(command: Command, ticket: Mapping[str, Any], command_field: str | None = None) -> Send | Ending:
    """Return the update to send, or how the command ends without one.

    `ticket` is the object of that name in the API's answer; `command_field` is the id of the custom field that takes
    the command's id.
    """
    if normal.member_value("status", ticket.get("status")) in _GONE:
        return Ending(Result.GONE)
    changed = [
        field
        for field, value in command.expected.items()
        if field != _STAMP and field not in _NOT_IN_THE_API and not _same(_read(ticket, field), value)
    ]
    if changed:
        return Ending(Result.OVERTAKEN, why=f"changed meanwhile: {', '.join(changed)}")
    asked, not_done = _asked(command, ticket)
    if not asked:
        why = f"the API can't carry out {', '.join(not_done)}"
        return Ending(Result.REFUSED, why=why, not_done=not_done)
    if command_field is not None:
        asked.setdefault("custom_fields", []).append({"id": _id(command_field), "value": command.command_id})
    stamp = str(ticket.get(_STAMP))
    safety = {"metadata": {"command_id": command.command_id}, "safe_update": True, "updated_stamp": stamp}
    return Send(ticket={**asked, **safety}, stamp=stamp, not_done=not_done)


def not_done_of(command: Command) -> tuple[str, ...]:
    """Return the actions of a command that the API can't carry out."""
    return _asked(command, {})[1]


def _asked(command: Command, ticket: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return what the update sets, and the names of the actions that it can't carry out."""
    asked: dict[str, Any] = {}
    not_done: list[str] = []
    replies: list[str] = []
    tags: list[str] | None = None
    for action in command.actions:
        field, value = action.field, action.value
        if field in _TAG_ACTIONS:
            tags = _tags(normal.words(ticket.get("tags")) if tags is None else tags, field, normal.words(value))
        elif field.startswith(CUSTOM_FIELD_PREFIX):
            custom = {"id": _id(field.removeprefix(CUSTOM_FIELD_PREFIX)), "value": value}
            asked.setdefault("custom_fields", []).append(custom)
        elif field == REPLY and isinstance(value, str) and value.strip():
            replies.append(value)
        elif is_passed_on(field) or field in _NOT_IN_THE_API:
            not_done.append(field)
        else:
            asked[field] = _id(value) if normal.is_id(field) else value
    if tags is not None:
        asked["tags"] = sorted(tags)
    if replies:
        # An update has one comment.
        asked["comment"] = {"body": "\n\n".join(replies), "public": True}
    return asked, tuple(dict.fromkeys(not_done))


def _tags(before: list[str], action: str, words: list[str]) -> list[str]:
    if action == "set_tags":
        return words
    if action == "add_tags":
        return [*before, *(word for word in words if word not in before)]
    return [word for word in before if word not in words]


def _read(ticket: Mapping[str, Any], field: str) -> Any:
    """Return a member of the ticket as a row would have it."""
    if field.startswith(CUSTOM_FIELD_PREFIX):
        wanted = field.removeprefix(CUSTOM_FIELD_PREFIX)
        for custom in ticket.get("custom_fields") or ():
            if str(custom.get("id")) == wanted:
                return normal.custom_field_value(custom.get("value"))
        return None
    if field in normal.TAG_FIELDS:
        return normal.words(ticket.get("tags"))
    return normal.member_value(field, ticket.get(field))


def _same(read: Any, expected: Any) -> bool:
    """Whether two values are the same as `is` compares them; lists in any order, and an empty one is no value."""
    if isinstance(read, list) or isinstance(expected, list):
        return sorted(normal.words(read)) == sorted(normal.words(expected))
    if read is None or expected is None:
        return read in (None, "") and expected in (None, "")
    return normal.text(read) == normal.text(expected)


def _id(value: Any) -> Any:
    """Return an id as Zendesk's API has it: a number."""
    return int(value) if isinstance(value, str) and value.isascii() and value.isdecimal() else value
