"""How commands end, and the records that say so: in `action-results`, and in `apply-dead-letters`."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import msgspec
from msgspec import UNSET

from streams.core.model import Micros
from streams.wire import instants
from streams.wire.shapes import ApplyResultRecord
from streams.wire.writes import Write

_LONGEST_ANSWER = 4096
_ANSWER = "lapse.apply.answer"


class Result(StrEnum):
    """How a command can end."""

    APPLIED = "applied"
    OVERTAKEN = "overtaken"
    GONE = "gone"
    REFUSED = "refused"
    EXPIRED = "expired"


class Ending(msgspec.Struct, frozen=True):
    """How a command ended. `status` is that of the answer that decided it; None when none did."""

    result: Result
    status: int | None = None
    why: str = ""
    """For people, and for the dead letter."""
    answer: str = ""
    """Text of the answer that refused it."""
    not_done: tuple[str, ...] = ()
    """Actions that the API can't carry out."""


_encode = msgspec.json.Encoder().encode


def result_write(key: bytes | None, command_id: str, ticket_id: str, ending: Ending, at: Micros) -> Write:
    """Return the record for `action-results`."""
    record = ApplyResultRecord(
        command_id=command_id,
        result=ending.result.value,
        status=ending.status,
        at=instants.text(at),
        ticket_id=ticket_id,
        not_done=list(ending.not_done) or UNSET,
    )
    return Write(ticket_id.encode() if key is None else key, _encode(record))


class Source(msgspec.Struct, frozen=True):
    """Where a record came from."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    """Milliseconds since the epoch."""
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()


def letter_writes(source: Source, code: str, why: str, status: int | None, answer: str) -> Iterable[Write]:
    """Yield the dead letter in forms of decreasing size: whole, without the answer, without the record's own headers.

    The caller writes the first one that fits into the topic. Key and value are as they were received.
    """
    said: list[tuple[str, bytes | None]] = [
        ("lapse.error.code", code.encode()),
        ("lapse.error.message", why.encode("utf-8", "replace")),
        *([] if status is None else [("lapse.apply.status", str(status).encode())]),
        ("lapse.source.topic", source.topic.encode()),
        ("lapse.source.partition", str(source.partition).encode()),
        ("lapse.source.offset", str(source.offset).encode()),
        ("lapse.source.timestamp", str(source.timestamp).encode()),
    ]
    if answer:
        told: tuple[str, bytes | None] = (_ANSWER, answer.encode("utf-8", "replace")[:_LONGEST_ANSWER])
        yield Write(source.key, source.value, [*source.headers, *said, told])
    yield Write(source.key, source.value, [*source.headers, *said])
    yield Write(source.key, source.value, said)
    yield Write(source.key, None, said)
