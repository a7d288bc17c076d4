"""Conversion of instants between text (RFC 3339) and the core's microseconds."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache

from streams.core.model import MILLISECOND, SECOND, Micros

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EARLIEST: Micros = -62_135_596_800 * SECOND
"""0001-01-01T00:00:00Z: earlier instants cannot be written as RFC 3339."""
LATEST: Micros = 253_402_300_800 * SECOND - 1
"""9999-12-31T23:59:59.999999Z: later instants cannot be written either."""

_DAY: Micros = 86_400 * SECOND
_EPOCH_DAY = date(1970, 1, 1).toordinal()

PATTERN = (
    r"^(?!0000)[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])[Tt ]"
    r"([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\.[0-9]+)?([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$"
)
"""RFC 3339 as a regular expression for the schemas: allows a space for `T`, lower-case letters, and leap seconds."""

_WRITTEN = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]+))?"
    r"(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))"
)
_MAX_HOUR, _MAX_MINUTE, _LEAP = 23, 59, 60


def micros(instant: datetime) -> Micros:
    """Return an aware datetime as microseconds since the epoch."""
    since = instant - EPOCH
    return (since.days * 86_400 + since.seconds) * SECOND + since.microseconds


def read(text: str) -> Micros | None:
    """Read RFC 3339 with an offset; None for anything else.

    Digits beyond microseconds are truncated, not rounded. A leap second counts as the last microsecond of its minute.

    >>> read("1970-01-01 00:00:00.0000019z"), read("1970-01-01T01:00:00+01:00"), read("1970-01-01T00:00:60Z")
    (1, 0, 59999999)
    >>> read("1970-01-01T00:00:00"), read("1970-02-30T00:00:00Z")
    (None, None)
    """
    written = _WRITTEN.fullmatch(text)
    if written is None:
        return None
    year, month, day, hour, minute, second = map(int, written.groups()[:6])
    fraction, sign, offset_hours, offset_minutes = written.groups()[6:]
    if hour > _MAX_HOUR or minute > _MAX_MINUTE or second > _LEAP:
        return None
    try:
        days = date(year, month, day).toordinal() - _EPOCH_DAY
    except ValueError:
        return None
    since = ((days * 24 + hour) * 60 + minute) * 60
    if sign is not None:
        if int(offset_hours) > _MAX_HOUR or int(offset_minutes) > _MAX_MINUTE:
            return None
        offset = (int(offset_hours) * 60 + int(offset_minutes)) * 60
        since += -offset if sign == "+" else offset
    if second == _LEAP:
        return (since + 60) * SECOND - 1
    return (since + second) * SECOND + int((fraction or "")[:6].ljust(6, "0"))


def text(instant: Micros) -> str:
    """Write an instant as RFC 3339 in UTC, with milliseconds only when they are not zero.

    The text can represent the years 1 to 9999; an instant outside them is written as the nearest one inside.

    >>> text(0), text(1_772_359_500_120_999), text(2**70)
    ('1970-01-01T00:00:00Z', '2026-03-01T10:05:00.120Z', '9999-12-31T23:59:59.999Z')
    """
    if not EARLIEST <= instant <= LATEST:
        instant = EARLIEST if instant < EARLIEST else LATEST
    millis = instant // MILLISECOND % 1000
    whole = _whole_seconds(instant // SECOND)
    return f"{whole}.{millis:03}Z" if millis else f"{whole}Z"


def in_zone(instant: Micros, zone: tzinfo) -> datetime:
    """Return an instant as a datetime in a time zone; at the ends of the calendar, the nearest one that exists."""
    within = min(max(instant, EARLIEST + _DAY), LATEST - _DAY)
    return (EPOCH + timedelta(microseconds=within)).astimezone(zone)


@lru_cache(maxsize=4096)  # events arrive in order, so the same seconds recur
def _whole_seconds(seconds: int) -> str:
    return (EPOCH + timedelta(seconds=seconds)).replace(tzinfo=None).isoformat()
