"""Which triggers fire in a round, and in which order: SPEC section 4, *Order and cycle*.

Rules are compiled once. The session does not change during a round, so the triggers that can match at all are
determined once for every session context (states, reasons, channels before and now) and cached. A round then
evaluates only the remaining conditions, which concern the ticket.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias

import msgspec

from streams.core import normal
from streams.core.actions import TAGS, WorkingCopy, is_passed_on
from streams.core.conditions import Fields, Predicate, compile_condition
from streams.core.model import FieldValue, Lapse, Micros, Value
from streams.core.names import CHANNEL_FIELD, REASON_FIELD, STATE_FIELD, UPDATE_FIELD
from streams.core.triggers import TAG_ACTIONS, Condition, Limit, Operator, Ruleset, Trigger

CONTEXTS_KEPT = 1024
"""Maximum number of cached session contexts. Reasons and channels are open sets, so the cache needs a bound."""

DECISIONS_KEPT = 4096
"""Maximum number of cached decisions of rounds, for each wait."""

UPDATE_TYPE = "change"

_Context: TypeAlias = tuple[Micros, str | None, str | None, str | None, str | None, str | None]


class Key(NamedTuple):
    """A ticket field and a set of texts: the field's value, or for tags one of the tags, must be among them."""

    field: str
    texts: tuple[str, ...]
    decides: bool
    """Whether the condition is equivalent to the key, so that it need not be evaluated."""


class Candidate(msgspec.Struct, frozen=True):
    """A trigger whose session conditions hold, with its remaining conditions on the ticket."""

    trigger: Trigger
    all: tuple[Predicate, ...]
    any: tuple[Predicate, ...]
    """Empty when no `any` condition remains to be satisfied."""
    key: Key | None = None
    """The key to look it up by, taken from one of the `all` conditions; None when none is suitable."""

    def matches(self, before: Fields, now: Fields) -> bool:
        """`every(all) and (any is empty or some(any))`."""
        for predicate in self.all:
            if not predicate(before, now):
                return False
        if not self.any:
            return True
        return any(predicate(before, now) for predicate in self.any)


class Candidates:
    """The candidates of one session context in firing order, indexed by ticket values.

    Most triggers of a large ruleset require one value of one field (a group, a brand, a status). They are looked up by
    that value, so that a thousand triggers cost little when few of them can match.
    """

    def __init__(self, candidates: list[Candidate]) -> None:
        """Index `candidates`, given in firing order."""
        self._all = candidates
        self._unkeyed = [place for place, candidate in enumerate(candidates) if candidate.key is None]
        self._keyed: dict[str, dict[str, list[int]]] = {}
        for place, candidate in enumerate(candidates):
            if candidate.key is not None:
                by_text = self._keyed.setdefault(candidate.key.field, {})
                for text in candidate.key.texts:
                    by_text.setdefault(text, []).append(place)

    def first(self, before: Fields, now: Fields, fired: set[int], start: int) -> tuple[int, Candidate] | None:
        """Return the first candidate at or after position `start` that matches and has not fired."""
        for place in self._places(now):
            if place >= start and place not in fired and self._all[place].matches(before, now):
                return place, self._all[place]
        return None

    def _places(self, now: Fields) -> list[int]:
        found: list[int] = []
        for field, by_text in self._keyed.items():
            value = now.get(field)
            if isinstance(value, list):
                # Only tags are looked up element by element: `is` never holds for a list.
                for element in value if field == TAGS else ():
                    found.extend(by_text.get(element if isinstance(element, str) else normal.text(element), ()))
            elif value is not None:
                found.extend(by_text.get(value if isinstance(value, str) else normal.text(value), ()))
        if not found:
            return self._unkeyed
        # Two tags may lead to the same trigger.
        return sorted({*self._unkeyed, *found})


class Firing(NamedTuple):
    """A trigger that has fired."""

    trigger: Trigger
    cycle_pass: int
    """Counted from 1; a change of the working copy starts the next pass from the first trigger."""
    changed: bool
    """Whether it changed the working copy."""


class Decision(msgspec.Struct, frozen=True):
    """What a round decides about a ticket: the triggers that fire and the resulting actions."""

    fired: tuple[str, ...]
    """Ids of the triggers that fired, in firing order."""
    triggers: tuple[tuple[str, str], ...]
    """The same triggers with their titles."""
    actions: tuple[FieldValue, ...]
    expected: dict[str, Value]
    """Values of the ticket that the actions depend on, except `updated_at`."""


class _Decisions:
    """A cache of the decisions of one wait, keyed by everything that determines them.

    Rounds of many tickets evaluate the same conditions on the same values. A full cache is cleared. When tickets differ
    too much for the cache to help, it is switched off.
    """

    def __init__(self, rules: list[_Rule]) -> None:
        fields: dict[str, None] = {}
        for rule in rules:
            for condition in (*rule.trigger.all, *rule.trigger.any):
                if not _is_of_session(condition.field):
                    fields[TAGS if condition.field in normal.TAG_FIELDS else condition.field] = None
            for action in rule.trigger.actions:
                if action.field in TAG_ACTIONS:
                    fields[TAGS] = None
                elif not is_passed_on(action.field):
                    fields[action.field] = None
        self._fields = tuple(fields)
        self._known: dict[tuple[Any, ...], Decision] = {}
        self._hits = 0
        self._misses = 0
        self.useful = True

    def key(self, context: _Context, row: Fields) -> tuple[Any, ...]:
        """Return everything that determines a round: the session context and each field that a rule tests or sets."""
        return (context, *(value if type(value) is str else _exact(value) for value in map(row.get, self._fields)))

    def find(self, key: tuple[Any, ...]) -> Decision | None:
        found = self._known.get(key)
        if found is None:
            self._misses += 1
            if self._misses >= DECISIONS_KEPT:
                self.useful = self._hits > self._misses
                self._hits = self._misses = 0
                self._known.clear()
        else:
            self._hits += 1
        return found

    def keep(self, key: tuple[Any, ...], decision: Decision) -> None:
        if self.useful:
            self._known[key] = decision


def _exact(value: Value) -> Any:
    """Return a value as part of a key that distinguishes 1, 1.0, true and "1", and 0.0 from -0.0."""
    if isinstance(value, list):
        return (list, *map(_exact, value))
    return value if value is None or type(value) is str else (type(value), repr(value))


def _is_of_session(field: str) -> bool:
    return field in normal.SESSION_FIELDS or field == UPDATE_FIELD


class _Compiled(msgspec.Struct, frozen=True):
    """One condition; `of_session` is true when it concerns the session, not the ticket."""

    of_session: bool
    predicate: Predicate
    key: Key | None


class _Rule(msgspec.Struct, frozen=True):
    trigger: Trigger
    all: tuple[_Compiled, ...]
    any: tuple[_Compiled, ...]

    def candidate(self, before: Fields, now: Fields) -> Candidate | None:
        """Evaluate the session conditions; None when the trigger cannot match in this context."""
        rest = []
        for condition in self.all:
            if not condition.of_session:
                rest.append(condition)
            elif not condition.predicate(before, now):
                return None
        some = []
        if not any(condition.of_session and condition.predicate(before, now) for condition in self.any):
            some = [condition.predicate for condition in self.any if not condition.of_session]
            if self.any and not some:
                return None
        key = self._key(rest)
        left = tuple(
            condition.predicate for condition in rest if key is None or not key.decides or condition.key != key
        )
        return Candidate(self.trigger, left, tuple(some), key)

    @staticmethod
    def _key(conditions: list[_Compiled]) -> Key | None:
        """Choose a trigger's lookup key: an id is more selective than a status, which half of all tickets share."""
        keys = [condition.key for condition in conditions if condition.key is not None]
        return min(
            keys,
            key=lambda key: (not normal.is_id(key.field), key.field in normal.NAMES, len(key.texts)),
            default=None,
        )


def session_context(lapse: Lapse) -> tuple[dict[str, str | None], dict[str, str | None]]:
    """Return the session's fields before and now, as given by the lapse, by condition field name."""
    before = {
        STATE_FIELD: lapse.before_state,
        REASON_FIELD: lapse.before_reason,
        CHANNEL_FIELD: lapse.before_channel,
        UPDATE_FIELD: UPDATE_TYPE,
    }
    now = {
        STATE_FIELD: "inactive",
        REASON_FIELD: lapse.reason,
        CHANNEL_FIELD: lapse.channel,
        UPDATE_FIELD: UPDATE_TYPE,
    }
    return before, now


class Rules:
    """A compiled ruleset: gives the waits in use and the triggers that fire in a round."""

    def __init__(self, ruleset: Ruleset, revision: int | None = None) -> None:
        """Compile the active triggers of `ruleset` and sort them as Zendesk does.

        `revision` is its number in the rules topic, None when the rules come from a file.
        """
        self.digest = ruleset.digest
        self.revision = revision
        self.restarts = ruleset.cycle == "restart"
        self.holdout = ruleset.holdout
        limits = {trigger.id: trigger.limit or ruleset.limit for trigger in ruleset.triggers if trigger.active}
        self.limits: dict[str, Limit] = {trigger: limit for trigger, limit in limits.items() if limit is not None}
        """The limits of active triggers, by id."""
        in_order = sorted(ruleset.triggers, key=lambda trigger: (trigger.category_position, trigger.position))
        self._by_wait: dict[Micros, list[_Rule]] = {}
        for trigger in in_order:
            if trigger.active:
                self._by_wait.setdefault(trigger.wait, []).append(_compile(trigger))
        self._decisions = {wait: _Decisions(rules) for wait, rules in self._by_wait.items()}
        self.waits: tuple[Micros, ...] = tuple(sorted(self._by_wait))
        """Every `wait` that an active trigger uses, ascending; 0 stands for round 0."""
        self._candidates: dict[_Context, Candidates] = {}

    def candidates(self, wait: Micros, lapse: Lapse) -> Candidates:
        """Return the triggers of this wait that can match in the session context of the lapse, in order."""
        key = _context(wait, lapse)
        found = self._candidates.get(key)
        if found is None:
            before, now = session_context(lapse)
            rules = self._by_wait.get(wait, [])
            found = Candidates([candidate for rule in rules if (candidate := rule.candidate(before, now)) is not None])
            if len(self._candidates) >= CONTEXTS_KEPT:
                self._candidates.clear()
            self._candidates[key] = found
        return found

    def decide(self, wait: Micros, lapse: Lapse, row: Fields) -> Decision:
        """Run the cycle of one round on a ticket, or return the cached decision."""
        decisions = self._decisions.get(wait)
        if decisions is None or not decisions.useful:
            return self._decide(wait, lapse, row)
        key = decisions.key(_context(wait, lapse), row)
        found = decisions.find(key)
        if found is None:
            found = self._decide(wait, lapse, row)
            decisions.keep(key, found)
        return found

    def fire(self, wait: Micros, lapse: Lapse, row: Fields) -> tuple[list[Trigger], WorkingCopy]:
        """Run the cycle of one round on a ticket; return the triggers that fired, in order, and the working copy."""
        copy = WorkingCopy(row)
        return [firing.trigger for firing in self.firings(wait, lapse, copy)], copy

    def _decide(self, wait: Micros, lapse: Lapse, row: Fields) -> Decision:
        fired, copy = self.fire(wait, lapse, row)
        actions = copy.net()
        return Decision(
            tuple(trigger.id for trigger in fired),
            tuple((trigger.id, trigger.title) for trigger in fired),
            actions,
            copy.expected(actions),
        )

    def firings(self, wait: Micros, lapse: Lapse, copy: WorkingCopy) -> Iterator[Firing]:
        """Run the cycle of one round on a working copy, and yield each trigger after it has fired."""
        candidates = self.candidates(wait, lapse)
        places: set[int] = set()
        start, cycle_pass = 0, 1
        while (found := candidates.first(copy.row, copy.now, places, start)) is not None:
            place, candidate = found
            places.add(place)  # a trigger fires at most once in a round
            changed = copy.apply(candidate.trigger.actions)
            yield Firing(candidate.trigger, cycle_pass, changed)
            if changed and self.restarts:
                start, cycle_pass = 0, cycle_pass + 1
            else:
                start = place + 1

    def of_wait(self, wait: Micros) -> list[Trigger]:
        """Return the active triggers of a wait in the order in which a round evaluates them."""
        return [rule.trigger for rule in self._by_wait.get(wait, [])]


def _context(wait: Micros, lapse: Lapse) -> _Context:
    return (wait, lapse.before_state, lapse.before_reason, lapse.before_channel, lapse.reason, lapse.channel)


def _compile(trigger: Trigger) -> _Rule:
    return _Rule(
        trigger,
        tuple(_compile_condition(condition) for condition in trigger.all),
        tuple(_compile_condition(condition) for condition in trigger.any),
    )


def _compile_condition(condition: Condition) -> _Compiled:
    return _Compiled(_is_of_session(condition.field), compile_condition(condition), _key_of(condition))


def _key_of(condition: Condition) -> Key | None:
    value = condition.value
    if condition.operator is Operator.IS:
        if isinstance(value, list):
            # *No value* is not a text, but the list may contain it; then there is no key.
            whole = value and all(isinstance(one, str | int | float) for one in value)
            return Key(condition.field, tuple(dict.fromkeys(map(normal.text, value))), False) if whole else None
        decides = condition.field not in normal.TAG_FIELDS
        return None if value is None else Key(condition.field, (normal.text(value),), decides)
    if condition.operator is Operator.INCLUDES and condition.field in normal.TAG_FIELDS:
        return Key(TAGS, tuple(normal.words(value)), False)
    return None
