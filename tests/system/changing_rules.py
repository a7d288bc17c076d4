"""`python -m tests.system.changing_rules`: rules change while workers are killed; then all of it is replayed.

    python -m tests.system.changing_rules --records 200000 --seed 7

Three workers as processes on a broker of their own, four partitions, the stories of `traffic.py`. Meanwhile revisions
are published (at once, for later, for an instant that has passed), rolled back, stopped, resumed and shadowed, and
workers get kill -9, SIGTERM and SIGSTOP. Afterwards `lapse capture` and `lapse backtest --as-it-was` must give the same
commands and the same records again, byte for byte. Exit code 1 when they do not, or when a worker ended by itself.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer

from streams.core.model import SECOND, Micros
from streams.core.revisions import Entry, EntryKind
from streams.kafka.config import KafkaConfig
from streams.operate.rules_topic import now, publish
from streams.rules.source import compile_source
from tests.kafka_kit.broker import Broker
from tests.system.faults import OFTEN, Scene
from tests.system.installation import JOIN_WAIT, TRIGGERS, Installation
from tests.system.oracle import SESSIONS
from tests.system.pump import Pump
from tests.system.traffic import Sent, compact, instant, partition_of, stories
from tests.system.worker import Supervisor, lapse
from tests.worker.kit import config_for

PARTITIONS = 4
LONGEST_WAIT = 5.0

_BASE = TRIGGERS.read_text("utf-8")
SOURCES = {
    "base": _BASE,
    "other waits": _BASE.replace("wait: 2s", "wait: 1s").replace("wait: 5s", "wait: 3s"),
    "other actions": _BASE.replace("value: abandoned_conversation", "value: left").replace("value: 999", "value: 998"),
    "a limit": "limit: {count: 60, per: 10s}\n" + _BASE,
    "a holdout": 'holdout: {share: 30%, salt: "campaign"}\n' + _BASE,
    "single pass": "cycle: single_pass\n" + _BASE,
}


@dataclass
class Publisher:
    """Publishes one entry after the other, of a kind that the seed chooses."""

    config: KafkaConfig
    rng: random.Random
    live: list[Entry] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)

    async def publish(self, what: str, **members: Any) -> Entry:
        """Publish one entry."""
        entry = await publish(
            self.config,
            compile_source,
            lambda book: Entry(number=book.last + 1, published_at=now(), author="campaign", reason=what, **members),
        )
        self.kinds[what] += 1
        if entry.kind is EntryKind.LIVE:
            self.live.append(entry)
        return entry

    async def revision(self, what: str, effective_from: Micros, source: str | None = None) -> Entry:
        """Publish a live revision."""
        text = source or SOURCES[self.rng.choice(list(SOURCES))]
        digest = compile_source(text).digest
        return await self.publish(what, kind=EntryKind.LIVE, source=text, ruleset=digest, effective_from=effective_from)

    async def any(self) -> Entry:
        """Publish something."""
        kind = self.rng.choice(
            [
                "now",
                "now",
                "now",
                "later",
                "later",
                "passed",
                "rollback",
                "stop one",
                "stop all",
                "resume",
                "shadow",
                "off",
            ]
        )
        match kind:
            case "now":
                return await self.revision("a revision for now", now())
            case "later":
                ahead = int(self.rng.uniform(0.5, 6) * SECOND)
                return await self.revision("a revision for later", now() + ahead)
            case "passed":
                return await self.revision("a revision whose time has passed", now() - 60 * SECOND)
            case "rollback":
                return await self.revision("a rollback", 0, self.rng.choice(self.live).source)
            case "stop one":
                id = self.rng.choice(["solve-abandoned", "nudge", "vip-left"])
                return await self.publish("a stop of one trigger", kind=EntryKind.STOP, triggers=(id,))
            case "stop all":
                await self.publish("a stop of everything", kind=EntryKind.STOP, triggers="all")
                await asyncio.sleep(self.rng.uniform(0.5, 2))
                return await self.publish("a resume", kind=EntryKind.RESUME, triggers="all")
            case "resume":
                return await self.publish("a resume", kind=EntryKind.RESUME, triggers="all")
            case "shadow":
                text = SOURCES[self.rng.choice(list(SOURCES))]
                digest = compile_source(text).digest
                return await self.publish("a shadow", kind=EntryKind.SHADOW, source=text, ruleset=digest)
            case _:
                return await self.publish("the end of a shadow", kind=EntryKind.SHADOW_OFF)


async def run(options: argparse.Namespace, folder: Path, broker: Broker) -> int:
    """Run everything; return the exit code."""
    installation = Installation(broker, "r-", PARTITIONS, folder)
    del installation.env["LAPSE_TRIGGERS"]
    installation.env["LAPSE_RULES"] = "topic"
    await installation.create()
    rng = random.Random(options.seed)
    config = config_for(broker, "r-", rules="topic")
    publisher = Publisher(config, rng)
    await publisher.revision("the first revision", now(), _BASE)
    supervisor = Supervisor([installation.worker(f"worker-{number}") for number in (1, 2, 3)])
    scene = Scene(broker, supervisor, supervisor.workers[0], rng)
    pump = Pump(broker.bootstrap, "r-", PARTITIONS, stories(options.seed), rate=options.rate, count=options.records)
    faults: Counter[str] = Counter()

    async def tend() -> None:
        while True:
            supervisor.tend()
            await asyncio.sleep(0.5)

    over = asyncio.Event()

    async def publish_on() -> None:
        while not over.is_set():
            await asyncio.sleep(rng.uniform(0.5, 2 * options.every))
            await publisher.any()

    async def harm() -> None:
        while not over.is_set():
            await asyncio.sleep(rng.uniform(2, 10))
            fault = rng.choice(OFTEN)
            await fault(scene)
            faults[fault.__name__] += 1

    for worker in supervisor.workers:
        worker.start()
    tending, *changing = [asyncio.create_task(each()) for each in (tend, publish_on, harm)]
    sending = asyncio.create_task(pump.run())
    try:
        done, _ = await asyncio.wait(
            [sending, tending, *changing], timeout=options.within, return_when=asyncio.FIRST_COMPLETED
        )
        for task in done:
            task.result()
        assert sending in done, f"sent {pump.sent} records in {options.within:.0f} s: give more with --within"
        over.set()
        await asyncio.gather(*changing)
        await installation.until_caught_up(300)
        # Every round is due by the last record of the capture, so that both sides run it.
        await asyncio.sleep(LONGEST_WAIT + JOIN_WAIT + 2)
        await _one_more_in_each_partition(broker)
        await installation.until_caught_up(120)
        tending.cancel()
        codes = [await asyncio.to_thread(worker.stop) for worker in supervisor.workers]
    finally:
        for task in (sending, tending, *changing):
            task.cancel()
        supervisor.close()
    print(f"{pump.sent} records sent; faults: {_told(faults)}; entries: {_told(publisher.kinds)}", flush=True)
    amiss = [f"{name} ended by itself with code {code}" for name, code in supervisor.failures]
    amiss += [f"a worker ended with {code} after SIGTERM" for code in codes if code]
    amiss += [f"{worker.name}: {line[:300]}" for worker in supervisor.workers for line in worker.tracebacks()]
    amiss += await _compare(installation, folder)
    if broker.lost_markers:
        amiss.append(f"the broker itself dropped the end of {broker.lost_markers} transactions")
    print("\n".join(amiss) or "every byte is the same")
    return 1 if amiss else 0


def _told(counts: Counter[str]) -> str:
    return f"{counts.total()} ({', '.join(f'{count} {name}' for name, count in counts.most_common())})"


async def _one_more_in_each_partition(broker: Broker) -> None:
    ids = (str(number) for number in itertools.count(9_000_000))
    left = set(range(PARTITIONS))
    async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap) as producer:
        while left:
            id = next(ids)
            body = {"ticket_id": id, "occurred_at": instant(time.time_ns() // 1_000_000), "state": "active"}
            partition = partition_of(Sent(SESSIONS, id.encode(), None), PARTITIONS)
            if partition in left:
                left.discard(partition)
                await producer.send_and_wait(f"r-{SESSIONS}", compact(body), id.encode(), partition=partition)


async def _compare(installation: Installation, folder: Path) -> list[str]:
    """Capture, replay, and say what differs."""
    file, made, told = folder / "capture.ndjson", folder / "commands.ndjson", folder / "transitions.ndjson"
    words = ["backtest", "--events", str(file), "--as-it-was", "--commands", str(made), "--transitions", str(told)]
    for command in (["capture", "-o", str(file)], words):
        began = time.monotonic()
        done = await asyncio.to_thread(lapse, *command, env=installation.env, within=600)
        print(f"{command[0]}: {time.monotonic() - began:.0f} s", flush=True)
        if done.returncode != 0:
            return [f"{command[0]} ended with {done.returncode}: {done.stdout}{done.stderr}"]
    amiss = []
    for topic, replayed in (("action-commands", made), ("session-transitions", told)):
        live = [record.value for record in await installation.read(topic)]
        again = replayed.read_bytes().splitlines()
        bodies = [json.loads(value) for value in live]
        if topic == "action-commands":
            ids = Counter(body["command_id"] for body in bodies)
            revisions = len({body["revision"] for body in bodies})
            print(f"{len(live)} commands of {revisions} revisions", flush=True)
            amiss += [f"command {id} came {count} times" for id, count in ids.items() if count > 1]
        else:
            kinds = Counter(body["type"] for body in bodies)
            outcomes = Counter(body["outcome"] for body in bodies if body["type"] == "evaluation")
            activations = Counter(body["kind"] for body in bodies if body["type"] == "activation")
            late = sum(body.get("late", False) for body in bodies)
            print(f"{_told(kinds)}\noutcomes: {_told(outcomes)}", flush=True)
            print(f"activations: {_told(activations)}, {late} late", flush=True)
        amiss += _differences(topic, live, again)
    return amiss


def _differences(topic: str, live: list[bytes], again: list[bytes]) -> list[str]:
    if live == again:
        print(f"{topic}: {len(live)} lines, {sum(map(len, live))} bytes, all the same", flush=True)
        return []
    pairs = itertools.zip_longest(live, again, fillvalue=b"")
    place, (one, other) = next((place, pair) for place, pair in enumerate(pairs) if pair[0] != pair[1])
    missing, extra = Counter(live) - Counter(again), Counter(again) - Counter(live)
    return [
        f"{topic}: {len(live)} lines live, {len(again)} replayed; {missing.total()} only live, {extra.total()} only "
        f"replayed; the first that differs is line {place + 1}:\n  live     {one.decode()}\n  replayed {other.decode()}"
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.system.changing_rules", description=__doc__)
    parser.add_argument("--records", type=int, default=200_000, help="at least (default 200000)")
    parser.add_argument("--rate", type=float, default=600, help="records a second (default 600)")
    parser.add_argument("--every", type=float, default=3, help="seconds from entry to entry, about (default 3)")
    parser.add_argument("--within", type=float, default=1800, help="seconds for sending (default 1800)")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--out", type=Path, help="where logs, capture and replay go")
    options = parser.parse_args()
    folder = options.out or Path(tempfile.mkdtemp(prefix="lapse-changing-rules-"))
    folder.mkdir(parents=True, exist_ok=True)
    print(f"seed {options.seed}, files in {folder}", flush=True)
    with Broker() as broker:
        sys.exit(asyncio.run(run(options, folder, broker)))


if __name__ == "__main__":
    main()
