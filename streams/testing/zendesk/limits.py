"""Quotas: how many requests, updates and jobs are let through, and the headers that tell how many are left.

Zendesk's windows are fixed here: one begins with the first request after the last one ended. The documentation names
totals and the seconds until a reset, not how a window begins.
"""

from __future__ import annotations

import math
from collections.abc import Hashable

import msgspec

from streams.testing.zendesk.answers import Failed, plain

Seconds = float


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Quotas of an account, by default those of Professional. Shorten `minute` and `ticket_span` to scale time."""

    requests_per_minute: int = 400
    updates_per_minute: int = 100
    """Single updates of tickets. A job counts as one request; what it updates counts for each ticket only."""
    updates_per_ticket: int = 30
    """For each user and ticket."""
    minute: Seconds = 60.0
    ticket_span: Seconds = 600.0
    jobs: int = 30
    """Jobs queued or running."""
    token_seconds: int = 1_800
    """Lifetime of a token that asks for none."""


UNLIMITED = Limits(requests_per_minute=10**9, updates_per_minute=10**9, updates_per_ticket=10**9)


class Used(msgspec.Struct, frozen=True):
    """A window that has begun: when, and how many it let through and turned away."""

    began: Seconds
    passed: int
    refused: int


class Window:
    """Counts what passes in a span of time."""

    def __init__(self, total: int, span: Seconds) -> None:
        """Let `total` pass in each `span` seconds."""
        self.total = total
        self._span = span
        self._began: Seconds | None = None
        self._passed = 0
        self._refused = 0
        self._ended: list[Used] = []

    def passes(self, now: Seconds) -> bool:
        """Count one more, if it may pass."""
        self._roll(now)
        if self._began is None:
            self._began = now
        if self._passed >= self.total:
            self._refused += 1
            return False
        self._passed += 1
        return True

    def remaining(self, now: Seconds) -> int:
        """Return how many more may pass now."""
        self._roll(now)
        return self.total - self._passed

    def resets(self, now: Seconds) -> int:
        """Return the whole seconds until the window ends, rounded up."""
        self._roll(now)
        return 0 if self._began is None else max(1, math.ceil(self._began + self._span - now))

    @property
    def history(self) -> list[Used]:
        """Every window so far, the present one last."""
        now = [] if self._began is None else [Used(self._began, self._passed, self._refused)]
        return [*self._ended, *now]

    def _roll(self, now: Seconds) -> None:
        if self._began is not None and now >= self._began + self._span:
            self._ended.append(Used(self._began, self._passed, self._refused))
            self._began, self._passed, self._refused = None, 0, 0


class Quotas:
    """The windows of an account."""

    def __init__(self, limits: Limits) -> None:
        """Begin with nothing used."""
        self.limits = limits
        self.requests = Window(limits.requests_per_minute, limits.minute)
        self.updates = Window(limits.updates_per_minute, limits.minute)
        self.tickets: dict[Hashable, Window] = {}
        """By user and ticket."""

    def take_request(self, now: Seconds) -> None:
        """Count a request of any kind. Raises 429, whose body is plain text."""
        if not self.requests.passes(now):
            raise self._exceeded("Number of allowed API requests per minute exceeded", self.requests, now)

    def take_update(self, user: str, ticket_id: str, now: Seconds) -> None:
        """Count an update of a single ticket. Raises 429; the body tells of the limit on updates, in plain text."""
        ticket = self._ticket(user, ticket_id)
        if ticket.remaining(now) <= 0:
            ticket.passes(now)
            raise self._exceeded("Number of allowed updates of this ticket exceeded", ticket, now)
        if not self.updates.passes(now):
            raise self._exceeded("Number of allowed ticket updates per minute exceeded", self.updates, now)
        ticket.passes(now)

    def take_update_in_a_job(self, user: str, ticket_id: str, now: Seconds) -> bool:
        """Count an update that a job makes; return whether the ticket's own quota allows it."""
        return self._ticket(user, ticket_id).passes(now)

    def headers(self, now: Seconds) -> dict[str, str]:
        """Return the headers that every answer to a counted request carries."""
        left, resets = self.requests.remaining(now), self.requests.resets(now)
        return {
            "X-Rate-Limit": str(self.requests.total),
            "X-Rate-Limit-Remaining": str(left),
            "ratelimit-limit": str(self.requests.total),
            "ratelimit-remaining": str(left),
            "ratelimit-reset": str(resets),
        }

    def update_headers(self, now: Seconds) -> dict[str, str]:
        """Return the header of the endpoint that updates a ticket."""
        left, resets = self.updates.remaining(now), self.updates.resets(now)
        told = f"total={self.updates.total}; remaining={left}; resets={resets}"
        return {"Zendesk-RateLimit-tickets-update": told}

    def job_headers(self, in_flight: int) -> dict[str, str]:
        """Return the header of the endpoints that make jobs."""
        total = self.limits.jobs
        return {"zendesk-ratelimit-inflight-jobs": f"total={total}; remaining={max(0, total - in_flight)}"}

    def _ticket(self, user: str, ticket_id: str) -> Window:
        if (user, ticket_id) not in self.tickets:
            self.tickets[user, ticket_id] = Window(self.limits.updates_per_ticket, self.limits.ticket_span)
        return self.tickets[user, ticket_id]

    def _exceeded(self, text: str, window: Window, now: Seconds) -> Failed:
        return plain(429, text, {"Retry-After": str(window.resets(now))})
