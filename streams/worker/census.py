"""Counts the rows of a partition that a gauge wants to know about: a few at a time, again and again."""

from __future__ import annotations

from collections.abc import Sequence

from streams.core.model import SessionRow, TicketRow
from streams.core.partition import Partition
from streams.core.session import INACTIVE

_ROUND = 300
"""Calls that one walk through a table takes: with one a second, no figure is older than five minutes."""

_AT_LEAST = 50
"""Rows looked at in a call, so that a small table is counted anew often: a tenth of a millisecond."""

_DONE = frozenset({"solved", "closed"})


class Census:
    """How many tickets are abandoned and still to be dealt with.

    Decoding every row at once would hold the event loop for as long as the table is large. Rows that change while the
    walk goes on count as they are when it comes past.
    """

    def __init__(self, partition: Partition) -> None:
        """Begin a walk through this partition's sessions."""
        self._partition = partition
        self._ids: Sequence[str] = ()
        self._next = 0
        self._found = 0

    def advance(self) -> int | None:
        """Go on with the walk; return what it has found when it comes to its end, None before."""
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
    """Whether a session is inactive because of an abandonment that nobody has returned from.

    Not for another reason since: an abandonment that began what still lasts has its instant.
    """
    if session is None or session.state != INACTIVE or session.abandoned is None:
        return False
    left_at, _ = session.abandoned
    return left_at == session.since


def _is_open(ticket: TicketRow | None) -> bool:
    """Whether a ticket is known, and neither solved, closed nor deleted."""
    return ticket is not None and ticket.fields is not None and ticket.fields.get("status") not in _DONE
