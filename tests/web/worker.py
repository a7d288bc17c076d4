"""A worker as the web server sees it, set by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from streams.core.model import SECOND
from streams.core.names import Topic
from streams.core.revisions import InUse
from streams.core.triggers import Action, Condition, Operator, Ruleset, Trigger


@dataclass
class Position:
    position: int | None
    lag: int | None
    lag_seconds: float | None = None


@dataclass
class Partition:
    partition: int
    state: str = "ready"
    topics: Mapping[Topic, Position] = field(default_factory=dict)
    last_progress: float | None = None
    stream_time: int | None = None
    waits_for: str | None = None
    in_use: InUse | None = None


@dataclass
class Worker:
    """A `StatusSource`."""

    held: list[Partition] = field(default_factory=list)
    joined: bool = True
    broker_reachable: bool = True

    def partitions(self) -> list[Partition]:
        return self.held


def a_partition(number: int, position: int = 10, lag: int | None = 0, **changes) -> Partition:
    topics = {Topic.TICKETS: Position(position, lag), Topic.SESSIONS: Position(position, 0)}
    return Partition(number, **{"topics": topics, "stream_time": 1_772_359_500 * SECOND, **changes})


RULESET = Ruleset(
    (
        Trigger(
            id="solve-abandoned",
            title="Solve abandoned conversations",
            position=1,
            all=(Condition("status", Operator.IS, "open"), Condition("priority", Operator.PRESENT)),
            actions=(Action("status", "solved"), Action("add_tags", ["abandoned_conversation"])),
            wait=60 * SECOND,
        ),
        Trigger(id="retired", title="<b>Retired</b>", position=2, actions=(), active=False),
    ),
    digest="9f2c41d0a7be",
)
