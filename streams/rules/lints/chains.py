"""Pairs of triggers in which one makes the other fire in the same round, on a ticket it did not match before.

An admin who writes *open becomes pending* and *pending becomes solved* expects two abandonments. A round asks every
trigger about the working copy that earlier ones changed (SPEC section 4), so one abandonment does both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from streams.core.actions import TAGS
from streams.core.triggers import CHANGE_FAMILY, ORDERING, Condition, Cycle, Operator, Trigger
from streams.rules.lints.asks import Asks, Does, read_field
from streams.rules.lints.demands import Text, clash, demand_now, text_of, values_of
from streams.rules.lints.overlaps import holds_at_start, written_fields

MAX_COMPARISONS = 300_000
"""The maximum number of pairs compared, so that thousands of similar triggers take a second, not hours."""

_CAN_BE_MADE = ORDERING | {Operator.IS, Operator.NOT_PRESENT, Operator.INCLUDES}
"""Operators that name the values that make them hold."""

_CLOSE_LOOK = 20
"""The cost of a pair that simple values don't rule out."""


@dataclass(frozen=True, slots=True)
class Chain:
    """`then` fires because `first` has fired."""

    first: Trigger
    then: Trigger
    condition: Condition
    """The condition of `then` that `first` makes true."""
    wrote: Text
    """The value, or the tag, that `first` writes."""


def find_chains(triggers: Sequence[Trigger], cycle: Cycle) -> Iterator[Chain | None]:
    """Yield for each trigger the first trigger that makes it fire; None means that the search was cut short.

    `triggers` are active and can match, in the order in which a round asks them, with any waits.
    """
    links = [_Link(rank, trigger) for rank, trigger in enumerate(triggers)]
    asked = {
        (trigger.wait, read_field(condition))
        for trigger in triggers
        for condition in trigger.all
        if condition.operator in _CAN_BE_MADE
    }
    writers: dict[tuple[int, str], dict[Text, list[_Link]]] = {}
    for link in links:
        wait, fields = link.trigger.wait, written_fields(link.trigger)
        for field, value in link.writes() if any((wait, field) in asked for field in fields) else ():
            writers.setdefault((link.trigger.wait, field), {}).setdefault(value, []).append(link)
    budget = MAX_COMPARISONS
    for then in links:
        for first, condition, value in _possible(then, writers):
            if first is then or (cycle == "single_pass" and first.rank > then.rank):
                continue
            may_make = first.may_make(then)
            budget -= _CLOSE_LOOK if may_make else 1
            if budget < 0:
                yield None
                return
            if may_make and first.makes(then, condition):
                yield Chain(first.trigger, then.trigger, condition, value)
                break


def _possible(
    then: _Link, writers: Mapping[tuple[int, str], Mapping[Text, Sequence[_Link]]]
) -> Iterator[tuple[_Link, Condition, Text]]:
    """Yield the triggers that write what a condition of `then` asks for."""
    for condition in then.trigger.all:
        of_field = writers.get((then.trigger.wait, read_field(condition)))
        if of_field is None:
            continue
        for value in sorted(_met_by(condition), key=str):
            for first in of_field.get(value, ()):
                yield first, condition, value


class _Link:
    """A trigger that may make another trigger fire, or be made to fire."""

    def __init__(self, rank: int, trigger: Trigger) -> None:
        self.rank, self.trigger = rank, trigger

    @cached_property
    def does(self) -> Does:
        return Does(self.trigger.actions)

    @cached_property
    def asks(self) -> Asks:
        return Asks(self.trigger)  # computed late: few triggers write what another asks for

    def writes(self) -> Iterator[tuple[str, Text]]:
        for field, value in self.does.sets.items():
            if not isinstance(value, list):
                yield field, text_of(value)
        for word in self.does.tags.present if self.does.tags else ():
            yield TAGS, word

    def may_make(self, then: _Link) -> bool:
        """Whether `then` may match a ticket that this trigger has changed, as far as simple values show."""
        if any(then.asks.breaks(name, value) for name, value in self.does.sets.items()):
            return False
        return not any(
            (demand & then.asks.necessary[name]).is_impossible
            for name, demand in self.asks.necessary.items()
            if name in then.asks.necessary and name not in self.does.sets
        )

    def makes(self, then: _Link, condition: Condition) -> bool:
        """Whether `then` fires after this trigger, and without it would not fire or would not need the condition."""
        field = read_field(condition)
        if any(one.operator in CHANGE_FAMILY and read_field(one) == field for one in then.trigger.all):
            return False  # `then` distinguishes new values from old ones
        if field == TAGS and self._undoes_tags(then):
            return False
        mine = [one for one in self.trigger.all if holds_at_start(one)]
        others = [
            one
            for one in then.trigger.all
            if holds_at_start(one) and one is not condition and read_field(one) not in self.does.writes
        ]
        if clash([*mine, *others], may_be_closed=True) is not None:
            return False
        if clash([*(one for one in mine if read_field(one) == field), condition], may_be_closed=True) is not None:
            return True
        return field == TAGS and self._always_before(then, condition)

    def _undoes_tags(self, then: _Link) -> bool:
        present = self.does.tags.present if self.does.tags else frozenset[str]()
        return any(
            one.operator is Operator.NOT_INCLUDES and read_field(one) == TAGS and values_of(one) & present
            for one in then.trigger.all
        )

    def _always_before(self, then: _Link, condition: Condition) -> bool:
        """Whether this trigger fires wherever `then` might, so that what `then` asks of the tags is always true."""
        every = tuple(one for one in then.trigger.all if one is not condition)
        return Asks(_with(then.trigger, every)).implies(self.asks)


def _with(trigger: Trigger, every: tuple[Condition, ...]) -> Trigger:
    return Trigger(id=trigger.id, title="", position=0, actions=trigger.actions, all=every, any=trigger.any)


def _met_by(condition: Condition) -> frozenset[Text]:
    """Return the values or tags that make a condition on the ticket hold when they are written."""
    if condition.operator not in _CAN_BE_MADE:
        return frozenset()
    if read_field(condition) == TAGS:
        return values_of(condition) if condition.operator is Operator.INCLUDES else frozenset()
    return demand_now(condition).allowed or frozenset()
