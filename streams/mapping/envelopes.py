"""What stands around the data of a record: Confluent's prefix, Kafka Connect's JSON envelope, CloudEvents."""

from __future__ import annotations

import base64
import binascii
from enum import StrEnum
from typing import Any

import msgspec

PREFIX_BYTES = 5
"""Confluent's wire format: a zero byte, then the schema's id in four bytes."""


class Encoding(StrEnum):
    """How a value is written."""

    JSON = "json"
    CONFLUENT_JSON = "confluent-json"
    AVRO = "avro"
    PROTOBUF = "protobuf"


class Envelope(StrEnum):
    """What the data is wrapped in."""

    NONE = "none"
    CONNECT = "connect"
    CLOUDEVENTS = "cloudevents"


class NotUnwrapped(ValueError):
    """The record does not have the form that the mapping says; the message says what is missing."""


def without_prefix(data: bytes) -> bytes:
    """Return JSON without Confluent's prefix; data without the prefix comes back as it is.

    >>> without_prefix(bytes([0, 0, 0, 0, 7]) + b'{"id": 5}')
    b'{"id": 5}'
    """
    return data[PREFIX_BYTES:] if data[:1] == b"\0" and len(data) > PREFIX_BYTES else data


def unwrapped(envelope: Envelope, value: Any) -> Any:
    """Return the data inside an envelope. Raises `NotUnwrapped`.

    Connect's envelope is `{"schema": ..., "payload": ...}`, as its JsonConverter writes it with schemas enabled. A
    structured CloudEvent has its data in `data` or, as base64 text, in `data_base64`; what else it says of the event
    (`id`, `time`, `subject`, `type`) is put beside the data, under `ce_id` and so on, when the data is an object.
    """
    if envelope is Envelope.NONE:
        return value
    if not isinstance(value, dict):
        raise NotUnwrapped(f"expected an object, the envelope `{envelope}`, and got {_kind(value)}")
    if envelope is Envelope.CONNECT:
        if "payload" not in value:
            raise NotUnwrapped("there is no `payload`; is `value.converter.schemas.enable` off? Then no envelope is")
        return value["payload"]
    if "specversion" not in value:
        raise NotUnwrapped("there is no `specversion`, so this is no CloudEvent in structured mode")
    data = _cloud_data(value)
    if isinstance(data, dict):
        attributes = {f"ce_{name}": one for name, one in value.items() if name not in {"data", "data_base64"}}
        return attributes | data
    return data


def _cloud_data(event: dict[str, Any]) -> Any:
    if "data_base64" not in event:
        return event.get("data")
    try:
        return msgspec.json.decode(base64.b64decode(event["data_base64"], validate=True))
    except (binascii.Error, TypeError, ValueError, msgspec.DecodeError) as error:
        raise NotUnwrapped(f"`data_base64` holds no JSON: {error}") from None


def _kind(value: Any) -> str:
    return "null" if value is None else type(value).__name__
