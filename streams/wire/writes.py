"""The records to write for a batch, by output topic and table: the same for worker, test driver and backtest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from streams.core.batch import Batch
from streams.core.names import Output, Table, Topic
from streams.core.tables import Rows
from streams.wire import encode
from streams.wire.encode import Encoded

WRITTEN = (Output.COMMANDS, Output.TRANSITIONS, Output.DEAD_LETTERS)
"""The outputs that every worker writes to. `held-commands` is written to only where a trigger has a limit."""


class Write(NamedTuple):
    """One record to write to the batch's own partition of a topic."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = []


class MakeWrites(Protocol):
    """Returns all writes of a batch by topic or table; see `writes`."""

    def __call__(
        self,
        batch: Batch,
        *,
        app_id: str,
        partition: int,
        topic: Callable[[str], str],
        fits: Callable[[Encoded], bool],
    ) -> Mapping[Output | Table, list[Write]] | Mapping[Topic | Table, list[Write]]:
        """Return the writes; what has none is left out."""


def writes(
    batch: Batch,
    *,
    app_id: str,
    partition: int,
    topic: Callable[[str], str] = str,
    fits: Callable[[Encoded], bool] = lambda _: True,
) -> dict[Output | Table, list[Write]]:
    """Return all writes of a batch; outputs and tables without writes are left out.

    `topic` maps the default name of an input to its name on the broker. `fits` returns whether a dead letter is small
    enough for its topic.
    """
    every: dict[Output | Table, list[Write]] = {
        Output.COMMANDS: command_writes(batch, app_id),
        Output.TRANSITIONS: transition_writes(batch),
        Output.HELD_COMMANDS: [Write(*encode.held(held, app_id)) for held in batch.held],
        Output.DEAD_LETTERS: [
            Write(*encode.dead_letter(letter, partition, topic(letter.topic.value), fits))
            for letter in batch.dead_letters
        ],
        Table.TICKETS: row_writes(batch.ticket_rows),
        Table.SESSIONS: [*row_writes(batch.session_rows), *(Write(*row) for row in batch.own_rows.items())],
    }
    return {name: records for name, records in every.items() if records}


def command_writes(batch: Batch, app_id: str) -> list[Write]:
    """Return the commands of a batch, in order of creation."""
    return [Write(*encode.command(command, app_id)) for command in batch.commands]


def transition_writes(batch: Batch) -> list[Write]:
    """Return the transition and evaluation records of a batch, in order of creation."""
    return [Write(*encode.record(record)) for record in batch.records]


def row_writes(rows: Rows) -> list[Write]:
    """Return changed rows as changelog records."""
    return [Write(key.encode(), row) for key, row in rows.items()]


def lines(writes: Iterable[Write]) -> bytes:
    """Return the values of records as JSON lines."""
    return b"".join((write.value or b"") + b"\n" for write in writes)
