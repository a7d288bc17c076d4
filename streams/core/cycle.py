"""Which triggers fire in a round, in which order: SPEC section 4, *Order and cycle*.

Rules are compiled once. What a condition says of the session is the same all through a round, so for every session
context (states, reasons, channels before and now) the triggers that can match at all are worked out once and kept;
a round then looks only at what is left to ask of the ticket.
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
from streams.core.triggers import TAG_ACTIONS, Condition, Operator, Ruleset, Trigger

CONTEXTS_KEPT = 1024
"""Session contexts whose candidate triggers are kept. Reasons and channels are open sets, so there is a bound."""

DECISIONS_KEPT = 4096
"""Decisions of rounds that are remembered, for each wait."""

UPDATE_TYPE = "change"

_Context: TypeAlias = tuple[Micros, str | None, str | None, str | None, str | None, str | None]


class Key(NamedTuple):
    """A ticket field, and the texts of which it must be one, or, as tags, must have one."""

    field: str
    texts: tuple[str, ...]
    decides: bool
    """Whether the condition holds just when the key fits, so that it need not be asked."""


class Candidate(msgspec.Struct, frozen=True):
    """A trigger whose session conditions hold, with what is left to ask of the ticket."""

    trigger: Trigger
    all: tuple[Predicate, ...]
    any: tuple[Predicate, ...]
    """Empty when nothing is left to satisfy."""
    key: Key | None = None
    """What to find it by, from one of the `all` conditions; None when none will do."""

    def matches(self, before: Fields, now: Fields) -> bool:
        """`every(all) and (any is empty or some(any))`."""
        for predicate in self.all:
            if not predicate(before, now):
                return False
        if not self.any:
            return True
        return any(predicate(before, now) for predicate in self.any)


class Candidates:
    """The candidates of one session context in firing order, found by the ticket's values.

    Most triggers of a large ruleset ask for one value of one field (a group, a brand, a status). Those are looked up
    by it, so that a thousand triggers cost little when few can match.
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
        """Return the first candidate from place `start` on that matches and has not fired."""
        for place in self._places(now):
            if place >= start and place not in fired and self._all[place].matches(before, now):
                return place, self._all[place]
        return None

    def _places(self, now: Fields) -> list[int]:
        found: list[int] = []
        for field, by_text in self._keyed.items():
            value = now.get(field)
            if isinstance(value, list):
                # Only tags are looked up word by word: `is` holds for no list, whatever is in it.
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
    """From 1; a change of the working copy begins the next one, from the top."""
    changed: bool
    """Whether the working copy is different for it."""


class Decision(msgspec.Struct, frozen=True):
    """What a round decides about a ticket: which triggers fire, and what they ask for in the end."""

    fired: tuple[str, ...]
    """Ids of the triggers that fired, in firing order."""
    triggers: tuple[tuple[str, str], ...]
    """The same with titles."""
    actions: tuple[FieldValue, ...]
    expected: dict[str, Value]
    """Values of the ticket that the actions rest on, `updated_at` aside."""


class _Decisions:
    """The decisions of one wait, remembered by everything that decides them.

    Rounds of many tickets ask the same questions of the same values. What is remembered is dropped when it is too much;
    when tickets differ too much for it to help, nothing is remembered any more.
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
        """Return all that decides a round: the session's part, and each value that a rule asks for or sets."""
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
    """Return a value as part of a key that tells 1, 1.0, true and "1" apart, and 0.0 from -0.0."""
    if isinstance(value, list):
        return (list, *map(_exact, value))
    return value if value is None or type(value) is str else (type(value), repr(value))


def _is_of_session(field: str) -> bool:
    return field in normal.SESSION_FIELDS or field == UPDATE_FIELD


class _Compiled(msgspec.Struct, frozen=True):
    """One condition; `of_session` tells what it speaks of."""

    of_session: bool
    predicate: Predicate
    key: Key | None


class _Rule(msgspec.Struct, frozen=True):
    trigger: Trigger
    all: tuple[_Compiled, ...]
    any: tuple[_Compiled, ...]

    def candidate(self, before: Fields, now: Fields) -> Candidate | None:
        """Decide the session's part; None when the trigger cannot match in this context."""
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
        """Choose what to find a trigger by: an id says more than a status, which half of all tickets share."""
        keys = [condition.key for condition in conditions if condition.key is not None]
        return min(
            keys,
            key=lambda key: (not normal.is_id(key.field), key.field in normal.NAMES, len(key.texts)),
            default=None,
        )


def session_context(lapse: Lapse) -> tuple[dict[str, str | None], dict[str, str | None]]:
    """Return the session's fields before and now, those of the lapse, by condition field name."""
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
    """A ruleset, compiled: asked for the waits in use and for the triggers that fire in a round."""

    def __init__(self, ruleset: Ruleset) -> None:
        """Compile the active triggers of `ruleset` and sort them as Zendesk does."""
        self.digest = ruleset.digest
        self.restarts = ruleset.cycle == "restart"
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
        """Return the triggers of this wait that the session's part of the lapse leaves possible, in order."""
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
        """Run the cycle of one round on a ticket, or remember what it led to before."""
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
        """Run the cycle of one round on a ticket; return the triggers that fired, in order, and what they made."""
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
        """Run the cycle of one round on a working copy, and tell of each trigger once it has fired."""
        candidates = self.candidates(wait, lapse)
        places: set[int] = set()
        start, cycle_pass = 0, 1
        while (found := candidates.first(copy.row, copy.now, places, start)) is not None:
            place, candidate = found
            places.add(place)  # at most once a round
            changed = copy.apply(candidate.trigger.actions)
            yield Firing(candidate.trigger, cycle_pass, changed)
            if changed and self.restarts:
                start, cycle_pass = 0, cycle_pass + 1
            else:
                start = place + 1

    def of_wait(self, wait: Micros) -> list[Trigger]:
        """Return the active triggers of a wait in the order in which a round asks them."""
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
            # No value is none of the texts, but may be what the condition asks for.
            whole = value and all(isinstance(one, str | int | float) for one in value)
            return Key(condition.field, tuple(dict.fromkeys(map(normal.text, value))), False) if whole else None
        decides = condition.field not in normal.TAG_FIELDS
        return None if value is None else Key(condition.field, (normal.text(value),), decides)
    if condition.operator is Operator.INCLUDES and condition.field in normal.TAG_FIELDS:
        return Key(TAGS, tuple(normal.words(value)), False)
    return None
