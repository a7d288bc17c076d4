"""A worker that is killed is missed after `session_timeout`, and its partitions get commands again soon after."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from tests.kafka_kit.broker import Broker
from tests.kafka_kit.fixtures import require_java
from tests.system.request_faults import PARTITIONS, Stage
from tests.system.worker import SESSION_TIMEOUT

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

_TAKE_OVER_SECONDS = 15.0
"""A bound for a busy machine. The aim on an idle one is 5 s; the test prints the figure."""


async def test_partitions_of_a_killed_worker_commit_again_soon_after_the_session_timeout(
    topic_prefix: str, tmp_path: Path, long: bool, capsys: pytest.CaptureFixture[str]
):
    require_java()
    told = []
    with Broker(proxied=2) as broker:
        async with Stage(broker, topic_prefix, tmp_path, seed=22) as stage:
            for _ in range(10 if long else 2):
                number = stage.owner(stage.rng.randrange(PARTITIONS))
                held = [partition for partition in range(PARTITIONS) if stage.owner(partition) == number]
                began = time.monotonic()
                # The supervisor starts it again at once, as an orchestrator does; the group waits for the killed
                # member all the same, since the new process is another one.
                stage.supervisor.workers[number].kill()
                await asyncio.gather(*(stage.until_commits(partition, 1) for partition in held))
                took = time.monotonic() - began
                told.append(f"{took:.1f}")
                assert took <= SESSION_TIMEOUT + _TAKE_OVER_SECONDS, f"{held} commit again after {took:.1f} s"
            outcome = await stage.judge()
    with capsys.disabled():
        print(f"\nseconds from kill -9 to the next commit, session_timeout {SESSION_TIMEOUT:g} s: {' '.join(told)}")
    assert outcome.clean, str(outcome)
    assert stage.supervisor.failures == []
