"""Each request of a transaction broken in each way, and requests that land in the next transaction: nothing changes.

A few of each here; `python -m tests.system.campaign` does as many as one likes and prints a table.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.kafka_kit.broker import Broker
from tests.kafka_kit.fixtures import require_java
from tests.kafka_kit.proxy import TRANSACTIONAL, Api, Match
from tests.system.request_faults import FAULTS, LATE, PARTITIONS, SINGLE, Kind, Stage, Strike

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

_SEED = 20
_ATTEMPTS = 4

_SENT = {
    1: set(TRANSACTIONAL),
    2: {Api.INIT_PRODUCER_ID, Api.PRODUCE, Api.TXN_OFFSET_COMMIT, Api.END_TXN},
}
"""The transactional requests of a worker, by the broker's `transaction.version`."""


@pytest.mark.parametrize("version", [2, 1])
async def test_a_broken_or_late_request_loses_nothing_doubles_nothing_and_ends_no_worker(
    version: int, topic_prefix: str, tmp_path: Path
):
    require_java()
    strikes: list[tuple[Kind, Strike]] = []
    with Broker(proxied=1, features={"transaction.version": version}) as broker:
        async with Stage(broker, topic_prefix, tmp_path, seed=_SEED, workers=1) as stage:
            assert {api for api in TRANSACTIONAL if stage.sends(api)} == _SENT[version]
            chosen = [kind for kind in [*SINGLE, *LATE] if kind.api in _SENT[version]]

            async def all_of(partition: int) -> None:
                kinds = [kind for kind in chosen if not kind.restarts][partition::PARTITIONS]
                strikes.extend([(kind, await _strike(kind, stage, partition)) for kind in kinds])

            await asyncio.gather(*map(all_of, range(PARTITIONS)))
            await _break_the_opening(stage)
            killing = [kind for kind in chosen if kind in LATE and kind.restarts]
            strikes.extend([(kind, await _strike(kind, stage, 0)) for kind in killing])
            outcome = await stage.judge()
            told = f"{stage.journal()}\n{outcome}"
    assert outcome.clean, told
    assert stage.supervisor.failures == [], told
    assert stage.tracebacks() == []
    missed = [kind.name for kind, strike in strikes if not strike.placed]
    assert missed == [], told
    assert max(strike.stop for _, strike in strikes) < 30


async def _strike(kind: Kind, stage: Stage, partition: int) -> Strike:
    """Do it, again where it missed its place: what a transaction holds, and when, is not for the test to say."""
    for _ in range(_ATTEMPTS):
        strike = await kind.strike(stage, partition)
        if strike.placed:
            break
    return strike


async def _break_the_opening(stage: Stage) -> None:
    """Break the InitProducerId of all partitions, each in its own way, in as many restarts as that takes."""
    names = list(FAULTS)
    for begin in range(0, len(names), PARTITIONS):
        injections = [
            stage.inject(
                Match(Api.INIT_PRODUCER_ID, transactional_id=stage.transactional_id(partition)),
                FAULTS[name](stage.rng),
            )
            for partition, name in enumerate(names[begin : begin + PARTITIONS])
        ]
        await stage.restart(0)
        await asyncio.gather(*(stage.until_commits(partition, 2) for partition in range(len(injections))))
        assert all(injection.done for injection in injections)
