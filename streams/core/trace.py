"""Why a round ended as it did: every trigger, every condition, the value that each of them saw.

A round is run again, by the same rules and cycle that ran it, and watched. The engine itself keeps no trace; what a
trace needs (the lapse, and the ticket's row before the round) stands in the round's `Evaluation`.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from streams.core import normal
from streams.core.actions import WorkingCopy
from streams.core.conditions import Fields, compile_condition
from streams.core.cycle import Rules, session_context
from streams.core.model import FieldValue, Lapse, Micros, Value
from streams.core.triggers import Condition, Trigger


class ConditionTrace(msgspec.Struct, frozen=True):
    """One condition as it was asked: the field's value before the round and at that moment."""

    condition: Condition
    before: Value
    now: Value
    holds: bool


class TriggerTrace(msgspec.Struct, frozen=True):
    """One trigger as it was asked: when it fired, else the last time that it was asked."""

    trigger: Trigger
    all: tuple[ConditionTrace, ...]
    any: tuple[ConditionTrace, ...]
    fired_in_pass: int | None = None
    changes: Mapping[str, tuple[Value, Value]] = {}
    """What firing did to the working copy: field to (value before, value after)."""

    @property
    def short(self) -> int:
        """How many conditions it was short of matching; the `any` conditions together count as one."""
        return sum(not one.holds for one in self.all) + (bool(self.any) and not any(one.holds for one in self.any))


class RoundTrace(msgspec.Struct, frozen=True):
    """One run of the cycle."""

    fired: tuple[TriggerTrace, ...]
    """In firing order."""
    not_fired: tuple[TriggerTrace, ...]
    """Near misses first: by conditions short, then in the order in which they are asked."""
    passes: int
    """How often the cycle went through the triggers, the last time without a change."""
    actions: tuple[FieldValue, ...]
    """The net effect, which is what a command carries; empty when there would be none."""


def trace_round(rules: Rules, wait: Micros, lapse: Lapse, row: Fields) -> RoundTrace:
    """Run the round of `wait` of a lapse on a ticket whose fields were `row`, and say what every trigger saw.

    Right for rounds that were evaluated; one that was cancelled, unjoined, closed or historic asked no trigger, and
    this is what it would have been.
    """
    triggers = rules.of_wait(wait)
    before_session, now_session = session_context(lapse)
    before = {**row, **before_session}
    copy = WorkingCopy(row)

    def asked(trigger: Trigger, ticket: Fields) -> TriggerTrace:
        now = {**ticket, **now_session}
        return TriggerTrace(
            trigger,
            tuple(_ask(condition, before, now) for condition in trigger.all),
            tuple(_ask(condition, before, now) for condition in trigger.any),
        )

    fired: list[TriggerTrace] = []
    traces: dict[str, TriggerTrace] = {}
    passes, start, seen = 1, 0, dict(copy.now)
    for firing in rules.firings(wait, lapse, copy):
        place = triggers.index(firing.trigger)
        for trigger in triggers[start : place + 1]:
            traces[trigger.id] = asked(trigger, seen)
        changes = {
            field: (seen.get(field), copy.now.get(field))
            for field in {**seen, **copy.now}
            if seen.get(field) != copy.now.get(field)
        }
        trace = msgspec.structs.replace(traces.pop(firing.trigger.id), fired_in_pass=firing.cycle_pass, changes=changes)
        fired.append(trace)
        restarts = firing.changed and rules.restarts
        passes, start, seen = firing.cycle_pass + restarts, 0 if restarts else place + 1, dict(copy.now)
    done = {trace.trigger.id for trace in fired}
    for trigger in triggers[start:]:
        traces[trigger.id] = asked(trigger, seen)
    not_fired = [traces[trigger.id] for trigger in triggers if trigger.id not in done]
    return RoundTrace(
        tuple(fired), tuple(sorted(not_fired, key=lambda trace: trace.short)), passes, copy.net() if fired else ()
    )


def _ask(condition: Condition, before: Fields, now: Fields) -> ConditionTrace:
    field = "tags" if condition.field in normal.TAG_FIELDS else condition.field
    return ConditionTrace(condition, before.get(field), now.get(field), compile_condition(condition)(before, now))
