"""A round's trace in a form for tools: the output of `lapse explain --json` and of the web API."""

from __future__ import annotations

from typing import Any

from streams.core.model import MILLISECOND
from streams.core.trace import ConditionTrace, RoundTrace, TriggerTrace


def round_trace(trace: RoundTrace) -> dict[str, Any]:
    """Return `{"passes", "fired": [trigger], "not_fired": [trigger, nearest miss first], "actions"}`.

    A trigger is `{"id", "title", "wait_ms", "short", "pass", "conditions", "changes"}`: `short` counts the conditions
    that did not hold, `pass` is null when it did not fire, `changes` gives the changes from firing, by field.
    """
    return {
        "passes": trace.passes,
        "fired": [_trigger(one) for one in trace.fired],
        "not_fired": [_trigger(one) for one in trace.not_fired],
        "actions": [{"field": action.field, "value": action.value} for action in trace.actions],
    }


def _trigger(trace: TriggerTrace) -> dict[str, Any]:
    return {
        "id": trace.trigger.id,
        "title": trace.trigger.title,
        "wait_ms": trace.trigger.wait // MILLISECOND,
        "short": trace.short,
        "pass": trace.fired_in_pass,
        "conditions": [
            *(_condition("all", one) for one in trace.all),
            *(_condition("any", one) for one in trace.any),
        ],
        "changes": {field: {"from": before, "to": after} for field, (before, after) in trace.changes.items()},
    }


def _condition(group: str, trace: ConditionTrace) -> dict[str, Any]:
    """Return a condition: `before` and `now` are its field's values before the round and when it was evaluated."""
    condition = trace.condition
    return {
        "group": group,
        "field": condition.field,
        "operator": condition.operator.value,
        "value": condition.value,
        "before": trace.before,
        "now": trace.now,
        "holds": trace.holds,
    }
