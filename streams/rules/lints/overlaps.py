"""Pairs of active triggers that can match the same lapse and write different values to the same field."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from streams.core import normal
from streams.core.normal import SESSION_FIELDS
from streams.core.triggers import ORDERING, PASSED_ON, PASSED_ON_PREFIXES, TAG_ACTIONS, Condition, Operator, Trigger
from streams.rules.lints.demands import ANYTHING, CHANGED, IN_EVERY_ROUND, Demand, Text, clash, demands_now, text_of

TAGS = "tags"

_UNLISTED = ORDERING | {Operator.INCLUDES, Operator.NOT_INCLUDES}
"""Operators whose demands are not sets of values, on words and numbers. Sets of values rule out most pairs."""

MAX_COMPARISONS = 300_000
"""The maximum number of pairs compared, so that thousands of similar triggers take seconds, not hours."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """Two triggers of one round, in the order in which they are checked."""

    first: Trigger
    later: Trigger
    fields: tuple[str, ...]
    later_still_matches: bool
    """Whether `later` can match once `first` has changed the ticket."""


def written_fields(trigger: Trigger) -> set[str]:
    """Return the ticket fields that a trigger's actions write; all tag actions write `tags`."""
    fields = [action.field for action in trigger.actions if _writes(action.field)]
    return {TAGS if field in TAG_ACTIONS else field for field in fields}


def in_firing_order(triggers: Sequence[Trigger]) -> list[Trigger]:
    """Return triggers in the order in which a round asks them."""
    return sorted(triggers, key=lambda trigger: (trigger.category_position, trigger.position))


def find_overlaps(triggers: Sequence[Trigger]) -> Iterator[Overlap | None]:
    """Yield for each trigger the first earlier trigger it overlaps with; None means that the search was cut short."""
    candidates = [_Candidate(rank, trigger) for rank, trigger in enumerate(in_firing_order(triggers)) if trigger.active]
    groups: dict[tuple[int, str], list[_Candidate]] = {}
    for candidate in candidates:
        for field in candidate.writes:
            groups.setdefault((candidate.trigger.wait, field), []).append(candidate)
    budget = MAX_COMPARISONS
    found: set[int] = set()
    for (_, field), group in groups.items():
        if not _may_conflict(field, group):
            continue
        index = _Index(group)
        for later in group:
            for first in index.possible(later):
                if first.rank >= later.rank or later.rank in found:
                    break
                budget -= 1
                if budget < 0:
                    yield None
                    return
                fields = _conflicts(first, later)
                if fields and _compatible(first, later):
                    found.add(later.rank)
                    yield Overlap(first.trigger, later.trigger, fields, _matches_after(first, later))


def later_rounds_cancelled(triggers: Sequence[Trigger]) -> Iterator[tuple[Trigger, list[Trigger]]]:
    """Yield each trigger that ends the session, with the triggers that wait longer and could match where it fired.

    The end of a session cancels waiting rounds (SPEC section 3), so these are no longer asked. `triggers` are active.
    """
    by_wait = sorted(triggers, key=lambda trigger: trigger.wait)
    enders = [trigger for trigger in by_wait if any(action.field in PASSED_ON for action in trigger.actions)]
    if not enders or enders[0].wait == by_wait[-1].wait:
        return
    candidates = [_Candidate(rank, trigger) for rank, trigger in enumerate(by_wait)]
    budget = MAX_COMPARISONS
    for ender in enders:
        first = _Candidate(0, ender)
        later: list[Trigger] = []
        for candidate in reversed(candidates):
            budget -= 1
            if candidate.trigger.wait <= ender.wait or budget < 0:
                break
            if _compatible(first, candidate) and _matches_after(first, candidate):
                later.append(candidate.trigger)
        if later:
            yield ender, later[::-1]


class _Candidate:
    """An active trigger, its demands on a ticket and a session, and the fields it writes."""

    __slots__ = ("at_start", "demands", "has_unlisted", "rank", "sets", "tags", "trigger", "writes")

    def __init__(self, rank: int, trigger: Trigger) -> None:
        self.rank = rank
        self.trigger = trigger
        self.writes = written_fields(trigger)
        self.demands = _demands_at_start(trigger)
        self.at_start = tuple(filter(holds_at_start, trigger.all))
        self.has_unlisted = any(condition.operator in _UNLISTED for condition in self.at_start)
        self.sets = {action.field: action.value for action in trigger.actions if action.field not in TAG_ACTIONS}
        self.tags: dict[str, set[str]] = {}
        for action in trigger.actions:
            if action.field in TAG_ACTIONS:
                self.tags.setdefault(action.field, set()).update(normal.words(action.value))


class _Index:
    """Finds the triggers of a group that don't already differ in the most distinguishing field."""

    def __init__(self, group: Sequence[_Candidate]) -> None:
        values: dict[str, set[Text]] = {}
        for candidate in group:
            for field, demand in candidate.demands.items():
                if demand.allowed is not None:
                    values.setdefault(field, set()).update(demand.allowed)
        self._group = group
        self._field = max(values, key=lambda field: len(values[field])) if values else None
        self._buckets: dict[Text, list[_Candidate]] = {}
        self._unbound: list[_Candidate] = []
        for candidate in group:
            allowed = self._allowed(candidate)
            if allowed is None:
                self._unbound.append(candidate)
            for value in allowed or ():
                self._buckets.setdefault(value, []).append(candidate)

    def possible(self, candidate: _Candidate) -> Iterator[_Candidate]:
        """Yield by rank, repeats included, the triggers that may match where `candidate` does."""
        allowed = self._allowed(candidate)
        if allowed is None:
            yield from self._group
            return
        sources = [self._unbound, *(self._buckets[value] for value in sorted(allowed, key=str))]
        if len(sources) == 2:  # by far the most common: one value
            yield from _merged(sources[0], sources[1])
        else:
            yield from sorted({one.rank: one for source in sources for one in source}.values(), key=lambda c: c.rank)

    def _allowed(self, candidate: _Candidate) -> frozenset[Text] | None:
        return None if self._field is None else candidate.demands.get(self._field, ANYTHING).allowed


def _merged(left: Sequence[_Candidate], right: Sequence[_Candidate]) -> Iterator[_Candidate]:
    i = j = 0
    while i < len(left) and j < len(right):
        if left[i].rank < right[j].rank:
            yield left[i]
            i += 1
        else:
            yield right[j]
            j += 1
    yield from left[i:]
    yield from right[j:]


def _demands_at_start(trigger: Trigger) -> dict[str, Demand]:
    """Return a trigger's demands when a round starts; conditions that need another trigger's change demand nothing."""
    demands = demands_now(filter(holds_at_start, trigger.all), IN_EVERY_ROUND)
    if trigger.any and len({condition.field for condition in trigger.any}) == 1:
        alternatives = [demands_now([condition], {}) for condition in trigger.any if holds_at_start(condition)]
        field = trigger.any[0].field
        allowed: set[Text] = set()
        for alternative in alternatives:
            demand = alternative.get(field, ANYTHING)
            if demand.allowed is None:
                return demands
            allowed |= demand.allowed
        if len(alternatives) == len(trigger.any):
            demands[field] = demands.get(field, ANYTHING) & Demand(frozenset(allowed))
    return demands


def holds_at_start(condition: Condition) -> bool:
    """Whether a condition may hold before any trigger of the round has fired."""
    return condition.field in SESSION_FIELDS or condition.operator not in CHANGED


def _compatible(left: _Candidate, right: _Candidate) -> bool:
    """Whether some ticket and session may satisfy both when a round starts, as far as can be determined."""
    if any((demand & right.demands.get(field, ANYTHING)).is_impossible for field, demand in left.demands.items()):
        return False
    return not (
        (left.has_unlisted or right.has_unlisted) and clash((*left.at_start, *right.at_start), may_be_closed=True)
    )


def _matches_after(first: _Candidate, later: _Candidate) -> bool:
    """Whether `later` can still match after the values that `first` sets."""
    return all(
        later.demands[action.field].admits(text_of(action.value))
        for action in first.trigger.actions
        if action.field in later.demands and not isinstance(action.value, list)
    )


def _writes(field: str) -> bool:
    return field not in PASSED_ON and not field.startswith(PASSED_ON_PREFIXES)


def _may_conflict(field: str, group: Sequence[_Candidate]) -> bool:
    """Whether any two of a group write `field` differently; avoids comparing thousands that write the same value."""
    if field != TAGS:
        return any(candidate.sets[field] != group[0].sets[field] for candidate in group)
    added: set[str] = set().union(*(candidate.tags.get("add_tags", ()) for candidate in group))
    removed: set[str] = set().union(*(candidate.tags.get("remove_tags", ()) for candidate in group))
    return bool(added & removed) or any("set_tags" in candidate.tags for candidate in group)


def _conflicts(first: _Candidate, later: _Candidate) -> tuple[str, ...]:
    """Return the fields that both write, except those to which both write the same value."""
    common = first.writes & later.writes
    return tuple(
        field
        for field in sorted(common)
        if (_tags_conflict(first.tags, later.tags) if field == TAGS else first.sets[field] != later.sets[field])
    )


def _tags_conflict(left: Mapping[str, set[str]], right: Mapping[str, set[str]]) -> bool:
    """Whether one replaces the tags the other wrote, or removes tags the other adds."""
    if "set_tags" in left or "set_tags" in right:
        return left != right
    nothing: set[str] = set()
    return bool(
        left.get("add_tags", nothing) & right.get("remove_tags", nothing)
        or left.get("remove_tags", nothing) & right.get("add_tags", nothing)
    )
