"""How fast is a backlog drained, and at what price? All contestants take turns on the same broker and records."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
from aiokafka.admin import AIOKafkaAdminClient

from tests.bench.contestants import Contestant, Task, started, task
from tests.bench.ground import Commands, Equality, Ground, compare, decisive
from tests.bench.process import Process
from tests.kafka_kit import topics

WARM_UP = 0.25
"""This share of the records is not counted: interpreters, compilers and caches get warm on it."""

_EVERY = 0.04


@dataclass(frozen=True)
class Run:
    """What one run took after the warm-up."""

    records: int
    seconds: float
    cpu: float
    """Seconds of processor time, children included."""
    peak: int
    """The most bytes of memory that were resident, children included."""
    equality: Equality

    @property
    def rate(self) -> float:
        """Records a second."""
        return self.records / self.seconds

    @property
    def cpu_micros(self) -> float:
        """Microseconds of processor time a record."""
        return self.cpu / self.records * 1e6

    def as_json(self) -> dict[str, Any]:
        """Return the figures for the results file."""
        return {**asdict(self), "rate": self.rate, "cpu_micros": self.cpu_micros}


async def run(
    contestant: Contestant,
    ground: Ground,
    scratch: Path,
    *,
    within: float = 300,
    during: Callable[[Task, Process], Coroutine[Any, Any, None]] | None = None,
) -> Run:
    """Let one contestant drain the backlog, and hold its commands against those that must come out.

    `during` runs beside it from the end of the warm-up on, and is cancelled when the backlog is drained.
    """
    order = task(contestant, ground, scratch)
    await contestant.prepare(order)
    with started(contestant, order) as process:
        records, seconds, cpu, peak = await _watch(ground, order, process, within, during)
    got = await written(ground, order)
    await contestant.forget(order)
    return Run(records, seconds, cpu, peak, compare(ground.expected, got))


async def _watch(
    ground: Ground,
    order: Task,
    process: Process,
    within: float,
    during: Callable[[Task, Process], Coroutine[Any, Any, None]] | None,
) -> tuple[int, float, float, int]:
    deadline, start, peak, beside = time.monotonic() + within, None, 0, None
    async with Progress(ground.broker.bootstrap, order.group, ground.prefix) as progress:
        while time.monotonic() < deadline:
            process.check()
            done = await progress.done()
            now, cpu = time.perf_counter(), process.cpu()
            peak = max(peak, process.resident())
            if start is None and done >= WARM_UP * ground.records:
                start = (done, now, cpu)
                beside = asyncio.create_task(during(order, process)) if during else None
            if start is not None and done >= ground.records > start[0]:
                if beside is not None:
                    beside.cancel()
                    await asyncio.wait({beside})
                    if not beside.cancelled():
                        beside.result()
                return done - start[0], now - start[1], cpu - start[2], peak
            await asyncio.sleep(_EVERY)
    raise RuntimeError(
        f"{order.name} had drained {done:,} of {ground.records:,} after {within:.0f} s:\n{process.tail()}"
    )


class Progress:
    """Asks the broker how far a group is: the sum of its committed offsets of the inputs, which begin at 0."""

    def __init__(self, bootstrap: str, group: str, prefix: str) -> None:
        """Prepare; connects on entering."""
        self._bootstrap, self._group = bootstrap, group
        self._inputs = {f"{prefix}ticket-updates", f"{prefix}session-states"}
        self._coordinator = 0

    async def __aenter__(self) -> Progress:
        """Connect, and wait until the group's coordinator is there."""
        await topics.committed_offsets(self._bootstrap, self._group)
        self._admin = AIOKafkaAdminClient(bootstrap_servers=self._bootstrap)
        await self._admin.start()
        self._coordinator = await self._admin.find_coordinator(self._group)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Disconnect."""
        await self._admin.close()

    async def done(self) -> int:
        """Return how many records are committed as taken."""
        found = await self._admin.list_consumer_group_offsets(self._group, self._coordinator)
        return sum(max(0, at.offset) for tp, at in found.items() if tp.topic in self._inputs)


async def written(ground: Ground, order: Task) -> Commands:
    """Return the commands that a run has written, as a `read_committed` reader sees them."""
    found = await topics.read(ground.broker.bootstrap, order.commands, ground.partitions)
    return Counter(decisive(msgspec.json.decode(record.value)) for record in found)
