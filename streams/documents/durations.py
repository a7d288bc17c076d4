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
"""The durations `parse` accepts, as a regular expression that JSON Schema also supports."""

LONGEST: Micros = 3_650 * UNITS["d"]
"""Ten years: anything longer is probably a typing error, and instants must fit in 64 bits."""

_DURATION = re.compile(PATTERN, re.ASCII)


class BadDuration(ValueError):
    """The text is not a duration; the message says what is accepted."""


def parse(text: str) -> Micros:
    """Return a duration in microseconds.

    Raises:
        BadDuration: not a whole number, no unit (only `0` may omit it), or more than ten years.

    >>> parse("500ms"), parse("30s"), parse("1h"), parse("0")
    (500000, 30000000, 3600000000, 0)
    """
    text = text.strip()
    found = _DURATION.fullmatch(text)
    if found is None:
        meant = _meant(text)
        hint = f"; did you mean `{meant}`?" if meant else ""
        raise BadDuration(f"`{text[:40]}` is not a duration: write a whole number and a unit, as in {FORMS}{hint}")
    if text == "0":
        return 0
    unit = found[2]
    duration = int(text[: -len(unit)]) * UNITS[unit]
    if duration > LONGEST:
        raise BadDuration(f"`{text}` is longer than ten years (3650d)")
    return duration


_UNIT_WORDS = {
    **dict.fromkeys(("ms", "msec", "msecs", "millis", "millisecond", "milliseconds"), UNITS["ms"]),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), UNITS["s"]),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), UNITS["m"]),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), UNITS["h"]),
    **dict.fromkeys(("d", "day", "days"), UNITS["d"]),
    **dict.fromkeys(("w", "week", "weeks"), 7 * UNITS["d"]),
}
_PART = re.compile(r"([0-9]{1,9})(?:\.([0-9]{1,3}))?\s*([a-z]*)\s*", re.ASCII)


def _meant(text: str) -> str | None:
    """Return the equivalent of another way of writing a duration; None when there is none.

    >>> [_meant(text) for text in ("30", "5 minutes", "1m30s", "PT1H", "1.5h", "00:05:00", "soon", "-5s", "1h30")]
    ['30s', '5m', '90s', '1h', '90m', None, None, None, None]
    """
    if text.isascii() and text.isdigit():
        return f"{text}s"
    rest = text.lower().removeprefix("pt")
    parts = list(_PART.finditer(rest))
    if not parts or "".join(part[0] for part in parts) != rest or not all(part[3] for part in parts[1:]):
        return None
    total = 0
    for whole, fraction, unit in (part.groups() for part in parts):
        if unit not in _UNIT_WORDS:
            return None
        scaled = int(whole + (fraction or "")) * _UNIT_WORDS[unit]
        total += scaled // 10 ** len(fraction or "")
    return render(total) if total <= LONGEST else None


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
