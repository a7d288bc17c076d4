"""Batches that can't be decoded, as aiokafka meets them."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import FetchResult, PartitionRecords
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c

from streams.core.errors import Refused
from streams.kafka.inside import undecodable


def damaged(codec: int) -> bytes:
    """Two batches, the second with a valid checksum around bytes that are not what its codec says."""
    good = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, 1 << 16)
    good.append(0, 1, b"k", b"v", [])
    bad = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, 1 << 16)
    bad.append(0, 1, b"k", b"this was never compressed", [])
    data = bytearray(bad.build())
    struct.pack_into(">q", data, 0, 1)
    struct.pack_into(">h", data, 21, codec)
    struct.pack_into(">I", data, 17, calc_crc32c(bytes(data[21:])))
    return bytes(good.build()) + bytes(data)


@pytest.mark.parametrize("codec", [1, 2, 3, 4])
async def test_aiokafka_lets_errors_of_codecs_through_and_forgets_the_records_before(codec: int) -> None:
    """Why `name_undecodable_batches` exists, and why nobody may go on after such an error."""
    taken, error = take_from(damaged(codec), named=False)
    assert taken == []
    assert not isinstance(error, Refused)
    _, error = take_from(damaged(codec), named=True)
    assert isinstance(error, undecodable.Undecodable)
    assert error.offset == 1
    assert str(error).startswith("t-0: the record batch at offset 1 can't be decoded (")


def take_from(data: bytes, *, named: bool) -> tuple[list[Any], BaseException | None]:
    tp = TopicPartition("t", 0)
    subscription = SubscriptionState()
    subscription.assign_from_user([tp])
    assignment = subscription.subscription.assignment
    assignment.state_value(tp).reset_to(0)
    records = PartitionRecords(tp, MemoryRecords(data), [], 0, None, None, True, 0)
    result = FetchResult(tp, assignment=assignment, partition_records=records, backoff=0)
    if named:
        undecodable._name(tp, result)
    try:
        return result.getall(), None
    except Exception as error:
        return (result.getall() if result.has_more() else []), error
