"""SIGTERM ends a worker within five seconds and with exit code 0, whatever it is doing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from tests.kafka_kit.broker import Broker
from tests.kafka_kit.fixtures import require_java
from tests.kafka_kit.proxy import Api, Delay, Fault, Match, Proxy, Swallow
from tests.system.installation import Installation
from tests.system.pump import Pump
from tests.system.traffic import stories
from tests.system.waiting import eventually
from tests.system.worker import Worker

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

_STOP_SECONDS = 5.0
_STALLS_SECONDS = 5.0
"""For how long a busy machine may stand still meanwhile."""


@pytest.fixture(scope="module")
def proxied() -> Iterator[Broker]:
    require_java()
    with Broker(proxied=1) as broker:
        yield broker


class Place:
    """An installation of three partitions behind a proxy, and its workers."""

    def __init__(self, broker: Broker, proxy: Proxy, prefix: str, logs: Path) -> None:
        self.broker, self.proxy = broker, proxy
        self.installation = Installation(broker, prefix, 3, logs)
        self.workers: list[Worker] = []
        self.pumping: asyncio.Task[None] | None = None

    def start(self, name: str = "worker") -> Worker:
        """Start a worker behind the proxy."""
        self.workers.append(self.installation.worker(name, brokers=self.proxy.bootstrap))
        self.workers[-1].start()
        return self.workers[-1]

    async def ready(self, worker: Worker) -> Worker:
        """Wait until it says so."""
        await eventually(lambda: worker.get("/readyz") is not None, 60, f"{worker.name} is not ready")
        return worker

    def pump(self) -> None:
        """Let records come, past the proxy."""
        pump = Pump(self.broker.bootstrap, self.installation.prefix, 3, stories(5), rate=300, count=1_000_000)
        self.pumping = asyncio.create_task(pump.run())

    async def hit(self, match: Match, fault: Fault) -> None:
        """Do something to a request, and wait until it was done."""
        injection = self.proxy.inject(match, fault)
        await eventually(lambda: injection.done, 30, "the request")


@pytest.fixture
async def place(proxied: Broker, topic_prefix: str, tmp_path: Path) -> AsyncIterator[Place]:
    async with Proxy(proxied) as proxy:
        made = Place(proxied, proxy, topic_prefix, tmp_path)
        await made.installation.create()
        yield made
        if made.pumping is not None:
            made.pumping.cancel()
            await asyncio.gather(made.pumping, return_exceptions=True)
        for worker in made.workers:
            worker.kill()


async def idle(place: Place) -> Worker:
    return await place.ready(place.start())


async def under_load(place: Place) -> Worker:
    place.pump()
    worker = await place.ready(place.start())
    await asyncio.wait_for(place.proxy.next(Match(Api.END_TXN)), 30)
    return worker


async def joining_a_group_whose_other_member_was_killed(place: Place) -> Worker:
    other = await place.ready(place.start("other"))
    other.kill()
    worker = place.start()
    await asyncio.wait_for(place.proxy.next(Match(Api.JOIN_GROUP), "forwarded"), 30)
    # The first answer names the member id to join with; the second comes when the killed one is given up.
    await asyncio.wait_for(place.proxy.next(Match(Api.JOIN_GROUP), "forwarded"), 30)
    return worker


async def rebalancing(place: Place) -> Worker:
    worker = await place.ready(place.start())
    synced = place.proxy.inject(Match(Api.SYNC_GROUP), Delay(60.0, at_most=60, answer=True), times=10)
    place.start("other")
    await eventually(lambda: synced.hits != [], 30, "SyncGroup")
    return worker


async def restoring_a_large_changelog(place: Place) -> Worker:
    place.pump()
    before = await place.ready(place.start("before"))
    await asyncio.wait_for(place.proxy.next(Match(Api.END_TXN)), 30)
    assert await asyncio.to_thread(before.stop) == 0
    changelog = f"{place.installation.group}-tickets-changelog"
    slow = place.proxy.inject(Match(Api.FETCH, topic=changelog), Delay(60.0, at_most=60, answer=True), times=1_000)
    worker = place.start()
    await eventually(lambda: slow.hits != [], 30, "a fetch of the changelog")
    return worker


async def broker_away_at_the_start(place: Place) -> Worker:
    await place.proxy.go_away()
    worker = place.start()
    await eventually(lambda: "127.0.0.1" in worker.tail(), 30, "a message about the broker")
    return worker


async def broker_away_later(place: Place) -> Worker:
    place.pump()
    worker = await place.ready(place.start())
    await asyncio.wait_for(place.proxy.next(Match(Api.END_TXN)), 30)
    await place.proxy.go_away()
    await eventually(lambda: "brokers" in worker.tail(), 30, "a message about the broker")
    return worker


def _frozen(api: Api) -> Callable[[Place], Awaitable[Worker]]:
    async def frozen(place: Place) -> Worker:
        place.pump()
        worker = await place.ready(place.start())
        await place.hit(Match(api), Swallow())
        return worker

    frozen.__name__ = f"answer_of_{api.name.lower()}_outstanding"
    return frozen


async def answer_of_init_producer_id_outstanding(place: Place) -> Worker:
    swallowed = place.proxy.inject(Match(Api.INIT_PRODUCER_ID), Swallow())
    worker = place.start()
    await eventually(lambda: swallowed.done, 30, "InitProducerId")
    return worker


STATES = [
    idle,
    under_load,
    joining_a_group_whose_other_member_was_killed,
    rebalancing,
    restoring_a_large_changelog,
    broker_away_at_the_start,
    broker_away_later,
    _frozen(Api.PRODUCE),
    _frozen(Api.TXN_OFFSET_COMMIT),
    _frozen(Api.END_TXN),
    answer_of_init_producer_id_outstanding,
]


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
async def test_sigterm_ends_a_worker_within_five_seconds_with_exit_code_0(place: Place, state):
    worker = await state(place)
    assert worker.alive, worker.tail()
    began = time.monotonic()
    code = await asyncio.to_thread(worker.stop, 30)
    took = time.monotonic() - began
    told = f"exit code {code} after {took:.1f} s:\n{worker.tail()}"
    assert code == 0, told
    assert took <= _STOP_SECONDS + _STALLS_SECONDS, told
    assert worker.tracebacks() == []
