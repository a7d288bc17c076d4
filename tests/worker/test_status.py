"""What the worker's status says before, while and after a broker answers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from streams.worker import status
from streams.worker.status import WorkerStatus


@pytest.mark.parametrize(
    ("seconds", "answered", "reachable"),
    [(1, None, True), (20, None, False), (20, 15, True), (40, 15, False)],
    ids=["just started", "never answered", "answered lately", "answered long ago"],
)
def test_a_broker_that_was_not_asked_yet_is_not_said_to_be_away(
    monkeypatch: pytest.MonkeyPatch, seconds: float, answered: float | None, reachable: bool
):
    now = [1_000.0]
    monkeypatch.setattr(status.time, "monotonic", lambda: now[0])
    supervisor: Any = SimpleNamespace(last_answer=None if answered is None else 1_000.0 + answered)
    worker = WorkerStatus(supervisor)
    now[0] += seconds
    assert worker.broker_reachable is reachable
