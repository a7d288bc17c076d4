"""Explains the outcome of a round: every trigger, every condition, and the value that each condition was given.

The round is run again with the same rules and the same cycle, and the run is recorded. The engine itself keeps no
trace; the input that a trace needs (the lapse, and the ticket's row before the round) is in the round's `Evaluation`.
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
    """One condition as evaluated: the field's value before the round and at the time of evaluation."""

    condition: Condition
    before: Value
    now: Value
    holds: bool


class TriggerTrace(msgspec.Struct, frozen=True):
    """One trigger as evaluated when it fired or, if it did not fire, at its last evaluation."""

    trigger: Trigger
    all: tuple[ConditionTrace, ...]
    any: tuple[ConditionTrace, ...]
    fired_in_pass: int | None = None
    changes: Mapping[str, tuple[Value, Value]] = {}
    """Changes of the working copy when it fired: field to (value before, value after)."""

    @property
    def short(self) -> int:
        """Number of conditions that did not hold; the `any` conditions together count as one."""
        return sum(not one.holds for one in self.all) + (bool(self.any) and not any(one.holds for one in self.any))


class RoundTrace(msgspec.Struct, frozen=True):
    """One run of the cycle."""

    fired: tuple[TriggerTrace, ...]
    """In firing order."""
    not_fired: tuple[TriggerTrace, ...]
    """Nearest misses first: by the number of conditions that did not hold, then in evaluation order."""
    passes: int
    """Number of passes of the cycle through the triggers; the last pass makes no change."""
    actions: tuple[FieldValue, ...]
    """The net effect, which a command carries; empty when there is no command."""


def trace_round(rules: Rules, wait: Micros, lapse: Lapse, row: Fields) -> RoundTrace:
    """Run the round of `wait` of a lapse on a ticket whose fields were `row`, and return the trace of every trigger.

    The trace is exact for rounds that were evaluated. A round that was cancelled, unjoined, closed or historic
    evaluated no trigger; for it the trace shows what an evaluation would have given.
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
