"""Conditions and values as messages show them."""

from __future__ import annotations

from typing import Any

import msgspec

from streams.core.triggers import WITHOUT_VALUE, Condition
from streams.rules.reference import OPERATORS

NO_VALUE = "no value"
MAX_LENGTH = 80


def condition_text(condition: Condition) -> str:
    """Return a condition on one line, with the operator's plainest spelling.

    >>> from streams.core.triggers import Operator
    >>> condition_text(Condition("status", Operator.IS, ["new", "open"]))
    'status is new or open'
    >>> condition_text(Condition("priority", Operator.VALUE, "low"))
    'priority changed_to low'
    """
    aliases = OPERATORS[condition.operator].aliases
    operator = aliases[0] if aliases else condition.operator.value
    if condition.operator in WITHOUT_VALUE:
        return f"{condition.field} {operator}"
    value = condition.value
    shown = " or ".join(map(value_text, value)) if isinstance(value, list) else value_text(value)
    text = f"{condition.field} {operator} {shown}"
    return text if len(text) <= MAX_LENGTH else f"{text[: MAX_LENGTH - 1]}…"


def value_text(value: Any) -> str:
    """Return a value as written in a file; *no value* in words.

    >>> value_text(None), value_text("open"), value_text(["a", "b"]), value_text(True), value_text("")
    ('no value', 'open', '["a","b"]', 'true', 'no value')
    """
    if value is None or value in ([], ""):
        return NO_VALUE
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
