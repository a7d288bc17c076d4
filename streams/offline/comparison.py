"""The differences between the decisions of two trigger files over the same capture.

Triggers are compared per lapse, not per round: a trigger whose `wait` was changed fires in a different round of the
same lapse, and this still counts as the same firing. Commands are compared per round. If the commands of a lapse are
in different rounds than before, they are paired in the order of their waits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import zip_longest
from typing import NamedTuple, TypeAlias

import msgspec

from streams.core.batch import Batch
from streams.core.model import Command, Evaluation, Micros

LapseKey: TypeAlias = tuple[str, str, int]
"""(ticket id, event id, episode)"""


class Deed(msgspec.Struct):
    """The results of the rounds of one lapse."""

    occurred_at: Micros
    fired: set[str] = msgspec.field(default_factory=set)
    commands: dict[Micros, Command] = msgspec.field(default_factory=dict)
    """Keyed by wait."""


class Deeds:
    """The results of the lapses of one partition. Lapses without a result are left out."""

    def __init__(self) -> None:
        """Start empty."""
        self.by_lapse: dict[LapseKey, Deed] = {}

    def add(self, batch: Batch) -> None:
        """Add the decisions of one batch."""
        for record in batch.records:
            if type(record) is Evaluation and record.triggers:
                self._of(record.ticket_id, record.event_id, record.episode, record.occurred_at).fired.update(
                    record.triggers
                )
        for command in batch.commands:
            lapse = command.lapse
            deed = self._of(command.ticket_id, lapse.event_id, lapse.episode, lapse.occurred_at)
            deed.commands[command.wait] = command

    def _of(self, ticket_id: str, event_id: str, episode: int, occurred_at: Micros) -> Deed:
        key = (ticket_id, event_id, episode)
        found = self.by_lapse.get(key)
        if found is None:
            found = self.by_lapse[key] = Deed(occurred_at)
        return found


class Lapsed(msgspec.Struct, frozen=True):
    """Identifies one lapse."""

    ticket_id: str
    event_id: str
    episode: int
    occurred_at: Micros


class TriggerChange(msgspec.Struct):
    """How the firings of one trigger differ: counts of lapses, and the first few lapses that differ."""

    old: bool = True
    """Whether the old file has this trigger."""
    new: bool = True
    newly: int = 0
    no_longer: int = 0
    same: int = 0
    newly_samples: list[Lapsed] = msgspec.field(default_factory=list)
    no_longer_samples: list[Lapsed] = msgspec.field(default_factory=list)


class CommandChange(NamedTuple):
    """One command that differs; None on the side without a command."""

    lapse: Lapsed
    old: Command | None
    new: Command | None


class Comparison(msgspec.Struct):
    """The differences over all partitions, in capture order within each partition."""

    samples: int
    """Number of examples of each kind to keep."""
    triggers: dict[str, TriggerChange]
    same: int = 0
    """Number of commands that both files issue: same round, same triggers, same actions, same `issued_at`."""
    changed: int = 0
    added: int = 0
    removed: int = 0
    tickets: set[str] = msgspec.field(default_factory=set)
    """Tickets with commands that differ."""
    commands: list[CommandChange] = msgspec.field(default_factory=list)

    def add(self, old: Deeds, new: Deeds) -> None:
        """Compare the results of one partition's lapses."""
        nothing = Deed(0)
        for key in _in_order(new.by_lapse, old.by_lapse):
            before, after = old.by_lapse.get(key, nothing), new.by_lapse.get(key, nothing)
            lapse = Lapsed(*key, after.occurred_at or before.occurred_at)
            for trigger in after.fired | before.fired:
                self._fired(trigger, lapse, trigger in before.fired, trigger in after.fired)
            for was, now in _pairs(before.commands, after.commands):
                self._commanded(lapse, was, now)

    def empty(self) -> Comparison:
        """Return an empty comparison for another partition, to be passed to `extend` later."""
        return Comparison(
            self.samples, {name: TriggerChange(old=one.old, new=one.new) for name, one in self.triggers.items()}
        )

    def extend(self, other: Comparison) -> None:
        """Append the comparison of another partition."""
        for name, theirs in other.triggers.items():
            mine = self.triggers[name]
            mine.newly += theirs.newly
            mine.no_longer += theirs.no_longer
            mine.same += theirs.same
            mine.newly_samples = [*mine.newly_samples, *theirs.newly_samples][: self.samples]
            mine.no_longer_samples = [*mine.no_longer_samples, *theirs.no_longer_samples][: self.samples]
        for change in other.commands:
            kind = (change.old is None, change.new is None)
            if sum((one.old is None, one.new is None) == kind for one in self.commands) < self.samples:
                self.commands.append(change)
        self.same += other.same
        self.changed += other.changed
        self.added += other.added
        self.removed += other.removed
        self.tickets |= other.tickets

    def _fired(self, trigger: str, lapse: Lapsed, before: bool, after: bool) -> None:
        about = self.triggers[trigger]
        if before and after:
            about.same += 1
            return
        samples = about.newly_samples if after else about.no_longer_samples
        if after:
            about.newly += 1
        else:
            about.no_longer += 1
        if len(samples) < self.samples:
            samples.append(lapse)

    def _commanded(self, lapse: Lapsed, was: Command | None, now: Command | None) -> None:
        if was is not None and now is not None and _content(was) == _content(now):
            self.same += 1
            return
        if was is None:
            self.added = place = self.added + 1
        elif now is None:
            self.removed = place = self.removed + 1
        else:
            self.changed = place = self.changed + 1
        self.tickets.add(lapse.ticket_id)
        if place <= self.samples:
            self.commands.append(CommandChange(lapse, was, now))


def compared(old: Iterable[str], new: Iterable[str], samples: int) -> Comparison:
    """Return an empty comparison of two files by trigger id: ids of the new file first, then ids that were removed."""
    before, after = list(old), list(new)
    return Comparison(
        samples,
        {
            trigger: TriggerChange(old=trigger in set(before), new=trigger in set(after))
            for trigger in [*after, *(one for one in before if one not in set(after))]
        },
    )


def _in_order(new: Iterable[LapseKey], old: Iterable[LapseKey]) -> Iterator[LapseKey]:
    known = dict.fromkeys(new)
    yield from known
    yield from (key for key in old if key not in known)


def _pairs(old: dict[Micros, Command], new: dict[Micros, Command]) -> Iterator[tuple[Command | None, Command | None]]:
    for wait in sorted(old.keys() & new.keys()):
        yield old[wait], new[wait]
    left, right = sorted(old.keys() - new.keys()), sorted(new.keys() - old.keys())
    for was, now in zip_longest(left, right):
        yield None if was is None else old[was], None if now is None else new[now]


def _content(command: Command) -> tuple[object, ...]:
    return command.wait, command.issued_at, [trigger for trigger, _ in command.triggers], command.actions
