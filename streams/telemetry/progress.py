"""A log line once a minute with what a worker has done, if it has done anything."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple, Self

logger = logging.getLogger(__name__)

EVERY = 60.0
"""Seconds between lines."""


class Totals(NamedTuple):
    """What a worker has done since it started, and its current lag in records."""

    records: int
    dead_letters: int
    commands: int
    lag: int


class Progress:
    """A context manager that logs while it is active. The last line, on exit, covers the rest of its minute."""

    def __init__(self, totals: Callable[[], Totals], every: float = EVERY) -> None:
        """Call `totals` at this interval, in seconds."""
        self._totals = totals
        self._every = every
        self._said = totals()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Start logging."""
        self._task = asyncio.create_task(self._keep_logging(), name="lapse progress")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Log the rest and stop."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self.log()

    async def _keep_logging(self) -> None:
        while True:
            await asyncio.sleep(self._every)
            self.log()

    def log(self) -> None:
        """Log what has been done since the last line, if anything."""
        now, before = self._totals(), self._said
        records = now.records - before.records
        dead_letters = now.dead_letters - before.dead_letters
        commands = now.commands - before.commands
        if not (records or commands):
            return
        self._said = now
        logger.info(
            "%s, %s, %s; %s behind",
            *(_counted(records, "record"), _counted(dead_letters, "dead letter"), _counted(commands, "command")),
            _counted(now.lag, "record"),
            extra={"records": records, "dead_letters": dead_letters, "commands": commands, "lag": now.lag},
        )


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
