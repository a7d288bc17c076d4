"""When a worker last made progress, from which `broker_patience` counts."""

from __future__ import annotations

Seconds = float


class Progress:
    """The latest instant of progress. It never goes back, whatever is closed or taken away afterwards."""

    def __init__(self, now: Seconds) -> None:
        """Begin with the start of the worker; instants are of `time.monotonic`."""
        self._latest = now

    def made(self, at: Seconds | None) -> None:
        """Take an instant of progress; None is none."""
        if at is not None and at > self._latest:
            self._latest = at

    def without(self, now: Seconds) -> Seconds:
        """Return how long there was none."""
        return now - self._latest
