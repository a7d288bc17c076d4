"""JSON in the canonical form of RFC 8785: the same value gives the same bytes everywhere, so it can be hashed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any

MAX_SAFE_INTEGER = 2**53 - 1


_quoted = json.encoder.encode_basestring
"""Escapes of RFC 8785: the two-character ones where JSON has them, `\\u00xx` in lower case for other controls."""


def canonical_json(value: Any) -> bytes:
    """Return the canonical JSON of text, numbers, booleans, None, lists, tuples, and mappings with text keys.

    Raises:
        ValueError: a number that JSON can't carry exactly (NaN, infinities, integers beyond 2**53 - 1), or a lone
            surrogate.
        TypeError: anything that is not JSON.

    >>> canonical_json({"b": [1.0, 1e21, "ä"], "a": None})
    b'{"a":null,"b":[1,1e+21,"\\xc3\\xa4"]}'
    """
    return _text(value).encode("utf-8")


def _text(value: Any) -> str:
    if isinstance(value, str):
        return _quoted(value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        if abs(value) > MAX_SAFE_INTEGER:
            raise ValueError(f"{value} is beyond the integers that JSON carries exactly")
        return str(value)
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_text, value))}]"
    if isinstance(value, Mapping):
        return f"{{{','.join([quoted + _text(value[key]) for key, quoted in _in_order(tuple(value))])}}}"
    if isinstance(value, float):
        return _number(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


@lru_cache(maxsize=256)  # thousands of triggers share a few sets of keys
def _in_order(keys: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return the keys of a mapping in canonical order, each with its text and colon."""
    return [(key, f"{_quoted(key)}:") for key in sorted(keys, key=_utf16)]


def _utf16(key: str) -> bytes:
    """Return the sort key of RFC 8785: UTF-16 code units."""
    if not isinstance(key, str):
        raise TypeError("keys of canonical JSON are texts")
    return key.encode("utf-16-be", "surrogatepass")


def _number(value: float) -> str:
    """Format a double as ECMAScript does; Python finds the same shortest digits but places the point differently."""
    if value == 0:
        return "0"
    if value != value or value in (float("inf"), float("-inf")):  # noqa: PLR0124 -- NaN
        raise ValueError(f"{value} is not a number that JSON can carry")
    if 1e-6 <= abs(value) < 1e21:
        digits = format(Decimal(repr(value)), "f")
        return digits.rstrip("0").rstrip(".") if "." in digits else digits
    mantissa, exponent = repr(value).split("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent):+d}"
