"""Accounting of an account's quotas, over times that are given. Pure: no clock, no waiting.

Zendesk counts in windows, and tells with every answer how many requests a window allows, how many are left, and in how
many seconds it ends. Answers come late and out of order, so their figures are combined with our own count: what the
window has used beyond our requests was used by others. A window counts as ended only at the latest instant at which it
can end, so that no request is sent into a window that is used up.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping

Seconds = float

_ROLLED: Seconds = 1.5
"""Resets are told in whole seconds. One that is later than the known one by more than this is of a newer window."""


class Window:
    """One quota: so many in each span. Every `take` is followed by one `answered` or `given_back`."""

    def __init__(self, most: float, span: Seconds) -> None:
        """`most` is a ceiling of our own; a lower total that answers tell replaces it."""
        self._ceiling = most
        self._span = span
        self._total = most
        self._used = 0
        """Taken by us in this window, what may have reached it from the last one included."""
        self._others = 0
        self._in_flight = 0
        self._ends_at: Seconds | None = None
        self._number = 0
        self._known = False

    @property
    def total(self) -> float:
        """How many the window allows us."""
        return self._total

    def ready_at(self, now: Seconds) -> Seconds:
        """Return when the next one may be taken: `now` or earlier means at once, infinity means after an answer.

        Until the first answer nothing is known of the window, so one at a time is let through.
        """
        self._roll(now)
        if not self._known:
            return now if self._in_flight == 0 else math.inf
        if self._used + self._others < self._total:
            return now
        return math.inf if self._ends_at is None else self._ends_at

    def is_used_up(self, now: Seconds) -> bool:
        """Whether the quota is known, and nothing of it is left."""
        self._roll(now)
        return self._known and self._used + self._others >= self._total

    def take(self, now: Seconds) -> int:
        """Take one; return the number of the window, which `answered` is given."""
        self._roll(now)
        self._used += 1
        self._in_flight += 1
        return self._number

    def given_back(self) -> None:
        """Note that nothing was sent for a take. A window that has begun since has counted it, too."""
        self._in_flight -= 1
        self._used -= 1

    def answered(
        self, number: int, now: Seconds, told: tuple[int, int, int] | None = None, *, lost: bool = False
    ) -> None:
        """Note an answer; `told` is (total, remaining, seconds until the window ends). `lost`: there was none."""
        self._in_flight -= 1
        self._known = self._known or not lost
        newer = told is not None and self._ends_at is not None and now + told[2] > self._ends_at + _ROLLED
        if newer:
            self._begin()
        if told is not None and (newer or number == self._number):
            total, remaining, resets = told
            self._total = min(self._ceiling, total)
            self._others = max(self._others, total - remaining - self._used)
            ends_at = now + resets
        else:
            # It tells nothing of this window. Where no other answer does, the window ends after its span at the latest.
            ends_at = now + self._span
        self._ends_at = ends_at if self._ends_at is None else min(self._ends_at, ends_at)

    def _roll(self, now: Seconds) -> None:
        if self._ends_at is not None and now >= self._ends_at:
            self._begin()

    def _begin(self) -> None:
        """Begin a window. Requests still in flight may reach the new one, and count there."""
        self._number += 1
        self._used, self._others, self._ends_at = self._in_flight, 0, None


class TicketQuota:
    """So many updates of one ticket in each span, counted over the last span at any instant."""

    def __init__(self, most: int = 30, span: Seconds = 600.0) -> None:
        """Begin with nothing used. Zendesk's figures are the defaults."""
        self._most = most
        self._span = span
        self._taken: dict[str, deque[Seconds]] = {}
        self._until: dict[str, Seconds] = {}

    def ready_at(self, ticket_id: str, now: Seconds) -> Seconds:
        """Return when the ticket may be updated next."""
        self._forget(now)
        taken = self._taken.get(ticket_id, _NONE)
        while taken and taken[0] + self._span <= now:
            taken.popleft()
        ready = taken[0] + self._span if len(taken) >= self._most else now
        return max(ready, self._until.get(ticket_id, now))

    def take(self, ticket_id: str, now: Seconds) -> None:
        """Count an update."""
        taken = self._taken.pop(ticket_id, None) or deque()
        taken.append(now)
        self._taken[ticket_id] = taken  # tickets stand in the order of their last update

    def exhausted(self, ticket_id: str, until: Seconds) -> None:
        """Note that Zendesk takes no update of the ticket before this instant."""
        self._until[ticket_id] = until

    def _forget(self, now: Seconds) -> None:
        """Forget what is older than the span."""
        while self._taken:
            oldest = next(iter(self._taken))
            taken = self._taken[oldest]
            if taken and taken[-1] + self._span > now:
                break
            del self._taken[oldest]
        for ticket_id in [ticket_id for ticket_id, until in self._until.items() if until <= now]:
            del self._until[ticket_id]


_NONE: deque[Seconds] = deque()


def requests_told(headers: Mapping[str, str]) -> tuple[int, int, int] | None:
    """Read the account's quota on requests from an answer.

    >>> requests_told({"X-Rate-Limit": "400", "ratelimit-remaining": "399", "ratelimit-reset": "60"})
    (400, 399, 60)
    """
    lower = {name.lower(): value for name, value in headers.items()}
    limit = lower.get("x-rate-limit") or lower.get("ratelimit-limit")
    left = lower.get("ratelimit-remaining") or lower.get("x-rate-limit-remaining")
    return _whole(limit, left, lower.get("ratelimit-reset"))


def updates_told(headers: Mapping[str, str]) -> tuple[int, int, int] | None:
    """Read the account's quota on updates of tickets from an answer.

    >>> updates_told({"Zendesk-RateLimit-tickets-update": "total=100; remaining=97; resets=41"})
    (100, 97, 41)
    """
    text = next((value for name, value in headers.items() if name.lower() == "zendesk-ratelimit-tickets-update"), None)
    if text is None:
        return None
    parts = dict(part.strip().partition("=")[::2] for part in text.split(";"))
    return _whole(parts.get("total"), parts.get("remaining"), parts.get("resets"))


def retry_after(headers: Mapping[str, str]) -> Seconds | None:
    """Read `Retry-After` in seconds from an answer; None when there is none, or it is a date."""
    text = next((value for name, value in headers.items() if name.lower() == "retry-after"), "").strip()
    return float(text) if text.isdecimal() else None


def _whole(*texts: str | None) -> tuple[int, int, int] | None:
    if not all(text is not None and text.strip().isdecimal() for text in texts):
        return None
    first, second, third = (int(text.strip()) for text in texts if text is not None)
    return first, second, third
