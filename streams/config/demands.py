"""What the conditions of a trigger demand of each field, as sets of values: enough to see that two demands clash.

Knows what holds in every round: the session has just become inactive, the update is a change, the ticket is not
closed, and a field of the ticket changes only by another trigger's action.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from streams.config.reference import STATE_FIELD, UPDATE_FIELD, condition_field
from streams.core import normal
from streams.core.triggers import ORDERING, Condition, Operator

Text: TypeAlias = str | None
"""A value as `is` compares it; None is *no value*."""

CHANGED = frozenset({Operator.CHANGED, Operator.VALUE, Operator.VALUE_PREVIOUS})
"""Operators that are false while a field is as it was."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What may stand in a field: one of `allowed` (anything when None) but none of `excluded`."""

    allowed: frozenset[Text] | None = None
    excluded: frozenset[Text] = frozenset()

    def __and__(self, other: Demand) -> Demand:
        """Return what satisfies both."""
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
_BEFORE_EVERY_LAPSE = Demand(excluded=frozenset({"inactive", "ended"}))


def text_of(value: Any) -> Text:
    """Return a trigger's value as it is compared."""
    return None if value is None else normal.text(value)


def values_of(condition: Condition) -> frozenset[Text]:
    """Return the values a condition names."""
    value = condition.value
    return frozenset(map(text_of, value)) if isinstance(value, list) else frozenset((text_of(value),))


def demand_now(condition: Condition) -> Demand:
    """Return what a condition demands of its field's value now; nothing when that can't be said in sets."""
    operator = condition.operator
    if operator in (Operator.IS, Operator.VALUE):
        return Demand(values_of(condition))
    if operator is Operator.IS_NOT:
        return Demand(excluded=values_of(condition))
    if operator is Operator.PRESENT:
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
    """Return what all of `conditions` demand together, field by field, on top of what is `given`."""
    demands = dict(given)
    for condition in conditions:
        demand = demand_now(condition)
        if demand is not ANYTHING:
            demands[condition.field] = demands.get(condition.field, ANYTHING) & demand
    return demands


def clash(conditions: Iterable[Condition], *, status_is_written: bool) -> str | None:
    """Return, in a sentence, why these conditions can't hold together in any round; None when they may.

    `status_is_written`: whether another trigger may set the status, even to closed, earlier in the round.
    """
    conditions = list(conditions)
    for name, demand in demands_now(conditions, {}).items():
        if demand.is_impossible:
            return f"the conditions on `{name}` exclude each other"
        given = ANYTHING if name == "status" and status_is_written else IN_EVERY_ROUND.get(name, ANYTHING)
        if (demand & given).is_impossible:
            return _ALWAYS[name]
    by_field: dict[str, list[Condition]] = {}
    for condition in conditions:
        by_field.setdefault(condition.field, []).append(condition)
    return next((why for name, group in by_field.items() if (why := _clash_of_change(name, group)) is not None), None)


_ALWAYS = {
    STATE_FIELD: f"in a round `{STATE_FIELD}` is always `inactive`: rounds begin when a session becomes inactive",
    UPDATE_FIELD: f"`{UPDATE_FIELD}` is always `change`: a session changes on a ticket that exists",
    "status": "no trigger fires on a closed ticket",
}


def _clash_of_change(name: str, conditions: list[Condition]) -> str | None:
    """Return why conditions on one field clash over what it was before, or over its words."""
    before = _BEFORE_EVERY_LAPSE if name == STATE_FIELD else ANYTHING
    includes: set[Text] = set()
    not_includes: set[Text] = set()
    operators = {condition.operator for condition in conditions}
    changed_to: frozenset[Text] | None = None
    for condition in conditions:
        if condition.operator is Operator.VALUE_PREVIOUS:
            before &= Demand(values_of(condition))
        elif condition.operator is Operator.VALUE:
            changed_to = values_of(condition)
        elif condition.operator is Operator.NOT_INCLUDES:
            not_includes |= values_of(condition)
        elif name == STATE_FIELD and condition.operator is Operator.NOT_VALUE and "inactive" in values_of(condition):
            return _ALWAYS[STATE_FIELD]
    for condition in conditions:
        if condition.operator is Operator.INCLUDES:
            includes = set(values_of(condition))
            if includes <= not_includes:
                return f"the conditions on `{name}` exclude each other"
    if before.is_impossible:
        if name == STATE_FIELD:
            return f"before a lapse `{STATE_FIELD}` is never `inactive` or `ended`"
        return f"the conditions on `{name}` exclude each other"
    if Operator.NOT_CHANGED in operators and (operators & CHANGED or name == STATE_FIELD):
        return f"`{name}` would have to change and not to change"
    if changed_to is not None and len(changed_to) == 1 and before.allowed == changed_to:
        return f"`{name}` would have to change to the value that it has already"
    return None
