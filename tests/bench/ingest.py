"""`lapse ingest` under load: `python -m tests.bench.ingest`. It starts a broker, and one process on one core.

Three figures: how many requests a second are answered 200 when 64 clients send as fast as they can, the processor time
that one of them takes, and how long an answer takes when requests come at a fixed rate, measured from the moment at
which each was due. The processor time says what a core can do where clients and broker have to share the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import uvloop

from streams.testing.webhooks import WebhookSender, ticket_event
from tests.kafka_kit.broker import Broker
from tests.worker.kit import config_for, topics
from tests.zendesk.ingesting import SECRET, Ingest


async def measure(process: Ingest, rate: int, seconds: float, clients: int) -> None:
    """Print both figures."""
    signer = WebhookSender(process.url, SECRET)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        bodies = [ticket_event(number % 5_000, at=datetime.now(UTC), number=number) for number in range(5_000)]
        requests = [(body, signer.headers(body)) for body in bodies]

        async def post(number: int) -> None:
            body, headers = requests[number % len(requests)]
            async with session.post(process.url, data=body, headers=headers) as answer:
                await answer.read()
                assert answer.status == 200, answer.status

        await asyncio.gather(*map(post, range(clients)))
        begun, sent, used = time.monotonic(), 0, processor_seconds(process.pid)

        async def as_fast_as_it_goes() -> None:
            nonlocal sent
            while time.monotonic() < begun + seconds:
                sent += 1
                await post(sent)

        await asyncio.gather(*(as_fast_as_it_goes() for _ in range(clients)))
        elapsed = time.monotonic() - begun
        print(f"{clients} clients: {sent / elapsed:,.0f} requests/s answered 200, over {elapsed:.0f} s")
        each = (processor_seconds(process.pid) - used) / sent
        print(f"{each * 1e6:,.0f} µs of processor time a request: {1 / each:,.0f}/s on a core of its own")

        took: list[float] = []
        begun = time.monotonic() + 0.1

        async def at(due: float, number: int) -> None:
            await asyncio.sleep(due - time.monotonic())
            await post(number)
            took.append(time.monotonic() - due)

        await asyncio.gather(*(at(begun + number / rate, number) for number in range(int(rate * seconds))))
        cuts = statistics.quantiles(took, n=1_000)
        print(
            f"{rate}/s: p50 {cuts[499] * 1000:.1f} ms, p99 {cuts[989] * 1000:.1f} ms, p99.9 {cuts[998] * 1000:.1f} ms, "
            f"{len(took):,} requests"
        )


def processor_seconds(pid: int) -> float:
    """Return the processor time that a process has used (Linux)."""
    figures = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(figures[11]) + int(figures[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure as the flags say."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.ingest", description=__doc__)
    parser.add_argument("--rate", type=int, default=200, help="requests a second of the second figure")
    parser.add_argument("--seconds", type=float, default=20, help="of each figure")
    parser.add_argument("--clients", type=int, default=64, help="of the first figure")
    given = parser.parse_args()
    with Broker() as broker, tempfile.TemporaryDirectory() as folder:
        asyncio.run(topics(config_for(broker, ""), 4))
        process = Ingest(broker.bootstrap, "", Path(folder)).until_ready()
        if hasattr(os, "sched_setaffinity"):
            cores = sorted(os.sched_getaffinity(0))
            os.sched_setaffinity(process.pid, cores[:1])
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(measure(process, given.rate, given.seconds, given.clients))
        finally:
            process.stop()


if __name__ == "__main__":
    main()
