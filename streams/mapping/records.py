"""Their records to ours: what a mapping makes of a record, or why it can make nothing of it.

A mapped record goes through the same decoding as one that needs no mapping, so that every rule of SPEC section 2 holds
for it. Dead letters carry the record as it was received; `lapse.error.path` names the expression that failed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from streams.core.inputs import Decode, RawRecord, Update
from streams.core.model import Micros, Rejection
from streams.core.names import Code, Topic
from streams.mapping.envelopes import Encoding, NotUnwrapped, unwrapped, without_prefix
from streams.mapping.expressions import ABSENT, Expression, ExpressionFailed
from streams.mapping.files import IN_TICKET, OTHERWISE, KeyForm, TopicMapping
from streams.wire import json_text
from streams.wire.decode import refused_for_size

Deserialize = Callable[[bytes, RawRecord], Any]
"""Bytes of Avro or Protobuf to plain values (dicts, lists, scalars). Raises `NotUnwrapped` when they can't be read."""

_decode_quickly = msgspec.json.Decoder().decode
_MISSING = re.compile(r"^the member `.+` is missing$")
_MEMBER = re.compile(r"^\$\.([A-Za-z_]+)(?:\.([^.\[]+))?")


def _decode_json(data: bytes) -> Any:
    """Read JSON text as RFC 8259 has it. Raises ValueError, RecursionError."""
    try:
        data.decode()  # msgspec does not look into members that it skips, but their bytes must be text all the same
        return _decode_quickly(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return json_text.plain(json_text.loads(data))


class MappedRecord(msgspec.Struct, frozen=True, gc=False):
    """A record of section 2 made from another one; offset, timestamp and headers are those of the original."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Any


class Mapper:
    """Maps the records of one topic."""

    def __init__(self, mapping: TopicMapping, deserialize: Deserialize | None = None) -> None:
        """Map by `mapping`; `deserialize` is needed for the encodings `avro` and `protobuf`."""
        self._mapping = mapping
        self._deserialize = deserialize

    def map(self, record: RawRecord) -> MappedRecord | Rejection:
        """Return the record in our shape, or why there is none."""
        mapping = self._mapping
        too_large = refused_for_size(record.value)
        if too_large is not None:
            return too_large
        if not record.key and mapping.key_form is not KeyForm.ANY:
            return Rejection(Code.MISSING_KEY, "$key", "the record has no key; the mapping takes the ticket id from it")
        ticket_id = self._id_of_key(record)
        if isinstance(ticket_id, Rejection):
            return ticket_id
        if record.value is None:
            return self._tombstone(record, ticket_id)
        data = self._data(record, record.value)
        if isinstance(data, Rejection):
            return data
        try:
            if mapping.deleted is not None and mapping.deleted.find(data, record) is True:
                return self._tombstone(record, ticket_id or self._own_id(data, record))
            made = self._members(data, record)
        except _Failed as error:
            return error.rejection
        except ExpressionFailed as error:
            assert mapping.deleted is not None  # noqa: S101 -- the only one that is evaluated outside `_members`
            return Rejection(Code.INVALID, mapping.deleted.text, f"`deleted`: {error}")
        if "ticket_id" not in made and ticket_id is not None:
            made["ticket_id"] = ticket_id
        key = ticket_id if ticket_id is not None else _id_text(made.get("ticket_id"))
        try:
            value = msgspec.json.encode(made)
        except (TypeError, ValueError, UnicodeEncodeError) as error:
            return Rejection(Code.INVALID, "$", f"what the mapping makes is no JSON: {error}")
        return MappedRecord(
            record.offset, record.timestamp, None if key is None else key.encode(), value, record.headers
        )

    def explained(self, rejection: Rejection) -> Rejection:
        """Return the rejection of a mapped record in terms of the expression that its member came from."""
        found = _MEMBER.match(rejection.path)
        if rejection.code != Code.INVALID or found is None:
            return rejection
        name, inner = found[1], found[2]
        member = f"{name}.{inner}" if inner and f"{name}.{inner}" in self._mapping.members else name
        expression = self._mapping.members.get(member)
        if expression is None:
            return rejection
        message = "the expression finds nothing" if _MISSING.search(rejection.message) else rejection.message
        return Rejection(rejection.code, expression.text, f"`{member}`: {message}", rejection.keep_value)

    def missing(self, record: MappedRecord) -> list[str]:
        """Return the members whose expressions found nothing in this record, for people who write a mapping."""
        made = _decode_json(record.value) if record.value is not None else None
        if not isinstance(made, dict):
            return []
        inner = made.get("ticket")
        ticket = inner if isinstance(inner, dict) else {}
        return [
            name
            for name in self._mapping.members
            if (name.removeprefix(IN_TICKET) not in ticket if name.startswith(IN_TICKET) else name not in made)
        ]

    # --- key ---------------------------------------------------------------------------------------------------------

    def _id_of_key(self, record: RawRecord) -> str | Rejection | None:
        mapping = self._mapping
        if mapping.key_form is KeyForm.ANY or record.key is None:
            return None
        if mapping.key_form is KeyForm.TEXT:
            try:
                return record.key.decode()
            except UnicodeDecodeError:
                return Rejection(Code.KEY_MISMATCH, "$key", "the key is not UTF-8 text")
        try:
            found = mapping.key.find(_decode_json(without_prefix(record.key)), record)
        except (ValueError, RecursionError):
            return Rejection(Code.INVALID, mapping.key.text, "the key is not JSON")
        except ExpressionFailed as error:
            return Rejection(Code.INVALID, mapping.key.text, f"the key: {error}")
        ticket_id = _id_text(found)
        if ticket_id is None:
            return Rejection(Code.INVALID, mapping.key.text, "the expression finds no ticket id in the key")
        return ticket_id

    def _own_id(self, data: Any, record: RawRecord) -> str | None:
        expression = self._mapping.members.get("ticket_id")
        return None if expression is None else _id_text(self._find("ticket_id", expression, data, record))

    def _tombstone(self, record: RawRecord, ticket_id: str | None) -> MappedRecord | Rejection:
        if ticket_id is None:
            message = "the record deletes a ticket, and nothing tells which: its key is not the ticket id"
            return Rejection(Code.INVALID, "$key", message)
        return MappedRecord(record.offset, record.timestamp, ticket_id.encode(), None, record.headers)

    # --- value -------------------------------------------------------------------------------------------------------

    def _data(self, record: RawRecord, value: bytes) -> Any | Rejection:
        mapping = self._mapping
        try:
            if mapping.encoding is Encoding.JSON:
                data = _decode_json(value)
            elif mapping.encoding is Encoding.CONFLUENT_JSON:
                data = _decode_json(without_prefix(value))
            else:
                assert self._deserialize is not None  # noqa: S101 -- `make_mappers` refuses without
                data = self._deserialize(value, record)
            return unwrapped(mapping.envelope, data)
        except NotUnwrapped as error:
            return Rejection(Code.INVALID, "$", str(error))
        except (ValueError, RecursionError) as error:
            hint = "; it begins as Confluent's serializers write: is `encoding` set?" if value[:1] == b"\0" else ""
            return Rejection(Code.NOT_JSON, "$", f"the value is not JSON: {error}{hint}")

    def _members(self, data: Any, record: RawRecord) -> dict[str, Any]:
        made: dict[str, Any] = {}
        inner: dict[str, Any] = {}
        for name, expression in self._mapping.members.items():
            found = self._find(name, expression, data, record)
            if found is ABSENT:
                continue
            if name.startswith(IN_TICKET):
                inner[name.removeprefix(IN_TICKET)] = found
            else:
                made[name] = found
        if inner:
            whole = made.get("ticket", {})
            made["ticket"] = {**whole, **inner} if isinstance(whole, dict) else inner
        return made

    def _find(self, name: str, expression: Expression, data: Any, record: RawRecord) -> Any:
        try:
            found = expression.find(data, record)
        except ExpressionFailed as error:
            raise _Failed(Rejection(Code.INVALID, expression.text, f"`{name}`: {error}")) from None
        table = self._mapping.values.get(name)
        if table is None or found is ABSENT or isinstance(found, dict | list):
            return found
        word = _word(found)
        if word in table:
            return table[word]
        return table.get(OTHERWISE, found)


class _Failed(Exception):
    def __init__(self, rejection: Rejection) -> None:
        super().__init__(rejection.message)
        self.rejection = rejection


def _word(value: Any) -> str:
    """Return a scalar as a table of values spells it: JSON's text, without quotes."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _id_text(value: Any) -> str | None:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        return None
    return str(value)


def mapped(decode: Decode, mappers: Mapping[Topic, Mapper]) -> Decode:
    """Return `decode` for records of which some need mapping first. Without mappers it is `decode` itself."""
    if not mappers:
        return decode

    def map_and_decode(topic: Topic, partition: int, record: RawRecord, now: Micros) -> Update | Rejection:
        mapper = mappers.get(topic)
        if mapper is None:
            return decode(topic, partition, record, now)
        made = mapper.map(record)
        if isinstance(made, Rejection):
            return made
        decoded = decode(topic, partition, made, now)
        return mapper.explained(decoded) if isinstance(decoded, Rejection) else decoded

    return map_and_decode
