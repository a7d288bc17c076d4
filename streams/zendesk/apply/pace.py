"""Waits for the account's quotas: requests, updates and updates of one ticket. First come, first served."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time

from streams.zendesk.apply.quotas import Seconds, TicketQuota, Window

_MINUTE: Seconds = 60.0
_LOOK_AGAIN: Seconds = 5.0


class Taken:
    """One that was taken of a quota. Exactly one of its methods is called once."""

    def __init__(self, line: Line, number: int) -> None:
        """Remember the window."""
        self._line = line
        self._number = number

    def answered(self, told: tuple[int, int, int] | None) -> None:
        """Note the answer; `told` is what its headers say of the quota."""
        self._line.window.answered(self._number, time.monotonic(), told)
        self._line.moved()

    def lost(self) -> None:
        """Note that there was no answer."""
        self._line.window.answered(self._number, time.monotonic(), lost=True)
        self._line.moved()

    def given_back(self) -> None:
        """Note that nothing was sent."""
        self._line.window.given_back()
        self._line.moved()


class Line:
    """Those who wait for one window, in order."""

    def __init__(self, most: float, span: Seconds = _MINUTE) -> None:
        """Begin a window of so many."""
        self.window = Window(most, span)
        self._turn = asyncio.Lock()
        self._other_turn = asyncio.Lock()
        """Of those who go another way where the window is used up: the others must not hold them up."""
        self._moved = asyncio.Event()
        self._held_until: Seconds = 0.0

    def moved(self) -> None:
        """Have the first in line look again."""
        self._moved.set()

    def hold(self, seconds: Seconds) -> None:
        """Let nobody pass for so long."""
        self._held_until = max(self._held_until, time.monotonic() + seconds)

    async def take(self) -> Taken:
        """Take one, as soon as it may be taken."""
        async with self._turn:
            while (taken := self._take_now()) is None:
                await self._until_it_moves()
            return taken

    async def take_unless_used_up(self) -> Taken | None:
        """Take one; None where the window has none left, or nobody may pass. Waits while the quota is not known."""
        async with self._other_turn:
            while (taken := self._take_now()) is None and not self._is_used_up():
                await self._until_it_moves()
            return taken

    def _take_now(self) -> Taken | None:
        now = time.monotonic()
        return Taken(self, self.window.take(now)) if self._ready_at(now) <= now else None

    def _is_used_up(self) -> bool:
        now = time.monotonic()
        return now < self._held_until or self.window.is_used_up(now)

    async def _until_it_moves(self) -> None:
        self._moved.clear()
        now = time.monotonic()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(max(0.0, self._ready_at(now) - now), _LOOK_AGAIN)):
                await self._moved.wait()

    def _ready_at(self, now: Seconds) -> Seconds:
        return max(self.window.ready_at(now), self._held_until)


class Pace:
    """The quotas of one account, as this process knows them."""

    def __init__(self, updates_per_minute: int, *, minute: Seconds = _MINUTE) -> None:
        """The quota on requests is known from the first answer on."""
        self.requests = Line(math.inf, minute)
        self.updates = Line(updates_per_minute, minute)
        self.tickets = TicketQuota()

    async def request(self) -> Taken:
        """Wait until the account allows another request."""
        return await self.requests.take()

    async def hold(self, seconds: Seconds) -> None:
        """Send nothing for so long: the account is over a limit, or Zendesk is away."""
        self.requests.hold(seconds)
        await asyncio.sleep(seconds)

    def ticket_ready_in(self, ticket_id: str) -> Seconds:
        """Return for how many seconds a ticket may not be updated."""
        now = time.monotonic()
        return max(0.0, self.tickets.ready_at(ticket_id, now) - now)

    def ticket_updated(self, ticket_id: str) -> None:
        """Count an update of a ticket."""
        self.tickets.take(ticket_id, time.monotonic())

    def ticket_exhausted(self, ticket_id: str, seconds: Seconds) -> None:
        """Note that Zendesk takes no update of a ticket for so long."""
        self.tickets.exhausted(ticket_id, time.monotonic() + seconds)
