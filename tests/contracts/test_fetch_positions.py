"""Where the consumer stands, and the ends that the latest answer showed."""

from __future__ import annotations

import asyncio
from typing import Any

from aiokafka import TopicPartition

from streams.core.names import Topic
from tests.contracts.test_fetch import fill
from tests.worker.kit import (
    config_for,
    eventually,
    hosting,
    open_inbox,
    producing,
    topics,
)


async def test_the_end_is_where_open_transactions_begin(kafka: Any, topic_prefix: str) -> None:
    """SPEC section 1: an input is at its end at the last stable offset; what lies behind may still be aborted."""
    config = await topics(config_for(kafka, topic_prefix))
    tickets = config.topic(Topic.TICKETS.value)
    async with (
        hosting(config) as app,
        producing(config, transactional_id=f"{topic_prefix}upstream") as upstream,
    ):
        await eventually(lambda: app.consumer.generation > 0)
        inbox = open_inbox(app, tickets, 0)
        await fill(config, tickets, 2)
        await upstream.begin_transaction()
        await upstream.send_and_wait(tickets, key=b"k", value=b"open", partition=0)
        await fill(config, tickets, 1)
        await eventually(lambda: inbox.queued == 2)
        started = app.clock()
        await eventually(lambda: inbox.at_end_since > started)
        assert app.consumer.stable_end(inbox.tp) == 2
        assert app.consumer.held_back(inbox.tp) == 2
        await upstream.abort_transaction()
        await eventually(lambda: inbox.queued == 3)
        # The aborted record and its marker lie before and behind; the position passes both.
        assert [r.value for records, _ in inbox.take() for r in records] == [b"v0", b"v1", b"v0"]
        await eventually(lambda: app.consumer.stable_end(inbox.tp) == 5)
        await eventually(lambda: app.consumer.at_end(inbox.tp))
        assert app.consumer.held_back(inbox.tp) == 0


async def test_aiokafka_counts_a_position_it_was_given_as_valid(kafka: Any, topic_prefix: str) -> None:
    """Without it, a partition that the group never read would fail the consumer before its processor is open."""
    config = await topics(config_for(kafka, topic_prefix))
    tickets = config.topic(Topic.TICKETS.value)
    await fill(config, tickets, 3)
    async with hosting(config) as app:
        await eventually(lambda: app.consumer.generation > 0)
        await asyncio.sleep(1.2)
        assert not app.failure.done()
        assert await app.consumer.kafka.position(TopicPartition(tickets, 0)) == 0
