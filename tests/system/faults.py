"""The faults, one function each: what is done to workers or broker while records flow. Each ends with all running."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.kafka_kit.broker import Broker
from tests.system.waiting import eventually
from tests.system.worker import SESSION_TIMEOUT, Supervisor, Worker

BROKER_AWAY = 20.0


@dataclass
class Scene:
    """What there is to break."""

    broker: Broker
    supervisor: Supervisor
    spare: Worker
    rng: random.Random

    def any_worker(self) -> Worker:
        """One of the two."""
        return self.rng.choice(self.supervisor.workers)


Fault = Callable[[Scene], Awaitable[str]]
"""Does it, and says to whom."""


async def kill_one(scene: Scene) -> str:
    """kill -9; the supervisor starts it again."""
    worker = scene.any_worker()
    worker.kill()
    return worker.name


async def kill_both(scene: Scene) -> str:
    """kill -9 of both at once."""
    for worker in scene.supervisor.workers:
        worker.kill()
    return "both"


async def kill_while_starting(scene: Scene) -> str:
    """kill -9, and again while the worker restores what it lost."""
    worker = scene.any_worker()
    for pause in (scene.rng.uniform(1.0, 3.0), scene.rng.uniform(2.0, 4.0)):
        worker.kill()
        await asyncio.sleep(0.3)
        scene.supervisor.tend()
        await asyncio.sleep(pause)
    worker.kill()
    return worker.name


async def terminate_one(scene: Scene) -> str:
    """SIGTERM, a clean end, and a start."""
    worker = scene.any_worker()
    code = await asyncio.to_thread(worker.stop)
    assert code == 0, f"{worker.name} ended with {code} after SIGTERM:\n{worker.tail()}"
    return worker.name


async def freeze_beyond_session(scene: Scene) -> str:
    """SIGSTOP for longer than the group waits, then SIGCONT: a zombie that believes to own its partitions."""
    worker = scene.any_worker()
    worker.freeze()
    await asyncio.sleep(SESSION_TIMEOUT + scene.rng.uniform(2, 4))
    worker.wake()
    return worker.name


async def freeze_within_session(scene: Scene) -> str:
    """SIGSTOP for less: nobody notices, but the clock has gone on and answers lie unread."""
    worker = scene.any_worker()
    for _ in range(3):
        worker.freeze()
        await asyncio.sleep(scene.rng.uniform(2.0, 3.5))
        worker.wake()
        await asyncio.sleep(scene.rng.uniform(0.2, 1.0))
    return worker.name


async def one_more_and_one_less(scene: Scene) -> str:
    """A third worker joins, works for a while, and leaves: two rebalances under load."""
    said_before = len(scene.spare.tail(1 << 30))
    scene.spare.start()
    # A machine that is busy takes many seconds to load a worker's modules. What it is to do here begins with the group.
    await eventually(
        lambda: "holding " in scene.spare.tail(1 << 30)[said_before:] or not scene.spare.alive,
        60,
        "the third worker joined",
    )
    await asyncio.sleep(3)
    assert scene.spare.alive, f"the third worker ended by itself:\n{scene.spare.tail()}"
    code = await asyncio.to_thread(scene.spare.stop)
    assert code == 0, f"the third worker ended with {code} after SIGTERM:\n{scene.spare.tail()}"
    return "a third"


async def broker_away(scene: Scene) -> str:
    """The broker ends, stays away, and comes back with its data."""
    await asyncio.to_thread(scene.rng.choice([scene.broker.stop, scene.broker.kill]))
    await asyncio.sleep(BROKER_AWAY)
    await asyncio.to_thread(scene.broker.start)
    return "broker"


async def power_cut(scene: Scene) -> str:
    """kill -9 of the broker in the middle of transactions, and of both workers: some of the markers get lost in it."""
    scene.broker.kill()
    for worker in scene.supervisor.workers:
        worker.kill()
    await asyncio.to_thread(scene.broker.start)
    return "all"


async def broker_frozen(scene: Scene) -> str:
    """The broker does not answer for a while, connections stay open."""
    scene.broker.pause()
    await asyncio.sleep(8)
    scene.broker.resume()
    return "broker"


ALL: tuple[Fault, ...] = (
    kill_one,
    terminate_one,
    freeze_beyond_session,
    freeze_within_session,
    broker_away,
    power_cut,
    kill_both,
    kill_while_starting,
    one_more_and_one_less,
    broker_frozen,
)
OFTEN: tuple[Fault, ...] = (kill_one, kill_one, terminate_one, freeze_beyond_session, freeze_within_session, kill_both)


def schedule(seed: int, count: int, only: str | None = None) -> list[Fault]:
    """`count` faults: every kind at least once, in an order of the seed's choosing; or always the one called `only`."""
    rng = random.Random(seed)
    if only:
        return [next(fault for fault in ALL if fault.__name__ == only)] * count
    chosen = [*ALL, *(rng.choice(OFTEN) for _ in range(count - len(ALL)))]
    rng.shuffle(chosen)
    return chosen[:count]
