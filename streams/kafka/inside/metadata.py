"""Cluster metadata of a consumer. aiokafka's consumer neither exposes leaders nor waits for a topic."""

from __future__ import annotations

from aiokafka import AIOKafkaConsumer, TopicPartition


def leader_of(consumer: AIOKafkaConsumer, tp: TopicPartition) -> int | None:
    """Return the id of a topic-partition's leader, if known."""
    leader: int | None = consumer._client.cluster.leader_for_partition(tp)
    return leader


async def wait_for_topic(consumer: AIOKafkaConsumer, topic: str) -> None:
    """Wait until this consumer knows the partitions of a topic that exists."""
    await consumer._client._wait_on_metadata(topic)
