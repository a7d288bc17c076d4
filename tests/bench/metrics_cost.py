"""What do metrics and the page cost the worker? `python -m tests.bench.metrics_cost --help`.

One backlog on one real broker, drained in turns by `lapse run` as it is, scraped every 5 seconds and with its page open
in a browser, which asks for it every 2 seconds; and by the same worker without an observer and without a web server.
Each turn is a pair in changing order; the ratio of each pair, and the medians, are printed. The aim: with them it
drains at least 95 % as fast.

    python -m tests.bench.metrics_cost                          # 400,000 records, 5 pairs
    python -m tests.bench.metrics_cost --records 120000 --pairs 3
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import socket
import sys
import tempfile
import threading
import time
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench.drain import report, workload
from tests.bench.drain.contestants import Ground, Run, _watch, lapse_worker
from tests.kafka_kit import Broker, topics
from tests.system.worker import Worker

WITH, WITHOUT = "with", "without"
AIM = 0.95
ASKED_EVERY = {"/metrics": 5.0, "/": 2.0}
"""Seconds: a quick Prometheus, and what the page's script does."""


def main() -> None:
    """Run the pairs, and print them."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.metrics_cost", description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=400_000)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--tickets", type=int, default=100_000)
    parser.add_argument("--triggers", type=int, default=50)
    parser.add_argument("--pairs", type=int, default=5)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, Broker() as broker:
        triggers = Path(scratch, "triggers.yaml")
        triggers.write_text(workload.rules(chosen.triggers))
        ground = asyncio.run(_fill(broker, chosen, triggers))
        print(report.machine(), flush=True)
        print(f"{chosen.records:,} records, {chosen.partitions} partitions, {chosen.triggers} triggers", flush=True)
        pairs = [_pair(ground, turn) for turn in range(chosen.pairs)]
    print(summary(pairs))


def summary(pairs: list[dict[str, Run]]) -> str:
    """Return medians of rates and of processor time, and the median of the pairs' ratios."""
    lines = []
    for name in (WITH, WITHOUT):
        rate = median(pair[name].rate for pair in pairs)
        cpu = median(pair[name].cpu_micros for pair in pairs)
        lines.append(f"{name:8} metrics and page: {rate:9,.0f} records/s, {cpu:5.1f} µs of processor time a record")
    speed = median(pair[WITH].rate / pair[WITHOUT].rate for pair in pairs)
    cpu = median(pair[WITHOUT].cpu_micros / pair[WITH].cpu_micros for pair in pairs)
    lines.append(f"with / without: {speed:.1%} of the speed (aim: {AIM:.0%}); by processor time {cpu:.1%}")
    return "\n".join(lines)


def _pair(ground: Ground, turn: int) -> dict[str, Run]:
    order = (WITH, WITHOUT) if turn % 2 == 0 else (WITHOUT, WITH)
    pair = {name: asyncio.run(_drain(ground, name)) for name in order}
    ratio = pair[WITH].rate / pair[WITHOUT].rate
    print(f"pair {turn + 1}: {', '.join(f'{n} {pair[n].rate:,.0f}/s' for n in order)}; {ratio:.1%}", flush=True)
    return pair


async def _drain(ground: Ground, name: str) -> Run:
    with tempfile.TemporaryDirectory() as logs:
        worker = await asyncio.to_thread(lapse_worker, ground, f"lapse-{uuid.uuid4().hex[:6]}", Path(logs))
        if name == WITHOUT:
            worker._command = [sys.executable, "-m", "tests.bench.metrics_cost", "run"]
        try:
            worker.start()
            if name == WITH:
                with _asked(worker):
                    return await _watch(ground, worker)
            run = await _watch(ground, worker)
            with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", worker.web_port)):
                raise RuntimeError("The worker that was to do without them serves metrics and page all the same.")
            return run
        finally:
            worker.kill()


@contextlib.contextmanager
def _asked(worker: Worker) -> Iterator[None]:
    """Scrape the worker and look at its page, in a thread, and see that it has answered."""
    stop, answers = threading.Event(), dict.fromkeys(ASKED_EVERY, 0)

    def ask() -> None:
        due = dict(ASKED_EVERY)
        began = time.monotonic()
        while not stop.wait(min(due.values()) - (time.monotonic() - began)):
            path = min(due, key=lambda one: due[one])
            due[path] += ASKED_EVERY[path]
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(f"http://127.0.0.1:{worker.web_port}{path}", timeout=5) as answer,
            ):
                answers[path] += bool(answer.read())

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    if not all(answers.values()):
        raise RuntimeError(f"The worker did not answer: {answers}")


async def _fill(broker: Broker, chosen: argparse.Namespace, triggers: Path) -> Ground:
    prefix = f"cost-{uuid.uuid4().hex[:6]}-"
    inputs = [prefix + workload.TICKETS, prefix + workload.SESSIONS]
    await topics.create(broker.bootstrap, inputs, chosen.partitions, {"max.message.bytes": str(2 << 20)})
    made = workload.records(chosen.records, chosen.tickets)
    written = await workload.fill(broker.bootstrap, prefix, chosen.partitions, made)
    return Ground(broker, prefix, chosen.partitions, written, triggers)


def run_without() -> None:
    """Be `lapse run` with nobody listening and nothing served."""
    from streams import cli
    from streams.worker.observer import Silent
    from streams.worker.service import Worker as RuntimeWorker

    app: Any = importlib.import_module("streams.assembly")  # `from streams import app` is what Faust looks for

    def make_worker(settings, ruleset):
        return RuntimeWorker(
            app.runtime_config(settings),
            app.make_engine(ruleset, settings),
            decode=app.decode,
            rows=app.MsgpackRows(),
            observer=Silent(),
        )

    app.make_worker = make_worker
    cli.main()


if __name__ == "__main__":
    if sys.argv[1:2] == ["run"]:
        run_without()
    else:
        main()
