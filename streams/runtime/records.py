"""Fetched records as aiokafka's decoder makes them, without the wrapper that it puts around each one."""

from __future__ import annotations

from typing import Any

from aiokafka.consumer.fetcher import PartitionRecords


def unwrap_fetched_records() -> None:
    """Hand over what the decoder made: it has the offset, timestamp, key, value and headers that we read.

    aiokafka copies each record into a dataclass of eleven fields, which costs more than reading it from the wire. The
    topic and partition, which only the copy has, are known from the fetch. Holds for every consumer of the process.
    """
    PartitionRecords._consumer_record = _as_it_is


def _as_it_is(self: Any, tp: Any, record: Any) -> Any:
    return record
