"""One Lapse on a broker or a cluster: its topics, what was put in, what came out, and what should have."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiokafka import ConsumerRecord, TopicPartition

from tests.kafka_kit import topics
from tests.kafka_kit.broker import Broker
from tests.kafka_kit.cluster import Cluster
from tests.system.compare import Difference, compare, compare_all
from tests.system.oracle import SESSIONS, TICKETS, Expected, Record, expect, load_rules
from tests.system.worker import Worker, lapse, settings

TRIGGERS = Path(__file__).with_name("triggers.yaml")
JOIN_WAIT = 4.0
OUTPUTS = ("action-commands", "session-transitions", "dead-letters")


@dataclass
class Outcome:
    """What the output topics hold that should and should not be there."""

    records: int
    differences: list[Difference]
    dead_letters: Difference

    @property
    def clean(self) -> bool:
        """Nothing lost, nothing phantom, nothing twice."""
        return self.totals == (0, 0, 0)

    @property
    def totals(self) -> tuple[int, int, int]:
        """Lost, phantom, twice, over all kinds of output."""
        counts = [d.counts for d in [*self.differences, self.dead_letters]]
        lost, phantom, twice = (sum(each) for each in zip(*counts, strict=True))
        return lost, phantom, twice

    def __str__(self) -> str:
        """Show one line for each kind of output, and examples of what is wrong."""
        return "\n".join(map(str, [*self.differences, self.dead_letters]))


class Installation:
    """Topics and settings under one prefix; workers are started by `worker`."""

    def __init__(self, broker: Broker | Cluster, prefix: str, partitions: int, logs: Path) -> None:
        self.broker, self.prefix, self.partitions, self.logs = broker, prefix, partitions, logs
        self.group = f"{prefix}lapse"
        self.inputs = [prefix + TICKETS, prefix + SESSIONS]
        self.env = settings(broker.bootstrap, prefix, TRIGGERS, join_wait=f"{JOIN_WAIT:g}s")

    async def create(self, *, timestamps: str = "LogAppendTime") -> None:
        """Make the inputs, with timestamps by the broker or the producer; `lapse topics create` makes the rest.

        With the broker's timestamps, the order of arrival over both inputs *is* the order of timestamps, so that what
        must come out is determined whatever the machine is busy with.
        """
        await topics.create(
            self.broker.bootstrap,
            self.inputs,
            self.partitions,
            {"message.timestamp.type": timestamps, "max.message.bytes": str(2 << 20)},
            replicas=self.broker.size,
        )
        done = await asyncio.to_thread(lapse, "topics", "create", env=self.env)
        assert done.returncode == 0, done.stdout + done.stderr

    def worker(self, name: str, **others: str) -> Worker:
        """A worker of this installation, not yet started; `others` are settings by name."""
        over = {f"LAPSE_{setting.upper()}": value for setting, value in others.items()}
        return Worker(name, {**self.env, **over}, self.logs)

    async def read(self, topic: str, *, committed: bool = True) -> list[ConsumerRecord]:
        """Read a whole topic by its default name."""
        return await topics.read(self.broker.bootstrap, self.prefix + topic, self.partitions, committed=committed)

    async def outputs(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[ConsumerRecord]]:
        """Committed commands, committed transition and evaluation records, and dead letters."""
        commands, records, letters = [await self.read(topic) for topic in OUTPUTS]
        return [json.loads(c.value) for c in commands], [json.loads(r.value) for r in records], letters

    async def until_no_lag(self, within: float) -> None:
        """Wait until the group has committed everything."""
        await topics.until_no_lag(self.broker.bootstrap, self.group, self.inputs, self.partitions, within=within)

    async def until_caught_up(self, within: float) -> float:
        """Wait until the group has committed all that is there now, partition by partition; returns the seconds."""
        began, left = time.monotonic(), {}
        for topic in self.inputs:
            for partition, end in (await topics.ends(self.broker.bootstrap, topic, self.partitions)).items():
                left[TopicPartition(topic, partition)] = end
        while time.monotonic() - began < within:
            done = await topics.committed_offsets(self.broker.bootstrap, self.group)
            left = {tp: end for tp, end in left.items() if done.get(tp, 0) < end}
            if not left:
                return time.monotonic() - began
            await asyncio.sleep(0.2)
        logs = "\n".join(f"{log.name}:\n{log.read_text(errors='replace')[-3000:]}" for log in self.logs.glob("*.log"))
        raise AssertionError(f"After {within:.0f} s not yet past {left}.\n{logs}")

    async def expected(self) -> Expected:
        """What the oracle makes of the inputs as they are, once every round that waits is over."""
        records = [
            Record(topic, each.partition, each.offset, each.timestamp, each.key, each.value, tuple(each.headers))
            for topic in (TICKETS, SESSIONS)
            for each in await self.read(topic)
        ]
        # In a thread: proxies of this event loop have to carry requests meanwhile.
        return await asyncio.to_thread(expect, records, load_rules(TRIGGERS), join_wait=JOIN_WAIT)

    async def judge(self, expected: Expected, within: float, unsure: Collection[str] = ()) -> Outcome:
        """Compare the outputs with what was expected, when as much is there, or after `within` seconds.

        `unsure` are the tickets whose rounds may have ended in another way (`Pump.unsure`).
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within
        while True:
            commands, records, letters = await self.outputs()
            evaluations = sum(record["type"] == "evaluation" for record in records)
            if evaluations >= len(expected.evaluations) or loop.time() > deadline:
                break
            await asyncio.sleep(0.5)
        await asyncio.sleep(1.5)  # what is too much may come a little later
        commands, records, letters = await self.outputs()
        return Outcome(
            sum(expected.results.values()),
            compare_all(expected, commands, records, unsure),
            compare(
                "dead letters",
                (_place(*where, code) for where, code in expected.dead_letters.items()),
                map(self._letter, letters),
            ),
        )

    def _letter(self, record: ConsumerRecord) -> dict[str, Any]:
        headers = {name: value.decode() for name, value in record.headers if name.startswith("lapse.")}
        return _place(
            headers["lapse.source.topic"].removeprefix(self.prefix),
            int(headers["lapse.source.partition"]),
            int(headers["lapse.source.offset"]),
            headers["lapse.error.code"],
        )


def _place(topic: str, partition: int, offset: int, code: str) -> dict[str, Any]:
    return {"topic": topic, "partition": partition, "offset": offset, "code": code}
