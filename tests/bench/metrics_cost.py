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
import urllib.request
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench import drain
from tests.bench.contestants import LAPSE, Lapse, Task
from tests.bench.drain import Run
from tests.bench.ground import Ground, backlog, write_triggers
from tests.bench.process import Process
from tests.kafka_kit import Broker

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
    parser.add_argument("--pairs", type=int, default=5)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, Broker() as broker:
        scratch = Path(name)
        filling = backlog(broker, chosen.partitions, chosen.records, chosen.tickets, write_triggers(scratch))
        ground = asyncio.run(filling)
        print(f"{chosen.records:,} records, {chosen.partitions} partitions", flush=True)
        pairs = [_pair(ground, scratch, turn) for turn in range(chosen.pairs)]
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


class _Bare(Lapse):
    """The worker without an observer and without a web server."""

    def command(self, task: Task) -> tuple[list[str], dict[str, str]]:
        return [sys.executable, "-m", "tests.bench.metrics_cost", "run"], self.environment(task)


def _pair(ground: Ground, scratch: Path, turn: int) -> dict[str, Run]:
    order = (WITH, WITHOUT) if turn % 2 == 0 else (WITHOUT, WITH)
    pair = {
        name: asyncio.run(
            drain.run(LAPSE, ground, scratch, during=_ask)
            if name == WITH
            else drain.run(_Bare("lapse", "Lapse without metrics"), ground, scratch, during=_see_nothing_served)
        )
        for name in order
    }
    ratio = pair[WITH].rate / pair[WITHOUT].rate
    print(f"pair {turn + 1}: {', '.join(f'{n} {pair[n].rate:,.0f}/s' for n in order)}; {ratio:.1%}", flush=True)
    return pair


async def _ask(task: Task, _: Process) -> None:
    """Scrape the worker and look at its page until cancelled; an answer that does not come is an error."""

    def get(path: str) -> None:
        with urllib.request.urlopen(f"http://127.0.0.1:{task.port}{path}", timeout=5) as answer:
            if not answer.read():
                raise RuntimeError(f"The worker answered {path} with nothing.")

    async def again(path: str, every: float) -> None:
        while True:
            await asyncio.to_thread(get, path)
            await asyncio.sleep(every)

    await asyncio.gather(*(again(path, every) for path, every in ASKED_EVERY.items()))


async def _see_nothing_served(task: Task, _: Process) -> None:
    with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", task.port)):
        raise RuntimeError("The worker that was to do without them serves metrics and page all the same.")


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
            decode=app.decode_by(settings),
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
