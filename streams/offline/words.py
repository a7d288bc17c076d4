"""Values, counts and commands as people read them."""

from __future__ import annotations

from collections.abc import Iterable

from streams.core.conditions import is_none
from streams.core.model import FieldValue, Value


def shown(value: Value) -> str:
    """Return a field's value.

    >>> shown(None), shown(["vip", "web"]), shown(True), shown(360)
    ('no value', '[vip, web]', 'true', '360')
    """
    if is_none(value):
        return "no value"
    if isinstance(value, list):
        return "[" + ", ".join(map(shown, value)) + "]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def counted(number: int, word: str, words: str | None = None) -> str:
    """Return a number with its noun.

    >>> counted(1, "pass", "passes"), counted(2, "pass", "passes"), counted(1200, "round")
    ('1 pass', '2 passes', '1,200 rounds')
    """
    return f"{number:,} {word if number == 1 else words or word + 's'}"


def acts(actions: Iterable[FieldValue]) -> str:
    """Return a command's actions on one line.

    >>> acts([FieldValue("status", "solved"), FieldValue("add_tags", ["a"])])
    'status = solved; add_tags = [a]'
    """
    return "; ".join(f"{action.field} = {shown(action.value)}" for action in actions)
