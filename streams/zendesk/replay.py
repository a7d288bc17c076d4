"""`lapse ingest --replay`: writes the records of saved bodies, as if Zendesk had sent them again.

A line of the file is one of two things, both JSON:

- a body alone. A ticket event needs nothing more.
- `{"headers": {...}, "body": "...", "arrived_at": "..."}`: the body as text, the request's headers, and when it came.
  A session post needs its two signature headers, because its event id and its time are there. Without `arrived_at` the
  record's timestamp is the present.

Signatures are not checked: whoever can run this may write to the topics anyway.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from streams.core.errors import Failed
from streams.core.model import MILLISECOND, Micros
from streams.kafka.config import KafkaConfig
from streams.wire import instants
from streams.zendesk.events import Unusable, is_session_post, receive
from streams.zendesk.signatures import SIGNATURE, TIMESTAMP
from streams.zendesk.writer import NotWrittenError, Writer


class Replayed(msgspec.Struct):
    """What came of a file."""

    kinds: Counter[str] = msgspec.field(default_factory=Counter)
    problems: list[str] = msgspec.field(default_factory=list)
    """One text for each line that could not be used."""


class _Saved(msgspec.Struct, frozen=True):
    body: bytes
    signature: str | None = None
    signed_at: str | None = None
    arrived_at: Micros | None = None


class _Request(msgspec.Struct, frozen=True):
    headers: Mapping[str, str]
    body: str
    arrived_at: str | None = None


async def replay(config: KafkaConfig, name: str, lines: Iterable[bytes], command_field: str | None) -> Replayed:
    """Write what the lines of a file give, in their order. `name` is the file's, for messages.

    Raises `Refused` or `Unreachable` as `Writer.start` does, and `Failed` when the brokers go away on the way.
    """
    done = Replayed()
    writer = Writer(config)
    await writer.start()
    try:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                await _replay_line(writer, line.strip(), command_field, done)
            except (Unusable, ValueError) as error:
                path = f"{error.path}: " if isinstance(error, Unusable) and error.path else ""
                done.problems.append(f"{name}:{number}: {path}{error}")
            except NotWrittenError as error:
                raise Failed(
                    f"{name}:{number}: not written: {error}. The lines before were written; replay the file again: "
                    "the worker knows the events that it has seen."
                ) from None
    finally:
        await writer.stop()
    return done


async def _replay_line(writer: Writer, line: bytes, command_field: str | None, done: Replayed) -> None:
    saved = _saved(line)
    now = time.time_ns() // 1000
    arrived_at = now if saved.arrived_at is None else saved.arrived_at
    received = receive(
        saved.body,
        signature=saved.signature or "",
        signed_at=saved.signed_at or "",
        arrived_at=arrived_at,
        command_field=command_field,
    )
    if received.record is not None:
        await writer.write(received.record, arrived_at // MILLISECOND)
    done.kinds[received.kind.value] += 1


def _saved(line: bytes) -> _Saved:
    """Read a line. Raises `ValueError` with what is wrong."""
    try:
        found: Any = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from None
    if isinstance(found, dict) and {"headers", "body"} <= found.keys():
        try:
            request = msgspec.convert(found, _Request)
        except msgspec.ValidationError as error:
            raise ValueError(str(error)) from None
        headers = {header.lower(): value for header, value in request.headers.items()}
        arrived_at = None if request.arrived_at is None else instants.read(request.arrived_at)
        if request.arrived_at is not None and arrived_at is None:
            raise ValueError("arrived_at: not a time with an offset, as RFC 3339 has it")
        saved = _Saved(
            request.body.encode(), headers.get(SIGNATURE.lower()), headers.get(TIMESTAMP.lower()), arrived_at
        )
    else:
        saved = _Saved(line)
    if (saved.signature is None or saved.signed_at is None) and is_session_post(saved.body):
        raise ValueError(
            f"a session post needs the headers {SIGNATURE} and {TIMESTAMP} of its request: write the line as "
            '{"headers": {...}, "body": "..."}'
        )
    return saved
