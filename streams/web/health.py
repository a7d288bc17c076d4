"""Readiness and liveness of the worker.

Liveness means more than answering requests: Faust can stop reading for ever while its process looks healthy. Neither
lag nor an unreachable broker fails the probe, because restarting every worker makes both worse. A partition that could
make progress and does not fails it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias

import msgspec

from streams.web.status import PartitionStatus, StatusSource

STALLED_AFTER = 120.0
"""Seconds without progress. The worker itself gives up on a step much earlier: its transactions time out in 15 s."""

_Evidence: TypeAlias = tuple[object, ...]


class NotReady(msgspec.Struct, frozen=True, omit_defaults=True):
    """One reason why `/readyz` fails; `partition` is set where the reason concerns one."""

    code: Literal["not_joined", "restoring", "rules"]
    message: str
    partition: int | None = None


def reasons_not_ready(source: StatusSource) -> list[NotReady]:
    """Return why the worker is not ready; nothing when all its partitions are restored.

    A worker to which the group has assigned no partitions is ready: it is on standby.
    """
    if not source.joined:
        return [NotReady("not_joined", "The consumer group has not assigned partitions to this worker yet.")]
    return [
        NotReady("restoring", f"The tables of partition {held.partition} are being restored.", held.partition)
        if held.waits_for is None
        else NotReady("rules", f"Partition {held.partition} waits for its rules: {held.waits_for}.", held.partition)
        for held in source.partitions()
        if held.state == "restoring"
    ]


class StallWatch:
    """Measures how long each partition has had records to process and a reachable broker, but made no progress.

    `look` must be called regularly. Only time between calls up to a limit counts: a process that was frozen for an
    hour is not stalled when it resumes.
    """

    def __init__(self, after: float = STALLED_AFTER, longest_gap: float = 5.0) -> None:
        """`after`: seconds without progress that count as a stall; `longest_gap`: the most that one `look` adds."""
        self._after = after
        self._longest_gap = longest_gap
        self._seen_at: float | None = None
        self._waiting: dict[int, tuple[_Evidence, float]] = {}

    def look(self, now: float, source: StatusSource) -> None:
        """Record the worker's state at `now`, in seconds of a monotonic clock."""
        passed = 0.0 if self._seen_at is None else min(now - self._seen_at, self._longest_gap)
        self._seen_at = now
        could_move = _could_move(source.partitions()) if source.broker_reachable else {}
        self._waiting = {
            partition: (evidence, self._waited(partition, evidence, passed))
            for partition, evidence in could_move.items()
        }

    def stalled(self) -> dict[int, float]:
        """Return the stalled partitions with the length of the stall in seconds."""
        return {partition: waited for partition, (_, waited) in self._waiting.items() if waited >= self._after}

    def _waited(self, partition: int, evidence: _Evidence, passed: float) -> float:
        before, waited = self._waiting.get(partition, (None, 0.0))
        return waited + passed if before == evidence else 0.0


def _could_move(partitions: Iterable[PartitionStatus]) -> dict[int, _Evidence]:
    """Return, for every partition with records to process, the values that change when it makes progress."""
    return {
        held.partition: (held.last_progress, *(at.position for at in held.topics.values()))
        for held in partitions
        if held.state == "ready" and any(at.lag for at in held.topics.values())
    }
