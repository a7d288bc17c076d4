"""What tests do with topics: make them, read them whole, ask how far a group has come. All waits are bounded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

_PATIENCE = 20.0
_MARKERS_SECONDS = 1.0
"""A transaction's end is answered before its markers are written: so long for those of the last ones."""


@asynccontextmanager
async def admin(bootstrap: str) -> AsyncIterator[AIOKafkaAdminClient]:
    """An admin client for the time of a block."""
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


async def create(
    bootstrap: str, names: Iterable[str], partitions: int, settings: Mapping[str, str] = {}, *, replicas: int = 1
) -> None:
    """Make topics; `settings` are topic configurations."""
    async with admin(bootstrap) as client:
        await client.create_topics(
            [NewTopic(name, partitions, replicas, topic_configs=dict(settings)) for name in names], timeout_ms=30_000
        )


async def ends(bootstrap: str, topic: str, partitions: int, *, committed: bool = True) -> dict[int, int]:
    """The end of each partition: of what is committed, or of everything."""
    level = "read_committed" if committed else "read_uncommitted"
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, isolation_level=level)
    async with consumer:
        found = await consumer.end_offsets([TopicPartition(topic, number) for number in range(partitions)])
    return {tp.partition: offset for tp, offset in found.items()}


async def read(
    bootstrap: str, topic: str, partitions: int, *, committed: bool = True, within: float = 120
) -> list[ConsumerRecord]:
    """All records of a topic that may be read now, partition by partition in offset order.

    Of transactions that stay open there is nothing; those that have just ended are waited for.
    """
    written = await ends(bootstrap, topic, partitions, committed=False) if committed else {}
    level = "read_committed" if committed else "read_uncommitted"
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        isolation_level=level,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=50,
        max_partition_fetch_bytes=4 << 20,
    )
    tps = [TopicPartition(topic, number) for number in range(partitions)]
    found: dict[TopicPartition, list[ConsumerRecord]] = {tp: [] for tp in tps}
    async with consumer, asyncio.timeout(within):
        consumer.assign(tps)
        last = await consumer.end_offsets(tps)
        deadline = time.monotonic() + _MARKERS_SECONDS
        while any(last[tp] < written.get(tp.partition, 0) for tp in tps) and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
            last = await consumer.end_offsets(tps)
        await consumer.seek_to_beginning(*tps)
        # Positions pass over transaction markers and aborted records, so they get to the end by themselves.
        while any([await consumer.position(tp) < last[tp] for tp in tps]):
            for tp, records in (await consumer.getmany(timeout_ms=200)).items():
                found[tp] += records
    return [record for tp in tps for record in found[tp] if record.offset < last[tp]]


async def committed_offsets(bootstrap: str, group: str) -> dict[TopicPartition, int]:
    """What a group has committed; waits a little for a coordinator that is just starting."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            async with admin(bootstrap) as client:
                found = await client.list_consumer_group_offsets(group)
            break
        except KafkaError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.2)
    return {TopicPartition(*tp): at.offset for tp, at in found.items() if at.offset >= 0}


async def lag(bootstrap: str, group: str, topics: Iterable[str], partitions: int) -> int:
    """Records of `topics` that the group has not committed."""
    done, behind = await committed_offsets(bootstrap, group), 0
    for topic in topics:
        for partition, end in (await ends(bootstrap, topic, partitions)).items():
            behind += end - done.get(TopicPartition(topic, partition), 0)
    return behind


async def until_no_lag(bootstrap: str, group: str, topics: Iterable[str], partitions: int, *, within: float) -> None:
    """Wait until a group has committed all there is; fails with what is left after `within` seconds."""
    topics, deadline, left = list(topics), time.monotonic() + within, -1
    while time.monotonic() < deadline:
        left = await lag(bootstrap, group, topics, partitions)
        if left == 0:
            return
        await asyncio.sleep(0.3)
    raise AssertionError(f"The group {group} was still {left} records behind after {within:.0f} s.")
