"""Recent work of this worker: figures by the minute, and the latest rounds with the data they were evaluated on.

It is kept in memory, bounded, and lost with the process: Prometheus has the history, the topics have the exact figures.
It receives every committed batch, so it has to be fast.

Minutes are those of the events (`occurred_at`), not of the counting: a worker that catches up on an hour of backlog
fills that hour, instead of showing one terrible minute. In a `Batch`, the facts of one event follow the fact of its
transition, and transitions are in the order of their facts. That determines the minute of each fact.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping

import msgspec

from streams.core import model
from streams.core.batch import Batch
from streams.core.command import command_id
from streams.core.model import SECOND, Command, Difference, Evaluation, Fact, Kind, Micros, Transition
from streams.web.holding import HeldCommands

MINUTES_KEPT = 24 * 60
ROUNDS_KEPT = 1_000
"""Number of rounds kept in which a trigger fired, and the same number of the others, which are much more frequent."""
TRANSITIONS_KEPT = 2_000
DIFFERENCES_KEPT = 200
"""Number of rounds kept in which a shadow differs."""
REASONS_PER_MINUTE = 20
"""Reasons are an open set. Further reasons in a minute count as `other`."""

OTHER = "other"
_MINUTE: Micros = 60 * SECOND
_LOOKED_AT = 4 * ROUNDS_KEPT
"""Number of records examined per batch, from its end: a batch may have more than are kept."""


class Sums(msgspec.Struct):
    """The figures of a period; terms as in SPEC section 8."""

    sessions: int = 0
    abandoned: int = 0
    """Sessions abandoned for the first time."""
    abandonments: int = 0
    false_abandonments: int = 0
    lapses: Counter[str] = msgspec.field(default_factory=Counter)
    """Lapses by reason; `none` without a reason."""

    def add(self, other: Sums) -> None:
        """Add the figures of another period."""
        self.sessions += other.sessions
        self.abandoned += other.abandoned
        self.abandonments += other.abandonments
        self.false_abandonments += other.false_abandonments
        self.lapses.update(other.lapses)

    @property
    def abandonment_rate(self) -> float | None:
        """Sessions abandoned divided by sessions begun; None when none began."""
        return self.abandoned / self.sessions if self.sessions else None

    @property
    def false_abandonment_rate(self) -> float | None:
        """False abandonments divided by abandonments; None without any."""
        return self.false_abandonments / self.abandonments if self.abandonments else None


class ShadowSums(msgspec.Struct):
    """What was found of one shadow."""

    revision: int
    since: float
    """When the first of it was committed here, in seconds since the epoch."""
    rounds: Counter[str] = msgspec.field(default_factory=Counter)
    """Rounds that ended, by `ShadowResult`."""
    fired: Counter[str] = msgspec.field(default_factory=Counter)
    """Firings of its triggers, by id."""
    differences: deque[Difference] = msgspec.field(default_factory=lambda: deque(maxlen=DIFFERENCES_KEPT))
    """The latest rounds in which it differs, oldest first."""


class Round(msgspec.Struct, frozen=True):
    """One round that ended: its evaluation, its command if it has one, and when it was committed (epoch seconds)."""

    evaluation: Evaluation
    command: Command | None
    committed_at: float
    number: int
    """Sequence number of the finished rounds, in the order of their records."""

    @property
    def id(self) -> str:
        """The id that its command has or would have had; it identifies the round."""
        said = self.evaluation
        return said.command_id or command_id(said.ticket_id, said.event_id, said.episode, said.wait)


class Journal:
    """The recent work of one worker. Instants passed to its methods are seconds since the epoch."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        """Start an empty journal at the current time."""
        self._clock = clock
        self.began_at = clock()
        self._minutes: dict[int, Sums] = {}
        self._ended = 0
        self._fired: deque[Round] = deque(maxlen=ROUNDS_KEPT)
        self._quiet: deque[Round] = deque(maxlen=ROUNDS_KEPT)
        self._transitions: deque[Transition] = deque(maxlen=TRANSITIONS_KEPT)
        self._shadow: ShadowSums | None = None
        self.held = HeldCommands()
        """What limits have held."""

    # --- reports from the worker -------------------------------------------------------------------------------------

    def batch_committed(self, batch: Batch) -> None:
        """Add a committed batch."""
        if batch.shadow is not None:
            self._follow(batch, batch.shadow)
        now = self._clock()
        self.held.batch_committed(batch, now)
        if not batch.records:
            return
        if batch.facts:
            self._count(batch.facts, iter(batch.records), now)
        commands = {command.command_id: command for command in batch.commands}
        for record in batch.records[-_LOOKED_AT:]:
            if type(record) is Evaluation:
                self._ended += 1
                command = None if record.command_id is None else commands.get(record.command_id)
                (self._fired if record.triggers else self._quiet).append(Round(record, command, now, self._ended))
            elif type(record) is Transition:
                self._transitions.append(record)

    def _follow(self, batch: Batch, revision: int) -> None:
        """Add what was found of a shadow; a newer one begins anew, and one that it replaced does not count any more."""
        found = self._shadow
        if found is None or found.revision < revision:
            found = self._shadow = ShadowSums(revision, self._clock())
        if found.revision != revision:
            return
        for fact in batch.facts:
            if fact.name == model.SHADOW_ROUND:
                found.rounds[fact.labels[0]] += 1
            elif fact.name == model.SHADOW_TRIGGER_FIRED:
                found.fired[fact.labels[0]] += 1
        found.differences.extend(record for record in batch.records if type(record) is Difference)

    def _count(self, facts: list[Fact], records: Iterator[object], now: float) -> None:
        oldest, minute = int(now // 60) - MINUTES_KEPT, Sums()
        for fact in facts:
            name = fact.name
            if name == model.TRANSITION:
                for record in records:
                    if type(record) is Transition:
                        minute = self._minute(record.occurred_at // _MINUTE, oldest)
                        break
                kind, reason, _ = fact.labels
                if kind == Kind.LAPSED:
                    known = reason in minute.lapses or len(minute.lapses) < REASONS_PER_MINUTE
                    minute.lapses[reason if known else OTHER] += 1
            elif name == model.SESSION:
                minute.sessions += 1
            elif name == model.SESSION_ABANDONED:
                minute.abandoned += 1
            elif name == model.ABANDONMENT:
                minute.abandonments += 1
            elif name == model.FALSE_ABANDONMENT:
                minute.false_abandonments += 1

    def _minute(self, number: int, oldest: int) -> Sums:
        found = self._minutes.get(number)
        if found is None:
            if number < oldest:
                return Sums()  # older than what is kept
            if len(self._minutes) >= MINUTES_KEPT + 10:
                self._minutes = {kept: sums for kept, sums in self._minutes.items() if kept >= oldest}
            found = self._minutes[number] = Sums()
        return found

    # --- for the web server ------------------------------------------------------------------------------------------

    def last(self, minutes: int, now: float) -> Sums:
        """Return the sums over the last `minutes` minutes, including the current one."""
        return self.series(minutes, minutes, now)[0][1]

    def since(self, minutes: int, now: float) -> float:
        """Return the start of the period that `last` sums up: it is shorter than `minutes` after a start.

        If a worker has processed records from before its start, the period includes their time.
        """
        begins = now - 60.0 * minutes
        before = [60.0 * number for number in self._minutes if begins <= 60.0 * number <= self.began_at - 60]
        return max(begins, min([self.began_at, *before]))

    def series(self, minutes: int, width: int, now: float) -> list[tuple[float, Sums]]:
        """Return (start, sums) per period of `width` minutes, oldest first, `minutes` in all, up to the current one.

        Periods begin at multiples of their width, so that bars do not move with the clock. A single period over the
        whole range ends now instead. Events ahead of the clock (at most five minutes) count as now.
        """
        this = int(now // 60)
        end = this + 1 if width == minutes else (this // width + 1) * width
        start = end - minutes
        found = [(60.0 * at, Sums()) for at in range(start, end, width)]
        for number, sums in self._minutes.items():
            if number >= start:
                found[min((number - start) // width, len(found) - 1)][1].add(sums)
        return found

    def fired(self) -> list[Round]:
        """Return the latest rounds in which a trigger fired, newest first."""
        return list(reversed(self._fired))

    def quiet(self) -> list[Round]:
        """Return the latest rounds in which no trigger fired, newest first."""
        return list(reversed(self._quiet))

    def rounds(self) -> list[Round]:
        """Return `fired` and `quiet` together, newest first."""
        return sorted([*self.fired(), *self.quiet()], key=lambda one: one.number, reverse=True)

    def find(self, id: str) -> Round | None:
        """Return the round with this id, None when it is not kept."""
        return next((one for one in self.rounds() if one.id == id), None)

    def rounds_of(self, ticket_id: str) -> list[Round]:
        """Return the kept rounds of a ticket, newest first."""
        return [one for one in self.rounds() if one.evaluation.ticket_id == ticket_id]

    def shadow(self) -> ShadowSums | None:
        """Return what was found of the newest shadow; None without one."""
        return self._shadow

    def transitions(self) -> list[Transition]:
        """Return the latest transitions, newest first."""
        return list(reversed(self._transitions))

    def transitions_of(self, ticket_id: str) -> list[Transition]:
        """Return the kept transitions of a ticket, newest first."""
        return [one for one in self.transitions() if one.ticket_id == ticket_id]


def by_count(lapses: Mapping[str, int]) -> list[tuple[str, int]]:
    """Sort reasons by count, highest first, then by name.

    >>> by_count({"b": 1, "c": 2, "a": 1})
    [('c', 2), ('a', 1), ('b', 1)]
    """
    return sorted(lapses.items(), key=lambda entry: (-entry[1], entry[0]))
