"""Decodes plain ticket updates with a decoder made for exactly their members, so that no further checks are needed.

Nine of ten ticket updates have the same members as earlier ones, with short texts and numbers as values. The first
record of a shape is decoded on the full path (`streams.wire.decode`). If it has nothing unusual, a msgspec struct is
made that has exactly its members and no others. When that struct accepts a record, msgspec has checked it in one pass:
names of members, types, lengths, no empty text. When the struct refuses a record, the record is not necessarily
invalid: it takes the full path, and only the full path decides what is wrong.

A shape is looked up by the number of quotation marks in a record, which is quick to count and distinguishes shapes
well. When two shapes have the same number, their structs still accept only their own records: a wrong guess only costs
time.
"""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from streams.core import normal
from streams.core.model import MILLISECOND, SECOND, Value
from streams.core.plain import PlainTicket
from streams.wire import instants

MAX_BYTES = 16 * 1024
"""Longer records take the full path."""

MEMBER_BYTES = 1024
"""The size limit of a member (SPEC section 2). In a record of at most this size no member can be over the limit."""

SHORT = MEMBER_BYTES // 4
"""A text of at most this many characters cannot be over the limit, whatever the characters are."""

SHAPES_KEPT = 64
"""When there are more shapes than this, all of them are dropped and learned again."""

GUESSES_KEPT = 1024
"""The same for the numbers of quotation marks."""

MEMBERS = 256
"""A ticket with more members and custom fields than this takes the full path."""

FREE_LESSONS = 256
LESSON_EVERY = 64
"""Learning a shape costs as much as decoding hundreds of records. After the first `FREE_LESSONS` times, only one in
`LESSON_EVERY` records that took the full path is learned from."""

_MICROSECONDS = len('"2026-03-01T10:05:00.123456Z"')
"""Longer texts have digits that msgspec would round."""

_Text = Annotated[str, Meta(min_length=1, max_length=MEMBER_BYTES)]
_ShortText = Annotated[str, Meta(min_length=1, max_length=SHORT)]
_Int = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
_ENVELOPE: dict[str, Any] = {
    "ticket_id": _ShortText,
    "event_id": _ShortText,
    "occurred_at": msgspec.Raw,
    "sequence": Annotated[int, Meta(ge=0, le=2**63 - 1)] | None,
    "command_id": None,
}
_NEEDED = ("ticket_id", "event_id", "occurred_at", "ticket")
_TAGS, _CUSTOM, _STATUS = "tags", "custom_fields", "status"
_CLOSED = "closed"
_APART = frozenset({_TAGS, _CUSTOM})

_decode_any = msgspec.json.Decoder().decode
_decode_utc = msgspec.json.Decoder(datetime).decode
_EPOCH = instants.EPOCH
_astuple = msgspec.structs.astuple


class _Unlike(Exception):
    """A record has something that a plain record must not have."""


class TicketShape:
    """The members of one kind of ticket update; makes the decoder for its records."""

    def __init__(self, record: dict[str, Any]) -> None:
        """Make the shape of a decoded record. Raises `_Unlike`."""
        ticket = record.get("ticket")
        if not isinstance(ticket, dict) or not ticket or not all(name in record for name in _NEEDED):
            raise _Unlike
        custom = ticket.get(_CUSTOM, {})
        if not isinstance(custom, dict) or len(ticket) + len(custom) > MEMBERS:
            raise _Unlike
        self._has_custom = _CUSTOM in ticket
        self._members = [name for name in ticket if name not in _APART]
        self._names = list(self._members)
        if _TAGS in ticket:
            self._names.append(_TAGS)
        self._names += [normal.CUSTOM_FIELD_PREFIX + name for name in custom]
        self.fields = frozenset(self._names)
        if len(self.fields) != len(self._names):
            raise _Unlike  # a member with the name of a custom field
        self._slots = {name: f"m{place}" for place, name in enumerate(self._members)}
        self.named = [(name, self._slots[name]) for name in self._members if name in normal.NAMES]
        self.ids = [self._slots[name] for name in self._members if normal.is_id(name)]
        self.status = self._slots.get(_STATUS)
        self.tags = _TAGS if _TAGS in ticket else None
        self.decode_small = msgspec.json.Decoder(self._struct(record, ticket, custom, _Text)).decode
        self.decode = msgspec.json.Decoder(self._struct(record, ticket, custom, _ShortText)).decode

    def _struct(self, record: dict[str, Any], ticket: dict[str, Any], custom: dict[str, Any], text: Any) -> Any:
        members = {self._slots[name]: _type_of(name, ticket[name], text) for name in self._members}
        if self.tags:
            members[_TAGS] = list[text] | None
        if self._has_custom:
            slots = {name: f"c{place}" for place, name in enumerate(custom)}
            scalar = text | _Int | float | bool | None
            members[_CUSTOM] = _strict("CustomFields", dict.fromkeys(slots.values(), scalar), slots)
        envelope: dict[str, Any] = {"ticket": _strict("Members", members, self._slots)}
        ignored: dict[str, str] = {}
        for name, value in record.items():
            if name in _ENVELOPE:
                envelope[name] = _ENVELOPE[name]
            elif name != "ticket":
                if isinstance(value, dict | list):
                    raise _Unlike
                ignored[name] = f"i{len(ignored)}"
                envelope[ignored[name]] = str | int | float | bool | None
        return _strict("PlainTicketRecord", envelope, ignored)

    def changes(self, members: Any) -> dict[str, Value]:
        """Return members as `TicketUpdate.changes`."""
        values = _astuple(members)
        if self._has_custom:
            values = values[:-1] + _astuple(values[-1])
        return dict(zip(self._names, values, strict=True))


def _strict(name: str, fields: dict[str, Any], slots: dict[str, str]) -> Any:
    """Return a struct that must have exactly these fields; `slots` are those with another name in JSON."""
    names = {slot: name for name, slot in slots.items()}
    return msgspec.defstruct(name, list(fields.items()), rename=names, forbid_unknown_fields=True, gc=False)


def _type_of(name: str, value: Any, text: Any) -> Any:
    if isinstance(value, dict | list):
        raise _Unlike
    if normal.is_id(name) or name in normal.NAMES:
        return text | _Int | None
    return text | _Int | bool | None


@lru_cache(maxsize=4096)  # the same few values recur
def _named(member: str, value: Any) -> Value:
    return normal.member_value(member, value)


class PlainTickets:
    """The shapes of ticket updates seen so far."""

    def __init__(self) -> None:
        """Start without any shape."""
        self._guesses: dict[int, TicketShape] = {}
        self._shapes: dict[tuple[tuple[str, ...], ...], TicketShape] = {}
        self._lessons = 0
        self._long_ways = 0

    def decode(self, value: bytes, timestamp: int) -> PlainTicket | None:
        """Decode a record, without checking its key and clock; None when it has to take the full path.

        `timestamp` is the record's, in milliseconds.
        """
        quotes = value.count(b'"')
        shape = self._guesses.get(quotes)
        if shape is None or len(value) > MAX_BYTES:
            return None
        small = len(value) <= MEMBER_BYTES
        try:
            record = shape.decode_small(value) if small else shape.decode(value)
            instant = bytes(record.occurred_at)
            if not instant.endswith(b'Z"') or len(instant) > _MICROSECONDS:
                return None
            since = _decode_utc(instant) - _EPOCH
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        members = record.ticket
        if value.find(b"\\") >= 0 or value.count(b"__NULL__"):
            # Escapes can hide `__NULL__`, so check the decoded texts.
            if record.ticket_id == "__NULL__" or record.event_id == "__NULL__":
                return None
            if "__NULL__" in shape.changes(members).values():
                return None
        for name, slot in shape.named:
            setattr(members, slot, _named(name, getattr(members, slot)))
        for slot in shape.ids:
            if type(number := getattr(members, slot)) is int:
                setattr(members, slot, str(number))
        if shape.status is not None and getattr(members, shape.status) == _CLOSED:
            return None
        if shape.tags is not None and (tags := members.tags) is not None and not _are_plain(tags, small=small):
            return None
        return PlainTicket(
            record.ticket_id,
            record.event_id,
            (since.days * 86_400 + since.seconds) * SECOND + since.microseconds,
            timestamp * MILLISECOND,
            shape,
            members,
            getattr(record, "sequence", None),
            len(value),
        )

    def learn(self, value: bytes) -> None:
        """Learn the shape of a valid record that took the full path."""
        self._long_ways += 1
        if len(value) > MAX_BYTES or (self._lessons >= FREE_LESSONS and self._long_ways % LESSON_EVERY):
            return
        self._lessons += 1
        quotes = value.count(b'"')
        try:
            record = _decode_any(value)
            ticket = record["ticket"]
            custom = ticket.get(_CUSTOM) or {}
            names = (tuple(record), tuple(ticket), tuple(custom))
            shape = self._shapes.get(names) or TicketShape(record)
            (shape.decode_small if len(value) <= MEMBER_BYTES else shape.decode)(value)
        except (_Unlike, msgspec.DecodeError, UnicodeDecodeError, RecursionError, TypeError, AttributeError):
            return
        if len(self._shapes) >= SHAPES_KEPT or len(self._guesses) >= GUESSES_KEPT:
            self._shapes.clear()
            self._guesses.clear()
        self._shapes[names] = shape
        self._guesses[quotes] = shape


def _are_plain(tags: list[str], *, small: bool) -> bool:
    """Whether the row can store tags as received: not empty, no repeats, and together within the limit of a member."""
    if not tags or (len(tags) > 1 and len({*tags}) != len(tags)):
        return False
    return small or 6 * sum(map(len, tags)) + 3 * len(tags) + 2 <= MEMBER_BYTES
