"""When a worker last made progress, from which `broker_patience` counts."""

from __future__ import annotations

Seconds = float

_LONGEST_GAP: Seconds = 5.0
"""The most that counts of the time between two looks. A look is due every second."""


class Progress:
    """The latest instant of progress. It never goes back, whatever is closed or taken away afterwards.

    Time in which the process itself stood still does not count: a frozen process reads no answers, and what arrived
    meanwhile is read only after the first look.
    """

    def __init__(self, now: Seconds) -> None:
        """Begin with the start of the worker; instants are of `time.monotonic`."""
        self._latest = now
        self._looked = now

    def made(self, at: Seconds | None) -> None:
        """Take an instant of progress; None is none."""
        if at is not None and at > self._latest:
            self._latest = at

    def without(self, now: Seconds) -> Seconds:
        """Return how long there was none. This must be called regularly."""
        stood_still = max(0.0, now - self._looked - _LONGEST_GAP)
        self._looked = now
        self._latest = min(now, self._latest + stood_still)
        return now - self._latest
