"""`lapse` as it is, but for the group's clocks: a dead or frozen worker is missed after seconds instead of 45.

Nothing of Lapse is changed; aiokafka's consumer gets other timings than it is asked for. `python -m
tests.system.entry run` is what the system tests start.
"""

from __future__ import annotations

from typing import Any

import aiokafka

SESSION_TIMEOUT = 6.0
"""Seconds after which the group gives up a worker that says nothing."""

_TIMINGS = {
    "session_timeout_ms": int(SESSION_TIMEOUT * 1000),
    "heartbeat_interval_ms": 1000,
    "rebalance_timeout_ms": 10_000,
}


def hurry() -> None:
    """Make every consumer of this process use the timings of the tests."""
    given = aiokafka.AIOKafkaConsumer.__init__

    def init(self: aiokafka.AIOKafkaConsumer, *topics: str, **arguments: Any) -> None:
        if arguments.get("group_id") is not None:
            arguments.update(_TIMINGS)
        given(self, *topics, **arguments)

    aiokafka.AIOKafkaConsumer.__init__ = init


if __name__ == "__main__":
    from streams.cli import main

    hurry()
    main()
