"""`lapse apply` before a backlog: `python -m tests.bench.apply`. It starts a broker and the stand-in for Zendesk.

First each command adds a tag and writes a public reply, so that each takes one update of the quota on single updates.
Printed is how much of that quota was used from the first update to the beginning of the last window, and how many
updates the account turned away because they were beyond it. Then the same without replies, which may go by jobs.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from streams.core.model import SECOND
from streams.kafka.config import KafkaConfig
from streams.telemetry.labels import APPLY_RESULTS
from streams.testing.zendesk import checks
from streams.testing.zendesk.limits import Limits, Used
from streams.testing.zendesk.server import ZendeskServer
from tests.kafka_kit.broker import Broker
from tests.worker.kit import config_for, topics
from tests.zendesk.commands import command, write
from tests.zendesk.ingesting import Apply, counted

PARTITIONS = 4
OLD = 1_772_359_200 * SECOND
LEAST_USED = 0.95
_LONGEST = 900.0


async def measure(
    config: KafkaConfig, folder: Path, commands: int, quota: int, minute: float, *, replies: bool
) -> bool:
    """Print the figures; return whether enough of the quota was used, and nothing beyond it."""
    await topics(config, PARTITIONS)
    limits = Limits(requests_per_minute=10 * quota, updates_per_minute=quota, minute=minute)
    async with ZendeskServer(limits=limits) as server:
        tickets = range(1, commands + 1)
        for number in tickets:
            server.tickets.make(number, updated_at=OLD, created_at=OLD)
        actions = [_TAG, _REPLY] if replies else [_TAG]
        made = [command(number, actions=actions) for number in tickets]
        await write(config, made, PARTITIONS)
        process = Apply(
            config.brokers[0], config.topic_prefix, folder, server.url, zendesk_updates_per_minute=str(quota)
        )
        try:
            began = time.monotonic()
            while (done := await asyncio.to_thread(_ended, process)) < commands:
                if not process.running or time.monotonic() > began + _LONGEST:
                    raise SystemExit(f"{done:,} of {commands:,} commands ended:\n{process.log[-3000:]}")
                await asyncio.sleep(0.2)
        finally:
            await asyncio.to_thread(process.stop)
        windows = server.quotas.updates.history
        refused = sum(window.refused for window in windows)
        used = share_used(windows, quota, minute) if len(windows) > 1 else 1.0
        changes = server.tickets.changes
        by_job = sum(change.via == "job" for change in changes)
        took = (changes[-1].at - changes[0].at) / SECOND
        breaches = [*checks.twice(changes), *checks.against_expected(changes, made)]
        print(
            f"{commands:,} commands {'with' if replies else 'without'} replies: {took:.1f} s, {by_job:,} by jobs, "
            f"{len(server.requests):,} requests; {quota:,} single updates in {minute:g} s are allowed, {used:.1%} "
            f"used over {len(windows) - 1} whole windows, {refused} turned away; {len(breaches)} breaches",
            flush=True,
        )
        return used >= LEAST_USED and not refused and not breaches


_TAG = {"field": "add_tags", "value": ["left"]}
_REPLY = {"field": "reply_public", "value": "See you."}


def share_used(windows: list[Used], quota: int, minute: float) -> float:
    """Return the share of the quota that was used, from the first update to the beginning of the last window.

    Time between two windows counts as unused: the account begins one with the first update after the last one's end.

    >>> share_used([Used(0.0, 10, 0), Used(60.0, 10, 0), Used(120.0, 3, 0)], 10, 60.0)
    1.0
    """
    *whole, last = windows
    return sum(window.passed for window in whole) / (quota * (last.began - whole[0].began) / minute)


def _ended(process: Apply) -> int:
    """Return how many commands have a committed result."""
    _, text = process.get("/metrics")
    return sum(int(counted(text, "lapse_apply_total", result=result)) for result in APPLY_RESULTS)


def main() -> int:
    """Measure as the flags say; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.apply", description=__doc__)
    parser.add_argument("--commands", type=int, default=5_000, help="how many wait, each for a ticket of its own")
    parser.add_argument("--quota", type=int, default=1_250, help="updates in each window of the account")
    parser.add_argument("--minute", type=float, default=20.0, help="length of a window in seconds")
    given = parser.parse_args()
    with Broker() as broker, tempfile.TemporaryDirectory() as folder:
        sizes = (given.commands, given.quota, given.minute)
        single = asyncio.run(measure(config_for(broker, "single-"), Path(folder), *sizes, replies=True))
        by_jobs = asyncio.run(measure(config_for(broker, "jobs-"), Path(folder), *sizes, replies=False))
        return 0 if single and by_jobs else 1


if __name__ == "__main__":
    sys.exit(main())
