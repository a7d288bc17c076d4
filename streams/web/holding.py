"""Commands that limits hold, as this worker knows them: SPEC section 10, *Rate guard*.

A worker holds and withdraws commands. It does not see what `lapse held` releases or discards, so of those that it has
not withdrawn, it knows how many can wait at most.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import msgspec

from streams.core.batch import Batch
from streams.core.model import Command, Evaluation, RoundOutcome, Withdrawal
from streams.offline.words import acts
from streams.web.formatting import age, moment
from streams.wire import instants

HELD_KEPT = 10_000
"""Maximum number of held commands that are remembered; the oldest are forgotten first."""
TOLD = 200
"""Maximum number of commands in `/api/v1/held`."""
SHOWN = 8
"""Maximum number of commands on the page."""


class HeldCommand(NamedTuple):
    """A held command that was not withdrawn, by the round that it ended."""

    evaluation: Evaluation
    command: Command
    held_at: float
    """When it was committed, in seconds since the epoch."""


class HeldCommands:
    """What limits have held since the worker started."""

    def __init__(self) -> None:
        """Start with nothing held."""
        self.held = 0
        self.withdrawn = 0
        self._waiting: dict[str, HeldCommand] = {}

    def batch_committed(self, batch: Batch, now: float) -> None:
        """Add what a batch has held and withdrawn; `now` is in seconds since the epoch."""
        if not batch.held:
            return
        rounds = {
            record.command_id: record
            for record in batch.records
            if type(record) is Evaluation and record.outcome is RoundOutcome.HELD
        }
        for one in batch.held:
            if isinstance(one, Withdrawal):
                self.withdrawn += self._waiting.pop(one.command_id, None) is not None
                continue
            self.held += 1
            if len(self._waiting) >= HELD_KEPT:
                del self._waiting[next(iter(self._waiting))]
            self._waiting[one.command_id] = HeldCommand(rounds[one.command_id], one, now)

    def waiting(self) -> list[HeldCommand]:
        """Return those that were not withdrawn, oldest first."""
        return list(self._waiting.values())


class HeldCommandView(msgspec.Struct, frozen=True):
    """One held command; `id` is that of the command and of its round."""

    id: str
    ticket_id: str
    held_at: str
    held_by: tuple[str, ...]


class HeldView(msgspec.Struct, frozen=True):
    """`/api/v1/held`: what limits have held here since the worker started.

    `waiting` are those that were not withdrawn since, by trigger in `triggers`; some of them may have been released or
    discarded, which a worker does not see. `oldest` is null when there are none. `commands` are the latest of them,
    newest first.
    """

    held: int
    withdrawn: int
    waiting: int
    triggers: dict[str, int]
    oldest: str | None
    commands: list[HeldCommandView]


def view(held: HeldCommands) -> HeldView:
    """Return what was held."""
    waiting = held.waiting()
    return HeldView(
        held.held,
        held.withdrawn,
        len(waiting),
        _by_trigger(waiting),
        _instant(waiting[0].held_at) if waiting else None,
        [
            HeldCommandView(
                one.command.command_id,
                one.command.ticket_id,
                _instant(one.held_at),
                one.evaluation.held_by,
            )
            for one in reversed(waiting[-TOLD:])
        ],
    )


class HeldRow(NamedTuple):
    """One held command on the page."""

    id: str
    ticket_id: str
    at: str
    by: tuple[str, ...]
    does: str


class HeldPart(NamedTuple):
    """What the page tells of held commands."""

    held: int
    withdrawn: int
    waiting: int
    triggers: list[tuple[str, int]]
    oldest: str
    """How long the oldest has waited; empty without one."""
    latest: list[HeldRow]


def part(held: HeldCommands, now: float) -> HeldPart | None:
    """Return what the page shows; None when nothing was held."""
    if not held.held:
        return None
    waiting = held.waiting()
    return HeldPart(
        held.held,
        held.withdrawn,
        len(waiting),
        list(_by_trigger(waiting).items()),
        age(now - waiting[0].held_at) if waiting else "",
        [
            HeldRow(
                one.command.command_id,
                one.command.ticket_id,
                moment(one.held_at, now),
                one.evaluation.held_by,
                acts(one.command.actions),
            )
            for one in reversed(waiting[-SHOWN:])
        ],
    )


def _by_trigger(waiting: list[HeldCommand]) -> dict[str, int]:
    """Count by the triggers whose limits hold them, most first."""
    counts = Counter(trigger for one in waiting for trigger in one.evaluation.held_by)
    return dict(sorted(counts.items(), key=lambda entry: (-entry[1], entry[0])))


def _instant(seconds: float) -> str:
    return instants.text(int(seconds) * 1_000_000)
