"""A command on its way, whether it may be sent now, and which updates are without their answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from types import TracebackType

import msgspec

from streams.core.model import SECOND, Micros
from streams.zendesk.apply.gate import Gate
from streams.zendesk.apply.plan import Command


class Work(msgspec.Struct, kw_only=True):
    """One command on its way."""

    command: Command
    counted_from: Micros
    """The instant from which its age counts."""
    doubt: bool = False
    """Whether an update for it may have been sent, and the audits have not been asked since."""
    sent: bool = False
    """Whether an update for it may ever have been sent; one that is late can be carried out at any time."""
    alone: bool = False
    """Whether it has to go by a single update, because a job has left it undone."""

    def __post_init__(self) -> None:
        """What is in doubt may have been sent."""
        self.sent = self.sent or self.doubt

    def sends(self) -> None:
        """Note that an update for it is sent now."""
        self.doubt = self.sent = True


class Terms:
    """Whether a command may be sent: it is young enough, and neither a pause nor a stop holds it."""

    def __init__(
        self, gate: Gate, max_age: Micros, clock: Callable[[], Micros] = lambda: time.time_ns() // 1_000
    ) -> None:
        """`clock` gives the present in microseconds."""
        self._gate = gate
        self._max_age = max_age
        self._clock = clock

    def seconds_left(self, work: Work) -> float:
        """Return how many seconds are left before a command is too old."""
        return (work.counted_from + self._max_age - self._clock()) / SECOND

    def allow(self, work: Work) -> bool:
        """Whether a command may be sent now."""
        return self.seconds_left(work) > 0 and not self._gate.holds(work.command)


class Sending:
    """Counts requests that update tickets and have no answer yet: `with sending:` around each."""

    def __init__(self) -> None:
        """Begin with none."""
        self._count = 0
        self.quiet = asyncio.Event()
        """Set while there is none."""
        self.quiet.set()

    def __enter__(self) -> None:
        """Note that one is sent."""
        self._count += 1
        self.quiet.clear()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Note its answer, or that there is none."""
        self._count -= 1
        if not self._count:
            self.quiet.set()
