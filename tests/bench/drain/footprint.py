"""What state costs: rows a second at a restart, and bytes of memory a ticket."""

from __future__ import annotations

import asyncio
import re
import time
import urllib.request
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.bench.drain.contestants import Ground, lapse_worker
from tests.kafka_kit import topics
from tests.system.worker import Worker

_WITHIN = 600.0


def measure(ground: Ground, tickets: int, empty: Ground) -> str:
    """Fill the tables of `ground` by draining its backlog, start a second process on them, compare with `empty`."""
    with TemporaryDirectory() as logs:
        worker = lapse_worker(ground, "footprint", Path(logs))
        nothing = lapse_worker(empty, "footprint-empty", Path(logs))
        try:
            start = _start(nothing)
            time.sleep(2)
            base = nothing.resident_bytes()
            nothing.stop()

            worker.start()
            group, inputs = (
                ground.prefix + worker.name,
                [ground.prefix + name for name in ("ticket-updates", "session-states")],
            )
            asyncio.run(topics.until_no_lag(ground.broker.bootstrap, group, inputs, ground.partitions, within=_WITHIN))
            after_drain = worker.resident_bytes()
            rows = _metric(worker, "lapse_table_rows")
            worker.stop()

            seconds = _start(worker) - start
            restored = _metric(worker, "lapse_restore_rows_total")
            time.sleep(2)
            after_restore = worker.resident_bytes()
        finally:
            worker.kill()
            nothing.kill()
    return (
        f"restore: {restored:,.0f} changelog records of {ground.partitions} partitions in {seconds:.2f} s beyond the "
        f"{start:.1f} s that an empty worker needs to be ready: {restored / seconds:,.0f}/s\n"
        f"memory: {rows:,.0f} rows of {tickets:,} tickets; an empty worker holds {base / 2**20:.0f} MiB; "
        f"{(after_drain - base) / tickets:.0f} bytes a ticket after draining, "
        f"{(after_restore - base) / tickets:.0f} after a restart"
    )


def _start(worker: Worker) -> float:
    """Start a worker, wait until it is ready, and return the seconds that took."""
    began = time.perf_counter()
    worker.start()
    deadline = time.monotonic() + _WITHIN
    while time.monotonic() < deadline:
        if worker.exit_code is not None:
            break
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{worker.web_port}/readyz", timeout=1):
                return time.perf_counter() - began
        except OSError:
            time.sleep(0.02)
    raise RuntimeError(f"The worker is not ready:\n{worker.tail()}")


def _metric(worker: Worker, name: str) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{worker.web_port}/metrics", timeout=5) as answer:
        page = answer.read().decode()
    return sum(float(value) for value in re.findall(rf"^{name}(?:\{{.*?\}})? (\S+)$", page, re.MULTILINE))
