"""Sends traffic at the time of its timestamps: past records at once, future ones when they are due."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any

from aiokafka import AIOKafkaProducer

from streams.testing.traffic import Record

# Number of records in flight before the feed waits for the broker.
_UNDER_WAY = 1_000


async def feed(
    producer: AIOKafkaProducer,
    records: Iterable[Record],
    *,
    name: Callable[[str], str],
    stop: asyncio.Event,
    on_fed: Callable[[int], None],
) -> None:
    """Send `records` until they end or `stop` is set; call `on_fed` with each number of records acknowledged.

    `name` maps the default name of a topic to its name on the broker.

    Raises aiokafka's error if the broker rejects a record.
    """
    under_way: list[asyncio.Future[Any]] = []

    async def settle() -> None:
        await asyncio.gather(*under_way)
        on_fed(len(under_way))
        under_way.clear()

    for record in records:
        ahead = record.timestamp / 1000 - time.time()
        if ahead > 0 or len(under_way) >= _UNDER_WAY:
            await settle()
            if await _stopped_within(stop, max(0.0, ahead)):
                return
        under_way.append(
            await producer.send(name(record.topic.value), record.value, record.key, timestamp_ms=record.timestamp)
        )
    await settle()


async def _stopped_within(stop: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            return await stop.wait()
    except TimeoutError:
        return False
