"""What state costs: rows a second at a restart, and bytes of memory a ticket."""

from __future__ import annotations

import asyncio
import re
import time
import urllib.request
from collections import Counter
from pathlib import Path

from tests.bench import workload
from tests.bench.contestants import LAPSE, Task, started, task
from tests.bench.drain import Progress
from tests.bench.ground import ENDS_AT, Ground, empty_inputs
from tests.bench.process import Process
from tests.kafka_kit import Broker

_WITHIN = 300.0


def measure(broker: Broker, partitions: int, tickets: int, triggers: Path, scratch: Path) -> dict[str, float | None]:
    """Fill the tables of one worker, start a second process on them, and compare with a worker without state."""
    empty = _ground(broker, partitions, 0, tickets, triggers)
    full = _ground(broker, partitions, tickets * 20 // 6, tickets, triggers)
    nothing, order = task(LAPSE, empty, scratch), task(LAPSE, full, scratch)
    asyncio.run(LAPSE.prepare(nothing))
    asyncio.run(LAPSE.prepare(order))
    with started(LAPSE, nothing) as worker:
        start = _ready(worker, nothing)
        time.sleep(2)
        base = worker.resident()
    with started(LAPSE, order) as worker:
        asyncio.run(_until_done(order, worker, full.records))
        after_drain, rows = worker.resident(), _metric(order, "lapse_table_rows")
    with started(LAPSE, order) as worker:
        seconds = _ready(worker, order)
        restored = _metric(order, "lapse_restore_rows_total")
        time.sleep(2)
        after_restore = worker.resident()
    asyncio.run(LAPSE.forget(nothing))
    asyncio.run(LAPSE.forget(order))
    return {
        "tickets": tickets,
        "rows": rows,
        "empty_bytes": base,
        "bytes_a_ticket_after_drain": (after_drain - base) / tickets,
        "bytes_a_ticket_after_restore": (after_restore - base) / tickets,
        "empty_start_seconds": start,
        "restored": restored,
        "restore_seconds": seconds - start,
        # A start takes a few seconds, now more, now less; a restore of less than half a second is lost in that.
        "restored_a_second": restored / (seconds - start) if seconds - start > 0.5 else None,
    }


def _ground(broker: Broker, partitions: int, records: int, tickets: int, triggers: Path) -> Ground:
    async def fill() -> str:
        prefix = await empty_inputs(broker, partitions)
        made = workload.records(records, tickets, ends_at=ENDS_AT)
        await workload.fill(broker.bootstrap, prefix, partitions, made)
        return prefix

    return Ground(broker, asyncio.run(fill()), partitions, records, triggers, Counter())


async def _until_done(order: Task, worker: Process, records: int) -> None:
    deadline = time.monotonic() + _WITHIN
    async with Progress(order.broker.bootstrap, order.group, order.prefix) as progress:
        while await progress.done() < records:
            worker.check()
            if time.monotonic() > deadline:
                raise RuntimeError(f"The worker was not done after {_WITHIN:.0f} s:\n{worker.tail()}")
            await asyncio.sleep(0.2)


def _ready(worker: Process, order: Task) -> float:
    """Wait until a worker that has just been started is ready, and return the seconds that took."""
    began = time.perf_counter()
    deadline = time.monotonic() + _WITHIN
    while time.monotonic() < deadline:
        worker.check()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{order.port}/readyz", timeout=1):
                return time.perf_counter() - began
        except OSError:
            time.sleep(0.02)
    raise RuntimeError(f"The worker is not ready:\n{worker.tail()}")


def _metric(order: Task, name: str) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{order.port}/metrics", timeout=5) as answer:
        page = answer.read().decode()
    return sum(float(value) for value in re.findall(rf"^{name}(?:\{{.*?\}})? (\S+)$", page, re.MULTILINE))
