"""Two workers, a real broker, and everything goes wrong: what comes out is what the contract says, each once."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.kafka_kit.broker import Broker
from tests.kafka_kit.fixtures import require_java
from tests.system.faults import Scene, schedule
from tests.system.installation import Installation
from tests.system.pump import Pump
from tests.system.traffic import stories
from tests.system.worker import Supervisor

pytestmark = pytest.mark.system

PARTITIONS = 3


@pytest.fixture
def own_broker() -> Iterator[Broker]:
    """A broker that may be broken."""
    require_java()
    with Broker() as broker:
        yield broker


@pytest.mark.timeout(3600)
async def test_nothing_is_lost_phantom_or_twice_whatever_breaks(
    own_broker: Broker, topic_prefix: str, tmp_path: Path, long: bool, capsys: pytest.CaptureFixture[str]
):
    seed = int(os.environ.get("SYSTEM_SEED") or random.SystemRandom().randrange(1_000_000))
    count, number_of_faults = (1_500_000, 60) if long else (50_000, 5)
    count = int(os.environ.get("SYSTEM_RECORDS") or count)
    number_of_faults = int(os.environ.get("SYSTEM_FAULTS") or number_of_faults)
    faults = schedule(seed, number_of_faults, os.environ.get("SYSTEM_ONLY"))
    table = [f"seed {seed} (SYSTEM_SEED={seed} repeats the records and the order of faults)"]

    installation = Installation(own_broker, topic_prefix, PARTITIONS, tmp_path)
    await installation.create()
    supervisor = Supervisor([installation.worker("worker-1"), installation.worker("worker-2")])
    spare = installation.worker("worker-3")
    scene = Scene(own_broker, supervisor, spare, random.Random(seed))
    pump = Pump(own_broker.bootstrap, topic_prefix, PARTITIONS, stories(seed), rate=1_200, count=count)
    pump.more = True
    tasks = []
    try:
        for worker in supervisor.workers:
            worker.start()
        tasks = [asyncio.create_task(pump.run()), asyncio.create_task(_tend(supervisor))]
        await asyncio.sleep(1)
        await installation.until_caught_up(60)
        for place, fault in enumerate(faults, start=1):
            await asyncio.sleep(scene.rng.uniform(0.5, 3.0))
            began, clock = time.monotonic(), f"{datetime.now(UTC):%H:%M:%S}"
            whom = await fault(scene)
            lasted = time.monotonic() - began
            recovered = await installation.until_caught_up(120)
            table.append(
                f"{place:3} {clock} {fault.__name__:22} {whom:8} took {lasted:4.1f} s, caught up in {recovered:4.1f} s"
            )
        pump.more = False
        await asyncio.wait_for(tasks[0], 600)
        await installation.until_no_lag(120)
        expected = await installation.expected()
        outcome = await installation.judge(expected, 60, pump.unsure)
    finally:
        for task in tasks:
            task.cancel()
        supervisor.close()
        spare.kill()

    table += [
        f"    {name} ended by itself with code {code} and was started again" for name, code in supervisor.failures
    ]
    table += [
        f"{pump.sent} records sent, {outcome.records} read by the oracle, {number_of_faults} faults",
        str(outcome),
    ]
    if own_broker.lost_markers:
        table.append(
            f"the broker itself dropped the end of {own_broker.lost_markers} transactions (Broker.lost_markers): if "
            "something is amiss above, look there first"
        )
    with capsys.disabled():
        print("\n" + "\n".join(table))
    assert outcome.records == pump.sent
    assert len(expected.commands) > pump.sent // 20
    assert outcome.clean, "\n".join(table)


async def _tend(supervisor: Supervisor) -> None:
    while True:
        supervisor.tend()
        await asyncio.sleep(0.5)
