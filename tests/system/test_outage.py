"""A broker that goes away under traffic ends no worker; what follows an outage is what would have come without."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from tests.kafka_kit.broker import Broker
from tests.kafka_kit.fixtures import require_java
from tests.system.request_faults import PARTITIONS, Stage
from tests.system.waiting import eventually
from tests.system.worker import Worker

pytestmark = [pytest.mark.system, pytest.mark.timeout(1800)]

_RECOVERY_SECONDS = 60.0
"""A bound for a busy machine. The aim on an idle one is 10 s; the table that the test prints has the figure."""
_ATTEMPTS_A_SECOND = 600.0
"""Connections a second that one worker may try to open while nobody answers: a consumer, and a producer for each of
three partitions, most often at first. Usual are 15 to 60. aiokafka asks for metadata again as soon as a connection
breaks, which was seen to give 200 for a moment when a broker that stopped had said that nobody leads. Without any pause
there are some two thousand."""


async def test_workers_live_through_outages_of_the_broker(
    topic_prefix: str, tmp_path: Path, long: bool, capsys: pytest.CaptureFixture[str]
):
    require_java()
    aways = [60.0, *([5.0, 15.0, 30.0] * 3)] if long else [3.0, 12.0]
    told = []
    with Broker(proxied=2) as broker:
        async with Stage(broker, topic_prefix, tmp_path, seed=21) as stage:
            workers = stage.supervisor.workers
            for number, away in enumerate(aways):
                await stage.pump.rest()  # Broker.lost_markers: what was just committed has to be marked
                await asyncio.sleep(0.5)
                stage.pump.hold = False
                end = broker.stop if number % 2 == 0 else broker.kill
                await asyncio.to_thread(end)
                began, attempts = time.monotonic(), sum(proxy.connections for proxy in stage.proxies)
                while time.monotonic() < began + away:
                    for worker in workers:
                        assert worker.alive, worker.tail()
                        assert await _answers(worker), worker.tail()
                    await asyncio.sleep(0.5)
                lasted = time.monotonic() - began
                attempts = sum(proxy.connections for proxy in stage.proxies) - attempts
                await asyncio.to_thread(broker.start)
                up = time.monotonic()
                await asyncio.gather(*(stage.until_commits(partition, 1) for partition in range(PARTITIONS)))
                recovered = time.monotonic() - up
                for worker in workers:
                    await eventually(lambda w=worker: w.get("/readyz") is not None, 30, f"{worker.name} not ready")
                told.append(
                    f"{end.__name__:5} away {lasted:4.1f} s, {attempts / lasted / len(workers):5.1f} connections a "
                    f"second and worker, every partition committed {recovered:4.1f} s after the broker was back"
                )
                assert attempts <= _ATTEMPTS_A_SECOND * lasted * len(workers), told[-1]
                assert recovered <= _RECOVERY_SECONDS, told[-1]
            outcome = await stage.judge()
            if broker.lost_markers:
                told.append(f"the broker itself dropped the end of {broker.lost_markers} transactions")
    with capsys.disabled():
        print("\n" + "\n".join([*told, str(outcome)]))
    assert outcome.clean, f"{outcome}\n{stage.journal()}"
    assert stage.supervisor.failures == []
    assert stage.tracebacks() == []


async def _answers(worker: Worker) -> bool:
    """Whether the worker says that it is alive. On a busy machine an answer may take longer than one question waits."""
    for _ in range(10):
        if await asyncio.to_thread(worker.get, "/healthz") is not None:
            return True
        await asyncio.sleep(0.2)
    return False
