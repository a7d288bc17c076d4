"""How long does a command take? Open loop: from when its session event should have been sent to when a reader has it.

Records go out by a fixed schedule, whether or not the contestant keeps up, and latency counts from the schedule, so
that a stall is charged to every record that it delays. Before the schedule begins, a preload makes the tickets and has
each contestant do the same work for a while: virtual machines and caches are warm, and whoever has committed the
preload is ready.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.partitioner import murmur2

from tests.bench import workload
from tests.bench.contestants import Contestant, Task, started, task
from tests.bench.drain import Progress
from tests.bench.ground import Ground, empty_inputs
from tests.bench.process import Process
from tests.kafka_kit import Broker, topics
from tests.kafka_kit.broker import die_with_parent

TICKETS = 4_000
"""Tickets that leave and return in turns. Of twenty records nine are lapses, nine returns and two ticket updates."""

SETTLING = 3.0
"""Seconds of the schedule that are not counted."""

_ROUND = 20
_LAPSES = range(9)
_RETURNS = range(9, 18)
_READY_SECONDS = 120.0
_LAST_SECONDS = 10.0
_MOST_PREPARING_SECONDS = 30.0
_LEAST_LEAD_SECONDS = 0.5
"""How long before its first record a schedule must be made."""


@dataclass(frozen=True)
class Latency:
    """Milliseconds from the intended send to the reader, over all commands of the counted part of the schedule."""

    rate: int
    seconds: float
    p50: float
    p90: float
    p99: float
    p999: float
    most: float
    commands: int
    wanted: int
    twice: int
    cpu_micros: float
    """Microseconds of processor time a record, children included."""

    @property
    def holds(self) -> bool:
        """Whether every lapse of the whole schedule made exactly one command."""
        return self.commands == self.wanted and self.twice == 0

    def as_json(self) -> dict[str, Any]:
        """Return the figures for the results file."""
        return {**asdict(self), "holds": self.holds}


class Out(NamedTuple):
    """One record to send, with everything worked out beforehand."""

    topic: str
    partition: int
    key: bytes
    value: bytes
    timestamp: int
    lapse: str | None
    """The event id when it is a lapse."""


class Schedule(NamedTuple):
    """Records, and when the first is to go; those after it at a fixed rate a second."""

    records: list[Out]
    began: float
    rate: int


def measure(
    contestant: Contestant,
    broker: Broker,
    partitions: int,
    triggers: Path,
    scratch: Path,
    *,
    rate: int,
    seconds: float,
    preload: int,
    busy: float = 0.0,
) -> Latency:
    """Measure one contestant at `rate` records a second, on inputs of its own.

    `busy` is the share of a core that another process takes meanwhile; `preload` the lapses and returns before.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        prefix = runner.run(empty_inputs(broker, partitions))
        order = task(contestant, Ground(broker, prefix, partitions, 0, triggers, Counter()), scratch)
        runner.run(contestant.prepare(order))
        with started(contestant, order) as process, _busy(busy):
            found = runner.run(_measure(order, process, rate, seconds, preload))
        runner.run(_forget(contestant, order))
    return found


async def _forget(contestant: Contestant, order: Task) -> None:
    await contestant.forget(order)
    async with topics.admin(order.broker.bootstrap) as client:
        await client.delete_topics([order.prefix + workload.TICKETS, order.prefix + workload.SESSIONS])


async def _measure(order: Task, process: Process, rate: int, seconds: float, preload: int) -> Latency:
    made = _records(order, random.Random(3))
    first = [next(made) for _ in range(2 * TICKETS + preload)]
    await _send_at_once(order, first)
    await _until_done(order, process, len(first))
    total = int((SETTLING + seconds) * rate)
    # Made beforehand, so that sending is all that is left to do. Times are those at which the schedule will be there.
    unstamped = list(itertools.islice(made, total))
    preparing = 1.0
    while True:
        began, begins = time.perf_counter() + preparing, time.time() + preparing
        scheduled = list(_stamped(unstamped, rate, begins))
        late = time.perf_counter() - (began - _LEAST_LEAD_SECONDS)
        if late <= 0:
            break
        if preparing > _MOST_PREPARING_SECONDS:
            raise RuntimeError(f"The schedule was made {late:.1f} s too late.")
        preparing *= 2
    due = {
        record.lapse: began + place / rate for place, record in enumerate(scheduled) if record.lapse is not None
    }  # fmt: skip
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        seen, cpu = await _run_schedule(order, process, Schedule(scheduled, began, rate), due)
    finally:
        gc.enable()
        gc.unfreeze()
    counted = sorted(
        (at - due[event_id]) * 1000 for event_id, at in seen.first.items() if due[event_id] >= began + SETTLING
    )
    if not counted:
        raise RuntimeError(f"{order.name} wrote no command:\n{process.tail()}")
    return Latency(
        rate,
        seconds,
        *(round(percentile(counted, share), 2) for share in (0.5, 0.9, 0.99, 0.999, 1.0)),
        commands=len(seen.first),
        wanted=len(due),
        twice=seen.twice,
        cpu_micros=cpu / total * 1e6,
    )


def percentile(ordered: list[float], share: float) -> float:
    """Return the value that this share of an ordered list does not exceed."""
    return ordered[min(len(ordered) - 1, max(0, -int(-share * len(ordered) // 1) - 1))]


class Seen:
    """Commands that a reader has got: when first, by the event id of the lapse, and how many came again."""

    def __init__(self) -> None:
        """Begin with none."""
        self.first: dict[str, float] = {}
        self.twice = 0

    def note(self, event_id: str, now: float) -> None:
        """Take one command."""
        if event_id in self.first:
            self.twice += 1
        else:
            self.first[event_id] = now


class _Transition(msgspec.Struct):
    event_id: str


class _Command(msgspec.Struct):
    transition: _Transition


async def _run_schedule(order: Task, process: Process, schedule: Schedule, due: dict[str, float]) -> tuple[Seen, float]:
    seen, decode = Seen(), msgspec.json.Decoder(_Command).decode
    tps = [TopicPartition(order.commands, number) for number in range(order.partitions)]
    consumer = AIOKafkaConsumer(
        bootstrap_servers=order.broker.bootstrap, isolation_level="read_committed", fetch_max_wait_ms=100
    )
    producer = AIOKafkaProducer(bootstrap_servers=order.broker.bootstrap, linger_ms=0)
    async with consumer, producer:
        consumer.assign(tps)
        await consumer.seek_to_end(*tps)
        for tp in tps:
            await consumer.position(tp)
        cpu = process.cpu()
        send = asyncio.create_task(_send_by_schedule(producer, schedule))
        deadline = schedule.began + len(schedule.records) / schedule.rate + _LAST_SECONDS
        while not send.done() or (len(seen.first) < len(due) and time.perf_counter() < deadline):
            process.check()
            fetched = await consumer.getmany(timeout_ms=100)
            now = time.perf_counter()
            for records in fetched.values():
                for record in records:
                    event_id = decode(record.value).transition.event_id
                    if event_id in due:
                        seen.note(event_id, now)
        cpu = process.cpu() - cpu
        await send
    return seen, cpu


async def _send_by_schedule(producer: AIOKafkaProducer, schedule: Schedule) -> None:
    records, began, rate = schedule
    place, total = 0, len(records)
    await asyncio.sleep(max(0.0, began - time.perf_counter()))
    while place < total:
        due = min(total, int((time.perf_counter() - began) * rate) + 1)
        for topic, partition, key, value, timestamp, _ in records[place:due]:
            await producer.send(topic, value, key, partition=partition, timestamp_ms=timestamp)
        place = due
        await asyncio.sleep(0.001)
    await producer.flush()


async def _send_at_once(order: Task, records: list[Out]) -> None:
    made = (workload.Made(each.topic.endswith(workload.TICKETS), *each[2:5]) for each in records)
    await workload.fill(order.broker.bootstrap, order.prefix, order.partitions, made)


async def _until_done(order: Task, process: Process, records: int) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    async with Progress(order.broker.bootstrap, order.group, order.prefix) as progress:
        while await progress.done() < records:
            process.check()
            if time.monotonic() > deadline:
                raise RuntimeError(f"{order.name} did not get through the preload:\n{process.tail()}")
            await asyncio.sleep(0.1)
    await asyncio.sleep(0.5)


def _records(order: Task, rng: random.Random) -> Iterator[Out]:
    """Yield the tickets, their sessions, then lapses, returns and updates for ever; timestamps a minute ago and on."""
    now, event = int(time.time() * 1000) - 60_000, 0
    for ticket in range(TICKETS):
        yield _out(
            order, ticket, workload.ticket_update(ticket, event := event + 1, now, rng, "open"), now, is_ticket=True
        )
    for ticket in range(TICKETS):
        yield _out(order, ticket, workload.session_state(ticket, event := event + 1, now, "active", None), now)
    lapses = returns = 0
    while True:
        event += 1
        slot = event % _ROUND
        if slot in _LAPSES:
            ticket, lapses = lapses % TICKETS, lapses + 1
            value = workload.session_state(ticket, event, now, "inactive", "User inactive or offline")
            yield _out(order, ticket, value, now, lapse=f"s-{event}")
        elif slot in _RETURNS:
            ticket, returns = (returns + TICKETS // 2) % TICKETS, returns + 1
            yield _out(order, ticket, workload.session_state(ticket, event, now, "active", None), now)
        else:
            ticket = rng.randrange(TICKETS)
            yield _out(order, ticket, workload.ticket_update(ticket, event, now, rng, "open"), now, is_ticket=True)


def _out(order: Task, ticket: int, value: bytes, now: int, *, is_ticket: bool = False, lapse: str | None = None) -> Out:
    key = b"%d" % (1_000_000 + ticket)
    topic = order.prefix + (workload.TICKETS if is_ticket else workload.SESSIONS)
    return Out(topic, (murmur2(key) & 0x7FFFFFFF) % order.partitions, key, value, now, lapse)


def _stamped(made: Iterable[Out], rate: int, begins: float) -> Iterator[Out]:
    """Yield records with the time of the schedule, in their bodies too."""
    for place, record in enumerate(made):
        at = int((begins + place / rate) * 1000)
        value = record.value.replace(workload.instant(record.timestamp).encode(), workload.instant(at).encode())
        yield record._replace(value=value, timestamp=at)


@contextmanager
def _busy(share: float) -> Iterator[None]:
    """Keep a share of one core busy: that share of every 30 ms at a stretch."""
    if not share:
        yield
        return
    code = (
        "import time\n"
        "while True:\n"
        f"    until = time.perf_counter() + {0.030 * share}\n"
        "    while time.perf_counter() < until: pass\n"
        f"    time.sleep({0.030 * (1 - share)})"
    )
    other = subprocess.Popen([sys.executable, "-c", code], preexec_fn=die_with_parent)  # noqa: PLW1509
    try:
        yield
    finally:
        other.kill()
        other.wait()
