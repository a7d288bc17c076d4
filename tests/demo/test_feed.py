"""The feed sends the past at once and the future when it comes, and stops when told."""

from __future__ import annotations

import asyncio
import time

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from streams.core.names import Topic
from streams.demo.broker import EmbeddedBroker
from streams.demo.feed import feed
from streams.testing.traffic import Record


def record(seconds_ahead: float, value: bytes) -> Record:
    return Record(Topic.TICKETS, b"1", value, int((time.time() + seconds_ahead) * 1000))


async def run_feed(
    records: list[Record], stop: asyncio.Event, ahead: float | None = None
) -> tuple[list[bytes], int, float]:
    """Return the values on the broker, how many the feed told of, and how long it took.

    With `ahead`, a last record follows that is so many seconds in the future when the feed begins.
    """
    told = 0

    def on_fed(count: int) -> None:
        nonlocal told
        told += count

    with EmbeddedBroker() as broker:
        producer = AIOKafkaProducer(bootstrap_servers=broker.address)
        await producer.start()
        if ahead is not None:
            records = [*records, record(ahead, b"last")]
        started = time.monotonic()
        await feed(producer, records, name=lambda topic: f"p-{topic}", stop=stop, on_fed=on_fed)
        took = time.monotonic() - started
        await producer.stop()
        consumer = AIOKafkaConsumer(bootstrap_servers=broker.address)
        await consumer.start()
        consumer.assign([TopicPartition("p-ticket-updates", 0)])
        await consumer.seek_to_beginning()
        values = [(await consumer.getone()).value for _ in range(told)]
        await consumer.stop()
    return values, told, took


async def test_the_past_goes_at_once_and_the_future_waits():
    past = [record(-60, b"%d" % n) for n in range(2_500)]
    values, told, took = await run_feed(past, asyncio.Event(), ahead=0.6)
    assert told == len(past) + 1
    assert values == [*(r.value for r in past), b"last"]
    assert 0.5 < took < 30


async def test_a_stop_ends_the_wait_and_all_that_was_sent_is_told():
    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(0.2, stop.set)
    values, told, took = await run_feed([record(-1, b"sent"), record(3600, b"never")], stop)
    assert (values, told) == ([b"sent"], 1)
    assert took < 30
