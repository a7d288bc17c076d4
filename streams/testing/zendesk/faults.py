"""What can go wrong between a client and Zendesk, on demand: outages, cut connections, and answers that get lost.

A client may meet more faults than it sees: when a connection is cut, aiohttp sends a GET or a PUT once more by itself.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

Seconds = float


class Kind(StrEnum):
    """What happens to a request."""

    UNAVAILABLE = "unavailable"
    """503, with `Retry-After` when `seconds` is set; nothing is done."""
    ERROR = "error"
    """500 with a page in HTML; nothing is done."""
    LIMITED = "limited"
    """429 with `Retry-After`; nothing is done."""
    COLLISION = "collision"
    """409 `DatabaseConflict`, which passes by itself; nothing is done."""
    DROPPED = "dropped"
    """The connection is cut before anything is done."""
    LOST = "lost"
    """The request is carried out, and the connection is cut before the answer."""
    SLOW = "slow"
    """The request is carried out, and the answer comes after `seconds`."""
    STUCK = "stuck"
    """Nothing is done, and the connection is cut after `seconds`."""


class Fault(msgspec.Struct):
    """Something that goes wrong with the next `times` requests that match."""

    kind: Kind
    times: int = 1
    method: str = ""
    """Empty: every method."""
    path: str = ""
    """A part of the path; empty: every path, that of tokens too."""
    seconds: Seconds = 0.0


class Faults:
    """The faults that are still to come, in the order in which they were added."""

    def __init__(self) -> None:
        """Begin without faults."""
        self._to_come: list[Fault] = []
        self.away = False
        """While set, every connection is cut before anything is done."""
        self.happened: list[Kind] = []

    def add(self, kind: Kind, *, times: int = 1, method: str = "", path: str = "", seconds: Seconds = 0.0) -> None:
        """Add a fault."""
        self._to_come.append(Fault(kind, times, method, path, seconds))

    def clear(self) -> None:
        """Take back what has not happened yet."""
        self._to_come.clear()
        self.away = False

    def next(self, method: str, path: str) -> Fault | None:
        """Return the fault that this request meets, if any, and count it."""
        if self.away:
            self.happened.append(Kind.DROPPED)
            return Fault(Kind.DROPPED)
        for fault in self._to_come:
            if fault.method in ("", method) and fault.path in path:
                fault.times -= 1
                if fault.times <= 0:
                    self._to_come.remove(fault)
                self.happened.append(fault.kind)
                return fault
        return None
