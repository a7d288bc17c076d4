"""How many partitions of a worker commit at once.

A broker that has more transactions to end than it can takes longer for each of them. When a worker with many partitions
commits as soon as each of them has a record, all commits become slow, and none of them carries more than a record or
two. With fewer at once, each partition waits for its turn, takes more records along, and all are sooner done.

The limit follows the broker: it grows while commits are about as fast as the fastest of late, and shrinks when they
queue up. The rule is TCP Vegas', as used for services by Netflix's concurrency-limits.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from types import TracebackType

_LEAST = 4
"""Up to so many partitions never wait for each other."""

_MOST = 256
_OVERDUE_SECONDS = 0.5
"""A commit that takes longer gives its turn away: the broker of one partition must not hold up those of others."""

_WEIGHT = 0.1
_WINDOW = 2_000
_PROBE = 50
"""So many of a window's commits show how fast the broker is when it is not busy."""


class CommitLimit:
    """How many commits may be under way, from how long they take."""

    def __init__(self, least: int = _LEAST, most: int = _MOST) -> None:
        """Begin with the least."""
        self._least, self._most = least, most
        self._limit = float(least)
        self._fastest = math.inf
        self._typical = 0.0
        self._commits = 0

    @property
    def value(self) -> int:
        """The limit."""
        return self._least if self._commits < _PROBE else int(self._limit)

    def took(self, seconds: float, *, others_wait: bool) -> None:
        """Learn how long a commit took. The limit grows only while `others_wait` for their turn."""
        self._commits += 1
        if self._commits <= _PROBE:
            # The first half began before the limit was lowered.
            if self._commits > _PROBE // 2:
                self._fastest = min(self._fastest, seconds)
            return
        self._typical += (seconds - self._typical) * (_WEIGHT if self._typical else 1)
        queued = self._limit * (1 - self._fastest / max(self._typical, self._fastest))
        scale = math.log10(self._limit)
        if queued > 6 * scale:
            self._limit = max(self._least, self._limit - 1 / self._limit)
        elif queued < 3 * scale and others_wait:
            self._limit = min(self._most, self._limit + 1 / self._limit)
        if self._commits == _WINDOW:
            self._commits, self._fastest = 0, math.inf


class CommitSlots:
    """Gives partitions their turn to commit, in the order in which they ask.

    `async with slots.turn():` waits for a turn and gives it back.
    """

    def __init__(self, limit: CommitLimit | None = None) -> None:
        """Begin without a commit under way."""
        self.limit = limit or CommitLimit()
        self._under_way = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    def turn(self) -> Turn:
        """Return a turn to be entered."""
        return Turn(self)

    async def take(self) -> None:
        """Wait for a turn."""
        if self._under_way < self.limit.value and not self._waiting:
            self._under_way += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give_back()
            raise

    def give_back(self) -> None:
        """End a turn; whoever has waited longest is next."""
        self._under_way -= 1
        while self._waiting and self._under_way < self.limit.value:
            turn = self._waiting.popleft()
            if not turn.done():
                self._under_way += 1
                turn.set_result(None)

    def took(self, seconds: float) -> None:
        """Learn how long a commit took."""
        self.limit.took(seconds, others_wait=bool(self._waiting))


class Turn:
    """The turn of one commit. It ends by itself when the commit is overdue."""

    def __init__(self, slots: CommitSlots) -> None:
        """Nothing is taken yet."""
        self._slots = slots
        self._overdue: asyncio.TimerHandle | None = None
        self._began = 0.0

    async def __aenter__(self) -> None:
        """Wait for the turn."""
        await self._slots.take()
        loop = asyncio.get_running_loop()
        self._began = loop.time()
        self._overdue = loop.call_later(_OVERDUE_SECONDS, self._give_back)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        """End the turn, and let the limit learn from a commit that succeeded."""
        if kind is None:
            self._slots.took(asyncio.get_running_loop().time() - self._began)
        self._give_back()

    def _give_back(self) -> None:
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None
            self._slots.give_back()
