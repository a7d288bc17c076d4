"""`python -m tests.zendesk.campaign`: the loop with Zendesk under faults, and what must hold afterwards.

    python -m tests.zendesk.campaign --events 20000 --faults 50 --seed 7

A broker, `lapse ingest`, `lapse run` and `lapse apply` as processes, and the stand-in for Zendesk, whose webhooks tell
of customers who come and leave, and of every change of a ticket. Agents change tickets meanwhile. Faults are kill -9 of
each process, an outage and a standstill of the broker, an outage of Zendesk, bursts of its errors and limits, and
several of these at once. Exit code 1 when a law is broken, or a process ended by itself.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from streams.kafka.config import KafkaConfig
from streams.testing.webhooks import WebhookSender, session_post, ticket_event
from streams.testing.zendesk.faults import Kind
from streams.testing.zendesk.hooks import events
from streams.testing.zendesk.limits import Limits
from streams.testing.zendesk.server import ZendeskServer
from streams.testing.zendesk.tickets import Change, Ticket
from tests.kafka_kit import topics as kit
from tests.kafka_kit.broker import Broker, free_port
from tests.worker.kit import config_for, read_all, topics
from tests.zendesk.ingesting import SECRET, Apply, Ingest, Process
from tests.zendesk.laws import breaches

PARTITIONS = 4
COMMAND_FIELD = "77"
LIMITS = Limits(updates_per_minute=60, minute=10.0, requests_per_minute=100_000)
KINDS = (Kind.UNAVAILABLE, Kind.ERROR, Kind.LIMITED, Kind.COLLISION, Kind.DROPPED, Kind.LOST, Kind.SLOW)
LANES = 32
EVENTS_OF_A_TICKET = 6
"""Made, active, inactive, and three of the update that carries the command out."""
SETTLES_WITHIN = 600.0
TRIGGERS = """
triggers:
  - id: solve-abandoned
    conditions:
      all:
        - {field: status, operator: is, value: open}
        - {field: messaging_session_state, operator: changed_to, value: inactive}
    actions:
      - {field: status, value: solved}
      - {field: add_tags, value: abandoned_conversation}
  - id: say-goodbye
    conditions:
      all:
        - {field: priority, operator: is, value: urgent}
        - {field: messaging_session_state, operator: changed_to, value: inactive}
    actions:
      - {field: reply_public, value: "See you."}
"""


class Installation:
    """The processes, each started again when it was killed."""

    def __init__(self, broker: Broker, config: KafkaConfig, folder: Path, zendesk: str) -> None:
        triggers = folder / "triggers.yaml"
        triggers.write_text(TRIGGERS)
        field = {"zendesk_command_field": COMMAND_FIELD}
        port, prefix = free_port(), config.topic_prefix
        run = {
            "brokers": broker.bootstrap,
            "topic_prefix": prefix,
            "web_port": str(free_port()),
            "triggers": str(triggers),
            "act_from": "beginning",
            "session_timeout": "6s",
            "log_format": "json",
        }
        self._make: dict[str, Callable[[], Process]] = {
            "ingest": lambda: Ingest(broker.bootstrap, prefix, folder, port, **field),
            "run": lambda: Process("run", folder, int(run["web_port"]), run),
            "apply": lambda: Apply(broker.bootstrap, prefix, folder, zendesk, **field),
        }
        self.url = f"http://127.0.0.1:{port}/zendesk"
        self.ended: list[str] = []
        self._processes = {verb: make() for verb, make in self._make.items()}

    async def ready(self) -> None:
        """Wait until every process is at work."""
        for process in self._processes.values():
            await asyncio.to_thread(process.until_ready, SETTLES_WITHIN)

    def kill(self, verb: str) -> None:
        """kill -9, and a start."""
        self.look()
        self._processes[verb].kill()
        self._processes[verb] = self._make[verb]()

    def look(self) -> None:
        """Note what has ended by itself, and start it again."""
        for verb, process in self._processes.items():
            if not process.running:
                self.ended.append(f"{verb} ended by itself: {process.log[-1500:]}")
                self._processes[verb] = self._make[verb]()

    async def stop(self) -> None:
        """SIGTERM for all."""
        for verb, process in self._processes.items():
            code = await asyncio.to_thread(process.stop)
            if code != 0:
                self.ended.append(f"{verb} ended with {code} after SIGTERM")

    def close(self) -> None:
        """End what is left."""
        for process in self._processes.values():
            if process.running:
                process.kill()


class Account:
    """Customers and agents, and which of the events of what they did were delivered."""

    def __init__(self, server: ZendeskServer, sender: WebhookSender, rng: random.Random) -> None:
        self._server, self._sender, self._rng = server, sender, rng
        self._lanes: list[asyncio.Queue[bytes]] = [asyncio.Queue() for _ in range(LANES)]
        self._tasks = [asyncio.create_task(self._send(lane)) for lane in self._lanes]
        self.taken: list[dict[str, Any]] = []
        """Bodies that were answered 200."""
        self.lost = 0
        server.tickets.on_change = self._changed

    async def live(self, tickets: int, rate: float) -> None:
        """Have so many customers come and leave, so many a second."""
        stories = []
        for number in range(1, tickets + 1):
            stories.append(asyncio.create_task(self._story(number)))
            await asyncio.sleep(self._rng.expovariate(rate))
        await asyncio.gather(*stories)

    async def delivered(self) -> None:
        """Wait until everything was sent, as often as Zendesk tries."""
        await asyncio.gather(*(lane.join() for lane in self._lanes))

    def close(self) -> None:
        """Send no more."""
        for task in self._tasks:
            task.cancel()

    async def _story(self, number: int) -> None:
        rng = self._rng
        status, priority = rng.choice(["open", "open", "open", "pending"]), rng.choice(["urgent", "low"])
        self._server.tickets.make(number, status=status, priority=priority)
        detail = {"status": status.upper(), "priority": priority.upper(), "tags": []}
        self._tell(number, ticket_event(number, "created", at=datetime.now(UTC), event={}, **detail))
        self._tell(number, session_post(number, "Active"))
        await asyncio.sleep(rng.uniform(2.5, 4.0))
        self._tell(number, session_post(number, "Inactive", "User inactive or offline"))
        if rng.random() < 0.2:
            await asyncio.sleep(rng.uniform(0.0, 3.0))
            change = {"status": rng.choice(["pending", "hold"])}
            self._server.tickets.update(number, change, by="agent", via="screen")

    def _changed(self, ticket: Ticket, change: Change) -> None:
        for body in events(ticket, change):
            self._tell(ticket.id, body)

    def _tell(self, number: int, body: bytes) -> None:
        self._lanes[number % LANES].put_nowait(body)

    async def _send(self, lane: asyncio.Queue[bytes]) -> None:
        while True:
            body = await lane.get()
            if (await self._sender.send(body)).taken:
                self.taken.append(json.loads(body))
            else:
                self.lost += 1
            lane.task_done()


class Faults:
    """What goes wrong, one after the other."""

    def __init__(self, broker: Broker, server: ZendeskServer, installation: Installation, rng: random.Random) -> None:
        self._broker, self._server, self._installation, self._rng = broker, server, installation, rng
        self.happened: Counter[str] = Counter()
        self._kinds: dict[str, Callable[[], Awaitable[None]]] = {
            "kill -9 of ingest": lambda: self._kill("ingest"),
            "kill -9 of the worker": lambda: self._kill("run"),
            "kill -9 of apply": lambda: self._kill("apply"),
            "Kafka away": self._kafka_away,
            "Kafka stands still": self._kafka_frozen,
            "Zendesk away": self._zendesk_away,
            "errors and limits of Zendesk": self._errors,
            "Kafka and Zendesk away": lambda: self._together(self._kafka_away(), self._zendesk_away()),
            "Zendesk away, kill -9 of apply": lambda: self._together(self._zendesk_away(), self._kill("apply")),
            "Kafka stands still, kill -9 of apply": lambda: self._together(self._kafka_frozen(), self._kill("apply")),
        }

    async def run(self, count: int) -> None:
        """Have so many faults happen, each kind as often as the others."""
        order = [name for _ in range(-(-count // len(self._kinds))) for name in self._kinds]
        self._rng.shuffle(order)
        for name in order[:count]:
            await asyncio.sleep(self._rng.uniform(1.0, 4.0))
            await self._kinds[name]()
            self.happened[name] += 1
            self._installation.look()

    async def _kill(self, verb: str) -> None:
        await asyncio.sleep(self._rng.uniform(0.0, 2.0))
        self._installation.kill(verb)

    async def _kafka_away(self) -> None:
        self._rng.choice([self._broker.kill, self._broker.stop])()
        await asyncio.sleep(self._rng.uniform(1.0, 5.0))
        self._broker.start()

    async def _kafka_frozen(self) -> None:
        self._broker.pause()
        await asyncio.sleep(self._rng.uniform(2.0, 6.0))
        self._broker.resume()

    async def _zendesk_away(self) -> None:
        self._server.faults.away = True
        await asyncio.sleep(self._rng.uniform(1.0, 6.0))
        self._server.faults.away = False

    async def _errors(self) -> None:
        for _ in range(self._rng.randrange(3, 10)):
            method = self._rng.choice(["GET", "PUT"])
            self._server.faults.add(self._rng.choice(KINDS), method=method, times=self._rng.randrange(1, 6), seconds=1)

    async def _together(self, *several: Awaitable[None]) -> None:
        await asyncio.gather(*several)


async def settled(config: KafkaConfig, installation: Installation, account: Account) -> tuple[list[Any], list[Any]]:
    """Wait until everything was decided and carried out, and told of in turn; return commands and results."""
    inputs = [config.topic(name) for name in ("ticket-updates", "session-states")]
    deadline, before = time.monotonic() + SETTLES_WITHIN, -1
    while True:
        installation.look()
        await account.delivered()
        await kit.until_no_lag(config.brokers[0], config.group, inputs, PARTITIONS, within=SETTLES_WITHIN)
        commands, results = [
            [json.loads(record.value) for record in await read_all(config, config.topic(name))]
            for name in ("action-commands", "action-results")
        ]
        if len(results) == len(commands) == before or time.monotonic() > deadline:
            return commands, results
        before = len(commands)
        await asyncio.sleep(2.0)


async def not_there(config: KafkaConfig, taken: list[dict[str, Any]]) -> list[str]:
    """Return which events were answered 200 and are in no topic: ticket events by id, posts by ticket and state."""
    updates = [json.loads(record.value) for record in await read_all(config, config.topic("ticket-updates"))]
    states = [json.loads(record.value) for record in await read_all(config, config.topic("session-states"))]
    ids = {update["event_id"] for update in updates}
    posts = {(state["ticket_id"], state["state"].lower()) for state in states}
    missing = [f"event {body['id']}" for body in taken if "id" in body and body["id"] not in ids]
    missing += [
        f"post {body['state']} of ticket {body['ticket_id']}"
        for body in taken
        if "id" not in body and (body["ticket_id"], body["state"].lower()) not in posts
    ]
    return missing


async def campaign(broker: Broker, folder: Path, *, count: int, faults: int, rate: float, seed: int) -> int:
    """Run everything; return the exit code."""
    config = await topics(config_for(broker, "c-"), PARTITIONS)
    rng, began = random.Random(seed), time.monotonic()
    async with ZendeskServer(limits=LIMITS, job_takes=0.5) as server:
        installation = Installation(broker, config, folder, server.url)
        try:
            await installation.ready()
            async with WebhookSender(installation.url, SECRET, pause=1.0) as sender:
                account = Account(server, sender, rng)
                breaking = Faults(broker, server, installation, rng)
                await asyncio.gather(account.live(count // EVENTS_OF_A_TICKET, rate), breaking.run(faults))
                server.faults.clear()
                await installation.ready()
                commands, results = await settled(config, installation, account)
                account.close()
            missing = await not_there(config, account.taken)
            await installation.stop()
        finally:
            installation.close()
        changes = server.tickets.changes
    found = [*breaches(commands, results, changes), *missing, *installation.ended]
    ended = Counter(result["result"] for result in results)
    by = Counter(change.via for change in changes if change.command_id is not None)
    print(f"{len(account.taken):,} events taken by ingest, {account.lost:,} that it did not take in Zendesk's tries")
    print(f"{len(commands):,} commands: {dict(ended)}; updates: {dict(by)}; {len(server.requests):,} requests")
    print(
        f"{breaking.happened.total()} faults: {dict(breaking.happened)}; {len(server.faults.happened):,} bad requests"
    )
    print(f"{time.monotonic() - began:.0f} s, seed {seed}; breaches: {len(found)}")
    for line in found[:40]:
        print(f"  {line}")
    return 1 if found else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.zendesk.campaign", description=__doc__)
    parser.add_argument("--events", type=int, default=20_000, help="about so many webhooks")
    parser.add_argument("--faults", type=int, default=50)
    parser.add_argument("--rate", type=float, default=10.0, help="customers a second")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with Broker() as broker, tempfile.TemporaryDirectory() as folder:
        sizes = {"count": given.events, "faults": given.faults, "rate": given.rate, "seed": given.seed}
        return asyncio.run(campaign(broker, Path(folder), **sizes))


if __name__ == "__main__":
    sys.exit(main())
