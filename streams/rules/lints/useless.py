"""Triggers that another trigger of the same round makes useless, for every ticket and every lapse.

There are four kinds, all certain. A *duplicate* asks and does the same as an earlier trigger. A *shadowed* trigger
never fires, because an earlier trigger fires wherever it could and leaves a ticket it does not match. The work of a
*redundant* trigger is already done by an earlier trigger. The work of an *overwritten* trigger is replaced by a later
trigger.

The certainty follows from the cycle (SPEC section 4). Wherever a trigger matches, an earlier one that asks no more
matches too and is asked first, so it has already fired. To account for changes since then, every other trigger of the
round that writes a relevant field is checked. If one might interfere, nothing is reported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from streams.core.actions import TAGS
from streams.core.triggers import Cycle, Operator, Trigger
from streams.rules.lints.asks import Asks, Does
from streams.rules.lints.demands import Text, text_of

MAX_COMPARISONS = 300_000
"""The maximum number of pairs and writers checked, so that thousands of similar triggers take seconds, not hours."""


class Why(StrEnum):
    """The reason a trigger is useless."""

    DUPLICATE = "duplicate"
    SHADOWED = "shadowed"
    REDUNDANT = "redundant"
    OVERWRITTEN = "overwritten"


@dataclass(frozen=True, slots=True)
class Useless:
    """A useless trigger, and the trigger that makes it useless."""

    trigger: Trigger
    by: Trigger
    why: Why
    field: str | None = None
    """The field in which a shadowed trigger no longer finds the value it asks for."""


def find_useless(triggers: Sequence[Trigger], cycle: Cycle) -> Iterator[Useless | None]:
    """Yield each useless trigger once; None means that the search was cut short.

    `triggers` are active and can match, in the order in which a round asks them, with any waits.
    """
    by_wait: dict[int, list[Trigger]] = {}
    for trigger in triggers:
        by_wait.setdefault(trigger.wait, []).append(trigger)
    budget = _Budget(MAX_COMPARISONS)
    try:
        for group in by_wait.values():
            yield from _Round(group, cycle, budget).useless()
    except _Spent:
        yield None


class _Spent(Exception):
    """The comparison budget is used up."""


class _Budget:
    def __init__(self, left: int) -> None:
        self._left = left

    def spend(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise _Spent


class _One:
    """A trigger with what it asks and does; `rank` is its position in the order of the round."""

    __slots__ = ("asks", "does", "rank", "trigger")

    def __init__(self, rank: int, trigger: Trigger) -> None:
        self.rank, self.trigger = rank, trigger
        self.asks, self.does = Asks(trigger), Does(trigger.actions)


class _Round:
    """All triggers with the same wait."""

    def __init__(self, triggers: Iterable[Trigger], cycle: Cycle, budget: _Budget) -> None:
        self._all = [_One(rank, trigger) for rank, trigger in enumerate(triggers)]
        self._restarts = cycle == "restart"
        self._budget = budget
        self._writers: dict[str, list[_One]] = {}
        self._readers: dict[str, list[_One]] = {}
        for one in self._all:
            for field in one.does.writes:
                self._writers.setdefault(field, []).append(one)
            for field in one.asks.fields:
                self._readers.setdefault(field, []).append(one)
        self._weaker = _Weaker(self._all)

    def useless(self) -> Iterator[Useless]:
        told: dict[int, int] = {}
        for one in self._all:
            for other in self._weaker.possible(one):
                self._budget.spend()
                # Of two triggers that make each other useless, one is needed.
                if other is one or told.get(other.rank) == one.rank or not one.asks.implies(other.asks):
                    continue
                found = self._by_earlier(one, other) if other.rank < one.rank else self._by_later(one, other)
                if found is not None:
                    told[one.rank] = other.rank
                    yield found
                    break

    # --- an earlier trigger that asks no more ---

    def _by_earlier(self, one: _One, first: _One) -> Useless | None:
        if _duplicates(one, first):
            return Useless(one.trigger, first.trigger, Why.DUPLICATE)
        if not self._restarts and self._may_begin_to_match(first, (first, one)):
            return None  # it may match only later: what it asks for was written after its turn
        field = self._shadow(one, first)
        if field is not None:
            return Useless(one.trigger, first.trigger, Why.SHADOWED, field)
        if self._is_redundant(one, first):
            return Useless(one.trigger, first.trigger, Why.REDUNDANT)
        return None

    def _may_begin_to_match(self, one: _One, but: tuple[_One, ...]) -> bool:
        return any(True for field in one.asks.fields for _ in self._writing(field, but))

    def _shadow(self, one: _One, first: _One) -> str | None:
        """Return a field that `first` sets to a value `one` does not match, and that no other trigger sets back."""
        for field, value in first.does.sets.items():
            if one.asks.breaks(field, value) and all(
                one.asks.breaks(field, other.does.sets[field]) for other in self._writing(field, (one, first))
            ):
                return field
        tags = first.does.tags
        if tags is None:
            return None
        unwanted = {
            word
            for field, operator, words in one.asks.others
            if field == TAGS and operator is Operator.NOT_INCLUDES
            for word in words
        }
        for word in sorted(str(word) for word in unwanted & tags.present):
            if not any(
                others is not None and (word in others.absent or (others.replaces and word not in others.present))
                for others in (other.does.tags for other in self._writing(TAGS, (one, first)))
            ):
                return TAGS
        return None

    def _is_redundant(self, one: _One, first: _One) -> bool:
        if one.does.passes_on or not one.does.sets.keys() <= first.does.sets.keys():
            return False
        for field, value in one.does.sets.items():
            if not _alike(value, first.does.sets[field]) or any(
                not _alike(value, other.does.sets[field]) for other in self._writing(field, (one, first))
            ):
                return False
        tags, done = one.does.tags, first.does.tags
        if tags is None:
            return True
        return (
            done is not None
            and tags.within(done)
            and not any(
                other.does.tags is not None and other.does.tags.undoes(done)
                for other in self._writing(TAGS, (one, first))
            )
        )

    # --- a later trigger that asks no more ---

    def _by_later(self, one: _One, last: _One) -> Useless | None:
        if one.does.passes_on or not one.does.sets.keys() <= last.does.sets.keys() or _duplicates(one, last):
            return None
        if one.does.tags is not None and (last.does.tags is None or not one.does.tags.decided_by(last.does.tags)):
            return None
        if not self._fires_first_or_never(one) or not self._goes_on_matching(last):
            return None
        for field in one.does.writes:
            for reader in self._readers.get(field, ()):
                self._budget.spend()
                if reader is not one and reader is not last:
                    return None  # it may be there to make that trigger match
        return Useless(one.trigger, last.trigger, Why.OVERWRITTEN)

    def _fires_first_or_never(self, one: _One) -> bool:
        """Whether a trigger that does not match when the round begins never matches."""
        return not any(
            field == TAGS or not one.asks.breaks(field, other.does.sets[field])
            for field in one.asks.fields
            for other in self._writing(field, (one,))
        )

    def _goes_on_matching(self, last: _One) -> bool:
        """Whether a trigger that matches once in a round keeps matching until it fires."""
        return not any(
            field == TAGS or not last.asks.keeps(field, other.does.sets[field])
            for field in last.asks.fields
            for other in self._writing(field, (last,))
        )

    def _writing(self, field: str, but: tuple[_One, ...]) -> Iterator[_One]:
        for writer in self._writers.get(field, ()):
            self._budget.spend()
            if writer not in but:
                yield writer


class _Weaker:
    """Finds the triggers that may ask no more than another, by one value of one field the other asks for."""

    def __init__(self, triggers: Sequence[_One]) -> None:
        popularity: Counter[tuple[str, Text]] = Counter()
        for one in triggers:
            for field, demand in one.asks.exact.items():
                popularity.update((field, value) for value in demand.allowed or ())
        self._by_value: dict[tuple[str, Text], list[_One]] = {}
        self._unbound: list[_One] = []
        for one in triggers:
            best: list[tuple[str, Text]] | None = None
            for field, demand in one.asks.exact.items():
                if demand.allowed:
                    keys = [(field, value) for value in demand.allowed]
                    if best is None or max(map(popularity.__getitem__, keys)) < max(map(popularity.__getitem__, best)):
                        best = keys
            if best is None:
                self._unbound.append(one)
            for key in best or ():
                self._by_value.setdefault(key, []).append(one)

    def possible(self, one: _One) -> Iterator[_One]:
        yield from self._unbound
        for field, demand in one.asks.necessary.items():
            if demand.allowed:
                # A trigger that asks no more accepts each of these values, so any of them finds it.
                yield from self._by_value.get((field, min(demand.allowed, key=str)), ())


def _duplicates(left: _One, right: _One) -> bool:
    return left.asks.same(right.asks) and left.trigger.actions == right.trigger.actions


def _alike(left: Any, right: Any) -> bool:
    if isinstance(left, list) or isinstance(right, list):
        return bool(left == right)
    return text_of(left) == text_of(right)
