"""Says in the log once that the brokers have fallen silent, and once that they answer again.

The client logs each of its own attempts in its own words; this is the line to look for.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

logger = logging.getLogger(__name__)

ANSWERED_WITHIN = 10.0
"""Seconds after which brokers count as away: an idle partition is asked for, and answered, forty times a second."""


class SilenceWatch:
    """Has to be shown regularly when a broker last answered."""

    def __init__(self, brokers: Sequence[str]) -> None:
        """`brokers` are those that the worker was told of."""
        self._brokers = ", ".join(brokers)
        self._since: float | None = None

    def look(self, latest: float | None, now: float) -> None:
        """Take in the latest answer, None before the first, and the time: both seconds of a monotonic clock."""
        if latest is None:
            return
        if now - latest < ANSWERED_WITHIN:
            if self._since is not None:
                logger.warning("the brokers answer again, after %.0f s of silence", latest - self._since)
                self._since = None
        elif self._since is None:
            self._since = latest
            logger.warning("no answer from the brokers (%s) for %.0f s; trying on", self._brokers, now - latest)
