"""The wall clock of the worker."""

from __future__ import annotations

import time
from collections.abc import Callable

from streams.core.model import Micros


class Clock:
    """Microseconds since the epoch, never decreasing: when the system clock is set back, this clock stands still.

    Fetch times are compared with each other. A clock that went back would delay records by the same amount.
    """

    def __init__(self, source: Callable[[], int] = time.time_ns) -> None:
        """Read `source`, nanoseconds since the epoch."""
        self._source = source
        self._latest: Micros = 0

    def __call__(self) -> Micros:
        """Return the current time."""
        self._latest = max(self._latest, self._source() // 1_000)
        return self._latest
