"""What the runtime tells telemetry, always after the commit."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from streams.core.batch import Batch
from streams.core.names import Topic


class Observer(Protocol):
    """Told what has happened; must be quick and must not raise. Durations are seconds."""

    def assigned(self, partitions: Iterable[int]) -> None:
        """Note partitions that this worker holds from now on."""

    def revoked(self, partitions: Iterable[int]) -> None:
        """Note partitions that this worker no longer holds."""

    def rebalanced(self, seconds: float | None = None) -> None:
        """Note a rebalance of the group; `seconds` is how long it kept this worker from its partitions."""

    def fenced(self) -> None:
        """Note that a partition's producer was taken over by another one."""

    def restoring(self, partition: int, rows: int) -> None:
        """Count table rows as they are read back."""

    def restore_remaining(self, partition: int, offsets: int) -> None:
        """Show how many changelog offsets a partition's restore has still to go."""

    def restored(self, partition: int, rows: int, seconds: float) -> None:
        """Note that a partition's tables are back; the rows were counted by `restoring` before."""

    def batch_committed(
        self, partition: int, batch: Batch, seconds: float, commit_seconds: float | None = None
    ) -> None:
        """Count a committed batch; `commit_seconds` is the transaction's share of `seconds`."""

    def committed(self, topic: Topic, partition: int, offset: int) -> None:
        """Show the committed offset that a partition starts from."""

    def end(self, topic: Topic, partition: int, offset: int) -> None:
        """Show the last stable offset of an input, as of the latest fetch answer."""

    def held_back(self, topic: Topic, partition: int, offsets: int) -> None:
        """Show how much of an input nobody may read yet, because of a transaction that is still open."""

    def lag(self, topic: Topic, partition: int, records: int, seconds: float | None = None) -> None:
        """Show how many records of an input are not yet committed as taken, and how old the oldest of them is."""

    def stream_time(self, partition: int, seconds: float) -> None:
        """Show a partition's stream time, in seconds since the epoch."""

    def table_rows(self, partition: int, tickets: int, sessions: int) -> None:
        """Show the sizes of a partition's tables."""

    def pending_rounds(self, partition: int, n: int) -> None:
        """Show how many rounds of a partition wait."""

    def open_abandonments(self, partition: int, n: int) -> None:
        """Show how many tickets of a partition are abandoned and not yet dealt with."""

    def event_age(self, seconds: float) -> None:
        """Note the age of a batch's oldest record at its commit."""

    def answered(self, at: float) -> None:
        """Show when a broker last answered, in seconds since the epoch."""

    def loop_lag(self, seconds: float) -> None:
        """Note how late the event loop woke a timer."""


class Silent:
    """An observer that nobody listens to."""

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

    def open_abandonments(self, partition: int, n: int) -> None:
        """Ignore it."""

    def event_age(self, seconds: float) -> None:
        """Ignore it."""

    def answered(self, at: float) -> None:
        """Ignore it."""

    def loop_lag(self, seconds: float) -> None:
        """Ignore it."""
