"""Read-only access to the tables of the partitions that this worker holds, for its web server.

Only rows whose batch is committed are shown.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter
from collections.abc import Callable, Iterator

import msgspec

from streams.core.model import END_OF_STATE, Due, SessionRow, TicketRow
from streams.core.partition import Partition
from streams.core.partitioning import partition_of
from streams.worker.supervisor import Supervisor

_TIMERS_LOOKED_AT = 500
"""Limit per partition and lookup: a cancelled round leaves its timer in the heap until it is due."""


_ROWS_AT_A_TIME = 5_000
"""Session rows counted before the event loop is yielded: a millisecond or two."""


class FoundRows(msgspec.Struct, frozen=True):
    """A partition's rows of a ticket."""

    partition: int
    ticket: TicketRow | None
    session: SessionRow | None


class Lookup:
    """The tables of one worker."""

    def __init__(self, supervisor: Supervisor, session_state: Callable[[bytes], str | None]) -> None:
        """Read the tables of this worker's partitions; `session_state` reads the state of an encoded row."""
        self._supervisor = supervisor
        self._session_state = session_state

    @property
    def partition_count(self) -> int:
        """Return how many partitions the topics have; 0 before they were checked."""
        return self._supervisor.partition_count

    def partition_of(self, ticket_id: str) -> int | None:
        """Return the partition that murmur2 gives for a ticket; None before the topics were checked."""
        count = self._supervisor.partition_count
        return partition_of(ticket_id.encode(), count) if count else None

    def find(self, ticket_id: str) -> list[FoundRows]:
        """Return the ticket's rows per partition held here that has any: one, unless producers' partitioners differ."""
        found = []
        for number, partition in self._partitions():
            ticket, session = partition.ticket(ticket_id), partition.session(ticket_id)
            if ticket is not None or session is not None:
                found.append(FoundRows(number, ticket, session))
        return found

    def upcoming(self, limit: int) -> list[Due]:
        """Return the next rounds that become due or whose parking ends, at most `limit`, the soonest first."""
        return heapq.nsmallest(
            limit,
            (due for _, partition in self._partitions() for due in _upcoming(partition, limit)),
            key=lambda due: (due.at, due.wait, due.ticket_id),
        )

    def shadows(self) -> dict[int, int]:
        """Return the revision of the shadow in use in each partition that has one."""
        return {number: shadow for number, partition in self._partitions() if (shadow := partition.shadow) is not None}

    async def count_sessions(self) -> Counter[str]:
        """Count sessions by state, yielding to the event loop every few rows. Forgotten sessions do not count.

        Rows that change meanwhile count as they are when the count reaches them.
        """
        counts: Counter[str] = Counter()
        for _, partition in self._partitions():
            rows = list(partition.encoded_sessions.values())
            for start in range(0, len(rows), _ROWS_AT_A_TIME):
                counts.update(
                    state
                    for row in rows[start : start + _ROWS_AT_A_TIME]
                    if (state := self._session_state(row)) is not None
                )
                await asyncio.sleep(0)
        return counts

    def _partitions(self) -> list[tuple[int, Partition]]:
        return [(number, processor.partition) for number, processor in sorted(self._supervisor.processors.items())]


def _upcoming(partition: Partition, limit: int) -> Iterator[Due]:
    """Iterate over the timer heap in order without changing it: each timer taken adds its two children."""
    timers = partition.timers
    edge = [(timers[0], 0)] if timers else []
    found = 0
    for _ in range(_TIMERS_LOOKED_AT):
        if not edge or found == limit:
            return
        (at, wait, ticket_id), place = heapq.heappop(edge)
        for child in (2 * place + 1, 2 * place + 2):
            if child < len(timers):
                heapq.heappush(edge, (timers[child], child))
        if wait != END_OF_STATE and _waits(partition.session(ticket_id), at, wait):
            found += 1
            yield Due(at, wait, ticket_id)


def _waits(session: SessionRow | None, at: int, wait: int) -> bool:
    return session is not None and any(entry.wait == wait and entry.next_at == at for entry in session.pending)
