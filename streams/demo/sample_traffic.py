"""The demo's traffic without the demo, written to the topics of an installation that runs separately.

Customers come and go as in `lapse demo`, and a simulated helpdesk applies the commands that it reads, so that every
panel of a dashboard shows data.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from streams.core.errors import Failed
from streams.core.names import Output, Topic
from streams.demo.demo import PACE, RECORDS_A_CONVERSATION
from streams.demo.desk import Desk
from streams.demo.feed import feed
from streams.kafka.brokers import client_arguments
from streams.kafka.config import KafkaConfig
from streams.kafka.topics import require_topics
from streams.testing.traffic import Profile, generate
from streams.wire import instants


def write_sample_traffic(config: KafkaConfig, rate: float, seconds: float | None) -> int:
    """Write about `rate` records per second until the time is over or a stop signal arrives; return how many.

    Raises `Refused` if the topics are not suitable, `Failed` if the broker rejects a record.
    """
    try:
        return asyncio.run(_write(config, rate, seconds))
    except KafkaError as error:
        raise Failed(f"The broker refused: {error}") from error


async def _write(config: KafkaConfig, rate: float, seconds: float | None) -> int:
    partitions = (await require_topics(config)).existing[0].partitions
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    now = time.time()
    profile = Profile(
        seed=int(now),
        start=int(now * 1000),
        first_ticket=int(now),  # new tickets at every start: for tickets of an earlier run these records would be stale
        rate=rate / RECORDS_A_CONVERSATION,
        pace=PACE,
        duration=seconds,
    )
    desk = Desk()
    written = 0

    def count(records: int) -> None:
        nonlocal written
        written += records

    async with _clients(config, partitions) as (producer, consumer), asyncio.TaskGroup() as tasks:
        applying = tasks.create_task(_carry_out(config, desk, consumer, producer))
        records = map(desk.through, generate(profile))
        await feed(producer, records, name=config.topic, stop=stop, on_fed=count)
        applying.cancel()
    return written


async def _carry_out(config: KafkaConfig, desk: Desk, consumer: AIOKafkaConsumer, producer: AIOKafkaProducer) -> None:
    async for command in consumer:
        now = int(time.time() * 1000)
        update = desk.apply(msgspec.json.decode(command.value), instants.text(now * 1000), now)
        await producer.send(config.topic(Topic.TICKETS.value), update.value, update.key, timestamp_ms=update.timestamp)


@contextlib.asynccontextmanager
async def _clients(config: KafkaConfig, partitions: int) -> AsyncIterator[tuple[AIOKafkaProducer, AIOKafkaConsumer]]:
    producer = AIOKafkaProducer(**client_arguments(config), linger_ms=2)
    consumer = AIOKafkaConsumer(**client_arguments(config), isolation_level="read_committed")
    async with contextlib.AsyncExitStack() as stack:
        for client in (producer, consumer):
            await client.start()
            stack.push_async_callback(client.stop)
        consumer.assign([TopicPartition(config.topic(Output.COMMANDS), number) for number in range(partitions)])
        await consumer.seek_to_end()
        yield producer, consumer
