"""Kill -9 of `lapse apply` at any instant, with faults of Zendesk, over and over: what must hold of every command.

The partition, its commands on their way and the client are the real ones, and so is the HTTP between them and the
stand-in. What is not there is a broker: transactions go to a log in memory, which a killed process can no longer write.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import pytest
from aiokafka import ConsumerRecord

from streams.core.errors import CommitFailed
from streams.core.names import Output
from streams.kafka.producer import PartitionProducer
from streams.telemetry.apply import ApplyMetrics
from streams.testing.zendesk.faults import Kind
from streams.testing.zendesk.limits import Limits
from streams.testing.zendesk.server import CLIENT, ZendeskServer
from streams.wire.writes import Write
from streams.zendesk.apply import client, jobs
from streams.zendesk.apply.carry import Carrier
from streams.zendesk.apply.client import Account, Zendesk
from streams.zendesk.apply.config import ApplyConfig
from streams.zendesk.apply.gate import Gate
from streams.zendesk.apply.pace import Pace
from streams.zendesk.apply.partition import Partition
from tests.worker.kit import eventually
from tests.zendesk.commands import SOLVE, command
from tests.zendesk.desk import HOUR, OLD
from tests.zendesk.laws import breaches

WITHIN = 120.0
TICKETS = 60
KILLS = 12
MOST_REQUESTS = 70
"""In one life that is killed: so few that not everything can have ended by the third."""
KINDS = (Kind.UNAVAILABLE, Kind.ERROR, Kind.LIMITED, Kind.COLLISION, Kind.DROPPED, Kind.LOST)
LIMITS = Limits(updates_per_minute=15, minute=1.0, requests_per_minute=100_000)
REPLY = {"field": "reply_public", "value": "See you."}


class Log:
    """The partition of `action-commands`, and what transactions have made of it."""

    def __init__(self, values: Iterable[bytes]) -> None:
        self.records = [
            ConsumerRecord("action-commands", 0, offset, offset, 0, b"", value, -1, 0, len(value), ())
            for offset, value in enumerate(values)
        ]
        self.committed, self.metadata = 0, ""
        self.results: list[dict[str, Any]] = []
        self.owner: Producer | None = None

    @property
    def ended(self) -> bool:
        return self.committed == len(self.records)


class Producer(PartitionProducer):
    """Commits to a log, as long as no other one has it."""

    def __init__(self, config: ApplyConfig, log: Log, rng: random.Random) -> None:
        super().__init__(config, 0)
        self._log, self._rng = log, rng
        log.owner = self

    async def commit(
        self, writes: Mapping[str, Iterable[Write]], offsets: Mapping[str, int], *_: Any, metadata: str | None = None
    ) -> None:
        await asyncio.sleep(self._rng.random() / 50)
        if self._log.owner is not self:
            raise CommitFailed("another one has the partition")
        self._log.results += [msgspec.json.decode(write.value) for write in writes[Output.RESULTS.value]]
        (self._log.committed,) = offsets.values()
        self._log.metadata = metadata or ""
        await asyncio.sleep(self._rng.random() / 50)  # it is committed, and the process does not know it yet

    async def discard(self) -> None:
        """Nothing is open."""


class Process:
    """One life of `lapse apply`."""

    def __init__(self, server: ZendeskServer, log: Log, rng: random.Random) -> None:
        self._server, self._log, self._rng = server, log, rng

    async def run(self) -> None:
        """Work until cancelled: that is kill -9, after which nothing of it is committed."""
        pace, gate, log = Pace(10_000, minute=LIMITS.minute), Gate(), self._log
        gate.ready()
        account = Account(url=self._server.url, client_id=CLIENT.client_id, client_secret=CLIENT.secret)
        config = ApplyConfig(brokers=("127.0.0.1:9",), topic_prefix="")
        async with Zendesk(account, pace) as zendesk:
            carrier = Carrier(zendesk, pace, gate, max_age=HOUR)
            producer = Producer(config, log, self._rng)
            partition = Partition(
                config, producer, carrier, ApplyMetrics(), committed=log.committed, metadata=log.metadata
            )
            try:
                partition.add(log.records[log.committed :])
                await partition.failed
            finally:
                if log.owner is producer:
                    log.owner = None
                await partition.close(0.0)
                await carrier.close()


def made_commands(rng: random.Random) -> list[dict[str, Any]]:
    """Two for each ticket, of which the second one expects what the first one does; some reply."""
    first, second = [], []
    for ticket in range(TICKETS):
        replies = [REPLY] if rng.random() < 0.3 else []
        first.append(command(ticket, actions=[*SOLVE, *replies]))
        urgent = {"field": "priority", "value": "urgent"}
        second.append(command(ticket, actions=[urgent], expected={"status": "solved", "priority": None}, episode=2))
    return first + second


async def agents(server: ZendeskServer, rng: random.Random) -> None:
    """People who change tickets meanwhile."""
    for ticket in rng.sample(range(TICKETS), 15):
        await asyncio.sleep(rng.random() / 3)
        server.tickets.update(ticket, {"status": rng.choice(["pending", "hold"])}, by="agent", via="screen")


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_FIRST_BACKOFF", 0.01)
    monkeypatch.setattr(client, "_LAST_BACKOFF", 0.1)
    monkeypatch.setattr(jobs, "_GATHER", 0.02)
    monkeypatch.setattr(jobs, "_FIRST_LOOK", 0.05)


async def live_and_die(server: ZendeskServer, log: Log, rng: random.Random) -> int:
    """Carry everything out in as many lives as it takes; return how many were killed."""
    killed = 0
    while not log.ended:
        life = asyncio.ensure_future(Process(server, log, rng).run())
        for _ in range(rng.randrange(4)):
            server.faults.add(rng.choice(KINDS), method=rng.choice(["GET", "PUT"]), times=rng.randrange(1, 4))
        enough = len(server.requests) + min(int(rng.expovariate(1 / 25)), MOST_REQUESTS)
        if killed < KILLS:
            await eventually(lambda: len(server.requests) > enough or log.ended, WITHIN)  # noqa: B023
            killed += not log.ended
        else:
            await eventually(lambda: log.ended, WITHIN)
        life.cancel()
        (error,) = await asyncio.gather(life, return_exceptions=True)
        assert isinstance(error, asyncio.CancelledError), error
    return killed


async def test_whenever_it_is_killed_each_command_ends_once_and_as_the_ticket_says(long: bool) -> None:
    for seed in range(40 if long else 1):
        rng = random.Random(seed)
        commands = made_commands(rng)
        log = Log(map(msgspec.json.encode, commands))
        async with asyncio.timeout(WITHIN), ZendeskServer(limits=LIMITS, job_takes=0.05) as server:
            for ticket in range(TICKETS):
                server.tickets.make(ticket, updated_at=OLD, created_at=OLD)
            changing = asyncio.ensure_future(agents(server, rng))
            killed = await live_and_die(server, log, rng)
            await changing
            changes = server.tickets.changes
        assert breaches(commands, log.results, changes) == []
        assert killed >= 3
        ended = Counter(one["result"] for one in log.results)
        assert ended.keys() <= {"applied", "overtaken"}
        by = Counter(change.via for change in changes)
        print(f"seed {seed}: {killed} killed, {len(server.faults.happened)} faults; {dict(ended)}; changes {dict(by)}")
