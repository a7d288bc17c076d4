"""How long a command takes, open loop: from when its session event should have been sent to when a reader has it.

Records are sent by a schedule, whether or not the worker keeps up, and latency counts from the schedule, so that a
stall is charged to every record it delays.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
import urllib.request
from pathlib import Path
from tempfile import TemporaryDirectory

import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.partitioner import murmur2

from tests.bench.drain.contestants import Ground, lapse_worker
from tests.bench.drain.report import percentiles
from tests.bench.drain.workload import SESSIONS, TICKETS, session_state, ticket_update
from tests.system.waiting import eventually
from tests.system.worker import Worker

WARM_UP = 5.0
_BASE = 500_000_000  # tickets nobody else has


def measure(ground: Ground, rate: int, seconds: float) -> str:
    """Run a worker and tell the latency at `rate` records a second, after a warm-up."""
    with TemporaryDirectory() as logs:
        worker = lapse_worker(ground, f"latency-{rate}", Path(logs))
        worker.start()
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                return runner.run(_measure(ground, worker, rate, seconds))
        finally:
            worker.kill()


async def _measure(ground: Ground, worker: Worker, rate: int, seconds: float) -> str:
    await eventually(lambda: _is_ready(worker), 120, "the worker is not ready")
    total = int((WARM_UP + seconds) * rate)
    consumer = AIOKafkaConsumer(bootstrap_servers=ground.broker.bootstrap, isolation_level="read_committed")
    producer = AIOKafkaProducer(bootstrap_servers=ground.broker.bootstrap, linger_ms=0)
    due: dict[str, float] = {}
    latencies: list[tuple[float, float]] = []
    tps = [TopicPartition(ground.prefix + "action-commands", number) for number in range(ground.partitions)]
    async with consumer, producer:
        consumer.assign(tps)
        await consumer.seek_to_end(*tps)
        for tp in tps:
            await consumer.position(tp)
        send = asyncio.create_task(_send(ground, producer, rate, total, due))
        cpu = worker.cpu_seconds()
        idle_since = time.perf_counter()
        while not send.done() or (len(latencies) < len(due) and time.perf_counter() - idle_since < 10):
            fetched = await consumer.getmany(timeout_ms=200)
            now = time.perf_counter()
            for records in fetched.values():
                idle_since = now
                ids = (json.loads(record.value)["transition"]["event_id"] for record in records)
                latencies.extend((now - due[event_id], due[event_id]) for event_id in ids if event_id in due)
        began = send.result()
        cpu = (worker.cpu_seconds() - cpu) / total
    counted = [latency for latency, sent in latencies if sent >= began + WARM_UP]
    wanted = sum(sent >= began + WARM_UP for sent in due.values())
    return (
        f"{rate:,}/s for {seconds:.0f} s: {percentiles(counted)} "
        f"({len(counted)} of {wanted} commands, {cpu * 1e6:.0f} µs CPU a record)"
    )


async def _send(ground: Ground, producer: AIOKafkaProducer, rate: int, total: int, due: dict[str, float]) -> float:
    rng, began, wall = random.Random(3), time.perf_counter() + 0.2, time.time() + 0.2
    place = 0
    while place < total:
        now = time.perf_counter()
        while place < total and began + place / rate <= now:
            slot, ticket = place % 20, _BASE + place // 20
            at = int((wall + place / rate) * 1000)
            if slot < 12:
                # Each ticket opens in the record that begins its round of twenty, long before its session lapses.
                topic, value = TICKETS, ticket_update(_BASE + place // 20 + slot * 7, place, at, rng, "open")
            elif slot == 12:
                topic, value = SESSIONS, session_state(ticket, place, at, "active", None)
            elif slot == 13 and place > 4000:
                ticket -= 150
                topic, value = SESSIONS, session_state(ticket, place, at, "inactive", "User inactive or offline")
                due[f"s-{place}"] = began + place / rate
            else:
                topic, value = SESSIONS, session_state(ticket - 50, place, at, "active", None)
            key = json.loads(value)["ticket_id"].encode()
            await producer.send(
                ground.prefix + topic,
                value,
                key,
                partition=(murmur2(key) & 0x7FFFFFFF) % ground.partitions,
                timestamp_ms=at,
            )
            place += 1
        await asyncio.sleep(0.001)
    await producer.flush()
    return began


def _is_ready(worker: Worker) -> bool:
    if worker.exit_code is not None:
        raise RuntimeError(f"The worker ended with {worker.exit_code}:\n{worker.tail()}")
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{worker.web_port}/readyz", timeout=1):
            return True
    except OSError:
        return False
