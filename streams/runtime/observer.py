"""What the runtime tells telemetry, always after the commit."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from streams.core.model import Topic
from streams.core.partition import Step


class Observer(Protocol):
    """Told what has happened; must be quick and must not raise. Durations are seconds."""

    def assigned(self, partitions: Iterable[int]) -> None:
        """Note partitions that this worker holds from now on."""

    def revoked(self, partitions: Iterable[int]) -> None:
        """Note partitions that this worker no longer holds."""

    def rebalanced(self) -> None:
        """Note a rebalance of the group."""

    def restored(self, partition: int, rows: int, seconds: float) -> None:
        """Note that a partition's tables are back."""

    def stepped(self, partition: int, step: Step, seconds: float, commit_seconds: float | None = None) -> None:
        """Count a committed step; `commit_seconds` is the transaction's share of `seconds`."""

    def committed(self, topic: Topic, partition: int, offset: int) -> None:
        """Show the committed offset that a partition starts from."""

    def lag(self, topic: Topic, partition: int, records: int, seconds: float | None = None) -> None:
        """Show how many records of an input are committed by their producers and not yet taken."""

    def table_rows(self, partition: int, tickets: int, sessions: int) -> None:
        """Show the sizes of a partition's tables."""

    def pending_rounds(self, partition: int, n: int) -> None:
        """Show how many rounds of a partition wait."""

    def event_age(self, seconds: float) -> None:
        """Note the age of a step's oldest record at its commit."""

    def loop_lag(self, seconds: float) -> None:
        """Note how late the event loop woke a timer."""


class Silent:
    """An observer that nobody listens to."""

    def assigned(self, partitions: Iterable[int]) -> None:
        """Ignore it."""

    def revoked(self, partitions: Iterable[int]) -> None:
        """Ignore it."""

    def rebalanced(self) -> None:
        """Ignore it."""

    def restored(self, partition: int, rows: int, seconds: float) -> None:
        """Ignore it."""

    def stepped(self, partition: int, step: Step, seconds: float, commit_seconds: float | None = None) -> None:
        """Ignore it."""

    def committed(self, topic: Topic, partition: int, offset: int) -> None:
        """Ignore it."""

    def lag(self, topic: Topic, partition: int, records: int, seconds: float | None = None) -> None:
        """Ignore it."""

    def table_rows(self, partition: int, tickets: int, sessions: int) -> None:
        """Ignore it."""

    def pending_rounds(self, partition: int, n: int) -> None:
        """Ignore it."""

    def event_age(self, seconds: float) -> None:
        """Ignore it."""

    def loop_lag(self, seconds: float) -> None:
        """Ignore it."""
