"""Conditions compiled to closures: SPEC section 4, *Fields*, *Operators*, *Before* and *now*.

A predicate takes two mappings from field to value: the ticket (or the session) before, and now. A field that is missing
from a mapping has no value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from operator import ge, gt, le, lt
from typing import Any, TypeAlias

from streams.core import normal
from streams.core.model import Value
from streams.core.triggers import CHANGE_FAMILY, ORDERING, PRIORITY_ORDER, STATUS_ORDER, Condition, Operator

Fields: TypeAlias = Mapping[str, Value]
Predicate: TypeAlias = Callable[[Fields, Fields], bool]

_RANKS = {
    "status": {name: rank for rank, name in enumerate(STATUS_ORDER)},
    "priority": {name: rank for rank, name in enumerate(PRIORITY_ORDER)},
}

_COMPARISONS: dict[Operator, Callable[[float, float], bool]] = {
    Operator.LESS_THAN: lt,
    Operator.GREATER_THAN: gt,
    Operator.LESS_THAN_EQUAL: le,
    Operator.GREATER_THAN_EQUAL: ge,
}

_NEGATED = {
    Operator.IS_NOT: Operator.IS,
    Operator.NOT_INCLUDES: Operator.INCLUDES,
    Operator.NOT_CHANGED: Operator.CHANGED,
    Operator.NOT_VALUE: Operator.VALUE,
    Operator.NOT_VALUE_PREVIOUS: Operator.VALUE_PREVIOUS,
    Operator.NOT_PRESENT: Operator.PRESENT,
}


_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)((?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)")
"""A number in JSON's grammar; the group holds its fraction and exponent."""

_MAX_DIGITS = 1000
"""Longer integers are compared as floats: Python refuses to parse very long ones, and a text may have up to 1 KiB."""


def compile_condition(condition: Condition) -> Predicate:
    """Return the predicate of one condition. The condition must have passed the checks of a trigger file."""
    field = "tags" if condition.field in normal.TAG_FIELDS else condition.field
    operator = condition.operator
    positive = _NEGATED.get(operator)
    if positive is not None:
        predicate = compile_condition(Condition(condition.field, positive, condition.value))
        return lambda before, now: not predicate(before, now)
    if operator is Operator.PRESENT:
        return lambda before, now: not is_none(now.get(field))
    if operator in ORDERING:
        return _ordering(field, operator, condition.value)
    if operator in CHANGE_FAMILY:
        return _change(field, operator, condition.value)
    if operator is Operator.INCLUDES:
        wanted = frozenset(normal.words(condition.value))
        return lambda before, now: not wanted.isdisjoint(_elements(now.get(field)))
    equals = matcher(condition.value)
    return lambda before, now: equals(now.get(field))


def is_none(value: Value) -> bool:
    """Whether a stored value is *no value*; an empty list (no tags) counts as no value."""
    return value is None or value == []


def same(left: Value, right: Value) -> bool:
    """Whether conditions and actions treat two values as equal: compared by text, lists element by element.

    >>> same(360, "360"), same(None, []), same(["a", 1], ["a", "1"]), same("a", ["a"])
    (True, True, True, False)
    """
    if is_none(left) or is_none(right):
        return is_none(left) and is_none(right)
    if isinstance(left, list) or isinstance(right, list):
        return (
            isinstance(left, list)
            and isinstance(right, list)
            and [normal.text(item) for item in left] == [normal.text(item) for item in right]
        )
    return normal.text(left) == normal.text(right)


def matcher(value: Any) -> Callable[[Value], bool]:
    """Return the test for `is`: equality by text, or membership when the condition's value is a list."""
    if isinstance(value, list):
        texts = frozenset(normal.text(item) for item in value if item is not None)
        accepts_none = None in value
        return lambda found: (
            accepts_none if is_none(found) else not isinstance(found, list) and normal.text(found) in texts
        )
    if value is None:
        return is_none
    wanted = normal.text(value)

    def equals(found: Value) -> bool:
        if isinstance(found, str):
            return found == wanted
        return found is not None and not isinstance(found, list) and normal.text(found) == wanted

    return equals


def number(value: Any) -> float | int | None:
    """Return a number, or a text in JSON's number grammar (ignoring surrounding spaces) as a number; otherwise None.

    >>> number("3"), number(" 2.5e0 "), number("high"), number(True), number("1_000"), number("+3"), number("NaN")
    (3, 2.5, None, None, None, None, None)
    """
    if isinstance(value, str):
        return _number_in(value)
    if isinstance(value, bool) or value is None or isinstance(value, list):
        return None
    return _real(value)


@lru_cache(maxsize=4096)  # all triggers that compare a field by order parse the same text
def _number_in(text: str) -> float | int | None:
    written = _NUMBER.fullmatch(text.strip())
    if written is None:
        return None
    whole = not written[1] and len(written[0]) <= _MAX_DIGITS
    return int(written[0]) if whole else float(written[0])


def _real(found: float) -> float | int | None:
    return found if found == found else None  # noqa: PLR0124 -- NaN orders with nothing


def rank(field: str, value: Any) -> float | int | None:
    """Return a value's rank in the order of its field; None when it has none."""
    ranks = _RANKS.get(field)
    if ranks is not None:
        return ranks.get(value) if isinstance(value, str) else None
    return number(value)


def _ordering(field: str, operator: Operator, value: Any) -> Predicate:
    bound = rank(field, value)
    if bound is None:
        return lambda before, now: False
    limit, compare = bound, _COMPARISONS[operator]

    def predicate(before: Fields, now: Fields) -> bool:
        found = rank(field, now.get(field))
        return found is not None and compare(found, limit)

    return predicate


def _change(field: str, operator: Operator, value: Any) -> Predicate:
    if operator is Operator.CHANGED:
        return lambda before, now: not same(before.get(field), now.get(field))
    equals = matcher(value)
    if operator is Operator.VALUE:
        return lambda before, now: equals(now.get(field)) and not same(before.get(field), now.get(field))
    return lambda before, now: equals(before.get(field)) and not same(before.get(field), now.get(field))


def _elements(value: Value) -> list[str]:
    """Return the elements that `includes` searches: those of a list, or a scalar as a list of one."""
    if isinstance(value, list):
        return [item if isinstance(item, str) else normal.text(item) for item in value]
    return [] if value is None else [normal.text(value)]
