"""Reads JSON that msgspec does not handle as RFC 8259 requires.

There are two such cases: the escape of a lone surrogate is valid text, and a number may have more digits than a float
can hold. Records with neither are never read by this module.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any

_ESCAPES = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"  # a surrogate pair
    rb"|\\u[dD][89a-fA-F][0-9a-fA-F]{2}"  # a lone surrogate
    rb"|\\."
)
"""Pairs first, then lone surrogates, then every other escape, so that an escaped backslash does not start one."""

_REPLACEMENT = rb"\ufffd"

MAX_DIGITS = 1000
"""Integers with more digits are kept as text, because Python refuses to convert very long ones."""

MAX_EXPONENT = 40
"""A number with a larger exponent is not an id, whatever its fraction."""


class Written(float):
    """A number with a fraction or an exponent, which keeps the text it was read from."""

    text: str

    def __new__(cls, text: str) -> Written:
        """Read `text`, which must be a number in JSON's grammar."""
        made = super().__new__(cls, text)
        made.text = text
        return made


def mend(value: bytes) -> bytes:
    r"""Return JSON text with each lone surrogate's escape replaced by that of U+FFFD; the length stays the same.

    >>> mend(rb'"\ud83d"'), mend(rb'"\ud83d\ude00"'), mend(rb'"\\ud83d"')
    (b'"\\ufffd"', b'"\\ud83d\\ude00"', b'"\\\\ud83d"')
    """
    return _ESCAPES.sub(_mended, value)


def _mended(escape: re.Match[bytes]) -> bytes:
    return _REPLACEMENT if len(escape[0]) == len(_REPLACEMENT) else escape[0]


def loads(value: bytes) -> Any:
    """Read JSON text, keeping numbers as written. Raises a ValueError that says what is wrong with the text."""
    try:
        text = mend(value).decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start + 1} is not UTF-8") from None
    return json.loads(text, parse_float=Written, parse_int=_integer, parse_constant=_refuse)


def whole(value: Any) -> Any:
    """Return a number with a zero fraction as an integer, anything else unchanged.

    >>> whole(Written("9007199254740993.0")), whole("360.0"), whole(1.5)
    (9007199254740993, '360.0', 1.5)
    """
    if not isinstance(value, Written):
        return value
    exact = Decimal(value.text) if abs(value) < 10.0**MAX_EXPONENT else None
    return int(exact) if exact is not None and exact == exact.to_integral_value() else value


def plain(value: Any) -> Any:
    """Convert a value from `loads` to one with plain floats; numbers that no float can hold become text."""
    if isinstance(value, Written):
        number = float(value)
        return value.text if number in (float("inf"), float("-inf")) else number
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    return value


def _integer(text: str) -> int | str:
    return int(text) if len(text) <= MAX_DIGITS else text


def _refuse(name: str) -> Any:
    raise ValueError(f"`{name}` is not JSON")
