"""Kafka records to updates, or to the reason why not (SPEC section 2).

Nothing raises here, whatever the bytes: a bad record is a `Rejection` with one of the codes of `Code`.
"""

from __future__ import annotations

import re
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, TypeAlias

import msgspec

from streams.core import normal
from streams.core.model import (
    MILLISECOND,
    SECOND,
    Micros,
    Rejection,
    SessionUpdate,
    TicketUpdate,
    Topic,
    Value,
)
from streams.core.partition import RawRecord
from streams.wire import instants

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 64
MAX_MEMBER_BYTES = 1024
MAX_AHEAD: Micros = 300 * SECOND
"""How far `occurred_at` or the record's timestamp may lie ahead of the clock."""


class Code(StrEnum):
    """Dead-letter codes, in the order in which they are looked for: a record gets the first that applies."""

    TOO_LARGE = "too_large"
    MISSING_KEY = "missing_key"
    NOT_JSON = "not_json"
    INVALID = "invalid"
    KEY_MISMATCH = "key_mismatch"
    BAD_TIMESTAMP = "bad_timestamp"


_Id: TypeAlias = str | int
_Sequence: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Instant: TypeAlias = Annotated[datetime, msgspec.Meta(tz=True)]


class TicketRecord(msgspec.Struct):
    """A ticket update as it stands in the record's value."""

    ticket_id: _Id
    occurred_at: _Instant
    ticket: dict[str, Any]
    event_id: _Id | None = None
    sequence: _Sequence | None = None
    command_id: _Id | None = None


class SessionRecord(msgspec.Struct):
    """A session state as it stands in the record's value."""

    ticket_id: _Id
    occurred_at: _Instant
    state: str
    reason: str | None = None
    session_id: _Id | None = None
    channel: str | None = None
    event_id: _Id | None = None
    sequence: _Sequence | None = None


_decode_ticket = msgspec.json.Decoder(TicketRecord).decode
_decode_session = msgspec.json.Decoder(SessionRecord).decode
_decode_any = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


def decode(topic: Topic, partition: int, record: RawRecord, now: Micros) -> TicketUpdate | SessionUpdate | Rejection:
    """Decode, validate and normalise one record of an input; `now` is the wall clock, for `bad_timestamp`."""
    value, key = record.value, record.key
    if value is not None:
        if len(value) > MAX_BYTES:
            message = f"the value has {len(value)} bytes, more than {MAX_BYTES}"
            return Rejection(Code.TOO_LARGE, "$", message, keep_value=False)
        # Fewer brackets than levels allowed: no need to look closer. Nearly every record ends here.
        if value.count(b"{") + value.count(b"[") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
            message = f"the value is nested deeper than {MAX_DEPTH} levels"
            return Rejection(Code.TOO_LARGE, "$", message, keep_value=False)
    if not key:
        return Rejection(Code.MISSING_KEY, "$key", "the record has no key; it must be the ticket id")
    try:
        ticket_id = key.decode()
    except UnicodeDecodeError:
        ticket_id = None
    if value is None:
        return _tombstone(topic, partition, record, ticket_id, now)
    try:
        if not value.isascii():
            value.decode()  # members we skip are not looked into, but their bytes must be text all the same
        decoded = _decode_ticket(value) if topic is Topic.TICKETS else _decode_session(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return _undecodable(value, error)

    named = _id(decoded.ticket_id)
    if named is None:
        return Rejection(Code.INVALID, "$.ticket_id", "`ticket_id` has no value")
    update: TicketUpdate | SessionUpdate | Rejection
    occurred_at = instants.micros(decoded.occurred_at)
    event_id = _id(decoded.event_id) or _header_event_id(record) or f"{topic}/{partition}/{record.offset}"
    timestamp = record.timestamp * MILLISECOND
    if occurred_at < instants.EARLIEST:
        return Rejection(Code.INVALID, "$.occurred_at", "`occurred_at` lies before the year 1")
    if isinstance(decoded, TicketRecord):
        normalised = _ticket_changes(decoded.ticket)
        if isinstance(normalised, Rejection):
            return normalised
        changes, oversized = normalised
        update = TicketUpdate(
            named,
            event_id,
            occurred_at,
            timestamp,
            changes,
            decoded.sequence,
            _id(decoded.command_id),
            oversized,
            len(value),
        )
    else:
        state = normal.member_value("state", decoded.state)
        if state is None:
            return Rejection(Code.INVALID, "$.state", f"`state` has no value: {decoded.state!r}")
        update = SessionUpdate(
            named,
            event_id,
            occurred_at,
            timestamp,
            "active" if state == "open" else str(state),
            _name(decoded.reason),
            _id(decoded.session_id),
            _name(decoded.channel),
            decoded.sequence,
            len(value),
        )
    if named != ticket_id:
        return Rejection(
            Code.KEY_MISMATCH, "$.ticket_id", f"the key is {_shown(key)}, but `ticket_id` is {_shown(named.encode())}"
        )
    if occurred_at > now + MAX_AHEAD:
        return _ahead("$.occurred_at", "`occurred_at`", occurred_at, now)
    if timestamp > now + MAX_AHEAD:
        return _ahead("$timestamp", "the record's timestamp", timestamp, now)
    return update


def _tombstone(
    topic: Topic, partition: int, record: RawRecord, ticket_id: str | None, now: Micros
) -> TicketUpdate | SessionUpdate | Rejection:
    if ticket_id is None:
        return Rejection(Code.KEY_MISMATCH, "$key", f"the key is not UTF-8 text: {_shown(record.key or b'')}")
    timestamp = record.timestamp * MILLISECOND
    if timestamp > now + MAX_AHEAD:
        return _ahead("$timestamp", "the record's timestamp", timestamp, now)
    event_id = f"{topic}/{partition}/{record.offset}"
    if topic is Topic.TICKETS:
        return TicketUpdate(ticket_id, event_id, timestamp, timestamp, None)
    return SessionUpdate(ticket_id, event_id, timestamp, timestamp, None)


# --- members ---------------------------------------------------------------------------------------------------------

_SPECIAL = normal.NAMES | {"tags", "custom_fields", "__NULL__"}


def _ticket_changes(ticket: dict[str, Any]) -> tuple[dict[str, Value], int] | Rejection:
    """Flatten and normalise the members of `ticket`; count those that are too large to keep."""
    changes: dict[str, Value] = {}
    oversized = 0
    for member, value in ticket.items():
        if type(value) is str and member not in _SPECIAL and 0 < len(value) <= MAX_MEMBER_BYTES // 4:
            changes[member] = None if value == "__NULL__" else value  # the common case, kept short
            continue
        if member == "custom_fields":
            entries = _custom_fields(value)
            if isinstance(entries, Rejection):
                return entries
            if value is None:
                changes["custom_fields"] = None
            for field, entry in entries.items():
                kept = _kept(entry)
                oversized += kept is None and not _is_none(entry) and not isinstance(entry, dict)
                changes[normal.CUSTOM_FIELD_PREFIX + field] = normal.custom_field_value(kept)
        elif member == "tags":
            if value is not None and not isinstance(value, str | list):
                return _ill_typed("$.ticket.tags", "a list of tags or a space-separated string", value)
            if isinstance(value, list) and any(isinstance(tag, list | dict) for tag in value):
                return _ill_typed("$.ticket.tags[...]", "a tag", next(t for t in value if isinstance(t, list | dict)))
            kept = _kept(value)
            oversized += kept is None and not _is_none(value)
            changes["tags"] = list(normal.words(None if kept == "__NULL__" else kept)) or None
        else:
            kept = _kept(value)
            oversized += kept is None and not _is_none(value) and not isinstance(value, dict)
            changes[member] = normal.member_value(member, kept)
    return changes, oversized


def _custom_fields(value: Any) -> dict[str, Any] | Rejection:
    if value is None:
        return {}
    if isinstance(value, dict):
        return value
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
        return value if len(_encode(value)) <= MAX_MEMBER_BYTES else None
    if isinstance(value, dict):
        return None
    if type(value) is int and not -(2**63) <= value < 2**64:
        return str(value)  # MessagePack has no larger integers; `is` compares by text anyway
    return value


def _is_none(value: Any) -> bool:
    return value is None or value == ""


def _id(value: str | int | None) -> str | None:
    if value is None or isinstance(value, str):
        return None if value is None or value in normal.NO_VALUES else value
    return str(value)


def _name(value: str | None) -> str | None:
    return None if value is None or value in normal.NO_VALUES else normal.name(value)


def _header_event_id(record: RawRecord) -> str | None:
    for header, value in record.headers or ():
        if header == "ce_id" and value:
            return value.decode(errors="replace")
    return None


# --- rejections ------------------------------------------------------------------------------------------------------

_AT = re.compile(r"^(.*?)(?: - at `(\$.*)`)?$", re.DOTALL)
_MISSING = re.compile(r"missing required field `(.+?)`")


def _undecodable(value: bytes, error: Exception) -> Rejection:
    """Tell text that is no JSON from JSON of the wrong shape: the first broken member hides what comes after it."""
    try:
        _decode_any(value)
        value.decode()
    except msgspec.ValidationError:
        pass  # JSON, but a number that no one can hold
    except RecursionError:
        return Rejection(Code.TOO_LARGE, "$", f"the value is nested deeper than {MAX_DEPTH} levels", keep_value=False)
    except (msgspec.DecodeError, UnicodeDecodeError) as reason:
        return Rejection(Code.NOT_JSON, "$", f"the value is not JSON: {reason}")
    found = _AT.match(str(error))
    text, path = (found[1], found[2] or "$") if found else (str(error), "$")
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


_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)


def _depth(value: bytes) -> int:
    """Return how deep brackets nest, those inside strings aside; also for text that is no JSON."""
    depth = deepest = 0
    for byte in _STRINGS.sub(b"", value):
        if byte in b"{[":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"}]":
            depth -= 1
    return deepest
