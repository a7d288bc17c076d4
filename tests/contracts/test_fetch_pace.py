"""How long the broker holds its next answer."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from streams.core.model import SECOND
from streams.core.names import Topic
from tests.worker.kit import (
    config_for,
    eventually,
    hosting,
    open_inbox,
    producing,
    topics,
)


async def test_the_broker_holds_an_answer_after_a_fetch_of_several_partitions_and_not_after_an_empty_one(
    kafka: Any, topic_prefix: str
) -> None:
    """Each partition with records is a transaction to come; the answer that is held brings more for each."""
    config = await topics(config_for(kafka, topic_prefix, fetch_pause=SECOND // 10), 4)
    tickets = config.topic(Topic.TICKETS.value)
    async with hosting(config) as app, producing(config) as producer:
        await eventually(lambda: app.consumer.generation > 0)
        inboxes = [open_inbox(app, tickets, number) for number in range(4)]
        await eventually(lambda: all(inbox.at_end_since for inbox in inboxes))

        async def arrival(partitions: range) -> float:
            before = sum(inbox.queued for inbox in inboxes)
            for number in partitions:
                await producer.send(tickets, key=b"k", value=b"v", partition=number)
            await producer.flush()
            began = time.monotonic()
            await eventually(lambda: sum(inbox.queued for inbox in inboxes) == before + len(partitions))
            return time.monotonic() - began

        async def quiet() -> None:
            """Wait until two answers in a row were empty, after which nothing is held any more."""
            await eventually(lambda: app.consumer.kafka._fetcher._fetch_min_bytes == 1)
            await asyncio.sleep(0.6)

        async def after_several() -> float:
            await quiet()
            await arrival(range(4))
            return await arrival(range(1))

        async def after_none() -> float:
            await quiet()
            return await arrival(range(1))

        # A busy machine makes single arrivals slow, and may spread four records over several fetches.
        assert max([await after_several() for _ in range(5)]) > 0.1
        assert min([await after_none() for _ in range(5)]) < 0.1
