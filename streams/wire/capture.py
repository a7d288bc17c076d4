"""Capture files: one input record per line, as defined in SPEC section 7.

A line is `{"topic","partition","offset","timestamp","key","value"}`; `value` is the JSON object of the record, null for
a tombstone, or a string with the bytes of anything else. Bytes that are not UTF-8 are written in strings as lone
surrogates (`\\udc80`…), Python's `surrogateescape`, so that they are restored exactly. In addition to the SPEC, a
record whose event id is in its `ce_id` header keeps that header in an optional member `headers`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import msgspec

from streams.core.inputs import RawRecord
from streams.core.names import Topic
from streams.wire import json_text


class CapturedRecord(msgspec.Struct, frozen=True, gc=False):
    """A record from a capture, with the attributes of aiokafka's `ConsumerRecord`; `timestamp` in milliseconds."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()


class CaptureLine(msgspec.Struct, frozen=True, gc=False):
    """One line of a capture."""

    topic: Topic
    partition: int
    record: CapturedRecord


Entry: TypeAlias = tuple[Topic, int, int, int, int, int]
"""A line's metadata and the position of its record in the line: topic, partition, offset, timestamp, start of the
value (it ends one byte before the end of the line), length of the key in bytes (it ends `KEY_GAP` before the value).
The start of the value is 0 when the line has to be read with `parse`: a line in another form than `line` writes, or a
value that is not an object."""


class RulesLine(msgspec.Struct, frozen=True):
    """A line of a capture that is no input: an entry of the rules topic, or an activation."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None


RULES, ACTIVATIONS = "rules", "session-transitions"
"""Topics, by their default names, that a capture has beside the inputs when the rules come from their topic."""

IN_FORCE = -1
"""Offset of a line of `ACTIVATIONS` that is no record of the topic: what was in force at the beginning, by the row of
the partition, where the topic's retention has removed the activation itself."""


class CaptureLineError(ValueError):
    """A line is not a valid capture line; the text says what is wrong with it."""


class _Line(msgspec.Struct):
    topic: str
    partition: int
    offset: int
    timestamp: int
    key: str | None
    value: msgspec.Raw
    headers: Mapping[str, str | None] | None = None


_decode_line = msgspec.json.Decoder(_Line).decode
_decode_text = msgspec.json.Decoder(str).decode
_decode_object = msgspec.json.Decoder(dict[str, object]).decode
_TOPICS = {topic.value: topic for topic in Topic}


def parse(line: bytes) -> CaptureLine:
    """Read one line. Raises `CaptureLineError` when it is not a capture line."""
    try:
        line.decode()
    except UnicodeDecodeError as error:
        raise CaptureLineError(f"byte {error.start + 1} of the line is not UTF-8; save the file as UTF-8") from None
    try:
        found = _decode_line(line)
        value = _value_bytes(bytes(found.value))
        key = None if found.key is None else found.key.encode()
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        try:
            found, key, value = _parse_leniently(line)
        except (ValueError, KeyError, TypeError, RecursionError):
            raise CaptureLineError(str(error)) from None
    topic = _TOPICS.get(found.topic)
    if topic is None:
        names = " or ".join(f"`{name}`" for name in _TOPICS)
        raise CaptureLineError(f"`topic` is {found.topic!r}, expected {names} (default names, without prefix)")
    if found.partition < 0 or found.offset < 0:
        raise CaptureLineError("`partition` and `offset` must not be negative")
    if found.partition > MAX_PARTITION:
        raise CaptureLineError(f"`partition` is {found.partition}, and Kafka's go up to {MAX_PARTITION}")
    for name, number in (("offset", found.offset), ("timestamp", found.timestamp)):
        if not -MAX_LONG <= number <= MAX_LONG:
            unsigned = "; it is a negative number that was written as an unsigned one" if 0 < number < 2**64 else ""
            raise CaptureLineError(f"`{name}` is {number}, which does not fit into 64 bits{unsigned}")
    headers = tuple((name, _bytes(text)) for name, text in (found.headers or {}).items() if text is not None)
    return CaptureLine(topic, found.partition, CapturedRecord(found.offset, found.timestamp, key, value, headers))


def rules_line(text: bytes) -> RulesLine | None:
    """Read a line that is no input; None when it is an input, or no line of a capture."""
    try:
        found = _decode_line(text)
        if found.topic not in (RULES, ACTIVATIONS):
            return None
        key = None if found.key is None else found.key.encode()
        return RulesLine(found.topic, found.partition, found.offset, key, _value_bytes(bytes(found.value)))
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None


MAX_PARTITION, MAX_LONG = 2**31 - 1, 2**63 - 1
"""The largest values in Kafka's protocol."""

_BETWEEN = b'","value":'
KEY_GAP = len(_BETWEEN)


def entry(line: bytes) -> Entry:
    """Read one line for an index, without its record. Raises `CaptureLineError` when it is not a capture line.

    `record_at` builds the record from the returned entry; the two together take a third of the time of two calls of
    `parse`.
    """
    try:
        if not line.isascii():
            line.decode()  # values are not decoded here, but the line must be valid text
        found = _decode_line(line)
        topic, key = _TOPICS[found.topic], found.key
        if (
            key
            and not found.headers
            and 0 <= found.partition <= MAX_PARTITION
            and 0 <= found.offset <= MAX_LONG
            and -MAX_LONG <= found.timestamp <= MAX_LONG
        ):
            # Compare with the bytes of the line, so that slicing it later gives exactly these.
            value = bytes(found.value)
            value_at, encoded = len(line) - 1 - len(value), key.encode()
            if (
                value[:1] == b"{"
                and line.endswith(value + b"}")
                and line.startswith(encoded + _BETWEEN, value_at - KEY_GAP - len(encoded))
            ):
                return topic, found.partition, found.offset, found.timestamp, value_at, len(encoded)
    except (msgspec.DecodeError, UnicodeError, RecursionError, KeyError):
        pass
    whole = parse(line)
    return whole.topic, whole.partition, whole.record.offset, whole.record.timestamp, 0, 0


def record_at(line: bytes, offset: int, timestamp: int, value_at: int, key_length: int) -> CapturedRecord:
    """Build the record of a line from its entry."""
    if not value_at:
        return parse(line).record
    key_end = value_at - KEY_GAP
    return CapturedRecord(offset, timestamp, line[key_end - key_length : key_end], line[value_at:-1])


def line(topic: Topic | str, partition: int, record: RawRecord) -> bytes:
    """Write one record as a line, with its line feed; `topic` is the default name."""
    captured: dict[str, object] = {
        "topic": str(topic),
        "partition": partition,
        "offset": record.offset,
        "timestamp": record.timestamp,
        "key": None if record.key is None else _text(record.key),
    }
    value = record.value
    raw = None if value is None else _json_object(value)
    captured["value"] = None if value is None else _text(value)
    headers = {name: _text(data) for name, data in record.headers or () if name == "ce_id" and data is not None}
    if headers:
        captured["headers"] = headers
    if raw is not None:
        captured["value"] = msgspec.Raw(raw)
    try:
        return msgspec.json.encode(captured) + b"\n"
    except UnicodeEncodeError:
        if raw is None:
            return json.dumps(captured).encode() + b"\n"
        captured["value"] = 0
        head, _, tail = json.dumps(captured).encode().rpartition(b'"value": 0')
        return head + b'"value": ' + raw + tail + b"\n"


def _value_bytes(raw: bytes) -> bytes | None:
    first = raw[:1]
    if first == b'"':
        return _bytes(_decode_text(raw))
    if first == b"n":
        return None
    if first == b"{":
        return raw
    raise msgspec.ValidationError("expected an object, null or a string - at `$.value`")


def _parse_leniently(text: bytes) -> tuple[_Line, bytes | None, bytes | None]:
    """Read a line with the standard library, which accepts lone surrogates, unlike msgspec."""
    found = json.loads(text)
    value = found["value"]
    if isinstance(value, dict):
        # The escapes in a value stay as written. `mend` keeps the length, so the position of the value is the same.
        mended = json_text.mend(text)
        raw = bytes(_decode_line(mended).value)
        at = mended.index(raw)
        data: bytes | None = text[at : at + len(raw)]
    elif value is None or isinstance(value, str):
        data = None if value is None else _bytes(value)
    else:
        raise TypeError
    plain = msgspec.convert({**found, "key": None, "value": msgspec.Raw(b"null")}, _Line)
    key = found["key"]
    return plain, None if key is None else _bytes(str(key)), data


_NO_BYTE = re.compile("[\ud800-\udc7f\udd00-\udfff]")
"""Surrogates that do not represent a byte."""


def _bytes(text: str) -> bytes:
    """Return the bytes that a text in a capture represents."""
    return _NO_BYTE.sub("\ufffd", text).encode(errors="surrogateescape")


def _text(data: bytes) -> str:
    return data.decode(errors="surrogateescape")


def _json_object(value: bytes) -> bytes | None:
    """Return the value on one line when it is a JSON object, otherwise None."""
    try:
        value.decode()
        _decode_object(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        try:
            if not isinstance(json_text.loads(value), dict):
                return None
        except (ValueError, RecursionError):
            return None
    if b"\n" in value or b"\r" in value:
        return msgspec.json.format(value, indent=-1)
    return value.strip()
