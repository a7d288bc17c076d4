"""Durations as people write them: `500ms`, `30s`, `5m`, `1h`, `30d`."""

from __future__ import annotations

import re

from streams.core.model import MILLISECOND, SECOND, Micros

UNITS: dict[str, Micros] = {
    "ms": MILLISECOND,
    "s": SECOND,
    "m": 60 * SECOND,
    "h": 3_600 * SECOND,
    "d": 86_400 * SECOND,
}
FORMS = "`500ms`, `30s`, `5m`, `1h`, `30d`"
PATTERN = r"(0|[0-9]{1,15}\s?(ms|s|m|h|d))"
"""What `parse` takes, as a regular expression that JSON Schema knows too."""

LONGEST: Micros = 3_650 * UNITS["d"]
"""Ten years: longer is a slip of the finger, and instants must stay within 64 bits."""

_DURATION = re.compile(PATTERN, re.ASCII)


class BadDuration(ValueError):
    """The text is no duration; the message says what is."""


def parse(text: str) -> Micros:
    """Return a duration in microseconds.

    Raises:
        BadDuration: no whole number, no unit (only `0` goes without), or more than ten years.

    >>> parse("500ms"), parse("30s"), parse("1h"), parse("0")
    (500000, 30000000, 3600000000, 0)
    """
    text = text.strip()
    found = _DURATION.fullmatch(text)
    if found is None:
        unit_missing = text.isascii() and text.isdigit()
        hint = f"; did you mean `{text}s`?" if unit_missing else ""
        raise BadDuration(f"`{text[:40]}` is not a duration: write a whole number and a unit, as in {FORMS}{hint}")
    if text == "0":
        return 0
    unit = found[2]
    duration = int(text[: -len(unit)]) * UNITS[unit]
    if duration > LONGEST:
        raise BadDuration(f"`{text}` is longer than ten years (3650d)")
    return duration


def render(duration: Micros) -> str:
    """Return the shortest spelling of a duration of whole milliseconds.

    >>> render(90_000_000), render(300_000_000), render(0), render(1_500_000)
    ('90s', '5m', '0s', '1500ms')
    """
    if duration == 0:
        return "0s"
    for unit in ("d", "h", "m", "s"):
        if duration % UNITS[unit] == 0:
            return f"{duration // UNITS[unit]}{unit}"
    return f"{duration // MILLISECOND}ms"
