"""When a worker gives up: after `broker_patience` without progress, and not before the trouble has begun."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from streams.core.model import SECOND
from streams.kafka.config import KafkaConfig
from streams.wire.decode import decode
from streams.wire.rows import MsgpackRows
from streams.worker import supervisor as module
from streams.worker.observer import Silent
from streams.worker.supervisor import Supervisor
from tests.worker.kit import engine

PATIENCE = 1_800


class Worker:
    """A supervisor with a clock of its own. Only what its end without progress asks for is there."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_000.0
        self.failures: list[BaseException] = []
        signal = SimpleNamespace(connect=lambda _: None)
        self.consumer = SimpleNamespace(last_answer=None, last_heartbeat=None)
        app: Any = SimpleNamespace(
            clock=lambda: 0,
            runtime=KafkaConfig(broker_patience=PATIENCE * SECOND),
            consumer=self.consumer,
            fail=self.failures.append,
            on_partitions_revoked=signal,
            on_partitions_assigned=signal,
        )
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now))
        self.supervisor = Supervisor(app, engine(), decode=decode, rows=MsgpackRows(), observer=Silent())

    def open(self, *numbers: int) -> None:
        self.supervisor._assigned = self.supervisor._assigned | set(numbers)
        for number in numbers:
            self.supervisor.processors[number] = SimpleNamespace(last_progress=None)  # type: ignore[assignment]

    def close(self, number: int) -> None:
        """As when its commit failed: it stays assigned."""
        del self.supervisor.processors[number]

    def live(self, seconds: int, *, answered: bool) -> None:
        """Let time pass, with a look every second."""
        for _ in range(seconds):
            self.now += 1
            if answered:
                self.consumer.last_answer = self.now
            self.supervisor._end_without_progress()

    def freeze(self, seconds: int) -> None:
        """Let time pass without a look, and look once, before any answer is read."""
        self.now += seconds
        self.supervisor._end_without_progress()


def test_a_worker_that_was_idle_is_patient_with_the_first_trouble(monkeypatch):
    worker = Worker(monkeypatch)
    worker.open(0, 1)
    worker.live(2 * PATIENCE, answered=True)
    worker.close(1)
    worker.live(PATIENCE - 1, answered=True)
    assert worker.failures == []
    worker.live(2, answered=True)
    assert len(worker.failures) > 0


def test_progress_of_a_partition_counts_after_it_was_closed(monkeypatch):
    worker = Worker(monkeypatch)
    worker.open(0, 1)
    worker.close(0)
    worker.live(PATIENCE - 1, answered=False)
    worker.supervisor.processors[1].last_progress = worker.now
    worker.live(1, answered=False)
    worker.close(1)
    worker.live(PATIENCE - 2, answered=False)
    assert worker.failures == []


def test_a_worker_ends_when_a_partition_stays_closed_for_its_patience(monkeypatch):
    worker = Worker(monkeypatch)
    worker.open(0, 1)
    worker.close(1)
    worker.live(PATIENCE + 1, answered=True)
    (error, *_) = worker.failures
    assert str(error).startswith(f"No progress for {PATIENCE + 1} s. The latest trouble: ")


def test_a_worker_that_was_frozen_for_longer_than_its_patience_goes_on(monkeypatch):
    worker = Worker(monkeypatch)
    worker.open(0, 1)
    worker.live(10, answered=True)
    worker.freeze(2 * PATIENCE)
    worker.live(10, answered=True)
    assert worker.failures == []


def test_what_counted_before_a_freeze_counts_after_it(monkeypatch):
    worker = Worker(monkeypatch)
    worker.open(0, 1)
    worker.live(PATIENCE - 20, answered=False)
    worker.freeze(PATIENCE)
    assert worker.failures == []
    worker.live(20, answered=False)
    assert len(worker.failures) > 0
