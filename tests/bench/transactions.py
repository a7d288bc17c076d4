"""What does one transaction cost in steady state? Commits of several sizes through the worker's own producers.

Every partition commits one transaction after the other, all partitions of a case at the same time, as in a worker
that always has something to write. The clients' requests are timed where they leave: at `AIOKafkaClient.send`.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import psutil
import uvloop
from aiokafka.client import AIOKafkaClient

from streams.core.names import Output, Table, Topic
from streams.kafka.config import KafkaConfig
from streams.kafka.producer import PartitionProducer
from streams.wire.writes import Write
from tests.bench.latency import percentile
from tests.kafka_kit import Broker, topics

_ROW, _COMMAND = b"r" * 300, b"c" * 700
_WARM_UP = 0.2

SIZES: Mapping[str, tuple[int, int]] = {"empty": (0, 0), "small": (20, 1), "large": (5_000, 250)}
"""Rows and commands of one transaction. An empty one commits offsets only."""


@dataclass(frozen=True)
class Cost:
    """One case: times in milliseconds, processor time in microseconds a transaction."""

    size: str
    partitions: int
    transactions: int
    per_second: float
    p50: float
    p99: float
    cpu_micros: float
    """Of the client: everything that this process does."""
    broker_cpu_micros: float
    requests: dict[str, dict[str, float]]
    """By kind of request: how many a transaction, and the median and 99th percentile of its answer's time."""

    def as_json(self) -> dict[str, Any]:
        """Return the figures for the results file."""
        return asdict(self)


def measure(broker: Broker, partitions: int, size: str, seconds: float) -> Cost:
    """Commit transactions of one size on so many partitions at once, for so many seconds."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_measure(broker, partitions, size, seconds))


async def _measure(broker: Broker, partitions: int, size: str, seconds: float) -> Cost:
    config = KafkaConfig(brokers=(broker.bootstrap,), topic_prefix=f"txn-{uuid.uuid4().hex[:6]}-")
    names = [*(config.topic(name) for name in Topic), *config.written]
    await topics.create(broker.bootstrap, names, partitions, {"max.message.bytes": str(2 << 20)})
    producers = [PartitionProducer(config, number) for number in range(partitions)]
    commits: list[float] = []
    try:
        await asyncio.gather(*(producer.start() for producer in producers))
        until = time.perf_counter() + seconds * _WARM_UP
        await asyncio.gather(*(_commit_on(producer, config, size, until, []) for producer in producers))
        with _timed_requests() as timings:
            server = psutil.Process(broker.pid)
            began, cpu, broker_cpu = time.perf_counter(), time.process_time(), _cpu(server)
            until = began + seconds * (1 - _WARM_UP)
            await asyncio.gather(*(_commit_on(producer, config, size, until, commits) for producer in producers))
            took, cpu, broker_cpu = time.perf_counter() - began, time.process_time() - cpu, _cpu(server) - broker_cpu
    finally:
        await asyncio.gather(*(producer.close() for producer in producers))
        async with topics.admin(broker.bootstrap) as client:
            await client.delete_topics(names)
    ordered = sorted(each * 1000 for each in commits)
    count = len(commits)
    return Cost(
        size,
        partitions,
        count,
        per_second=count / took,
        p50=median(ordered),
        p99=percentile(ordered, 0.99),
        cpu_micros=cpu / count * 1e6,
        broker_cpu_micros=broker_cpu / count * 1e6,
        requests={
            kind: {
                "per_transaction": len(several) / count,
                "p50": median(several) * 1000,
                "p99": percentile(sorted(several), 0.99) * 1000,
            }
            for kind, several in sorted(timings.items())
        },
    )


async def _commit_on(
    producer: PartitionProducer, config: KafkaConfig, size: str, until: float, commits: list[float]
) -> None:
    rows, commands = SIZES[size]
    writes = {
        config.changelog(Table.TICKETS): [Write(b"%d" % number, _ROW) for number in range(rows)],
        config.topic(Output.COMMANDS): [Write(b"%d" % number, _COMMAND) for number in range(commands)],
        config.topic(Output.TRANSITIONS): [Write(b"%d" % number, _ROW) for number in range(2 * commands)],
    }
    writes = {topic: several for topic, several in writes.items() if several}
    offset = 0
    while (began := time.perf_counter()) < until:
        offset += 1
        offsets = {config.topic(name): offset for name in Topic}
        await producer.commit(writes, offsets, offset, int(time.time() * 1e6))
        commits.append(time.perf_counter() - began)


@contextmanager
def _timed_requests() -> Iterator[dict[str, list[float]]]:
    """Time every request of every client of this process, by the name of its kind."""
    timings: dict[str, list[float]] = defaultdict(list)
    send = AIOKafkaClient.send

    async def timed(self: AIOKafkaClient, node_id: Any, request: Any, **others: Any) -> Any:
        began = time.perf_counter()
        answer = await send(self, node_id, request, **others)
        timings[_name(request)].append(time.perf_counter() - began)
        return answer

    AIOKafkaClient.send = timed
    try:
        yield timings
    finally:
        AIOKafkaClient.send = send


_KINDS = {0: "Produce", 3: "Metadata", 10: "FindCoordinator", 22: "InitProducerId", 24: "AddPartitionsToTxn"} | {
    25: "AddOffsetsToTxn", 26: "EndTxn", 28: "TxnOffsetCommit"
}  # fmt: skip


_OURS = {"EndTxnForNextEpoch": "EndTxn", "ImplicitOffsetCommit": "TxnOffsetCommit", "ImplicitProduce": "Produce"}
"""Requests of the protocol of KIP-890, which the project writes itself."""


def _name(request: Any) -> str:
    """Return Kafka's name of a request, by its API key; its class's where that is not one of a transaction's."""
    for holder in (request, type(request)):
        key = getattr(holder, "API_KEY", None)
        if isinstance(key, int):
            return _KINDS.get(key, f"API {key}")
    name = type(request).__name__.partition("Request")[0]
    return _OURS.get(name, name)


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
