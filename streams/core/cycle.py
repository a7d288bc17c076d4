"""Which triggers fire in a round, in which order: SPEC section 4, *Order and cycle*.

Rules are compiled once. What a condition says of the session is the same all through a round, so for every session
context (states, reasons, channels before and now) the triggers that can match at all are worked out once and kept;
a round then looks only at what is left to ask of the ticket.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from streams.core import normal
from streams.core.actions import WorkingCopy
from streams.core.conditions import Fields, Predicate, compile_condition
from streams.core.model import Lapse, Micros
from streams.core.triggers import Condition, Ruleset, Trigger

CONTEXTS_KEPT = 1024
"""Session contexts whose candidate triggers are kept. Reasons and channels are open sets, so there is a bound."""

UPDATE_TYPE = "change"

_Context: TypeAlias = tuple[Micros, str | None, str | None, str | None, str | None, str | None]


class Candidate(msgspec.Struct, frozen=True):
    """A trigger whose session conditions hold, with what is left to ask of the ticket."""

    trigger: Trigger
    all: tuple[Predicate, ...]
    any: tuple[Predicate, ...]
    """Empty when nothing is left to satisfy."""

    def matches(self, before: Fields, now: Fields) -> bool:
        """`every(all) and (any is empty or some(any))`."""
        for predicate in self.all:
            if not predicate(before, now):
                return False
        if not self.any:
            return True
        return any(predicate(before, now) for predicate in self.any)


class _Compiled(msgspec.Struct, frozen=True):
    """One condition; `of_session` tells what it speaks of."""

    of_session: bool
    predicate: Predicate


class _Rule(msgspec.Struct, frozen=True):
    trigger: Trigger
    all: tuple[_Compiled, ...]
    any: tuple[_Compiled, ...]

    def candidate(self, before: Fields, now: Fields) -> Candidate | None:
        """Decide the session's part; None when the trigger cannot match in this context."""
        rest = []
        for condition in self.all:
            if not condition.of_session:
                rest.append(condition.predicate)
            elif not condition.predicate(before, now):
                return None
        some = []
        if not any(condition.of_session and condition.predicate(before, now) for condition in self.any):
            some = [condition.predicate for condition in self.any if not condition.of_session]
            if self.any and not some:
                return None
        return Candidate(self.trigger, tuple(rest), tuple(some))


def session_context(lapse: Lapse) -> tuple[dict[str, str | None], dict[str, str | None]]:
    """Return the session's fields before and now, those of the lapse, by condition field name."""
    before = {
        "messaging_session_state": lapse.before_state,
        "messaging_session_inactive_reason": lapse.before_reason,
        "messaging_session_channel": lapse.before_channel,
        "update_type": UPDATE_TYPE,
    }
    now = {
        "messaging_session_state": "inactive",
        "messaging_session_inactive_reason": lapse.reason,
        "messaging_session_channel": lapse.channel,
        "update_type": UPDATE_TYPE,
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
        self.waits: tuple[Micros, ...] = tuple(sorted(self._by_wait))
        """Every `wait` that an active trigger uses, ascending; 0 stands for round 0."""
        self._candidates: dict[_Context, tuple[Candidate, ...]] = {}

    def candidates(self, wait: Micros, lapse: Lapse) -> tuple[Candidate, ...]:
        """Return the triggers of this wait that the session's part of the lapse leaves possible, in order."""
        key = (wait, lapse.before_state, lapse.before_reason, lapse.before_channel, lapse.reason, lapse.channel)
        found = self._candidates.get(key)
        if found is None:
            before, now = session_context(lapse)
            rules = self._by_wait.get(wait, [])
            found = tuple(candidate for rule in rules if (candidate := rule.candidate(before, now)) is not None)
            if len(self._candidates) >= CONTEXTS_KEPT:
                self._candidates.clear()
            self._candidates[key] = found
        return found

    def fire(self, wait: Micros, lapse: Lapse, row: Fields) -> tuple[list[Trigger], WorkingCopy]:
        """Run the cycle of one round on a ticket; return the triggers that fired, in order, and what they made."""
        copy = WorkingCopy(row)
        fired: list[Trigger] = []
        waiting = list(self.candidates(wait, lapse))
        position = 0
        while position < len(waiting):
            candidate = waiting[position]
            if not candidate.matches(row, copy.now):
                position += 1
                continue
            fired.append(candidate.trigger)
            del waiting[position]  # at most once a round; the next one now stands at this position
            if copy.apply(candidate.trigger.actions) and self.restarts:
                position = 0
        return fired, copy


def _compile(trigger: Trigger) -> _Rule:
    return _Rule(
        trigger,
        tuple(_compile_condition(condition) for condition in trigger.all),
        tuple(_compile_condition(condition) for condition in trigger.any),
    )


def _compile_condition(condition: Condition) -> _Compiled:
    of_session = condition.field in normal.SESSION_FIELDS or condition.field == "update_type"
    return _Compiled(of_session, compile_condition(condition))
