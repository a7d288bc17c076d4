"""A first start over topics with a history needs a setting for which part of it to act on."""

from __future__ import annotations

from aiokafka import TopicPartition

from streams.core.errors import Refused
from streams.kafka.brokers import admin_client, patiently, plain_consumer
from streams.kafka.config import KafkaConfig


async def require_act_from(config: KafkaConfig, partitions: int) -> None:
    """Raise `Refused` when the group has never read, the inputs are not empty, and `act_from` is not set."""
    if config.act_from_is_set:
        return
    tps = [TopicPartition(name, number) for name in config.inputs for number in range(partitions)]
    if await _has_read(config, tps):
        return
    async with plain_consumer(config) as consumer:
        first = await patiently("Can't read the inputs' ends", config, lambda: consumer.beginning_offsets(tps))
        last = await patiently("Can't read the inputs' ends", config, lambda: consumer.end_offsets(tps))
    filled = sorted({tp.topic for tp in tps if last[tp] > first[tp]})
    if filled:
        raise Refused(
            f"The group {config.group} has never read {' and '.join(filled)}, and there are records. Which lapses are "
            "to be acted on? Set act_from: to `now` to leave all history alone, to a time (2026-03-01T00:00:00Z) to "
            "leave everything before it alone, or to `beginning` to act on all of it. Whatever it is, the records "
            "before it still fill the tables."
        )


async def _has_read(config: KafkaConfig, tps: list[TopicPartition]) -> bool:
    async with admin_client(config) as admin:

        async def ask() -> bool:
            coordinator = await admin.find_coordinator(config.group)
            offsets = await admin.list_consumer_group_offsets(config.group, coordinator, tps)
            return any(at.offset >= 0 for at in offsets.values())

        return await patiently("Can't read the group's offsets", config, ask)
