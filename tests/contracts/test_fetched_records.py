"""Records as the decoder made them."""

from __future__ import annotations

from typing import Any

from aiokafka import ConsumerRecord

from streams.core.names import Topic
from tests.worker.kit import (
    config_for,
    eventually,
    hosting,
    open_inbox,
    producing,
    read_all,
    topics,
)


async def test_records_are_the_decoders_own_with_all_that_is_read_of_them(kafka: Any, topic_prefix: str) -> None:
    """aiokafka's copy of each record costs more than the decoding; other consumers of the process keep theirs."""
    config = await topics(config_for(kafka, topic_prefix))
    tickets = config.topic(Topic.TICKETS.value)
    async with hosting(config) as app, producing(config) as producer:
        await eventually(lambda: app.consumer.generation > 0)
        inbox = open_inbox(app, tickets, 0)
        await producer.send_and_wait(
            tickets, key=b"k", value=b"v", partition=0, timestamp_ms=1_772_359_200_123, headers=[("ce_id", b"1")]
        )
        await eventually(lambda: inbox.queued)
        ((records, _),) = inbox.take()
        (record,) = records
        assert not isinstance(record, ConsumerRecord)
        assert (record.offset, record.timestamp, record.key, record.value) == (0, 1_772_359_200_123, b"k", b"v")
        assert list(record.headers) == [("ce_id", b"1")]
        (other,) = await read_all(config, tickets)
        assert isinstance(other, ConsumerRecord)
