"""The demo from start to end: broker, topics, traffic, worker, and the screen that shows the results."""

from __future__ import annotations

import asyncio
import contextlib
import math
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from rich.console import Console

from streams.core.errors import LapseError
from streams.core.model import SECOND
from streams.core.names import Output, Topic
from streams.core.triggers import Ruleset
from streams.demo import runaway
from streams.demo.desk import Desk
from streams.demo.feed import feed
from streams.demo.screen import Screen, screen_for, summary
from streams.demo.stage import PARTITIONS, DemoFailed, broker_for, demo_topics, free_port, stop_on_signals
from streams.demo.story import Happening, Story
from streams.demo.worker import Worker, WorkerFailed, until_ready
from streams.documents.durations import render
from streams.kafka.brokers import client_arguments, is_passing
from streams.kafka.config import KafkaConfig
from streams.rules.triggers import load_triggers
from streams.testing.traffic import Profile, generate
from streams.wire import instants

TRIGGERS = Path(__file__).with_name("triggers.yaml")
PACE = 20.0
"""How many times faster than real time people act in the demo."""
REASON = "user_inactive_or_offline"
FALSE_WINDOW = 300 / PACE
"""Five minutes of real time, in seconds."""
HISTORY = 90.0
"""Seconds of traffic already in the topics when the worker starts."""

RECORDS_A_CONVERSATION = 21.7  # measured over 20,000 conversations of the default profile
_REFRESH = 0.25
_SETTLE = 30.0
_APPLY_AFTER = 0.4


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """Options of `lapse demo`. `rate` is in records per second; without `seconds`, the demo runs until Ctrl-C."""

    brokers: tuple[str, ...] = ()
    """Empty: the embedded broker."""
    seconds: float | None = None
    rate: float = 60.0
    triggers: Path = TRIGGERS
    runaway: bool = False
    """Whether a trigger without its condition goes live after a while, and its limit holds the commands."""
    seed: int = 1
    web_port: int | None = None
    """None: 6066 if it is free, else any free port."""
    settings: Mapping[str, Any] = {}
    """Additional settings for the worker, such as those needed for a secured broker."""
    security: Mapping[str, Any] = {}
    """The same settings for the demo's own clients, as keyword arguments of aiokafka."""


def run_demo(options: Options, console: Console) -> None:
    """Run until the time is over or Ctrl-C is pressed, then print a summary. Raises DemoFailed."""
    file = load_triggers(options.triggers)
    if file.errors or file.ruleset is None:
        raise DemoFailed("\n  ".join(["these triggers can't be used:", *map(str, file.errors)]))
    if late := too_late(file.ruleset, options.seconds):
        console.print(late, markup=False)
    try:
        asyncio.run(_run(options, console))
    except LapseError as error:
        raise DemoFailed(str(error)) from error
    except KafkaError as error:
        raise DemoFailed(f"the broker refused: {error}") from error


async def _run(options: Options, console: Console) -> None:
    stop = asyncio.Event()
    stop_on_signals(stop)
    async with contextlib.AsyncExitStack() as stack:
        config, broker_name = broker_for(
            options.brokers, options.security, stack, rules="topic" if options.runaway else "file"
        )
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lapse-demo-")))
        admin = await stack.enter_async_context(demo_topics(config, keep_all=not options.brokers))
        screen = screen_for(console, f"Lapse demo on {broker_name}")
        stack.callback(screen.close)
        demo = _Demo(options, config, admin, screen, stop)
        await demo.run(folder)
    console.print(summary(demo.story, demo.ended))


def too_late(ruleset: Ruleset, seconds: float | None) -> str | None:
    """Name the triggers that wait longer than the traffic lasts; None if there are none, or no end is set."""
    if seconds is None:
        return None
    shown = HISTORY + seconds
    waiting = [trigger for trigger in ruleset.triggers if trigger.active and trigger.wait > shown * SECOND]
    if not waiting:
        return None
    names = ", ".join(f"{trigger.id} (wait {render(trigger.wait)})" for trigger in waiting)
    longest = max(trigger.wait for trigger in waiting) / SECOND
    return (
        f"This demo has {shown:.0f} s of traffic, {HISTORY:.0f} s of it before the start. These triggers wait longer "
        f"and will not fire: {names}. Give --seconds {math.ceil(longest - HISTORY)} or more, or leave --seconds out."
    )


class _Demo:
    """The tasks that run while the demo is shown."""

    def __init__(
        self,
        options: Options,
        config: KafkaConfig,
        admin: AIOKafkaAdminClient,
        screen: Screen,
        stop: asyncio.Event,
    ) -> None:
        self._options = options
        self._config = config
        self._admin = admin
        self._screen = screen
        self._stop = stop
        self._desk = Desk()
        self._applying: set[asyncio.Task[None]] = set()
        self.story = _story()
        self.ended = self.story.started
        self._advised = False

    async def run(self, folder: Path) -> None:
        """Run until stopped or the time is over, wait for work in progress to finish, and end the worker."""
        port = self._options.web_port or free_port(6066)
        page = f"http://127.0.0.1:{port}/"
        if self._options.runaway:
            await runaway.publish_good(self._config, self._options.triggers)
        worker = await Worker.start(folder, self._settings(port))
        try:
            async with self._producer() as producer, self._consumer() as consumer:
                try:
                    async with asyncio.TaskGroup() as tasks:
                        background = [
                            tasks.create_task(worker.ended()),
                            tasks.create_task(self._watch(consumer, producer)),
                            tasks.create_task(self._refresh()),
                            tasks.create_task(self._warn(worker)),
                            tasks.create_task(self._announce(page)),
                        ]
                        if self._options.runaway:
                            await self._let_run_away(page)
                        await self._feed(producer)
                        await self._settle(consumer)
                        for task in background:
                            task.cancel()
                except* (WorkerFailed, KafkaError) as group:
                    raise group.exceptions[0] from None
            self.ended = time.time()
            await worker.stop()
            self._tell_of_limits(worker)
        finally:
            worker.kill()

    def _settings(self, port: int) -> dict[str, Any]:
        return {
            **self._options.settings,
            "brokers": ",".join(self._config.brokers),
            "topic_prefix": self._config.topic_prefix,
            **({"rules": "topic"} if self._options.runaway else {"triggers": str(self._options.triggers.resolve())}),
            "act_from": "beginning",
            "abandonment_reasons": [REASON],
            "false_abandonment_window": f"{FALSE_WINDOW:.0f}s",
            "web_port": port,
            "log_format": "text",
        }

    async def _feed(self, producer: AIOKafkaProducer) -> None:
        started = self.story.started
        profile = Profile(
            seed=self._options.seed,
            start=int((started - HISTORY) * 1000),
            rate=self._options.rate / RECORDS_A_CONVERSATION,
            pace=PACE,
            duration=None if self._options.seconds is None else HISTORY + self._options.seconds,
        )
        self._screen.note(f"{HISTORY:.0f} s of traffic lie in the topics; the worker starts")
        await feed(
            producer,
            map(self._desk.through, generate(profile)),
            name=self._config.topic,
            stop=self._stop,
            on_fed=lambda count: self.story.fed.add(time.time(), count),
        )

    async def _settle(self, consumer: AIOKafkaConsumer) -> None:
        """Wait, up to a limit, until the worker has processed all records fed and its output has been read."""
        self._screen.note("the traffic has ended; the worker does what is left")
        names = [self._config.topic(topic.value) for topic in Topic]
        ends = await consumer.end_offsets([TopicPartition(n, p) for n in names for p in range(PARTITIONS)])
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SETTLE):
                while True:
                    await asyncio.sleep(_REFRESH)
                    if await self._has_done(ends) and await _has_read(consumer):
                        break
        await asyncio.sleep(2 * _REFRESH)

    async def _has_done(self, ends: Mapping[TopicPartition, int]) -> bool:
        try:
            coordinator = await self._admin.find_coordinator(self._config.group)
            done = await self._admin.list_consumer_group_offsets(self._config.group, coordinator, list(ends))
        except KafkaError as error:
            if not is_passing(error):
                raise
            return False  # a new broker has no coordinator until the worker's group is there
        return all(tp in done and done[tp].offset >= end for tp, end in ends.items() if end)

    async def _watch(self, consumer: AIOKafkaConsumer, producer: AIOKafkaProducer) -> None:
        while True:
            batches = await consumer.getmany(timeout_ms=500)
            now = time.time()
            for record in sorted(
                (r for batch in batches.values() for r in batch),
                key=lambda r: (r.timestamp, r.topic.endswith(Output.COMMANDS)),
            ):
                if (happening := self._take(record, now, producer)) is not None:
                    self._screen.tell(happening)

    def _take(self, record: ConsumerRecord[bytes, bytes], now: float, producer: AIOKafkaProducer) -> Happening | None:
        match record.topic.removeprefix(self._config.topic_prefix):
            case name if name == Output.DEAD_LETTERS:
                self.story.dead_letter(dict(record.headers))
                return None
            case name if name == Output.COMMANDS:
                task = asyncio.ensure_future(self._apply(record.value, producer))
                self._applying.add(task)
                task.add_done_callback(self._applying.discard)
                return self.story.command(record.value, now)
            case _:
                return self.story.record(record.value, now)

    async def _apply(self, value: bytes, producer: AIOKafkaProducer) -> None:
        """Apply a command as a helpdesk would, after a short delay."""
        await asyncio.sleep(_APPLY_AFTER)
        now = int(time.time() * 1000)
        update = self._desk.apply(msgspec.json.decode(value), instants.text(now * 1000), now)
        await producer.send_and_wait(
            self._config.topic(Topic.TICKETS.value), update.value, update.key, timestamp_ms=update.timestamp
        )
        self.story.applied += 1

    async def _refresh(self) -> None:
        while True:
            self._screen.refresh(self.story, time.time())
            await asyncio.sleep(_REFRESH)

    async def _let_run_away(self, page: str) -> None:
        """Publish the bad revision, and begin the story anew once the worker is ready for it."""
        await until_ready(page)
        at = await runaway.publish_bad(self._config, self._options.triggers, page, self._options.seconds)
        self.story = _story()
        self.story.limited = True
        when = datetime.fromtimestamp(at).astimezone().strftime("%H:%M:%S")
        self._screen.note(f"from {when} on, {runaway.TRIGGER} lacks a condition and matches everybody who leaves")

    async def _warn(self, worker: Worker) -> None:
        while self._options.runaway:
            self._tell_of_limits(worker)
            await asyncio.sleep(_REFRESH)

    def _tell_of_limits(self, worker: Worker) -> None:
        """Show what the worker warns of, and what to do with the first commands that are held."""
        for line in worker.warnings():
            if "limits hold" in line:
                self._screen.note(f"the worker warns: {line}")
        if self.story.held and not self._advised:
            self._advised = True
            self._screen.note(runaway.advice(self._config))

    async def _announce(self, page: str) -> None:
        await until_ready(page)
        self._screen.note(f"live page: {page}")

    @contextlib.asynccontextmanager
    async def _producer(self) -> AsyncIterator[AIOKafkaProducer]:
        producer = AIOKafkaProducer(**client_arguments(self._config), linger_ms=2)
        await producer.start()
        try:
            yield producer
        finally:
            for task in self._applying:
                task.cancel()
            await producer.stop()

    @contextlib.asynccontextmanager
    async def _consumer(self) -> AsyncIterator[AIOKafkaConsumer]:
        consumer = AIOKafkaConsumer(
            **client_arguments(self._config), isolation_level="read_committed", fetch_max_wait_ms=100
        )
        await consumer.start()
        try:
            names = [self._config.topic(name) for name in (Output.COMMANDS, Output.TRANSITIONS, Output.DEAD_LETTERS)]
            consumer.assign([TopicPartition(name, number) for name in names for number in range(PARTITIONS)])
            await consumer.seek_to_beginning()
            yield consumer
        finally:
            await consumer.stop()


async def _has_read(consumer: AIOKafkaConsumer) -> bool:
    ends = await consumer.end_offsets(list(consumer.assignment()))
    return all([await consumer.position(tp) >= end for tp, end in ends.items()])


def _story() -> Story:
    return Story(time.time(), frozenset({REASON}), FALSE_WINDOW)
