"""What the web server needs from the runtime: the status of the worker, read-only.

These are protocols: the runtime returns its own records, which have these members.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

from streams.core.model import Due, Micros, SessionRow, TicketRow
from streams.core.names import Topic
from streams.core.revisions import InUse


class TopicPosition(Protocol):
    """One input of one partition."""

    @property
    def position(self) -> int | None:
        """Offset of the first record not yet processed; None before it is known."""

    @property
    def lag(self) -> int | None:
        """Records from `position` to the last stable offset; None before it is known."""

    @property
    def lag_seconds(self) -> float | None:
        """Age of the oldest record that `lag` counts, 0 without any; None before that record has been fetched."""


class PartitionStatus(Protocol):
    """One partition that this worker holds."""

    @property
    def partition(self) -> int:
        """Its number."""

    @property
    def state(self) -> Literal["restoring", "ready"]:
        """`ready` once its tables are restored."""

    @property
    def topics(self) -> Mapping[Topic, TopicPosition]:
        """Both inputs."""

    @property
    def last_progress(self) -> float | None:
        """The instant (`time.monotonic`) at which an offset last moved; None when none has yet."""

    @property
    def stream_time(self) -> Micros | None:
        """Its stream time; None before the first record."""

    @property
    def waits_for(self) -> str | None:
        """Why its rules can't be used yet, with `rules: topic`."""

    @property
    def in_use(self) -> InUse | None:
        """The rules that it has in use; None with rules from a file."""


class StatusSource(Protocol):
    """The worker. Members return at once, from memory, and do not raise."""

    @property
    def joined(self) -> bool:
        """Whether the consumer group has given this worker an assignment, even an empty one."""

    @property
    def broker_reachable(self) -> bool:
        """Whether the broker answered the latest request."""

    def partitions(self) -> Sequence[PartitionStatus]:
        """Return the partitions that this worker holds."""


class TicketRows(Protocol):
    """A partition's rows of a ticket."""

    @property
    def partition(self) -> int:
        """Its number."""

    @property
    def ticket(self) -> TicketRow | None:
        """The ticket's row."""

    @property
    def session(self) -> SessionRow | None:
        """The session's row."""


class Tables(Protocol):
    """The tables of the partitions that this worker holds."""

    @property
    def partition_count(self) -> int:
        """Number of partitions of the topics; 0 before they were checked."""

    def partition_of(self, ticket_id: str) -> int | None:
        """Return the partition that a ticket's records belong to; None before the topics were checked."""

    def find(self, ticket_id: str) -> Sequence[TicketRows]:
        """Return the rows of a ticket."""

    def upcoming(self, limit: int) -> Sequence[Due]:
        """Return the next rounds to become due, the soonest first."""

    def shadows(self) -> Mapping[int, int]:
        """Return the revision of the shadow in use in each partition that has one."""

    async def count_sessions(self) -> Counter[str]:
        """Count sessions by state."""


class NoTables:
    """Tables of a worker that holds no partition."""

    partition_count = 0

    def partition_of(self, ticket_id: str) -> int | None:
        """Return None: the partition is unknown."""

    def find(self, ticket_id: str) -> Sequence[TicketRows]:
        """Return nothing."""
        return ()

    def upcoming(self, limit: int) -> Sequence[Due]:
        """Return no rounds."""
        return ()

    def shadows(self) -> Mapping[int, int]:
        """Return no shadow."""
        return {}

    async def count_sessions(self) -> Counter[str]:
        """Return no counts."""
        return Counter()
