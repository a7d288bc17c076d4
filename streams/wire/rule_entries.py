"""Entries of the rules topic as Kafka records: SPEC section 10, *The topic*."""

from __future__ import annotations

import msgspec

from streams.core.model import Micros
from streams.core.revisions import Entry, EntryKind
from streams.wire import instants
from streams.wire.shapes import RuleEntry

_decode = msgspec.json.Decoder(RuleEntry).decode
_encode = msgspec.json.Encoder().encode


class BadEntryError(ValueError):
    """A record is no entry; the text says why."""


def encode_entry(entry: Entry) -> tuple[bytes, bytes]:
    """Return key and value of an entry."""
    record = RuleEntry(
        number=entry.number,
        kind=entry.kind.value,
        published_at=instants.text(entry.published_at),
        author=entry.author,
        reason=entry.reason,
        ruleset=entry.ruleset,
        source=entry.source,
        based_on=entry.based_on,
        effective_from=None if entry.effective_from is None else instants.text(entry.effective_from),
        triggers=list(entry.triggers) if isinstance(entry.triggers, tuple) else entry.triggers,
    )
    members = {
        name: value
        for name, value in msgspec.structs.asdict(record).items()
        if value is not None or name in _ALWAYS or (name in _OF_RULES and entry.source is not None)
    }
    return str(entry.number).encode(), _encode(members)


_ALWAYS = ("number", "kind", "published_at", "author", "reason")
_OF_RULES = ("ruleset", "source", "based_on")


def decode_entry(key: bytes | None, value: bytes | None) -> Entry:
    """Read a record. Raises `BadEntryError`."""
    try:
        record = _decode(value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadEntryError(str(error)) from None
    if key != str(record.number).encode():
        raise BadEntryError(f"its key is {key!r:.40}, and its number {record.number}")
    kind = EntryKind(record.kind)
    if kind in (EntryKind.LIVE, EntryKind.SHADOW) and (record.source is None or record.ruleset is None):
        raise BadEntryError("it has no source or no digest")
    if kind in (EntryKind.STOP, EntryKind.RESUME) and record.triggers is None:
        raise BadEntryError("it does not say which triggers")
    published_at = _instant(record.published_at, "published_at")
    effective = record.effective_from
    return Entry(
        number=record.number,
        kind=kind,
        published_at=published_at,
        author=record.author,
        reason=record.reason,
        ruleset=record.ruleset,
        source=record.source,
        based_on=record.based_on,
        effective_from=(
            None
            if kind is not EntryKind.LIVE
            else published_at
            if effective is None
            else _instant(effective, "effective_from")
        ),
        triggers=tuple(record.triggers) if isinstance(record.triggers, list) else record.triggers,
    )


def _instant(text: str, name: str) -> Micros:
    found = instants.read(text)
    if found is None:
        raise BadEntryError(f"{name}: {text!r:.40} is not a time with an offset, as RFC 3339 has it")
    return found
