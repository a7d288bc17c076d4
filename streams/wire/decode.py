"""Kafka records to updates, or to the reason why not (SPEC section 2).

Nothing raises here, whatever the bytes: a bad record is a `Rejection` with one of the codes of `Code`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from typing import Any

import msgspec

from streams.core import normal
from streams.core.inputs import RawRecord
from streams.core.model import (
    MILLISECOND,
    SECOND,
    Micros,
    Rejection,
    SessionUpdate,
    TicketUpdate,
    Value,
)
from streams.core.names import Code, Topic
from streams.wire import instants
from streams.wire.shapes import SessionRecord, TicketRecord

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 64
MAX_MEMBER_BYTES = 1024
MAX_AHEAD: Micros = 300 * SECOND
"""How far `occurred_at` or the record's timestamp may lie ahead of the clock."""


_TICKETS = Topic.TICKETS
_ABSENT: Any = object()


class _Ticket(TicketRecord):
    """A ticket update whose `occurred_at` is still to be read: the end of its text tells most offsets apart."""

    occurred_at: msgspec.Raw  # type: ignore[assignment]


class _Session(SessionRecord):
    """A session state whose `occurred_at` is still to be read."""

    occurred_at: msgspec.Raw  # type: ignore[assignment]


_decode_ticket = msgspec.json.Decoder(_Ticket).decode
_decode_session = msgspec.json.Decoder(_Session).decode
_decode_utc = msgspec.json.Decoder(datetime).decode
_decode_strictly: dict[Topic, Callable[[bytes], TicketRecord | SessionRecord]] = {
    Topic.TICKETS: msgspec.json.Decoder(TicketRecord).decode,
    Topic.SESSIONS: msgspec.json.Decoder(SessionRecord).decode,
}
_decode_any = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


def decode(topic: Topic, partition: int, record: RawRecord, now: Micros) -> TicketUpdate | SessionUpdate | Rejection:
    """Decode, validate and normalise one record of an input; `now` is the wall clock, for `bad_timestamp`."""
    value, key = record.value, record.key
    # Fewer brackets than levels allowed: no need to look closer. Nearly every record gets past here at once.
    if value is None or not key or len(value) > MAX_BYTES or value.count(b"{") + value.count(b"[") > MAX_DEPTH:
        unusual = _unusual(topic, partition, record, now)
        if unusual is not None:
            return unusual
        assert value is not None and key  # noqa: S101 -- or it would have been unusual
    try:
        if not value.isascii():
            value.decode()  # members we skip are not looked into, but their bytes must be text all the same
        decoded: _Ticket | _Session = _decode_ticket(value) if topic is _TICKETS else _decode_session(value)
        text = bytes(decoded.occurred_at)
        if text.endswith(b'Z"'):
            since = _decode_utc(text) - instants.EPOCH  # `instants.micros`, which is a call too much here
            occurred_at = (since.days * 86_400 + since.seconds) * SECOND + since.microseconds
        else:
            instant = _offset_instant(topic, value, text)
            if isinstance(instant, Rejection):
                return instant
            occurred_at = instant
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _undecodable(topic, value)

    ticket_id = decoded.ticket_id
    if type(ticket_id) is not str:
        ticket_id = str(ticket_id)
    elif ticket_id in normal.NO_VALUES:
        return Rejection(Code.INVALID, "$.ticket_id", "`ticket_id` has no value")
    event_id = decoded.event_id
    if type(event_id) is not str or event_id in normal.NO_VALUES:
        event_id = _id(event_id) or _header_event_id(record) or f"{topic}/{partition}/{record.offset}"
    timestamp = record.timestamp * MILLISECOND
    update: TicketUpdate | SessionUpdate
    if type(decoded) is _Ticket:
        normalised = _ticket_changes(decoded.ticket, small=len(value) <= MAX_MEMBER_BYTES)
        if isinstance(normalised, Rejection):
            return normalised
        update = TicketUpdate(
            ticket_id,
            event_id,
            occurred_at,
            timestamp,
            normalised[0],
            decoded.sequence,
            None if decoded.command_id is None else _id(decoded.command_id),
            normalised[1],
            len(value),
        )
    else:
        assert type(decoded) is _Session  # noqa: S101 -- narrows the type
        state = _name(decoded.state)
        if state is None:
            return Rejection(Code.INVALID, "$.state", f"`state` has no value: {decoded.state!r}")
        update = SessionUpdate(
            ticket_id,
            event_id,
            occurred_at,
            timestamp,
            "active" if state == "open" else state,
            None if decoded.reason is None else _name(decoded.reason),
            None if decoded.session_id is None else _id(decoded.session_id),
            None if decoded.channel is None else _name(decoded.channel),
            decoded.sequence,
            len(value),
        )
    if ticket_id.encode() != key:
        return Rejection(
            Code.KEY_MISMATCH, "$.ticket_id", f"the key is {_shown(key)}, but `ticket_id` is {ticket_id!r:.80}"
        )
    latest = now + MAX_AHEAD
    if occurred_at > latest:
        return _ahead("$.occurred_at", "`occurred_at`", occurred_at, now)
    if timestamp > latest:
        return _ahead("$timestamp", "the record's timestamp", timestamp, now)
    return update


def _unusual(
    topic: Topic, partition: int, record: RawRecord, now: Micros
) -> TicketUpdate | SessionUpdate | Rejection | None:
    """Deal with a tombstone, a missing key, and sizes; None when there is nothing wrong with them."""
    value, key = record.value, record.key
    if value is not None:
        if len(value) > MAX_BYTES:
            message = f"the value has {len(value)} bytes, more than {MAX_BYTES}"
            return Rejection(Code.TOO_LARGE, "$", message, keep_value=False)
        if _depth(value) > MAX_DEPTH:
            message = f"the value is nested deeper than {MAX_DEPTH} levels"
            return Rejection(Code.TOO_LARGE, "$", message, keep_value=False)
    if not key:
        return Rejection(Code.MISSING_KEY, "$key", "the record has no key; it must be the ticket id")
    if value is not None:
        return None
    try:
        return _tombstone(topic, partition, record, key.decode(), now)
    except UnicodeDecodeError:
        return Rejection(Code.KEY_MISMATCH, "$key", f"the key is not UTF-8 text: {_shown(key)}")


def _tombstone(
    topic: Topic, partition: int, record: RawRecord, ticket_id: str, now: Micros
) -> TicketUpdate | SessionUpdate | Rejection:
    timestamp = record.timestamp * MILLISECOND
    if timestamp > now + MAX_AHEAD:
        return _ahead("$timestamp", "the record's timestamp", timestamp, now)
    event_id = f"{topic}/{partition}/{record.offset}"
    if topic is _TICKETS:
        return TicketUpdate(ticket_id, event_id, timestamp, timestamp, None)
    return SessionUpdate(ticket_id, event_id, timestamp, timestamp, None)


def _offset_instant(topic: Topic, value: bytes, text: bytes) -> Micros | Rejection:
    """Read an `occurred_at` whose JSON `text` does not end in `Z`. Raises what msgspec raises."""
    instant = _decode_strictly[topic](value).occurred_at
    if _ZONE_WITHOUT_COLON.search(text):
        return Rejection(Code.INVALID, "$.occurred_at", "the offset of `occurred_at` lacks its colon: RFC 3339")
    occurred_at = instants.micros(instant)
    if occurred_at < instants.EARLIEST:
        return Rejection(Code.INVALID, "$.occurred_at", "`occurred_at` lies before the year 1")
    return occurred_at


# --- members ---------------------------------------------------------------------------------------------------------

_ZONE_WITHOUT_COLON = re.compile(rb'[+-]\d{4}"$')
"""msgspec reads such offsets, which are ISO 8601 and not RFC 3339."""

_STRINGS_OR_NONE = frozenset({str, type(None), bool, float})
_STRINGS = frozenset({str})
_NAMES = tuple(sorted(normal.NAMES))
_NO_VALUES = normal.NO_VALUES
_name_of = normal.name


@lru_cache(maxsize=4096)  # the same fields again and again; the text comes with its hash
def _flat(custom_field: str) -> str:
    return normal.CUSTOM_FIELD_PREFIX + custom_field


def _ticket_changes(ticket: dict[str, Any], *, small: bool) -> tuple[dict[str, Value], int] | Rejection:
    """Flatten and normalise the members of `ticket`; count those that are too large to keep.

    `small` promises that nothing in the record is over 1 KiB. Nearly every record is small, has members of plain types
    and none of the spellings of *no value*: then names alone need a closer look. `ticket` is used up.
    """
    tags, custom_fields = ticket.pop("tags", _ABSENT), ticket.pop("custom_fields", _ABSENT)
    changes: dict[str, Value]
    oversized = 0
    values = ticket.values()
    if small and _STRINGS_OR_NONE.issuperset(map(type, values)) and _NO_VALUES.isdisjoint(values):
        changes = ticket
        for member in _NAMES:
            if member in ticket:
                value = ticket[member]
                changes[member] = _name_of(value) if type(value) is str else normal.member_value(member, value)
    else:
        changes = {}
        for member, value in ticket.items():
            kept = _kept(value)
            oversized += _was_dropped(value, kept)
            changes[member] = normal.member_value(member, kept)
    if tags is not _ABSENT:
        if type(tags) is list and small and _STRINGS.issuperset(map(type, tags)) and "" not in tags:
            changes["tags"] = (tags if len(tags) == len({*tags}) else list(dict.fromkeys(tags))) or None
        elif tags is not None and not isinstance(tags, str | list):
            return _ill_typed("$.ticket.tags", "a list of tags or a space-separated string", tags)
        else:
            if isinstance(tags, list) and any(isinstance(tag, list | dict) for tag in tags):
                return _ill_typed("$.ticket.tags[...]", "a tag", next(t for t in tags if isinstance(t, list | dict)))
            kept = _kept(tags)
            oversized += _was_dropped(tags, kept)
            changes["tags"] = list(normal.words(None if kept == "__NULL__" else kept)) or None
    if custom_fields is not _ABSENT:
        entries = custom_fields if type(custom_fields) is dict else _custom_fields(custom_fields)
        if isinstance(entries, Rejection):
            return entries
        if custom_fields is None:
            changes["custom_fields"] = None
        for field, value in entries.items():
            if small and type(value) in _STRINGS_OR_NONE:
                changes[_flat(field)] = None if value in _NO_VALUES else value
            else:
                kept = _kept(value)
                oversized += _was_dropped(value, kept)
                changes[_flat(field)] = normal.custom_field_value(kept)
    return changes, oversized


def _was_dropped(value: Any, kept: Any) -> bool:
    """Whether a value was too large; objects are never kept and not counted."""
    return kept is None and value is not None and not isinstance(value, dict)


def _custom_fields(value: Any) -> dict[str, Any] | Rejection:
    """Return the entries of custom fields that are no object."""
    if value is None:
        return {}
    if not isinstance(value, list):
        return _ill_typed("$.ticket.custom_fields", "an object or a list of {id, value}", value)
    entries = {}
    for index, entry in enumerate(value):
        field = entry.get("id") if isinstance(entry, dict) else None
        if isinstance(field, bool) or not isinstance(field, str | int) or field == "":
            return _ill_typed(f"$.ticket.custom_fields[{index}]", "an object with `id` and `value`", entry)
        entries[normal.text(field)] = entry.get("value")
    return entries


def _kept(value: Any) -> Any:
    """Return what the row keeps of a value: None for objects and for what is over 1 KiB."""
    if isinstance(value, str):
        small = len(value) <= MAX_MEMBER_BYTES // 4 or len(value.encode()) <= MAX_MEMBER_BYTES
        return value if small else None
    if isinstance(value, list):
        return _storable(value) if len(_encode(value)) <= MAX_MEMBER_BYTES else None
    return None if isinstance(value, dict) else _storable(value)


def _storable(value: Any) -> Any:
    """Return a value with the integers that MessagePack cannot hold as text, by which `is` compares them anyway."""
    if type(value) is int and not -(2**63) <= value < 2**64:
        return str(value)
    if isinstance(value, list):
        return [_storable(item) for item in value]
    if isinstance(value, dict):
        return {name: _storable(item) for name, item in value.items()}
    return value


def _id(value: str | int | None) -> str | None:
    if value is None or isinstance(value, str):
        return None if value is None or value in normal.NO_VALUES else value
    return str(value)


def _name(value: str | None) -> str | None:
    return None if value is None or value in normal.NO_VALUES else normal.name(value)


def given_event_id(record: RawRecord) -> str | None:
    """Return the event id that a record gives itself, also one that can't be used; None when it gives none."""
    try:
        value = _decode_any(record.value or b"null")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    given = value.get("event_id") if isinstance(value, dict) else None
    return (_id(given) if isinstance(given, str | int) else None) or _header_event_id(record)


def _header_event_id(record: RawRecord) -> str | None:
    for header, value in record.headers or ():
        if header == "ce_id" and value:
            return value.decode(errors="replace")
    return None


# --- rejections ------------------------------------------------------------------------------------------------------

_AT = re.compile(r"^(.*?)(?: - at `(\$.*)`)?$", re.DOTALL)
_MISSING = re.compile(r"missing required field `(.+?)`")


def _undecodable(topic: Topic, value: bytes) -> Rejection:
    """Tell text that is no JSON from JSON of the wrong shape: the first broken member hides what comes after it."""
    error: Exception | None = None
    try:
        _decode_strictly[topic](value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as found:
        error = found
    try:
        _decode_any(value)
        value.decode()
    except msgspec.ValidationError:
        pass  # JSON, but a number that no one can hold
    except RecursionError:
        return Rejection(Code.TOO_LARGE, "$", f"the value is nested deeper than {MAX_DEPTH} levels", keep_value=False)
    except (msgspec.DecodeError, UnicodeDecodeError) as reason:
        return Rejection(Code.NOT_JSON, "$", f"the value is not JSON: {reason}")
    match = _AT.match(str(error))
    text, path = (match[1], match[2] or "$") if match else (str(error), "$")
    missing = _MISSING.search(text)
    if missing:
        return Rejection(Code.INVALID, f"{path}.{missing[1]}", f"the member `{missing[1]}` is missing")
    return Rejection(Code.INVALID, path, text)


def _ill_typed(path: str, wanted: str, found: Any) -> Rejection:
    return Rejection(Code.INVALID, path, f"expected {wanted}, got {type(found).__name__}")


def _ahead(path: str, what: str, instant: Micros, now: Micros) -> Rejection:
    ahead = (instant - now) // SECOND
    return Rejection(
        Code.BAD_TIMESTAMP,
        path,
        f"{what} lies {ahead} s ahead of the clock, more than {MAX_AHEAD // SECOND} s",
    )


def _shown(key: bytes) -> str:
    text = key[:64].decode(errors="backslashreplace")
    return f"`{text}`" if len(key) <= 64 else f"`{text}…`"


_STRING_LITERALS = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)


def _depth(value: bytes) -> int:
    """Return how deep brackets nest, those inside strings aside; also for text that is no JSON."""
    depth = deepest = 0
    for byte in _STRING_LITERALS.sub(b"", value):
        if byte in b"{[":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"}]":
            depth -= 1
    return deepest
