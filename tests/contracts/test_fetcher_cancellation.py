"""Faust's fetcher takes a cancellation during a rebalance for a crash; `App.leave` works around it."""

from __future__ import annotations

import asyncio

import pytest
from faust.transport.consumer import Fetcher

from streams.host.app import App
from streams.host.clock import Clock
from streams.kafka.config import KafkaConfig


class Waiting:
    """A consumer that never has anything."""

    async def _drain_messages(self, _: Fetcher) -> None:
        await asyncio.sleep(60)


async def cancelled(*, rebalancing: bool) -> Fetcher:
    app = App(KafkaConfig(brokers=("127.0.0.1:1",)), Clock())
    app.consumer = Waiting()  # type: ignore[assignment]
    app.rebalancing = rebalancing
    fetcher = Fetcher(app)
    task = asyncio.ensure_future(Fetcher._fetcher(fetcher))
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.result()
    return fetcher


async def test_a_fetcher_that_is_cancelled_during_a_rebalance_crashes() -> None:
    with pytest.raises(AttributeError, match="wakeup"):
        await cancelled(rebalancing=True)


async def test_a_fetcher_that_is_cancelled_at_any_other_time_ends_quietly() -> None:
    assert not (await cancelled(rebalancing=False)).crashed
