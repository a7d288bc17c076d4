"""What the runtime reports to telemetry, always after the commit."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from streams.core.batch import Batch
from streams.core.names import Topic


class Observer(Protocol):
    """Receives reports on what has happened. Its methods must be fast and must not raise. Durations are in seconds."""

    def assigned(self, partitions: Iterable[int]) -> None:
        """Add partitions that this worker now holds."""

    def revoked(self, partitions: Iterable[int]) -> None:
        """Remove partitions that this worker no longer holds."""

    def rebalanced(self, seconds: float | None = None) -> None:
        """Record a rebalance of the group; `seconds` is how long it stopped this worker's work on its partitions."""

    def fenced(self) -> None:
        """Record that a partition's producer was fenced by another one."""

    def restoring(self, partition: int, rows: int) -> None:
        """Count table rows as they are read back."""

    def restore_remaining(self, partition: int, offsets: int) -> None:
        """Show how many changelog offsets a partition's restore still has to read."""

    def restored(self, partition: int, rows: int, seconds: float) -> None:
        """Record that a partition's tables are restored. `restoring` has already counted the rows."""

    def batch_committed(
        self, partition: int, batch: Batch, seconds: float, commit_seconds: float | None = None
    ) -> None:
        """Count a committed batch; `commit_seconds` is the transaction's share of `seconds`."""

    def committed(self, topic: Topic, partition: int, offset: int) -> None:
        """Show the committed offset that a partition starts from."""

    def end(self, topic: Topic, partition: int, offset: int) -> None:
        """Show the last stable offset of an input, as of the latest fetch response."""

    def held_back(self, topic: Topic, partition: int, offsets: int) -> None:
        """Show how many offsets of an input can't be read yet because of an open transaction."""

    def lag(self, topic: Topic, partition: int, records: int, seconds: float | None = None) -> None:
        """Show how many records of an input are not yet processed and committed, and the age of the oldest of them."""

    def stream_time(self, partition: int, seconds: float) -> None:
        """Show a partition's stream time, in seconds since the epoch."""

    def table_rows(self, partition: int, tickets: int, sessions: int) -> None:
        """Show the sizes of a partition's tables."""

    def pending_rounds(self, partition: int, n: int) -> None:
        """Show how many rounds of a partition wait."""

    def rules_in_use(self, partition: int, revision: int) -> None:
        """Show which revision of the rules a partition has in use."""

    def rules(self, behind: float, refused: int) -> None:
        """Show for how many seconds the newest revision is not in use everywhere, and how many entries are refused."""

    def open_abandonments(self, partition: int, n: int) -> None:
        """Show how many tickets of a partition have an open abandonment."""

    def event_age(self, seconds: float) -> None:
        """Record the age of a batch's oldest record at its commit."""

    def answered(self, at: float) -> None:
        """Show when a broker last answered, in seconds since the epoch."""

    def loop_lag(self, seconds: float) -> None:
        """Record how late the event loop ran a timer."""


class Silent:
    """An observer that ignores everything."""

    def assigned(self, partitions: Iterable[int]) -> None:
        """Ignore it."""

    def revoked(self, partitions: Iterable[int]) -> None:
        """Ignore it."""

    def rebalanced(self, seconds: float | None = None) -> None:
        """Ignore it."""

    def fenced(self) -> None:
        """Ignore it."""

    def restoring(self, partition: int, rows: int) -> None:
        """Ignore it."""

    def restore_remaining(self, partition: int, offsets: int) -> None:
        """Ignore it."""

    def restored(self, partition: int, rows: int, seconds: float) -> None:
        """Ignore it."""

    def batch_committed(
        self, partition: int, batch: Batch, seconds: float, commit_seconds: float | None = None
    ) -> None:
        """Ignore it."""

    def committed(self, topic: Topic, partition: int, offset: int) -> None:
        """Ignore it."""

    def end(self, topic: Topic, partition: int, offset: int) -> None:
        """Ignore it."""

    def held_back(self, topic: Topic, partition: int, offsets: int) -> None:
        """Ignore it."""

    def lag(self, topic: Topic, partition: int, records: int, seconds: float | None = None) -> None:
        """Ignore it."""

    def stream_time(self, partition: int, seconds: float) -> None:
        """Ignore it."""

    def table_rows(self, partition: int, tickets: int, sessions: int) -> None:
        """Ignore it."""

    def pending_rounds(self, partition: int, n: int) -> None:
        """Ignore it."""

    def rules_in_use(self, partition: int, revision: int) -> None:
        """Ignore it."""

    def rules(self, behind: float, refused: int) -> None:
        """Ignore it."""

    def open_abandonments(self, partition: int, n: int) -> None:
        """Ignore it."""

    def event_age(self, seconds: float) -> None:
        """Ignore it."""

    def answered(self, at: float) -> None:
        """Ignore it."""

    def loop_lag(self, seconds: float) -> None:
        """Ignore it."""
