"""JSON that msgspec does not read as RFC 8259 has it.

Two things are missing there: the escape of half a surrogate pair is valid text, and a number keeps more digits than a
float does. Records that have neither never come here.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any

_ESCAPES = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"  # a pair
    rb"|\\u[dD][89a-fA-F][0-9a-fA-F]{2}"  # half a pair
    rb"|\\."
)
"""Whole pairs first, then halves, then every other escape, so that a backslash that is escaped starts nothing."""

_REPLACEMENT = rb"\ufffd"

MAX_DIGITS = 1000
"""Integers with more digits are kept as text: Python refuses to convert very long ones."""

MAX_EXPONENT = 40
"""A number with a larger exponent is no id, whatever its fraction."""


class Written(float):
    """A number with a fraction or an exponent, with the text that it was read from."""

    text: str

    def __new__(cls, text: str) -> Written:
        """Read `text`, which is a number by JSON's grammar."""
        made = super().__new__(cls, text)
        made.text = text
        return made


def mend(value: bytes) -> bytes:
    r"""Return JSON text with U+FFFD in place of each half of a surrogate pair; the length stays.

    >>> mend(rb'"\ud83d"'), mend(rb'"\ud83d\ude00"'), mend(rb'"\\ud83d"')
    (b'"\\ufffd"', b'"\\ud83d\\ude00"', b'"\\\\ud83d"')
    """
    return _ESCAPES.sub(_mended, value)


def _mended(escape: re.Match[bytes]) -> bytes:
    return _REPLACEMENT if len(escape[0]) == len(_REPLACEMENT) else escape[0]


def loads(value: bytes) -> Any:
    """Read JSON text with numbers as they are written. Raises ValueError that says what is wrong with it."""
    try:
        text = mend(value).decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start + 1} is not UTF-8") from None
    return json.loads(text, parse_float=Written, parse_int=_integer, parse_constant=_refuse)


def whole(value: Any) -> Any:
    """Return a number with a fraction of nothing as the integer that it is, anything else as it came.

    >>> whole(Written("9007199254740993.0")), whole("360.0"), whole(1.5)
    (9007199254740993, '360.0', 1.5)
    """
    if not isinstance(value, Written):
        return value
    exact = Decimal(value.text) if abs(value) < 10.0**MAX_EXPONENT else None
    return int(exact) if exact is not None and exact == exact.to_integral_value() else value


def plain(value: Any) -> Any:
    """Return a value that `loads` returned, with plain floats; numbers that no float holds become their text."""
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
