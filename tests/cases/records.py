"""The records of a case: from their compact form to what lies in Kafka, and to lines of a capture."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .notation import CaseError, millis, only, rfc3339

TICKETS, SESSIONS = "ticket-updates", "session-states"
TOPICS = {"tickets": TICKETS, "sessions": SESSIONS}

RECORD_KEYS = {
    "at", "ticket", "session", "tombstone", "raw", "raw_hex", "value", "topic", "ticket_id", "key", "event_id",
    "occurred_at", "sequence", "command_id", "reason", "session_id", "channel", "more", "omit", "pad", "timestamp",
    "offset", "partition", "headers", "repeat", "key_hex",
}  # fmt: skip


@dataclass(frozen=True)
class Record:
    """One Kafka record of a case, as its producer wrote it."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()

    def capture_line(self) -> str:
        """The record as a line of a capture file (SPEC 7)."""
        value: Any = None
        if self.value is not None:
            text = self.value.decode()
            try:
                value = json.loads(text, parse_constant=lambda name: (_ for _ in ()).throw(ValueError(name)))
            except (ValueError, RecursionError):
                value = text
            if not isinstance(value, dict) or json.dumps(value, ensure_ascii=False) != text:
                value = text
        return json.dumps(
            {
                "topic": self.topic,
                "partition": self.partition,
                "offset": self.offset,
                "timestamp": self.timestamp,
                "key": None if self.key is None else self.key.decode(),
                "value": value,
            },
            ensure_ascii=False,
        )


def expand_records(written: list[dict[str, Any]]) -> Iterator[Record]:
    """Spell out compact records: defaults, `repeat`, and offsets that count up within topic and partition."""
    offsets: dict[tuple[str, int], int] = {}
    for entry in written:
        only("record", entry, RECORD_KEYS)
        times = entry.get("repeat")
        for n in range(1 if times is None else times):
            one = entry if times is None else _numbered(entry, n)
            record = _record(one, offsets)
            offsets[record.topic, record.partition] = record.offset + 1
            yield record


def _numbered(value: Any, n: int) -> Any:
    if isinstance(value, str):
        return value.replace("{n}", str(n))
    if isinstance(value, list):
        return [_numbered(item, n) for item in value]
    if isinstance(value, dict):
        return {_numbered(key, n): _numbered(item, n) for key, item in value.items()}
    return value


def _record(entry: dict[str, Any], offsets: dict[tuple[str, int], int]) -> Record:
    forms = [key for key in ("ticket", "session", "tombstone", "raw", "raw_hex", "value") if key in entry]
    if len(forms) != 1:
        raise CaseError(f"a record is one of ticket, session, tombstone, raw, raw_hex, value; this one is {forms}")
    (form,) = forms
    if form == "ticket":
        topic = TICKETS
    elif form == "session":
        topic = SESSIONS
    else:
        topic = TOPICS[entry["tombstone"] if form == "tombstone" else entry["topic"]]
    ticket_id = entry.get("ticket_id", "1")
    value: bytes | None
    if form == "tombstone":
        value = None
    elif form == "raw":
        value = entry["raw"].encode()
    elif form == "raw_hex":
        value = bytes.fromhex(entry["raw_hex"])
    else:
        body = entry["value"] if form == "value" else _value(entry, form, ticket_id)
        if "pad" in entry:
            bare = len(json.dumps(body | {"pad": ""}, ensure_ascii=False).encode())
            body = body | {"pad": "x" * (entry["pad"] - bare)}
        value = json.dumps(body, ensure_ascii=False).encode()
    key = entry.get("key", str(ticket_id))
    partition = entry.get("partition", 0)
    return Record(
        topic=topic,
        partition=partition,
        offset=entry.get("offset", offsets.get((topic, partition), 0)),
        timestamp=millis(entry.get("timestamp", entry["at"])),
        key=bytes.fromhex(entry["key_hex"]) if "key_hex" in entry else None if key is None else key.encode(),
        value=value,
        headers=tuple((name, text.encode()) for name, text in entry.get("headers", {}).items()),
    )


def _value(entry: dict[str, Any], form: str, ticket_id: Any) -> dict[str, Any]:
    value: dict[str, Any] = {"ticket_id": ticket_id}
    occurred_at = entry.get("occurred_at", entry["at"])
    value["occurred_at"] = rfc3339(occurred_at) if isinstance(occurred_at, str) else occurred_at
    for member in ("event_id", "sequence", "command_id", "reason", "session_id", "channel"):
        if member in entry:
            value[member] = entry[member]
    value["ticket" if form == "ticket" else "state"] = entry[form]
    value |= entry.get("more", {})
    for member in entry.get("omit", []):
        del value[member]
    return value
