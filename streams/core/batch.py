"""A batch: everything that one transaction writes."""

from __future__ import annotations

from collections import Counter

import msgspec

from streams.core.inputs import DeadLetter
from streams.core.model import Command, Difference, Evaluation, Fact, Micros, SilentState, Transition, Withdrawal
from streams.core.names import Topic
from streams.core.revisions import Activation, InUse
from streams.core.tables import OwnRows, Rows


class Batch(msgspec.Struct):
    """The results of the slices of one transaction, in order."""

    next_offsets: dict[Topic, int] = msgspec.field(default_factory=dict)
    """Offsets to commit, per input: the offset of the first record not yet taken. Only inputs that have been read."""
    stream_time: Micros = 0
    """Stream time after the batch; stored as metadata of the committed offsets so that a restart resumes from it."""
    taken: int = 0
    """Number of input records taken, whatever their result."""
    timers: int = 0
    """Number of timers that had an effect: rounds that were run, rows that expired."""
    records: list[Transition | Evaluation | Difference | Activation] = msgspec.field(default_factory=list)
    commands: list[Command] = msgspec.field(default_factory=list)
    held: list[Command | Withdrawal] = msgspec.field(default_factory=list)
    """Commands that the rate guard holds, and held commands that are withdrawn, in order."""
    states: list[SilentState] = msgspec.field(default_factory=list)
    """Session states to write; only a batch of `SilenceEngine` has any."""
    dead_letters: list[DeadLetter] = msgspec.field(default_factory=list)
    ticket_rows: Rows = msgspec.field(default_factory=dict)
    """Changed rows, set when the batch is handed over; for a row that changed several times, its last version."""
    session_rows: Rows = msgspec.field(default_factory=dict)
    own_rows: OwnRows = msgspec.field(default_factory=dict)
    """Changed rows of the partition; they go to the sessions changelog."""
    counts: Counter[tuple[Topic, str]] = msgspec.field(default_factory=Counter)
    """Records by topic and `Result`."""
    misrouted: Counter[Topic] = msgspec.field(default_factory=Counter)
    facts: list[Fact] = msgspec.field(default_factory=list)
    pending_rounds: int = 0
    """Rounds of this partition that are waiting or parked after the batch."""
    in_use: InUse | None = None
    """The rules in use at the end of the batch; None when they come from a file."""
    shadow: int | None = None
    """Revision of the shadow in use at the end of the batch."""
    oldest_taken: Micros | None = None
    """Lowest record timestamp among the records taken, used to report the age of the input."""
    dead_letter_bytes: int = 0
    """Total size of the dead letters' values, in bytes."""
