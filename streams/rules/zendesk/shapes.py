"""Reads exports that did not come directly from Zendesk's API.

Scripts in between may write numbers and flags as text (CSV), lists as objects with numbered keys (PHP), a list with one
entry as only that entry, and deeply nested values as the name of their type (PowerShell's `ConvertTo-Json`). Values
with only one possible meaning are read. For all others, the functions here say what they are, so that nothing is left
out silently.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

_CUT_BY_DEPTH = re.compile(r"^\s*@\{.*\}\s*$|\bSystem\.(Object\[\]|Collections\.|Management\.Automation\.)", re.DOTALL)
_TRUE = frozenset({"true", "1", "yes", "t", "y"})
_FALSE = frozenset({"false", "0", "no", "f", "n", ""})
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")

CUT = "cut off by PowerShell's `ConvertTo-Json`; export again with a larger `-Depth`, such as `-Depth 20`"


class Unreadable(ValueError):
    """A part that can't be read; the text says what was found instead."""


def is_cut(value: Any) -> bool:
    """Whether a text is a placeholder for what PowerShell left out.

    >>> is_cut("@{field=status; value=open}"), is_cut("System.Collections.Hashtable"), is_cut("open")
    (True, True, False)
    """
    return isinstance(value, str) and _CUT_BY_DEPTH.search(value) is not None


def holds_cut(value: Any) -> bool:
    """Whether a value, or anything nested in it, is a placeholder for what PowerShell left out."""
    if isinstance(value, list):
        return any(map(holds_cut, value))
    if isinstance(value, dict):
        return any(map(holds_cut, value.values()))
    return is_cut(value)


def entries(value: Any) -> list[Any]:
    """Return the entries of a list in any of its forms. Raises `Unreadable`.

    >>> entries({"0": "a", "2": "b"}), entries(None), entries({"field": "status"}), entries('["a"]')
    (['a', 'b'], [], [{'field': 'status'}], ['a'])
    """
    value = unwrapped(value)
    if value is None or value == "":
        return []
    if isinstance(value, list):
        return value
    if isinstance(value, dict):
        if not value:
            return []
        if all(key.isascii() and key.isdigit() for key in value):
            return [value[key] for key in sorted(value, key=int)]
        if "field" in value:
            return [value]
    raise Unreadable(what_it_is(value, "a list"))


def object_of(value: Any) -> dict[str, Any]:
    """Return an object, including one written as JSON in a text. Raises `Unreadable`."""
    value = unwrapped(value)
    if isinstance(value, dict):
        return value
    raise Unreadable(what_it_is(value, "an object"))


def unwrapped(value: Any) -> Any:
    """Return the content of a text that holds a JSON object or list, as in a cell of a CSV file; else the value."""
    if isinstance(value, str) and value.strip()[:1] in {"{", "["}:
        try:
            return json.loads(value, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            return value
    return value


def flag(value: Any) -> bool:
    """Read a flag, including one written as text or number. Raises `Unreadable`."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float) and value in (0, 1):
        return value == 1
    spelled = value.strip().lower() if isinstance(value, str) else None
    if spelled in _TRUE:
        return True
    if spelled in _FALSE:
        return False
    raise Unreadable(what_it_is(value, "true or false"))


def number(value: Any) -> int | float | None:
    """Read a number, including one written as text; None when there is none. Raises `Unreadable`."""
    if value is None or value == "":
        return None
    if isinstance(value, str) and len(value) <= 40 and _NUMBER.fullmatch(value.strip()):
        value = float(value) if "." in value else int(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and abs(value) < 2**63:
        return int(value) if float(value).is_integer() else value
    raise Unreadable(what_it_is(value, "a number"))


def text(value: Any) -> str:
    """Read a text, including one written as a number; an empty value is `""`. Raises `Unreadable`."""
    if value is None:
        return ""
    if isinstance(value, str) and not is_cut(value):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(int(value) if float(value).is_integer() else value)
    raise Unreadable(what_it_is(value, "a text"))


def what_it_is(value: Any, wanted: str) -> str:
    """Describe a value that was found where something else is wanted."""
    if is_cut(value):
        return f"it is the text {shown(value)}: {CUT}"
    kind = (
        "nothing" if value is None
        else "true or false" if isinstance(value, bool)
        else "a number" if isinstance(value, int | float)
        else "a text" if isinstance(value, str)
        else "a list" if isinstance(value, list)
        else "an object"
    )  # fmt: skip
    written = "" if value is None else f" ({shown(value)})"
    return f"it is {kind}{written}, not {wanted}"


def shown(value: Any) -> str:
    """Return a value for a message: on one line, cut to a readable length."""
    written = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"`{written[:60]}{'…' if len(written) > 60 else ''}`"


def _no_constant(name: str) -> Any:
    raise ValueError(name)
