"""JSON in its one canonical form, RFC 8785: the same value gives the same bytes anywhere, so it can be hashed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

MAX_SAFE_INTEGER = 2**53 - 1


_quoted = json.JSONEncoder(ensure_ascii=False).encode
"""Escapes of RFC 8785: the two-letter ones where JSON has them, `\\u00xx` in lower case for other controls."""


def canonical_json(value: Any) -> bytes:
    """Return the canonical JSON of text, numbers, booleans, None, lists, tuples, and mappings with text keys.

    Raises:
        ValueError: a number that JSON can't carry exactly (NaN, infinities, integers beyond 2**53 - 1), or half a
            character (a lone surrogate).
        TypeError: anything that is not JSON.

    >>> canonical_json({"b": [1.0, 1e21, "ä"], "a": None})
    b'{"a":null,"b":[1,1e+21,"\\xc3\\xa4"]}'
    """
    parts: list[str] = []
    _write(value, parts)
    return "".join(parts).encode("utf-8")


def _write(value: Any, parts: list[str]) -> None:
    if value is None:
        parts.append("null")
    elif isinstance(value, bool):
        parts.append("true" if value else "false")
    elif isinstance(value, str):
        parts.append(_quoted(value))
    elif isinstance(value, int):
        if abs(value) > MAX_SAFE_INTEGER:
            raise ValueError(f"{value} is beyond the integers that JSON carries exactly")
        parts.append(str(value))
    elif isinstance(value, float):
        parts.append(_number(value))
    elif isinstance(value, Mapping):
        for index, key in enumerate(sorted(value, key=_utf16)):
            parts.append("," if index else "{")
            parts.append(_quoted(key))
            parts.append(":")
            _write(value[key], parts)
        parts.append("}" if value else "{}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            parts.append("," if index else "[")
            _write(item, parts)
        parts.append("]" if value else "[]")
    else:
        raise TypeError(f"{type(value).__name__} is not JSON")


def _utf16(key: str) -> bytes:
    """Order keys as RFC 8785 does: by UTF-16 code units."""
    if not isinstance(key, str):
        raise TypeError("keys of canonical JSON are texts")
    return key.encode("utf-16-be", "surrogatepass")


def _number(value: float) -> str:
    """Spell a double as ECMAScript does; Python finds the same shortest digits and places the point differently."""
    if value == 0:
        return "0"
    if value != value or value in (float("inf"), float("-inf")):  # noqa: PLR0124 -- NaN
        raise ValueError(f"{value} is not a number that JSON can carry")
    if 1e-6 <= abs(value) < 1e21:
        digits = format(Decimal(repr(value)), "f")
        return digits.rstrip("0").rstrip(".") if "." in digits else digits
    mantissa, exponent = repr(value).split("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent):+d}"
