"""A batch: everything that one transaction writes."""

from __future__ import annotations

from collections import Counter

import msgspec

from streams.core.inputs import DeadLetter
from streams.core.model import Command, Evaluation, Fact, Micros, Transition
from streams.core.names import Topic
from streams.core.tables import Rows


class Batch(msgspec.Struct):
    """What the slices of one transaction did, in the order in which it arose."""

    next_offsets: dict[Topic, int] = msgspec.field(default_factory=dict)
    """Offsets to commit, per input: of the first record not yet taken. Only inputs that have been read."""
    stream_time: Micros = 0
    """Stream time after the batch; travels as metadata of the committed offsets so that a restart resumes it."""
    taken: int = 0
    """Input records taken, whatever became of them."""
    records: list[Transition | Evaluation] = msgspec.field(default_factory=list)
    commands: list[Command] = msgspec.field(default_factory=list)
    dead_letters: list[DeadLetter] = msgspec.field(default_factory=list)
    ticket_rows: Rows = msgspec.field(default_factory=dict)
    """Changed rows, known once the batch is handed over; of a row that changed several times, the last."""
    session_rows: Rows = msgspec.field(default_factory=dict)
    counts: Counter[tuple[Topic, str]] = msgspec.field(default_factory=Counter)
    """Records by topic and `Result`."""
    misrouted: Counter[Topic] = msgspec.field(default_factory=Counter)
    facts: list[Fact] = msgspec.field(default_factory=list)
    pending_rounds: int = 0
    """Rounds of this partition that wait or are parked after the batch."""
    oldest_taken: Micros | None = None
    """Lowest record timestamp among the records taken, for the age of what is being read."""
    dead_letter_bytes: int = 0
    """Bytes of the dead letters' values."""
