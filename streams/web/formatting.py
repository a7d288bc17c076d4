"""Figures and times as the pages show them."""

from __future__ import annotations

import math
from datetime import UTC, datetime


def percent(ratio: float | None) -> str:
    """Format a ratio as a percentage, – for None.

    >>> percent(0.125), percent(None)
    ('12.5 %', '–')
    """
    return "–" if ratio is None else f"{100 * ratio:.1f} %"


def clock(seconds: float) -> str:
    """Format as hour and minute, UTC.

    >>> clock(45_000)
    '12:30'
    """
    return datetime.fromtimestamp(seconds, UTC).strftime("%H:%M")


def moment(seconds: float, now: float) -> str:
    """Format as time of day, UTC, with the date unless it is today.

    >>> moment(45_000.9, 50_000), moment(45_000, 90_000)
    ('12:30:00', '01-01 12:30:00')
    """
    then = datetime.fromtimestamp(seconds, UTC)
    today = then.date() == datetime.fromtimestamp(now, UTC).date()
    return then.strftime("%H:%M:%S" if today else "%m-%d %H:%M:%S")


def age(seconds: float) -> str:
    """Format a duration in the unit that gives the shortest text.

    >>> age(0.34), age(90), age(600), age(9_000), age(200_000)
    ('0.4 s', '90 s', '10 min', '2.5 h', '2.3 days')
    """
    if seconds < 10:
        return f"{math.ceil(10 * max(seconds, 0)) / 10:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7_200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3_600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} days"


def left(seconds: float) -> str:
    """Format the time until something is due.

    >>> left(-0.1), left(0.2), left(61)
    ('now', 'in 1 s', 'in 61 s')
    """
    return "now" if seconds <= 0 else f"in {age(seconds) if seconds >= 10 else f'{math.ceil(seconds)} s'}"
