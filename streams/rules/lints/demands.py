"""What the conditions of a trigger demand of each field, as sets of values: enough to detect that two demands clash.

This uses what holds in every round: the session has just become inactive, the update is a change, the ticket is not
closed, and a field of the ticket changes only through another trigger's action.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from streams.core import normal
from streams.core.conditions import number
from streams.core.names import REASON_FIELD, STATE_FIELD, UPDATE_FIELD
from streams.core.triggers import ORDERING, Condition, Operator
from streams.rules.reference import condition_field

Text: TypeAlias = str | None
"""A value as `is` compares it; None is *no value*."""

CHANGED = frozenset({Operator.CHANGED, Operator.VALUE, Operator.VALUE_PREVIOUS})
"""Operators that are false while a field is unchanged."""


@dataclass(frozen=True, slots=True)
class Demand:
    """The values a field may have: one of `allowed` (any value when None) but none of `excluded`."""

    allowed: frozenset[Text] | None = None
    excluded: frozenset[Text] = frozenset()

    def __and__(self, other: Demand) -> Demand:
        """Return the demand that satisfies both."""
        if self.allowed is None or other.allowed is None:
            allowed = self.allowed if other.allowed is None else other.allowed
        else:
            allowed = self.allowed & other.allowed
        excluded = self.excluded | other.excluded
        return Demand(None if allowed is None else allowed - excluded, excluded)

    @property
    def is_impossible(self) -> bool:
        """Whether nothing satisfies it."""
        return self.allowed is not None and not self.allowed

    def admits(self, value: Text) -> bool:
        """Whether `value` satisfies it."""
        return value not in self.excluded and (self.allowed is None or value in self.allowed)


Demands: TypeAlias = Mapping[str, Demand]

ANYTHING = Demand()
IN_EVERY_ROUND: Demands = {
    STATE_FIELD: Demand(frozenset({"inactive"})),
    UPDATE_FIELD: Demand(frozenset({"change"})),
    "status": Demand(excluded=frozenset({"closed"})),
}
_BEFORE_EVERY_LAPSE = {
    STATE_FIELD: Demand(excluded=frozenset({"inactive", "ended"})),
    REASON_FIELD: Demand(frozenset({None})),  # only an inactive session has a reason
}


def text_of(value: Any) -> Text:
    """Return a trigger's value in the form used for comparison."""
    return None if value is None else normal.text(value)


def values_of(condition: Condition) -> frozenset[Text]:
    """Return the values a condition names."""
    value = condition.value
    return frozenset(map(text_of, value)) if isinstance(value, list) else frozenset((text_of(value),))


def demand_now(condition: Condition) -> Demand:
    """Return what a condition demands of its field's current value; no demand when it can't be expressed as sets."""
    operator = condition.operator
    if operator in (Operator.IS, Operator.VALUE):
        return Demand(values_of(condition))
    if operator is Operator.IS_NOT:
        return Demand(excluded=values_of(condition))
    if operator in (Operator.PRESENT, Operator.INCLUDES):
        return Demand(excluded=frozenset({None}))
    if operator is Operator.NOT_PRESENT:
        return Demand(frozenset({None}))
    order = condition_field(condition.field).order
    if operator in ORDERING and condition.value in order:
        at = order.index(condition.value)
        return Demand(
            frozenset(
                {
                    Operator.LESS_THAN: order[:at],
                    Operator.LESS_THAN_EQUAL: order[: at + 1],
                    Operator.GREATER_THAN: order[at + 1 :],
                    Operator.GREATER_THAN_EQUAL: order[at:],
                }[operator]
            )
        )
    return ANYTHING


def demands_now(conditions: Iterable[Condition], given: Demands) -> dict[str, Demand]:
    """Return what all of `conditions` demand together, by field, in addition to `given`."""
    demands = dict(given)
    for condition in conditions:
        demand = demand_now(condition)
        if demand is not ANYTHING:
            known = demands.get(condition.field)
            demands[condition.field] = demand if known is None else known & demand
    return demands


def clash(conditions: Iterable[Condition], *, may_be_closed: bool) -> str | None:
    """Return a sentence that explains why these conditions can't hold together in any round; None when they may.

    `may_be_closed`: whether another trigger may close the ticket earlier in the round.
    """
    conditions = list(conditions)
    for name, demand in demands_now(conditions, {}).items():
        if demand.is_impossible:
            return f"the conditions on `{name}` exclude each other"
        given = IN_EVERY_ROUND.get(name) if name != "status" or not may_be_closed else None
        if given is not None and (demand & given).is_impossible:
            return _ALWAYS[name]
    by_field: dict[str, list[Condition]] = {}
    for condition in conditions:
        by_field.setdefault(condition.field, []).append(condition)
    for name, group in by_field.items():
        if len(group) == 1 and name not in _BEFORE_EVERY_LAPSE:
            continue  # nothing to clash with
        why = _clash_of_change(name, group)
        if why is not None:
            return why
        if not condition_field(name).order and _clash_of_numbers(group):
            return f"the conditions on `{name}` exclude each other"
    return None


_ALWAYS = {
    STATE_FIELD: f"in a round `{STATE_FIELD}` is always `inactive`: rounds begin when a session becomes inactive",
    UPDATE_FIELD: f"`{UPDATE_FIELD}` is always `change`: a session changes on a ticket that exists",
    "status": "no trigger fires on a closed ticket",
}


def _clash_of_change(name: str, conditions: list[Condition]) -> str | None:
    """Return why conditions on one field clash over its previous value, or over its words."""
    operators = {condition.operator for condition in conditions}
    changes = bool(operators & CHANGED) or name == STATE_FIELD
    now = demands_now(conditions, IN_EVERY_ROUND if name == STATE_FIELD else {}).get(name, ANYTHING)
    before = _BEFORE_EVERY_LAPSE.get(name, ANYTHING)
    not_includes: set[Text] = set()
    for condition in conditions:
        values = values_of(condition)
        if condition.operator is Operator.VALUE_PREVIOUS:
            before &= Demand(values)
        elif condition.operator is Operator.NOT_VALUE_PREVIOUS and changes:
            before &= Demand(excluded=values)
        elif condition.operator is Operator.NOT_VALUE and changes:
            if name == STATE_FIELD and "inactive" in values:
                return _ALWAYS[STATE_FIELD]
            now &= Demand(excluded=values)
        elif condition.operator is Operator.NOT_INCLUDES:
            not_includes |= values
    for condition in conditions:
        if condition.operator is Operator.INCLUDES and values_of(condition) <= not_includes:
            return f"the conditions on `{name}` exclude each other"
    if Operator.NOT_CHANGED in operators and changes:
        return f"`{name}` would have to change and not to change"
    if now.is_impossible or before.is_impossible:
        if name == STATE_FIELD:
            return f"before a lapse `{STATE_FIELD}` is never `inactive` or `ended`"
        if name == REASON_FIELD and before.is_impossible:
            return f"before a lapse a session has no `{REASON_FIELD}`: what it became inactive for is what it has now"
        return f"the conditions on `{name}` exclude each other"
    if changes and now.allowed is not None and len(now.allowed) == 1 and before.allowed == now.allowed:
        return f"`{name}` would have to change to the value that it has already"
    return None


def _clash_of_numbers(conditions: list[Condition]) -> bool:
    """Whether no number satisfies all ordering operators on one field, or none of the allowed values does."""
    bounds = [condition for condition in conditions if condition.operator in ORDERING]
    if not bounds:
        return False
    lowest, highest = -math.inf, math.inf
    for condition in bounds:
        bound = condition.value
        if condition.operator in (Operator.GREATER_THAN, Operator.GREATER_THAN_EQUAL):
            lowest = max(lowest, bound)
        else:
            highest = min(highest, bound)
    strictly = any(
        condition.operator in (Operator.GREATER_THAN, Operator.LESS_THAN) and condition.value in (lowest, highest)
        for condition in bounds
    )
    if lowest > highest or (lowest == highest and strictly):
        return True
    allowed = demands_now(conditions, {}).get(conditions[0].field, ANYTHING).allowed
    return allowed is not None and not any(
        (found := number(value)) is not None and all(_within(found, condition) for condition in bounds)
        for value in allowed
    )


def _within(found: float, condition: Condition) -> bool:
    if condition.operator is Operator.LESS_THAN:
        return bool(found < condition.value)
    if condition.operator is Operator.LESS_THAN_EQUAL:
        return bool(found <= condition.value)
    if condition.operator is Operator.GREATER_THAN:
        return bool(found > condition.value)
    return bool(found >= condition.value)
