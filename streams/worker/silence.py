"""Logs once when the brokers stop answering, and once when they answer again.

The client logs each of its own attempts in its own words. The line logged here is the one to search for.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

logger = logging.getLogger(__name__)

ANSWERED_WITHIN = 10.0
"""Seconds without a response before brokers count as unavailable: an idle partition is fetched forty times a second."""


class SilenceWatch:
    """Watches for missing broker responses. `look` must be called regularly."""

    def __init__(self, brokers: Sequence[str]) -> None:
        """`brokers` are the configured addresses."""
        self._brokers = ", ".join(brokers)
        self._since: float | None = None

    def look(self, latest: float | None, now: float) -> None:
        """Record the time of the latest response, None before the first, and the current time, in monotonic seconds."""
        if latest is None:
            return
        if now - latest < ANSWERED_WITHIN:
            if self._since is not None:
                logger.warning("the brokers answer again, after %.0f s of silence", latest - self._since)
                self._since = None
        elif self._since is None:
            self._since = latest
            logger.warning("no answer from the brokers (%s) for %.0f s; trying on", self._brokers, now - latest)
