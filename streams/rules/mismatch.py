"""Explains failed tests: what was expected, what happened instead, and which condition prevented it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from streams.core import normal
from streams.core.actions import is_passed_on
from streams.core.conditions import same
from streams.core.cycle import Rules
from streams.core.model import EVALUATED, Command, Evaluation, RoundOutcome
from streams.core.trace import ConditionTrace, RoundTrace, TriggerTrace, trace_round
from streams.core.triggers import CHANGE_FAMILY, TAG_ACTIONS, Trigger
from streams.documents import durations
from streams.documents.problems import listed
from streams.documents.yaml_nodes import At
from streams.rules.inline_tests import InlineTest
from streams.rules.reference import ACTION_FIELD_ALIASES
from streams.rules.triggers import TriggerFile
from streams.rules.wording import NO_VALUE, condition_text, value_text

MAX_HINTS = 3
"""The maximum number of triggers explained for one failed test."""


@dataclass(frozen=True, slots=True)
class Found:
    """The result of the round that a test refers to; both are None when there was no such round."""

    rules: Rules
    evaluation: Evaluation | None = None
    command: Command | None = None
    trouble: str | None = None
    """Why a record of the test could not be used."""

    def trace(self) -> RoundTrace | None:
        """Return the trace of the round's triggers, computed on each call; None when no trigger was evaluated."""
        ended = self.evaluation
        if ended is None or ended.outcome not in EVALUATED or ended.lapse is None or ended.ticket is None:
            return None
        return trace_round(self.rules, ended.wait, ended.lapse, ended.ticket.fields or {})


def mismatch(test: InlineTest, found: Found, file: TriggerFile, active: Sequence[Trigger]) -> tuple[str, ...]:
    """Return why a test fails: a line with the actual and the expected result, then lines that explain it.

    Empty when the test passes. `active`: the triggers that were active in the test.
    """
    if found.trouble is not None:
        return (f"its records can't be used: {found.trouble}",)
    fired = () if found.evaluation is None else found.evaluation.triggers
    actions = [] if found.command is None else [_comparable(a.field, a.value) for a in found.command.actions]
    reasons: list[str] = []
    details: list[str] = []
    expect = test.expect
    if expect.outcome is not None and (found.evaluation is None or found.evaluation.outcome != expect.outcome):
        no_round = found.evaluation is None
        happened = _no_round(test, active) if no_round else f"the outcome is {found.evaluation.outcome}"  # type: ignore[union-attr]
        reasons.append(f"{happened}, expected {expect.outcome}")
    if expect.fired is not None and fired != expect.fired:
        reasons.append(f"fired: {_listed(fired)}, expected {_listed(expect.fired)}")
    if expect.actions is not None:
        expected = [_comparable(str(action["field"]), action.get("value")) for action in expect.actions]
        if actions != expected:
            reasons.append(f"actions: {_shown(actions)}, expected {_shown(expected)}")
            details.extend(_action_lines(expected, actions))
    if not reasons:
        return ()
    return ("; ".join(reasons), *details, *_Hints(test, found, file, active).lines())


# --- expected and found -----------------------------------------------------------------------------------------------


def _no_round(test: InlineTest, active: Iterable[Trigger]) -> str:
    waits = sorted({trigger.wait for trigger in active})
    if test.after not in waits:
        there = f": rounds are {listed(map(durations.render, waits))} after the lapse" if waits else ""
        return f"no active trigger has `wait: {durations.render(test.after)}`, so there is no round then{there}"
    return "the event is no lapse, so there is no round"


def _comparable(field: str, value: Any) -> tuple[str, Any]:
    """Return an action in a form that can be compared, however it was written."""
    field = ACTION_FIELD_ALIASES.get(field, field)
    if field in TAG_ACTIONS:
        return field, sorted(normal.words(value))
    if is_passed_on(field):
        return field, value
    value = normal.field_value(field, value)
    return field, value if value is None or isinstance(value, list) else normal.text(value)


def _action_lines(expected: Sequence[tuple[str, Any]], found: Sequence[tuple[str, Any]]) -> Iterator[str]:
    """Yield the differences in actions by field: expected actions that are missing, and the actions found instead."""
    wanted, got = _by_field(expected), _by_field(found)
    if wanted == got:
        order = ", ".join(field for field, _ in found)
        yield f"the same actions in another order: {order}"
        return
    yield "actions (- expected, + came instead):"
    for key in dict.fromkeys([*wanted, *got]):
        field, _ = key
        if key in wanted and key in got and wanted[key] == got[key]:
            yield f"    {field} = {value_text(wanted[key])}"
            continue
        if key in wanted:
            yield f"  - {field} = {value_text(wanted[key])}"
        if key in got:
            yield f"  + {field} = {value_text(got[key])}"


def _by_field(actions: Iterable[tuple[str, Any]]) -> Mapping[tuple[str, int], Any]:
    """Return values by field and occurrence: an action that is passed on may occur more than once."""
    found: dict[tuple[str, int], Any] = {}
    for field, value in actions:
        place = 0
        while (field, place) in found:
            place += 1
        found[field, place] = value
    return found


def _listed(ids: Sequence[str]) -> str:
    return ", ".join(ids) or "none"


def _shown(actions: Iterable[tuple[str, Any]]) -> str:
    return ", ".join(f"{field}={msgspec.json.encode(value).decode()}" for field, value in actions) or "none"


# --- why --------------------------------------------------------------------------------------------------------------

_NOBODY_ASKED = {
    RoundOutcome.CLOSED: "no trigger was asked: the ticket is closed",
    RoundOutcome.UNJOINED: "no trigger was asked: there is no ticket; give one under `given`",
    RoundOutcome.CANCELLED: "no trigger was asked: the round was cancelled before it was due",
    RoundOutcome.HISTORIC: "no trigger was asked: the lapse lies before `act_from`",
}


class _Hints:
    """Explains one failed test from the trace of its round's triggers."""

    def __init__(self, test: InlineTest, found: Found, file: TriggerFile, active: Sequence[Trigger]) -> None:
        self._test, self._found, self._file = test, found, file
        self._active = {trigger.id: trigger for trigger in active}
        self._trace = found.trace()
        traces = () if self._trace is None else (*self._trace.fired, *self._trace.not_fired)
        self._traces = {trace.trigger.id: trace for trace in traces}

    def lines(self) -> Iterator[str]:
        expected, ended = self._test.expect.fired, self._found.evaluation
        fired = () if ended is None else ended.triggers
        missing = [name for name in expected or () if name not in fired][:MAX_HINTS]
        if ended is not None and ended.outcome in _NOBODY_ASKED:
            yield _NOBODY_ASKED[ended.outcome]
        elif missing:
            for name in dict.fromkeys(missing):
                yield self._not_fired(name)
        elif expected is None and not fired and self._trace is not None and self._trace.not_fired:
            yield f"nearest to firing: {self._short(self._trace.not_fired[0])}"
        for name in [name for name in fired if expected is None or name not in expected][:MAX_HINTS]:
            yield self._fired(self._traces[name])
        if ended is not None and ended.outcome is RoundOutcome.NO_OP and self._test.expect.outcome is not None:
            yield "the ticket already has everything that the triggers would write"

    def _not_fired(self, name: str) -> str:
        trigger = self._active.get(name)
        if trigger is None:
            return f"{self._named(name)} is not active; `given: {{active: [{name}]}}` tries it out"
        if trigger.wait != self._test.after:
            wait = durations.render(trigger.wait)
            return f"{self._named(name)} waits {wait}: its round is the one with `after: {wait}`"
        if name not in self._traces:
            return f"{self._named(name)} was not asked: {_no_round(self._test, self._active.values())}"
        return self._short(self._traces[name])

    def _short(self, trace: TriggerTrace) -> str:
        """Return the conditions that did not hold, with the values they saw."""
        name = trace.trigger.id
        all_places, any_places = self._file.condition_places.get(name, ((), ()))
        missed = [self._saw(one, place) for one, place in zip(trace.all, all_places, strict=True) if not one.holds]
        if trace.any and not any(one.holds for one in trace.any):
            saw = ", ".join(self._saw(one, place) for one, place in zip(trace.any, any_places, strict=True))
            missed.append(f"none of its `any` conditions held ({saw})" if len(trace.any) > 1 else saw)
        held = len(trace.all) + bool(trace.any) - len(missed)
        others = f"; {held} other{'s' if held > 1 else ''} held" if held else ""
        return f"{self._named(name)} did not fire: {'; '.join(missed)}{others}"

    def _fired(self, trace: TriggerTrace) -> str:
        asked = (*trace.all, *trace.any)
        changed = {"tags" if one.condition.field == "current_tags" else one.condition.field for one in asked}
        earlier: list[str] = []
        for one in self._trace.fired if self._trace else ():
            if one.trigger.id == trace.trigger.id:
                break
            if changed & one.changes.keys():
                earlier.append(f"`{one.trigger.id[:60]}`")
        after = f", after {', '.join(earlier)} had changed the ticket" if earlier else ""
        return f"{self._named(trace.trigger.id)} fired: its condition{'s' * (len(asked) > 1)} held{after}"

    def _saw(self, one: ConditionTrace, place: At) -> str:
        seen = _quoted(one.now)
        if one.condition.operator in CHANGE_FAMILY:
            changed = not same(one.before, one.now)
            seen = f"{_quoted(one.before)} before and {seen} now" if changed else f"{seen}, unchanged"
        return f"`{condition_text(one.condition)}` (line {place.line}) saw {seen}"

    def _named(self, name: str) -> str:
        place = self._file.places.get(name)
        return f"`{name[:60]}`" if place is None else f"`{name[:60]}` (line {place.line})"


def _quoted(value: Any) -> str:
    text = value_text(value)
    return text if text == NO_VALUE else f"`{text}`"
