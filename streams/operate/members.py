"""Which machine holds a partition, according to the group coordinator."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import KafkaError

from streams.core.errors import LapseError
from streams.kafka.brokers import admin_client
from streams.kafka.config import KafkaConfig

_SECONDS = 2.0
"""Short, because a user is waiting for a page."""


async def host_of(config: KafkaConfig, partition: int) -> str | None:
    """Return the client address of the worker that holds a partition, as the broker sees it; None when unknown."""
    try:
        async with asyncio.timeout(_SECONDS), admin_client(config) as admin:
            answers = await admin.describe_consumer_groups([config.group])
    except (KafkaError, LapseError, OSError, TimeoutError):
        return None
    return next((host for host, held in _members(answers) if partition in held), None)


def _members(answers: list[Any]) -> Iterator[tuple[str, set[int]]]:
    for answer in answers:
        for group in answer.groups:
            for _, _, host, _, assignment in group[5]:
                if assignment:
                    topics = ConsumerProtocolMemberAssignment.decode(assignment).assignment
                    yield host.lstrip("/"), {number for _, numbers in topics for number in numbers}
