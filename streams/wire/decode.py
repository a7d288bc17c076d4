"""Decodes Kafka records to updates or rejections (SPEC section 2).

Decoding never raises, whatever the bytes: a bad record gives a `Rejection` with one of the codes of `Code`.
"""

from __future__ import annotations

import re
from datetime import datetime
from functools import lru_cache
from typing import Any, TypeVar

import msgspec

from streams.core import normal
from streams.core.inputs import RawRecord, Update
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
from streams.core.plain import PlainTicket
from streams.wire import instants, json_text
from streams.wire.plain import PlainTickets
from streams.wire.shapes import SessionRecord, TicketRecord

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 64
MAX_MEMBER_BYTES = 1024
MAX_AHEAD: Micros = 300 * SECOND
"""Maximum time by which `occurred_at` or the record's timestamp may be ahead of the clock."""


_Update = TypeVar("_Update", bound=TicketUpdate | SessionUpdate | PlainTicket)


class _BadInstantError(Exception):
    """The text of `occurred_at` is not a valid instant; the text of the error says why."""


class _InexactError(Exception):
    """An id was written as a number that a float does not hold exactly."""


_TICKETS = Topic.TICKETS
_ABSENT: Any = object()


class _Ticket(TicketRecord):
    """A ticket update with `occurred_at` not yet parsed: for most records the end of its text shows the offset."""

    occurred_at: msgspec.Raw  # type: ignore[assignment]


class _Session(SessionRecord):
    """A session state with `occurred_at` not yet parsed."""

    occurred_at: msgspec.Raw  # type: ignore[assignment]


_decode_ticket = msgspec.json.Decoder(_Ticket).decode
_decode_session = msgspec.json.Decoder(_Session).decode
_decode_utc = msgspec.json.Decoder(datetime).decode
_decode_text = msgspec.json.Decoder(str).decode
_encode = msgspec.json.Encoder().encode
_EXACT: dict[Topic, type[TicketRecord | SessionRecord]] = {
    Topic.TICKETS: TicketRecord,
    Topic.SESSIONS: SessionRecord,
}
_WHOLE_MEMBERS = frozenset({"ticket_id", "event_id", "session_id", "command_id", "sequence"})

_MICROSECONDS = len('"2026-03-01T10:05:00.123456Z"')
"""Longer texts have digits that msgspec would round."""


_plain_tickets = PlainTickets()


def decode(topic: Topic, partition: int, record: RawRecord, now: Micros) -> Update | Rejection:
    """Decode, validate and normalise one record of an input; `now` is the wall clock, for `bad_timestamp`."""
    if topic is _TICKETS and (value := record.value) is not None and (key := record.key):
        plain = _plain_tickets.decode(value, record.timestamp)
        if plain is not None:
            return _checked(plain, key, now)
        update = decode_fully(topic, partition, record, now)
        if type(update) is TicketUpdate:
            _plain_tickets.learn(value)
        return update
    return decode_fully(topic, partition, record, now)


def decode_fully(
    topic: Topic, partition: int, record: RawRecord, now: Micros
) -> TicketUpdate | SessionUpdate | Rejection:
    """Do what `decode` does on the full path: a ticket update is always returned as a `TicketUpdate`."""
    value, key = record.value, record.key
    # A value with fewer brackets than the allowed levels cannot be nested too deeply; this covers nearly every record.
    if value is None or not key or len(value) > MAX_BYTES or value.count(b"{") + value.count(b"[") > MAX_DEPTH:
        unusual = _unusual(topic, partition, record, now)
        if unusual is not None:
            return unusual
        assert value is not None and key  # noqa: S101 -- or it would have been unusual
    decoded: TicketRecord | SessionRecord
    exact: tuple[TicketRecord | SessionRecord, Micros] | Rejection
    try:
        if not value.isascii():
            value.decode()  # skipped members are not decoded, but their bytes must still be valid text
        quick: _Ticket | _Session = _decode_ticket(value) if topic is _TICKETS else _decode_session(value)
        decoded, text = quick, bytes(quick.occurred_at)
        if text.endswith(b'Z"') and len(text) <= _MICROSECONDS:
            since = _decode_utc(text) - instants.EPOCH  # inlined `instants.micros`, to save the call
            occurred_at = (since.days * 86_400 + since.seconds) * SECOND + since.microseconds
        else:
            occurred_at = _instant(_decode_text(text))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, _BadInstantError):
        exact = _exactly(topic, value)
        if isinstance(exact, Rejection):
            return exact
        decoded, occurred_at = exact

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
    if topic is _TICKETS:
        assert isinstance(decoded, TicketRecord)  # noqa: S101 -- narrows the type
        try:
            normalised = _ticket_changes(decoded.ticket, small=len(value) <= MAX_MEMBER_BYTES)
        except _InexactError:
            exact = _exactly(topic, value)
            if isinstance(exact, Rejection):
                return exact
            decoded = exact[0]
            assert isinstance(decoded, TicketRecord)  # noqa: S101 -- narrows the type
            normalised = _ticket_changes(decoded.ticket, small=False)
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
        assert isinstance(decoded, SessionRecord)  # noqa: S101 -- narrows the type
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
            _traceparent(record) if record.headers else None,
        )
    return _checked(update, key, now)


def _checked(update: _Update, key: bytes, now: Micros) -> _Update | Rejection:
    """Check an update against its record's key and against the clock."""
    ticket_id, occurred_at, timestamp = update.ticket_id, update.occurred_at, update.timestamp
    if ticket_id.encode() != key:
        return Rejection(
            Code.KEY_MISMATCH, "$.ticket_id", f"the key is {_shown(key)}, but `ticket_id` is {ticket_id!r:.80}"
        )
    latest = now + MAX_AHEAD
    if occurred_at > latest:
        return _ahead("$.occurred_at", "`occurred_at`", occurred_at, now)
    if timestamp > latest:
        return _ahead("$timestamp", "the record's timestamp", timestamp, now)
    if timestamp < instants.EARLIEST:
        return _before_year_one(timestamp // MILLISECOND)
    return update


def _exactly(topic: Topic, value: bytes) -> tuple[TicketRecord | SessionRecord, Micros] | Rejection:
    """Decode an unusual or invalid value, slowly, accepting everything that RFC 8259 and RFC 3339 allow."""
    try:
        found = json_text.loads(value)
    except RecursionError:
        return Rejection(Code.TOO_LARGE, "$", f"the value is nested deeper than {MAX_DEPTH} levels", keep_value=False)
    except ValueError as reason:
        return Rejection(Code.NOT_JSON, "$", f"the value is not JSON: {reason}")
    try:
        decoded = msgspec.convert(_with_whole_ids(found), _EXACT[topic])
        return decoded, _instant(decoded.occurred_at)
    except msgspec.ValidationError as error:
        return _ill_formed(error)
    except _BadInstantError as error:
        return Rejection(Code.INVALID, "$.occurred_at", str(error))


def _instant(text: str) -> Micros:
    occurred_at = instants.read(text)
    if occurred_at is None:
        message = "`occurred_at` is not an RFC 3339 instant with an offset, such as 2026-03-01T10:00:00Z"
        raise _BadInstantError(message)
    if occurred_at < instants.EARLIEST:
        raise _BadInstantError("`occurred_at` lies before the year 1")
    return occurred_at


def _with_whole_ids(found: Any) -> Any:
    """Convert a value from `json_text.loads` to plain types, with ids and sequences as exact integers."""
    if not isinstance(found, dict):
        return json_text.plain(found)
    for name in _WHOLE_MEMBERS & found.keys():
        found[name] = json_text.whole(found[name])
    ticket = found.get("ticket")
    if isinstance(ticket, dict):
        for name, value in ticket.items():
            if normal.is_id(name):
                ticket[name] = (
                    [json_text.whole(item) for item in value] if isinstance(value, list) else json_text.whole(value)
                )
        custom_fields = ticket.get("custom_fields")
        for entry in custom_fields if isinstance(custom_fields, list) else ():
            if isinstance(entry, dict) and "id" in entry:
                entry["id"] = json_text.whole(entry["id"])
    return json_text.plain(found)


def refused_for_size(value: bytes | None) -> Rejection | None:
    """Return why a value is too large or nested too deeply to be decoded; None when it is neither."""
    if value is None:
        return None
    if len(value) > MAX_BYTES:
        message = f"the value has {len(value)} bytes, more than {MAX_BYTES}"
        return Rejection(Code.TOO_LARGE, "$", message, keep_value=False)
    if value.count(b"{") + value.count(b"[") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        message = f"the value is nested deeper than {MAX_DEPTH} levels"
        return Rejection(Code.TOO_LARGE, "$", message, keep_value=False)
    return None


def _unusual(
    topic: Topic, partition: int, record: RawRecord, now: Micros
) -> TicketUpdate | SessionUpdate | Rejection | None:
    """Handle a tombstone, a missing key, and values that are too large; None for any other record."""
    value, key = record.value, record.key
    too_large = refused_for_size(value)
    if too_large is not None:
        return too_large
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
    if timestamp < instants.EARLIEST:
        return _before_year_one(record.timestamp)
    event_id = f"{topic}/{partition}/{record.offset}"
    if topic is _TICKETS:
        return TicketUpdate(ticket_id, event_id, timestamp, timestamp, None)
    return SessionUpdate(ticket_id, event_id, timestamp, timestamp, None)


# --- members ---------------------------------------------------------------------------------------------------------

_PLAIN = frozenset({str, type(None), bool})
_PLAIN_OR_FLOAT = _PLAIN | {float}
_STRINGS = frozenset({str})
_NAMES = tuple(sorted(normal.NAMES))
_NO_VALUES = normal.NO_VALUES
_name_of = normal.member_name


@lru_cache(maxsize=4096)  # the same fields recur; a cached text already has its hash
def _flat(custom_field: str) -> str:
    return normal.CUSTOM_FIELD_PREFIX + custom_field


def _ticket_changes(ticket: dict[str, Any], *, small: bool) -> tuple[dict[str, Value], int] | Rejection:
    """Flatten and normalise the members of `ticket`; count those that are too large to keep.

    `small` promises that nothing in the record is over 1 KiB. Nearly every record is small, has members of plain types
    and none of the spellings of *no value*; then only the names need further checks. `ticket` is modified.
    """
    tags, custom_fields = ticket.pop("tags", _ABSENT), ticket.pop("custom_fields", _ABSENT)
    changes: dict[str, Value]
    oversized = 0
    values = ticket.values()
    if small and _PLAIN.issuperset(map(type, values)) and _NO_VALUES.isdisjoint(values):
        changes = ticket
        for member in _NAMES:
            if member in ticket:
                value = ticket[member]
                changes[member] = _name_of(member, value) if type(value) is str else normal.member_value(member, value)
    else:
        changes = {}
        for member, value in ticket.items():
            if normal.is_id(member):
                _refuse_inexact(value)
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
            if small and type(value) in _PLAIN_OR_FLOAT:
                changes[_flat(field)] = None if value in _NO_VALUES else value
            else:
                kept = _kept(value)
                oversized += _was_dropped(value, kept)
                changes[_flat(field)] = normal.custom_field_value(kept)
    return changes, oversized


def _refuse_inexact(value: Any) -> None:
    """Raise `_InexactError` when an id is a float too large to determine the whole number that was written."""
    for item in value if isinstance(value, list) else (value,):
        if type(item) is float and item.is_integer() and normal.EXACT_FLOAT <= abs(item) < 10.0**json_text.MAX_EXPONENT:
            raise _InexactError


def _was_dropped(value: Any, kept: Any) -> bool:
    """Whether a value was too large; objects are never kept and not counted."""
    return kept is None and value is not None and not isinstance(value, dict)


def _custom_fields(value: Any) -> dict[str, Any] | Rejection:
    """Return the entries of custom fields that are not given as an object."""
    if value is None:
        return {}
    if not isinstance(value, list):
        return _ill_typed("$.ticket.custom_fields", "an object or a list of {id, value}", value)
    entries = {}
    for index, entry in enumerate(value):
        field = entry.get("id") if isinstance(entry, dict) else None
        _refuse_inexact(field)
        whole = field.is_integer() if isinstance(field, float) else isinstance(field, str | int)
        if isinstance(field, bool) or not whole or field == "":
            return _ill_typed(f"$.ticket.custom_fields[{index}]", "an object with `id` and `value`", entry)
        entries[normal.id_text(field)] = entry.get("value")
    return entries


def _kept(value: Any) -> Any:
    """Return the value that the row stores: None for objects and for values over 1 KiB."""
    if isinstance(value, str):
        small = len(value) <= MAX_MEMBER_BYTES // 4 or len(value.encode()) <= MAX_MEMBER_BYTES
        return value if small else None
    if isinstance(value, list):
        return _storable(value) if len(_encode(value)) <= MAX_MEMBER_BYTES else None
    return None if isinstance(value, dict) else _storable(value)


def _storable(value: Any) -> Any:
    """Return a value with integers too large for MessagePack converted to text, which is also how `is` compares."""
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


@lru_cache(maxsize=4096)  # the same states, reasons and channels recur
def _name(value: str | None) -> str | None:
    return None if value is None or value in normal.NO_VALUES else normal.name(value)


def given_event_id(record: RawRecord) -> str | None:
    """Return the event id given in a record, even if it is invalid; None when there is none."""
    try:
        value = json_text.loads(record.value or b"null")
    except (ValueError, RecursionError):
        return None
    given = json_text.whole(value.get("event_id")) if isinstance(value, dict) else None
    return (_id(given) if isinstance(given, str | int) else None) or _header_event_id(record)


def _header_event_id(record: RawRecord) -> str | None:
    for header, value in record.headers or ():
        if header == "ce_id" and value:
            return value.decode(errors="replace")
    return None


_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def _traceparent(record: RawRecord) -> str | None:
    """Return the trace context of a record if it is W3C version 00; consumers cannot use other forms."""
    for header, value in record.headers or ():
        if header == "traceparent" and value and _TRACEPARENT.fullmatch(value):
            return value.decode()
    return None


# --- rejections ------------------------------------------------------------------------------------------------------

_AT = re.compile(r"^(.*?)(?: - at `(\$.*)`)?$", re.DOTALL)
_MISSING = re.compile(r"missing required field `(.+?)`")


def _ill_formed(error: msgspec.ValidationError) -> Rejection:
    """Return a rejection that says what is wrong with JSON of the wrong shape, and where."""
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


def _before_year_one(timestamp: int) -> Rejection:
    message = f"the record's timestamp, {timestamp} ms, lies before the year 1"
    return Rejection(Code.BAD_TIMESTAMP, "$timestamp", message)


def _shown(key: bytes) -> str:
    text = key[:64].decode(errors="backslashreplace")
    return f"`{text}`" if len(key) <= 64 else f"`{text}…`"


_STRING_LITERALS = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)


def _depth(value: bytes) -> int:
    """Return the nesting depth of brackets outside strings; works also for text that is not JSON."""
    depth = deepest = 0
    for byte in _STRING_LITERALS.sub(b"", value):
        if byte in b"{[":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"}]":
            depth -= 1
    return deepest
