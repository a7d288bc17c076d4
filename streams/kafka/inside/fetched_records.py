"""Fetched records as aiokafka's decoder returns them, without aiokafka's wrapper around each record."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer.fetcher import FetchResult


def unwrap_fetched_records(consumer: AIOKafkaConsumer) -> None:
    """Make this consumer, which must have been started, return records as they were decoded.

    Decoded records have the offset, timestamp, key, value and headers that we read. aiokafka copies each into a
    dataclass of eleven fields, which costs more than decoding it. Only the copy has the topic and partition, and the
    caller knows those.
    """
    fetcher = consumer._fetcher
    process: Callable[[Any, Any, Any], Awaitable[bool]] = fetcher._proc_fetch_request

    async def process_and_unwrap(assignment: Any, node_id: Any, request: Any) -> bool:
        has_data = await process(assignment, node_id, request)
        for topic, asks in request.topics:
            for partition, *_ in asks:
                result = fetcher._records.get(TopicPartition(topic, partition))
                if isinstance(result, FetchResult) and result.has_more():
                    result._partition_records._consumer_record = _as_it_is
        return has_data

    fetcher._proc_fetch_request = process_and_unwrap


def _as_it_is(tp: TopicPartition, record: Any) -> Any:
    return record
