"""The status of the worker for its web server; available from memory at any time."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Literal

import msgspec

from streams.core.model import Micros
from streams.core.names import Topic
from streams.core.revisions import InUse
from streams.worker.processor import PartitionProcessor
from streams.worker.silence import ANSWERED_WITHIN
from streams.worker.supervisor import Supervisor


class InputStatus(msgspec.Struct, frozen=True):
    """One input of one partition: the first record not yet processed, the lag in records, and the age of the oldest."""

    position: int | None
    lag: int | None
    lag_seconds: float | None = None


class HeldPartition(msgspec.Struct, frozen=True):
    """One partition that this worker holds."""

    partition: int
    state: Literal["restoring", "ready"]
    topics: Mapping[Topic, InputStatus]
    last_progress: float | None = None
    """`time.monotonic` at the last commit."""
    stream_time: Micros | None = None
    waits_for: str | None = None
    """Why its rules can't be used yet."""
    in_use: InUse | None = None
    """The rules in use; None with rules from a file."""


class WorkerStatus:
    """The worker as the group and the brokers see it."""

    def __init__(self, supervisor: Supervisor) -> None:
        """Report on this supervisor's worker."""
        self._supervisor = supervisor
        self._began = time.monotonic()

    @property
    def joined(self) -> bool:
        """Whether the group has given this worker an assignment, even an empty one."""
        return self._supervisor.joined

    @property
    def broker_reachable(self) -> bool:
        """Whether a broker recently answered a fetch or accepted a transaction; True for a while after the start."""
        latest = self._supervisor.last_answer
        return time.monotonic() - (self._began if latest is None else latest) < ANSWERED_WITHIN

    def partitions(self) -> list[HeldPartition]:
        """Return the partitions that this worker holds, restored or not."""
        open_ones = self._supervisor.processors
        return [
            _held(open_ones[number])
            if number in open_ones
            else HeldPartition(
                number,
                "restoring",
                {topic: InputStatus(None, None) for topic in Topic},
                waits_for=self._supervisor.waiting_for_rules.get(number),
            )
            for number in sorted(self._supervisor.assigned)
        ]


def _held(processor: PartitionProcessor) -> HeldPartition:
    stream_time = processor.partition.stream_time
    return HeldPartition(
        processor.number,
        "ready",
        {
            topic: InputStatus(processor.position(topic), processor.lag(topic), processor.lag_seconds(topic))
            for topic in Topic
        },
        processor.last_progress,
        stream_time if stream_time > 0 else None,
        in_use=processor.partition.in_use,
    )
