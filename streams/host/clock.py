"""The wall clock of the worker."""

from __future__ import annotations

import time
from collections.abc import Callable

from streams.core.model import Micros


class Clock:
    """Microseconds since the epoch that never go back: a clock that is set back stands still until it has caught up.

    Instants of fetches are compared with each other; one that goes back would hold records for as long as it went.
    """

    def __init__(self, source: Callable[[], int] = time.time_ns) -> None:
        """Read `source`, nanoseconds since the epoch."""
        self._source = source
        self._latest: Micros = 0

    def __call__(self) -> Micros:
        """Return the present."""
        self._latest = max(self._latest, self._source() // 1_000)
        return self._latest
