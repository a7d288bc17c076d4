"""Instants between text (RFC 3339) and the core's microseconds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache

from streams.core.model import MILLISECOND, SECOND, Micros

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EARLIEST: Micros = -62_135_596_800 * SECOND
"""0001-01-01T00:00:00Z: what lies before cannot be written as RFC 3339 again."""


def micros(instant: datetime) -> Micros:
    """Return an aware datetime as microseconds since the epoch."""
    since = instant - EPOCH
    return (since.days * 86_400 + since.seconds) * SECOND + since.microseconds


def text(instant: Micros) -> str:
    """Write an instant as RFC 3339, UTC, with milliseconds only when they are not zero.

    >>> text(0), text(1_772_359_500_120_999)
    ('1970-01-01T00:00:00Z', '2026-03-01T10:05:00.120Z')
    """
    millis = instant // MILLISECOND % 1000
    whole = _whole_seconds(instant // SECOND)
    return f"{whole}.{millis:03}Z" if millis else f"{whole}Z"


@lru_cache(maxsize=4096)  # events come in order: the same seconds again and again
def _whole_seconds(seconds: int) -> str:
    return (EPOCH + timedelta(seconds=seconds)).replace(tzinfo=None).isoformat()
