"""Commands as a worker writes them, for tests of `lapse apply`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from streams.core.command import command_id
from streams.core.partitioning import partition_of
from streams.kafka.config import KafkaConfig
from streams.wire import instants
from tests.worker.kit import producing

SOLVE = ({"field": "status", "value": "solved"}, {"field": "add_tags", "value": ["abandoned_conversation"]})


def now_us() -> int:
    return time.time_ns() // 1_000


def command(
    ticket: int | str = 1,
    *,
    actions: Iterable[Mapping[str, Any]] = SOLVE,
    expected: Mapping[str, Any] | None = None,
    issued_at: int | None = None,
    trigger: str = "solve-abandoned",
    episode: int = 1,
) -> dict[str, Any]:
    issued = instants.text(now_us() if issued_at is None else issued_at)
    return {
        "command_id": command_id(str(ticket), f"s-{ticket}-{episode}", episode, 0),
        "type": "ticket.update",
        "ticket_id": str(ticket),
        "issued_at": issued,
        "transition": {
            "episode": episode,
            "from": "active",
            "to": "inactive",
            "reason": "user_inactive_or_offline",
            "occurred_at": issued,
            "event_id": f"s-{ticket}-{episode}",
        },
        "wait_ms": 0,
        "triggers": [{"id": trigger, "title": trigger}],
        "actions": list(actions),
        "expected": {"status": "open", "updated_at": issued} if expected is None else dict(expected),
        "ruleset": "9f2c41d0a7be",
    }


async def write(
    config: KafkaConfig, commands: Iterable[Mapping[str, Any]], partitions: int, headers: Any = None
) -> None:
    """Write commands to `action-commands`, each to the partition of its ticket."""
    async with producing(config) as producer:
        for one in commands:
            key = str(one["ticket_id"]).encode()
            await producer.send(
                config.topic("action-commands"),
                msgspec.json.encode(one),
                key,
                partition=partition_of(key, partitions),
                headers=headers,
            )
        await producer.flush()
