"""`python -m tests.system.chaos`: three brokers, three workers, traffic, and what breaks among them, as a table.

    python -m tests.system.chaos --times 20 --seed 7
    python -m tests.system.chaos --times 5 --only broker

Topics have three replicas, two of them in sync (KRaft). Every kind of fault gets an installation of its own, so that
what is lost, phantom or twice belongs to it. *Caught up* is the longest time from the beginning of a fault until the
group had committed everything that was in the topics when the fault was over. Exit code 1 when anything is lost,
phantom or twice, when a worker ended by itself, or when a log holds a traceback.

Single requests that break or come late are the business of `python -m tests.system.campaign`.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from aiokafka import AIOKafkaProducer

from tests.kafka_kit import topics
from tests.kafka_kit.broker import Broker
from tests.kafka_kit.cluster import Cluster
from tests.system import faults
from tests.system.installation import Installation, Outcome
from tests.system.pump import Pump
from tests.system.traffic import stories
from tests.system.waiting import eventually
from tests.system.worker import Supervisor

PARTITIONS = 6
WORKERS = 3

_CATCH_UP_SECONDS = 180.0
_AWAY_SECONDS = 10.0
_HEAD = (
    "| fault | times | records | lost | phantom | twice | ended | caught up |\n|---|---:|---:|---:|---:|---:|---:|---:|"
)


@dataclass
class ClusterScene(faults.Scene):
    """What there is to break: workers, as ever, and the brokers of a cluster."""

    cluster: Cluster
    installation: Installation

    def any_broker(self) -> Broker:
        """One of the three."""
        return self.rng.choice(self.cluster.brokers)


Fault = Callable[[ClusterScene], Awaitable[str]]


async def _away(scene: ClusterScene, end: Callable[[Broker], None], broker: Broker) -> None:
    await asyncio.to_thread(end, broker)
    await asyncio.sleep(scene.rng.uniform(1.0, 5.0))
    broker.launch()
    await asyncio.to_thread(broker.wait_until_ready)


async def broker_restarted(scene: ClusterScene) -> str:
    """One broker ends cleanly and comes back; its leaders and coordinators move."""
    broker = scene.any_broker()
    await _away(scene, Broker.stop, broker)
    return broker.bootstrap


async def broker_killed(scene: ClusterScene) -> str:
    """One broker gets kill -9 and comes back."""
    broker = scene.any_broker()
    await _away(scene, Broker.kill, broker)
    return broker.bootstrap


async def broker_frozen(scene: ClusterScene) -> str:
    """One broker stands still for longer than the others wait for it; it wakes as a leader that is none."""
    broker = scene.any_broker()
    broker.pause()
    await asyncio.sleep(scene.rng.uniform(3.0, 8.0))
    broker.resume()
    return broker.bootstrap


async def brokers_rolled(scene: ClusterScene) -> str:
    """A rolling restart of all brokers."""
    for broker in scene.cluster.brokers:
        await _away(scene, Broker.stop, broker)
        await asyncio.sleep(2)
    return "all"


async def coordinator_killed(scene: ClusterScene) -> str:
    """The broker that coordinates the group gets kill -9."""
    async with topics.admin(scene.cluster.bootstrap) as client:
        node = await client.find_coordinator(scene.installation.group)
    await _away(scene, Broker.kill, scene.cluster.brokers[node - 1])
    return f"node {node}"


async def cluster_away(scene: ClusterScene) -> str:
    """All brokers get kill -9 at once, stay away, and come back."""
    scene.cluster.kill()
    await asyncio.sleep(_AWAY_SECONDS)
    await asyncio.to_thread(scene.cluster.start)
    return "all"


async def power_cut(scene: ClusterScene) -> str:
    """kill -9 of all brokers and all workers."""
    scene.cluster.kill()
    for worker in scene.supervisor.workers:
        worker.kill()
    await asyncio.to_thread(scene.cluster.start)
    return "everything"


async def fenced(scene: ClusterScene) -> str:
    """Somebody else takes a partition's transactional id."""
    name = f"{scene.installation.group}-{scene.rng.randrange(PARTITIONS)}"
    async with AIOKafkaProducer(bootstrap_servers=scene.cluster.bootstrap, transactional_id=name):
        return name


async def workers_rolled(scene: ClusterScene) -> str:
    """A rolling restart of all workers, by SIGTERM."""
    for worker in scene.supervisor.workers:
        code = await asyncio.to_thread(worker.stop)
        assert code == 0, f"{worker.name} ended with {code} after SIGTERM:\n{worker.tail()}"
        await eventually(lambda worker=worker: worker.get("/readyz") is not None, 120, f"{worker.name} is ready")
    return "all"


async def worker_and_broker_killed(scene: ClusterScene) -> str:
    """kill -9 of a worker and of a broker at the same moment."""
    worker, broker = scene.any_worker(), scene.any_broker()
    worker.kill()
    await _away(scene, Broker.kill, broker)
    return f"{worker.name}, {broker.bootstrap}"


KINDS: Mapping[str, Fault] = {
    "kill -9 of a worker": faults.kill_one,
    "kill -9 of all workers": faults.kill_both,
    "kill -9 of a worker that restores": faults.kill_while_starting,
    "SIGTERM of a worker": faults.terminate_one,
    "rolling restart of the workers": workers_rolled,
    "a worker frozen beyond its session (zombie)": faults.freeze_beyond_session,
    "a worker frozen within its session, three times": faults.freeze_within_session,
    "a worker more, then one less": faults.one_more_and_one_less,
    "a producer fenced by somebody else": fenced,
    "a broker restarted": broker_restarted,
    "kill -9 of a broker": broker_killed,
    "a broker frozen": broker_frozen,
    "rolling restart of the brokers": brokers_rolled,
    "kill -9 of the group's coordinator": coordinator_killed,
    "kill -9 of a worker and a broker": worker_and_broker_killed,
    "kill -9 of all brokers, away for 10 s": cluster_away,
    "power cut: kill -9 of everything": power_cut,
}


@dataclass
class Row:
    """What became of one kind of fault."""

    name: str
    times: int = 0
    outcome: Outcome | None = None
    caught_up: float = 0.0
    ended: list[tuple[str, int]] = field(default_factory=list)
    tracebacks: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Judged, nothing lost, phantom or twice; nobody ended; no traceback."""
        return self.outcome is not None and self.outcome.clean and not self.ended and not self.tracebacks

    def __str__(self) -> str:
        """Return the line of the table."""
        if self.outcome is None:
            return f"| {self.name} | {self.times} | not judged | | | | {len(self.ended)} | |"
        lost, phantom, twice = self.outcome.totals
        return (
            f"| {self.name} | {self.times} | {self.outcome.records:,} | {lost} | {phantom} | {twice} | "
            f"{len(self.ended)} | {self.caught_up:.1f} s |"
        )


async def run_kind(cluster: Cluster, name: str, *, times: int, seed: int, rate: float, logs: Path) -> Row:
    """Do one kind of fault `times` times under traffic, and judge."""
    prefix = f"c{uuid.uuid4().hex[:8]}-"
    installation = Installation(cluster, prefix, PARTITIONS, logs)
    await installation.create()
    supervisor = Supervisor([installation.worker(f"worker-{number}") for number in range(1, WORKERS + 1)])
    spare = installation.worker("worker-spare")
    pump = Pump(cluster.bootstrap, prefix, PARTITIONS, stories(seed), rate=rate, count=0)
    pump.more = True
    scene = ClusterScene(cluster.brokers[0], supervisor, spare, random.Random(seed), cluster, installation)
    row, tasks = Row(name), list[asyncio.Task[None]]()
    try:
        for worker in supervisor.workers:
            worker.start()
        tasks = [asyncio.create_task(pump.run()), asyncio.create_task(_tend(supervisor))]
        await eventually(lambda: pump.sent > 3 * rate, 120, "traffic")
        await _caught_up(installation)
        for _ in range(times):
            await asyncio.sleep(scene.rng.uniform(0.3, 2.0))
            began = time.monotonic()
            await KINDS[name](scene)
            await _caught_up(installation)
            row.times += 1
            row.caught_up = max(row.caught_up, time.monotonic() - began)
        pump.more = False
        await asyncio.wait_for(tasks[0], 300)
        await installation.until_no_lag(_CATCH_UP_SECONDS)
        row.outcome = await installation.judge(await installation.expected(), 60, pump.unsure)
        assert row.outcome.records == pump.sent
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        supervisor.close()
        spare.kill()
        row.ended = supervisor.failures
        row.tracebacks = [line for worker in [*supervisor.workers, spare] for line in worker.tracebacks()]
    return row


async def _caught_up(installation: Installation) -> None:
    """Wait until everything that is there now is committed. A cluster that has just come back may refuse questions."""
    deadline = time.monotonic() + _CATCH_UP_SECONDS
    while True:
        try:
            await installation.until_caught_up(deadline - time.monotonic())
            return
        except (OSError, topics.KafkaError):
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.5)


async def _tend(supervisor: Supervisor) -> None:
    while True:
        supervisor.tend()
        await asyncio.sleep(0.5)


async def chaos(options: argparse.Namespace) -> int:
    """Run the kinds asked for, printing the table as it grows; return the exit code."""
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1_000_000)
    out = options.out or Path(tempfile.mkdtemp(prefix="lapse-chaos-"))
    print(f"seed {seed}, logs in {out}\n\n{_HEAD}", flush=True)
    began, rows = time.monotonic(), list[Row]()
    with Cluster() as cluster:
        for number, name in enumerate(name for name in KINDS if (options.only or "") in name):
            logs = out / str(number)
            logs.mkdir(parents=True, exist_ok=True)
            try:
                row = await run_kind(cluster, name, times=options.times, seed=seed, rate=options.rate, logs=logs)
            except (AssertionError, TimeoutError, OSError, topics.KafkaError) as error:
                row = Row(name)
                print(f"{name}: {type(error).__name__} {error}; logs in {logs}", file=sys.stderr, flush=True)
                with suppress(Exception):
                    await asyncio.to_thread(cluster.start)
            rows.append(row)
            print(row, flush=True)
            if not row.clean and row.outcome is not None:
                details = [str(row.outcome), *(f"ended: {name} with {code}" for name, code in row.ended)]
                print("\n".join([*details, *row.tracebacks[:2], f"logs in {logs}"]), file=sys.stderr, flush=True)
    records = sum(row.outcome.records for row in rows if row.outcome is not None)
    bad = sum(not row.clean for row in rows)
    print(
        f"\n{sum(row.times for row in rows)} faults, {records:,} records, {time.monotonic() - began:.0f} s, "
        f"{bad} kinds with something amiss"
    )
    return 1 if bad else 0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.system.chaos", description=__doc__)
    parser.add_argument("--times", type=int, default=10, help="how often each kind of fault is done (default 10)")
    parser.add_argument("--rate", type=float, default=300, help="records a second (default 300)")
    parser.add_argument("--seed", type=int, help="repeats records and choices; printed when not given")
    parser.add_argument("--only", help="kinds whose name contains this")
    parser.add_argument("--out", type=Path, help="where logs go")
    sys.exit(asyncio.run(chaos(parser.parse_args())))


if __name__ == "__main__":
    main()
