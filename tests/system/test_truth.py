"""The figures are true: what all processes exported, summed, is what the committed topics tell, and never more."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from prometheus_client.parser import text_string_to_metric_families

from tests.kafka_kit.broker import Broker
from tests.system.installation import Installation
from tests.system.ledger import EDGE, Key, count, key
from tests.system.pump import Pump
from tests.system.traffic import Sent, instant, partition_of, stories
from tests.system.worker import Worker

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

PARTITIONS = 3
FALSE_WINDOW = 1.9
"""Seconds. Most stories have customers back before 1.8 s or after 2 s."""

COUNTED = (
    "lapse_records_total",
    "lapse_dead_letters_total",
    "lapse_session_transitions_total",
    "lapse_sessions_total",
    "lapse_sessions_abandoned_total",
    "lapse_abandonments_total",
    "lapse_tickets_abandoned_total",
    "lapse_false_abandonments_total",
    "lapse_time_to_abandon_seconds_count",
    "lapse_time_to_return_seconds_count",
    "lapse_rounds_total",
    "lapse_triggers_fired_total",
    "lapse_commands_total",
    "lapse_commands_applied_total",
    "lapse_command_apply_seconds_count",
)
SUMS = ("lapse_time_to_abandon_seconds_sum", "lapse_time_to_return_seconds_sum")
"""Compared in milliseconds, which is all that topics tell: each duration may be off by one."""


def scrape(worker: Worker) -> tuple[Counter[Key], float]:
    """Return a process's counters that are not 0, and how many rounds it has pending."""
    with urllib.request.urlopen(f"http://127.0.0.1:{worker.web_port}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    counters: Counter[Key] = Counter()
    pending = 0.0
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "lapse_pending_rounds":
                pending += sample.value
            if sample.name in SUMS:
                counters[sample.name, ()] += round(sample.value * 1000)
            if sample.name in COUNTED and sample.value:
                counters[sample.name, tuple(sample.labels[name] for name in sorted(sample.labels))] += int(sample.value)
    return counters, pending


class Desk:
    """Two workers under traffic, a consumer that does what commands ask, and the figures of processes that are gone."""

    def __init__(self, installation: Installation, seed: int) -> None:
        self.installation = installation
        self.workers = [
            installation.worker(f"worker-{number}", false_abandonment_window=f"{int(FALSE_WINDOW * 1000)}ms")
            for number in (1, 2)
        ]
        bootstrap, prefix = installation.broker.bootstrap, installation.prefix
        self.pump = Pump(bootstrap, prefix, PARTITIONS, stories(seed), rate=700, count=1)
        self.pump.more = True
        self.latest: dict[str, Counter[Key]] = {}
        self.gone: Counter[Key] = Counter()
        self.answered: set[str] = set()
        self.resting = asyncio.Event()

    def look(self) -> float:
        """Scrape every worker that answers; return the rounds that are pending."""
        pending = 0.0
        for worker in self.workers:
            try:
                self.latest[worker.name], waiting = scrape(worker)
            except (urllib.error.URLError, OSError):
                continue
            pending += waiting
        return pending

    def replaced(self, worker: Worker, end: Callable[[], object]) -> None:
        """End a worker and start it again; what it told last stays in the sum."""
        end()
        self.gone += self.latest.pop(worker.name, Counter())
        worker.start()

    def total(self) -> Counter[Key]:
        """Return all counters, summed over processes."""
        return sum(self.latest.values(), self.gone)

    async def quiet(self) -> None:
        """Let nothing be under way: no record, no answer, no round that waits; then look."""
        await self.pump.rest()
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            await self.installation.until_no_lag(60)
            await asyncio.sleep(0.7)
            if await asyncio.to_thread(self.look) == 0 and len(self.latest) == len(self.workers):
                commands = await self.installation.read("action-commands")
                if len(self.answered) == len(commands):
                    await self.installation.until_no_lag(60)
                    await asyncio.sleep(0.5)
                    await asyncio.to_thread(self.look)
                    return
        raise AssertionError("the workers did not come to rest")

    async def do_commands(self) -> None:
        """Be the downstream consumer: every command comes back as a ticket update, some of them twice."""
        bootstrap, prefix = self.installation.broker.bootstrap, self.installation.prefix
        consumer = AIOKafkaConsumer(
            prefix + "action-commands",
            bootstrap_servers=bootstrap,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            group_id=None,
        )
        async with consumer, AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
            async for record in consumer:
                command: dict[str, Any] = json.loads(record.value)
                if command["command_id"] in self.answered:
                    continue
                body = {
                    "event_id": f"done-{command['command_id']}",
                    "ticket_id": command["ticket_id"],
                    "occurred_at": instant(time.time_ns() // 1_000_000 + 2_000),
                    "command_id": command["command_id"],
                    "ticket": {"comment": "done"},
                }
                sent = Sent("ticket-updates", record.key, json.dumps(body).encode())
                for _ in range(1 + (len(self.answered) % 7 == 0)):
                    await producer.send_and_wait(
                        prefix + sent.topic, sent.value, sent.key, partition=partition_of(sent, PARTITIONS)
                    )
                self.answered.add(command["command_id"])

    async def ledger(self) -> Counter[Key]:
        """Count what the topics tell."""
        installation = self.installation
        commands, records, letters = [
            await installation.read(topic) for topic in ("action-commands", "session-transitions", "dead-letters")
        ]
        counts = count(records, commands, letters, prefix=installation.prefix, false_window=FALSE_WINDOW)
        counts[key("lapse_commands_applied_total")] = len(self.answered)
        counts[key("lapse_command_apply_seconds_count")] = len(self.answered)
        return counts

    async def records_taken(self, counts: Counter[Key]) -> None:
        """Put in what the oracle says became of the input records: it tells results, not topics."""
        for name in [k for k in counts if k[0] == "lapse_records_total"]:
            del counts[name]
        for result, number in (await self.installation.expected()).results.items():
            counts[key("lapse_records_total", result=result)] = number


def by_result(counters: Counter[Key]) -> Counter[Key]:
    """Sum records over topics."""
    found: Counter[Key] = Counter()
    for (metric, labels), number in counters.items():
        found[(metric, labels[:1] if metric == "lapse_records_total" else labels)] += number
    return found


def edge(true: Counter[Key], series: Key) -> float:
    """Return by how much a series may be off: see `ledger.EDGE`."""
    metric, labels = series
    if metric == EDGE:
        return float("inf")
    if metric in SUMS:
        return true[metric.replace("_sum", "_count"), labels] + 10
    return true[EDGE, labels] if metric == "lapse_false_abandonments_total" else 0


@pytest.fixture
async def desk(kafka: Broker, topic_prefix: str, tmp_path: Path) -> AsyncIterator[Desk]:
    installation = Installation(kafka, topic_prefix, PARTITIONS, tmp_path)
    await installation.create()
    made = Desk(installation, seed=int(topic_prefix[1:9], 16))
    tasks = [asyncio.create_task(made.pump.run()), asyncio.create_task(made.do_commands())]
    try:
        for worker in made.workers:
            worker.start()
        yield made
        for task in tasks:
            if task.done() and (error := task.exception()) is not None:
                raise error
    finally:
        for task in tasks:
            task.cancel()
        for worker in made.workers:
            worker.kill()


def show(capsys: pytest.CaptureFixture[str], told: Counter[Key], true: Counter[Key]) -> None:
    by_metric = {name: (0, 0) for name in COUNTED + SUMS}
    for name in by_metric:
        by_metric[name] = (
            sum(value for (metric, _), value in told.items() if metric == name),
            sum(value for (metric, _), value in true.items() if metric == name),
        )
    with capsys.disabled():
        print("\n" + "\n".join(f"    {name:38} exported {a:7,}  counted {b:7,}" for name, (a, b) in by_metric.items()))


async def test_what_all_processes_export_is_what_the_topics_tell(desk: Desk, capsys: pytest.CaptureFixture[str]):
    """Over clean stops, kills, rebalances under load and records that come twice."""
    first, second = desk.workers
    for worker, ends in ((first, first.kill), (second, second.stop), (second, second.kill)):
        await asyncio.sleep(4)
        await desk.quiet()
        await asyncio.to_thread(desk.replaced, worker, ends)
        desk.pump.hold = False  # the others take over, and give back, under load
    await asyncio.sleep(5)
    await desk.quiet()
    told, true = desk.total(), await desk.ledger()
    await desk.records_taken(true)
    told = by_result(told)
    show(capsys, told, true)
    assert sum(true[k] for k in true if k[0] == "lapse_records_total") > 5_000
    assert {name for name, _ in told} == {*COUNTED, *SUMS}, "every one of them has moved"
    assert {k: (told[k], true[k]) for k in told | true if abs(told[k] - true[k]) > edge(true, k)} == {}


async def test_processes_killed_at_work_never_export_more_than_happened(desk: Desk, capsys: pytest.CaptureFixture[str]):
    """What a process counted after its last scrape is lost with it; nothing is counted twice."""
    for _ in range(3):
        for worker in desk.workers:
            for _ in range(12):
                await asyncio.sleep(0.25)
                await asyncio.to_thread(desk.look)
            await asyncio.to_thread(desk.replaced, worker, worker.kill)
    await asyncio.sleep(2)
    await desk.quiet()
    told, true = desk.total(), await desk.ledger()
    await desk.records_taken(true)
    told = by_result(told)
    show(capsys, told, true)
    assert {k: (told[k], true[k]) for k in told if told[k] - true[k] > edge(true, k)} == {}
    counted = [k for k in true if k[0] in COUNTED]
    assert sum(told[k] for k in counted) > 0.6 * sum(true[k] for k in counted), "most was scraped in time"
