"""Batches as the core would hand them to telemetry."""

from __future__ import annotations

from types import SimpleNamespace

from streams.core.batch import Batch
from streams.core.inputs import DeadLetter
from streams.core.model import Evaluation, Fact, Kind, Rejection, RoundOutcome, Transition
from streams.core.names import Topic


def a_batch(**changes) -> Batch:
    return Batch(**changes)


def a_dead_letter(topic: Topic, code: str, value: bytes = b"{") -> DeadLetter:
    record = SimpleNamespace(offset=3, timestamp=0, key=b"1", value=value, headers=())
    return DeadLetter(topic, record, Rejection(code, "$", "no good"))


def an_evaluation(ticket_id: str = "1", **changes) -> Evaluation:
    values = {
        "event_id": "e",
        "occurred_at": 1_772_359_500_000_000,
        "episode": 1,
        "wait": 0,
        "outcome": RoundOutcome.NO_MATCH,
    }
    return Evaluation(ticket_id=ticket_id, **{**values, **changes})


def a_transition(ticket_id: str = "1", **changes) -> Transition:
    values = {
        "event_id": "e",
        "occurred_at": 1_772_359_500_000_000,
        "session_id": None,
        "kind": Kind.LAPSED,
        "before": "active",
        "after": "inactive",
        "reason": "user_inactive_or_offline",
        "episode": 1,
        "channel": "web",
    }
    return Transition(ticket_id=ticket_id, **{**values, **changes})


def facts(*rows: tuple) -> list[Fact]:
    return [Fact(*row) for row in rows]
