"""A broker that goes away and comes back while a worker runs."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from streams.core.errors import Failed
from streams.core.model import SECOND
from tests.kafka_kit.broker import Broker
from tests.kafka_kit.fixtures import require_java
from tests.worker.kit import Running, committed_offsets, config_for, running, send, topics
from tests.worker.test_worker import commanded, lapses, once


@pytest.fixture
def own_broker() -> Any:
    require_java()
    with Broker() as broker:
        yield broker


async def _committed(worker: Running, records: int, within: float) -> None:
    """Wait until the group has committed that many records.

    What the worker has noted is not enough: the broker may have committed a batch whose answer never came.
    """
    deadline = time.monotonic() + within
    while (found := sum(at.offset for at in (await committed_offsets(worker.config)).values())) < records:
        assert worker.task is not None and not worker.task.done(), "the worker has ended"
        assert time.monotonic() < deadline, f"{found} of {records} records within {within:.0f} s"
        await asyncio.sleep(0.25)


async def test_a_broker_that_is_killed_and_comes_back_costs_nothing(own_broker: Broker, topic_prefix: str) -> None:
    config = await topics(config_for(own_broker, topic_prefix, broker_patience=90 * SECOND), 2)
    async with running(config) as worker:
        await worker.until(lambda: worker.held == {0, 1})
        await send(config, lapses(0, 100), 2)
        await worker.until(lambda: worker.notes.taken > 0)
        # Very likely within a transaction.
        await asyncio.to_thread(own_broker.kill)
        await asyncio.sleep(2)
        await asyncio.to_thread(own_broker.start)
        await _committed(worker, 300, 60)
        await send(config, lapses(100, 50), 2)
        await _committed(worker, 450, 60)
    assert await commanded(config) == once(0, 150)


async def test_a_broker_that_stays_frozen_longer_than_transactions_live_costs_nothing(
    own_broker: Broker, topic_prefix: str
) -> None:
    """Its connections stay open and nothing answers; when it wakes, it may have given our transactions up."""
    config = await topics(
        config_for(
            own_broker,
            topic_prefix,
            broker_patience=90 * SECOND,
            transaction_timeout=3 * SECOND,
            request_timeout=4 * SECOND,
        ),
        2,
    )
    async with running(config) as worker:
        await worker.until(lambda: worker.held == {0, 1})
        await send(config, lapses(0, 100), 2)
        await worker.until(lambda: worker.notes.taken > 0)
        own_broker.pause()
        await asyncio.sleep(12)
        own_broker.resume()
        await _committed(worker, 300, 120)
        await send(config, lapses(100, 50), 2)
        await _committed(worker, 450, 120)
    assert await commanded(config) == once(0, 150)


async def test_a_broker_that_stays_away_ends_the_worker_with_one_message(own_broker: Broker, topic_prefix: str) -> None:
    config = await topics(config_for(own_broker, topic_prefix, broker_patience=15 * SECOND, batch_records=100))
    await send(config, lapses(0, 1000), 1)
    worker = Running(config).start()
    await worker.until(lambda: worker.notes.taken > 0)
    own_broker.kill()
    with pytest.raises(Failed, match=r"No progress for \d+ s\. The latest trouble: "):
        await asyncio.wait_for(worker.task, 120)
    assert worker.notes.taken < 3000
