"""Tells stories to a broker in real time: many at once, each one step at a time."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Iterator

from aiokafka import AIOKafkaProducer
from aiokafka.structs import RecordMetadata

from tests.system.traffic import Sent, Story, partition_of
from tests.system.waiting import eventually


class Pump:
    """Opens stories so that about `rate` records a second are sent, until `count` were; then ends those it began.

    A story's next step is due its pause after the broker has acknowledged the one before. While `hold` is set no step
    is sent; while `more` is set new stories are opened beyond `count`. `sent` counts acknowledged records.

    No step is sent close to an instant at which a timer of its ticket may be due. `unsure` holds the tickets of which
    a record may have come into the log too close to one all the same: what their rounds ended as depends on the broker.
    """

    def __init__(
        self, bootstrap: str, prefix: str, partitions: int, source: Iterator[Story], *, rate: float, count: int
    ) -> None:
        self._bootstrap, self._prefix, self._partitions = bootstrap, prefix, partitions
        self._source, self._rate, self._count = source, rate, count
        self._due: list[tuple[float, int, int, Story]] = []
        self._opened = 0
        self._told = 0  # records in the stories that were opened
        self._ahead = 0
        self._under_way = 0
        self._error: BaseException | None = None
        self.sent = 0
        self.unsure: set[str] = set()
        self.hold = False
        self.more = False

    async def run(self) -> None:
        """Send everything; returns when every record is acknowledged."""
        producer = AIOKafkaProducer(
            bootstrap_servers=self._bootstrap,
            enable_idempotence=True,
            linger_ms=5,
            max_request_size=4 << 20,
            request_timeout_ms=120_000,
            retry_backoff_ms=100,
        )
        async with producer:
            began = time.monotonic()
            while (opening := self.more or self._told < self._count) or self._due or self._under_way:
                now = time.monotonic()
                while opening and self._told < (now - began) * self._rate + self._ahead:
                    story = next(self._source)
                    self._opened += 1
                    self._told += len(story.steps)
                    heapq.heappush(self._due, (now + story.steps[0][0], self._opened, 0, story))
                while self._due and self._due[0][0] <= now and not self.hold:
                    _, number, place, story = heapq.heappop(self._due)
                    wall = time.time_ns() // 1_000_000
                    if (clear := story.clear_from(wall)) > wall:
                        heapq.heappush(self._due, (now + (clear - wall) / 1000, number, place, story))
                    else:
                        await self._send(producer, number, place, story)
                if self._error is not None:
                    raise self._error
                await asyncio.sleep(0.005)

    def burst(self, records: int) -> None:
        """Open stories with so many more records at once."""
        self._ahead += records

    async def rest(self, within: float = 60) -> None:
        """Hold, and wait until nothing is under way."""
        self.hold = True
        await eventually(lambda: not self._under_way, within, "the producer's answers")

    async def _send(self, producer: AIOKafkaProducer, number: int, place: int, story: Story) -> None:
        sent: Sent = story.steps[place][1](time.time_ns() // 1_000_000)
        future = await producer.send(
            self._prefix + sent.topic,
            sent.value,
            sent.key,
            partition=partition_of(sent, self._partitions),
            headers=list(sent.headers),
        )
        self._under_way += 1

        def acknowledged(done: asyncio.Future[RecordMetadata]) -> None:
            self._under_way -= 1
            if (error := done.exception()) is not None:
                self._error = error
                return
            self.sent += 1
            at: int = done.result().timestamp
            if not story.logged(sent, at, time.time_ns() // 1_000_000) and sent.key is not None:
                self.unsure.add(sent.key.decode())
            if place + 1 < len(story.steps):
                heapq.heappush(self._due, (time.monotonic() + story.steps[place + 1][0], number, place + 1, story))

        future.add_done_callback(acknowledged)
