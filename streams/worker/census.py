"""Counts the rows of a partition for a gauge, repeatedly and a few rows at a time."""

from __future__ import annotations

from collections.abc import Sequence

from streams.core.model import SessionRow, TicketRow
from streams.core.partition import Partition
from streams.core.session import INACTIVE

_ROUND = 300
"""Calls per pass through a table: with one call a second, no figure is older than five minutes."""

_AT_LEAST = 50
"""Rows examined per call, so that a small table is recounted often: a tenth of a millisecond."""

_DONE = frozenset({"solved", "closed"})


class Census:
    """Counts the tickets with an open abandonment.

    Decoding all rows at once would block the event loop for a time proportional to the table size. Rows that change
    during a pass count as they are when the pass reaches them.
    """

    def __init__(self, partition: Partition) -> None:
        """Begin a pass through this partition's sessions."""
        self._partition = partition
        self._ids: Sequence[str] = ()
        self._next = 0
        self._found = 0

    def advance(self) -> int | None:
        """Continue the pass; return the count when it is complete, None before."""
        if self._next == 0:
            self._ids = list(self._partition.encoded_sessions)
            self._found = 0
        end = self._next + max(_AT_LEAST, len(self._ids) // _ROUND)
        partition = self._partition
        for ticket_id in self._ids[self._next : end]:
            if _is_left(partition.session(ticket_id)) and _is_open(partition.ticket(ticket_id)):
                self._found += 1
        if end < len(self._ids):
            self._next = end
            return None
        self._next = 0
        return self._found


def _is_left(session: SessionRow | None) -> bool:
    """Whether a session is inactive because of an abandonment without a return.

    A later change of state for another reason does not count: if the abandonment began the current state, both have
    the same instant.
    """
    if session is None or session.state != INACTIVE or session.abandoned is None:
        return False
    left_at, _ = session.abandoned
    return left_at == session.since


def _is_open(ticket: TicketRow | None) -> bool:
    """Whether a ticket is known, and neither solved, closed nor deleted."""
    return ticket is not None and ticket.fields is not None and ticket.fields.get("status") not in _DONE
