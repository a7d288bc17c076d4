"""One partition of the two inputs: merged order, stream time, timers, tables; a batch in, a `Step` out.

This is the loop around `Engine.step` that live, backtest and test driver share. It holds state but touches nothing
outside: the caller brings records, says which topics are at their end and what the wall clock shows, and writes what
a `Step` says.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from typing import Protocol

import msgspec

from streams.core.model import Command, Evaluation, Fact, Micros, Rejection, Topic, Transition


class RawRecord(Protocol):
    """A Kafka record as aiokafka's `ConsumerRecord` has it; `timestamp` in milliseconds."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Iterable[tuple[str, bytes]]


class DeadLetter(msgspec.Struct, frozen=True, gc=False):
    """A record that could not be used, and why."""

    topic: Topic
    record: RawRecord
    rejection: Rejection


class Step(msgspec.Struct):
    """Everything that one transaction writes, in the order in which it arose."""

    records: list[Transition | Evaluation]
    commands: list[Command]
    dead_letters: list[DeadLetter]
    ticket_rows: dict[str, bytes | None]
    """Changed rows by ticket id, encoded; None deletes (a tombstone in the changelog)."""
    session_rows: dict[str, bytes | None]
    next_offsets: dict[Topic, int]
    """Offsets to commit, per input: of the first record not yet taken."""
    stream_time: Micros
    """Stream time after the step; travels as metadata of the committed offsets so that a restart resumes it."""
    counts: Counter[tuple[Topic, str]]
    """Records by topic and result: applied, stale, duplicate, dead_letter."""
    misrouted: Counter[Topic]
    facts: list[Fact]
    taken: int
    """Input records that this step takes, whatever became of them."""
    rounds_pending: int = 0


class DeadLetterLimitExceeded(Exception):
    """More than the allowed share of a topic-partition's recent records is bad: probably the wrong topic."""
