"""What may be sent now: a pause holds every command, a stop of the rules topic all or those of stopped triggers."""

from __future__ import annotations

import asyncio
import contextlib

from streams.core.revisions import Stops
from streams.zendesk.apply.plan import Command


class Gate:
    """Every update asks it immediately before it is sent."""

    def __init__(self) -> None:
        """Begin closed: pause and stops have to be read first."""
        self._ready = False
        self._paused = False
        self._stops = Stops()
        self._leaving = False
        self._changed = asyncio.Event()

    @property
    def paused(self) -> bool:
        """Whether `lapse apply pause` holds everything."""
        return self._paused

    @property
    def stops(self) -> Stops:
        """What the rules topic stops."""
        return self._stops

    def ready(self) -> None:
        """Let commands through: pause and stops were read."""
        self._ready = True
        self._tell()

    def pause(self, paused: bool) -> None:
        """Pause or resume."""
        self._paused = paused
        self._tell()

    def stop(self, stops: Stops) -> None:
        """Take over what is stopped."""
        self._stops = stops
        self._tell()

    def leave(self) -> None:
        """Let nothing more through: the process ends."""
        self._leaving = True
        self._tell()

    def holds(self, command: Command) -> bool:
        """Whether a command must wait."""
        if not self._ready or self._paused or self._leaving or self._stops.everything:
            return True
        return not command.trigger_ids.isdisjoint(self._stops.ids)

    async def wait(self, seconds: float) -> None:
        """Wait until something changes, but no longer than so many seconds."""
        changed = self._changed
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, seconds)):
                await changed.wait()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
