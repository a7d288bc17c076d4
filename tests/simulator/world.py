"""One run: brokers, workers, records and faults by a scenario, then calm, then the laws."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import logging
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from aiokafka import TopicPartition

import streams.kafka.brokers
import streams.kafka.producer
import streams.worker.restore
import streams.worker.supervisor
from streams.core.cycle import Rules
from streams.core.engine import Engine, EngineSettings
from streams.core.model import MILLISECOND, SECOND, Micros
from streams.core.rounds import RoundPolicy
from streams.kafka.config import KafkaConfig
from streams.rules.triggers import load_triggers
from streams.worker.supervisor import Supervisor
from tests.simulator import worker as model
from tests.simulator.broker import Broker
from tests.simulator.group import GroupCoordinator
from tests.simulator.laws import broken_laws, different_rows
from tests.simulator.log import Log, Parsed
from tests.simulator.loop import HOST, Host, StuckError, VirtualLoop, virtual_time
from tests.simulator.network import NOBODY, Client, Faults, Network
from tests.simulator.scenario import JOIN_WAIT, Event, Scenario, records_of

TRIGGERS = Path(__file__).parent.parent / "system" / "triggers.yaml"
_BEGIN_MS = 1_772_359_200_000
_STATE_TTL = 300
_CALM_SECONDS = 200.0
_LOOK_SECONDS = 0.5
_UPSTREAM = 1
"""Producer id of whoever writes the inputs in transactions."""


@dataclass
class Run:
    """What a run came to."""

    scenario: Scenario
    broken: list[str] = field(default_factory=list)
    """The laws that were broken, a line each."""
    trace: list[str] = field(default_factory=list)
    seconds: float = 0.0
    """Virtual seconds."""
    kills: int = 0
    late: int = 0

    @property
    def digest(self) -> str:
        """Digest of the trace."""
        return hashlib.sha256("\n".join(self.trace).encode()).hexdigest()


@cache
def engine() -> Engine:
    """The engine with the triggers of the system tests."""
    ruleset = load_triggers(TRIGGERS).ruleset
    assert ruleset is not None
    return Engine(
        Rules(ruleset), EngineSettings(RoundPolicy(join_wait=JOIN_WAIT * SECOND), state_ttl=_STATE_TTL * SECOND)
    )


def run(scenario: Scenario, *, traced: bool = False) -> Run:
    """Run a scenario to its end and judge it; `traced` keeps every request, and takes longer."""
    loop = VirtualLoop()
    asyncio.set_event_loop(loop)
    world = World(scenario, loop)
    world.network.traces = traced
    gc.disable()
    try:
        with virtual_time(loop, scenario.seed), _replaced(world), _logged(world.trace if traced else None):
            try:
                loop.run_until_complete(world.live())
            except StuckError as error:
                world.run.broken.append(f"liveness: {error}")
            finally:
                world.run.seconds = loop.time() - world.began
                world.run.late = world.network.late_arrivals
                world.run.broken.extend(f"an error that nobody took: {text}" for text in loop.unseen[:3])
                world.is_over = True
                loop.dispose()
    finally:
        asyncio.set_event_loop(None)
        gc.enable()
    return world.run


class World:
    """Everything of one run."""

    def __init__(self, scenario: Scenario, loop: VirtualLoop) -> None:
        self.scenario, self.loop = scenario, loop
        self.run = Run(scenario)
        self.began = loop.time()
        self.rng = random.Random(f"world/{scenario.seed}")
        self.config = _config(scenario)
        names = [*self.config.inputs, *self.config.written]
        self.broker = Broker(
            names,
            scenario.partitions,
            transaction_version=scenario.transaction_version,
            schedule=self.later,
            marker_delay=lambda: self.rng.uniform(0, scenario.slow_markers),
        )
        self.network = Network(loop, self.broker, self.rng, self.trace, scenario.nodes)
        self.network.kill = self.kill
        self.group = GroupCoordinator(
            loop,
            self.rng,
            self.trace,
            scenario.partitions,
            session_timeout=self.config.session_timeout / SECOND,
            rebalance_timeout=self.config.rebalance_timeout / SECOND,
        )
        self.network.group = self.group
        self.workers: dict[int, model.Worker] = {}
        self._skew: dict[int, Micros] = {}
        if scenario.clocks_differ:
            self._skew = {number: round(self.rng.uniform(-0.4, 0.4) * SECOND) for number in range(scenario.workers)}
        self._starts = 0
        self._calm = False
        self.is_over = False

    def trace(self, who: str, what: str) -> None:
        if not self.network.traces:
            return
        self.run.trace.append(f"{self.loop.time() - self.began:10.6f} {who:<10} {what}")

    def later(self, seconds: float, do: Callable[[], None]) -> None:
        """Do something outside of any host."""
        self.loop.call_later(seconds, do, context=NOBODY)

    def clock(self) -> Micros:
        """The brokers' wall clock."""
        return _BEGIN_MS * MILLISECOND + round((self.loop.time() - self.began) * SECOND)

    # --- the run -----------------------------------------------------------------------------------------------------

    async def live(self) -> None:
        """Records and trouble, then calm, then the judgement."""
        scenario = self.scenario
        self.group.start(self.later)
        last = self._send_records()
        for number in range(scenario.workers):
            self.later(self.rng.uniform(0, 1), lambda number=number: self.start(number))
        for event in scenario.events:
            self.later(event.at, lambda event=event: self.do(event))
        self.network.faults = scenario.faults
        await asyncio.sleep(max(scenario.seconds, last))
        self.calm()
        if not await self._until(self.is_done, _CALM_SECONDS):
            self.run.broken.append(f"liveness: not done after {_CALM_SECONDS:.0f} s of calm: {self._state()}")
            return
        self.run.broken.extend(broken_laws(self))
        if scenario.grow_old and not self.run.broken:
            await self._grow_old()

    async def _grow_old(self) -> None:
        """Wait until rows expire, and restart some workers: the tables are then what the changelogs say."""
        self.network.idle_seconds = 5.0
        await asyncio.sleep(_STATE_TTL + 60)
        self.network.idle_seconds = 0.0
        workers = list(self.workers.values())
        for worker in self.rng.sample(workers, self.rng.randint(1, len(workers))):
            self.kill(worker.host, "by the end of its rows", restart=0.1)
        await asyncio.sleep(1)
        if not await self._until(self.is_done, _CALM_SECONDS):
            self.run.broken.append(f"liveness: not open again after the last restart: {self._state()}")
            return
        self.run.broken.extend(broken_laws(self))

    def _send_records(self) -> float:
        """Plan every record for its time; return the last one's, in seconds."""
        last = 0.0
        for record in records_of(self.scenario, _BEGIN_MS):
            last = (record.timestamp - _BEGIN_MS) / 1_000
            self.later(last, lambda record=record: self._send(record))
        return last

    def _send(self, record: Any) -> None:
        log = self.broker.logs[TopicPartition(self.config.topic(record.topic), record.partition)]
        written = (self.clock() // MILLISECOND, record.key, record.value, tuple(record.headers))
        if not self.scenario.upstream_transactions:
            log.put(*written)
        else:
            if self.rng.random() < 0.2:
                _in_a_transaction(log, (written[0], record.key, b"never committed", ()), commit=False)
            _in_a_transaction(log, written, commit=True)
        if self.network.traces:
            self.trace("upstream", f"{log.name}@{log.end - 1} key={(record.key or b'').decode()}")

    def calm(self) -> None:
        """End all trouble."""
        self.trace("world", "calm")
        self._calm = True
        self.network.faults = Faults()
        self.network.down_until = 0.0
        for worker in self.workers.values():
            if worker.host.frozen:
                self.thaw(worker.host)

    async def _until(self, what: Callable[[], bool], within: float) -> bool:
        deadline = self.loop.time() + within
        while self.loop.time() < deadline:
            if what():
                return True
            await asyncio.sleep(_LOOK_SECONDS)
        return False

    def is_done(self) -> bool:
        """Whether all is read, all rounds are over and committed, and all partitions are open once."""
        processors = self.processors()
        return (
            sorted(number for number, _ in processors) == list(range(self.scenario.partitions))
            and all(self._is_read(tp) for tp in self.inputs())
            and all(not processor.partition.pending_rounds for _, processor in processors)
            and all(processor._pipeline.is_empty and processor._committing is None for _, processor in processors)
            and not any(log.open for log in self.broker.logs.values())
            and all(not transaction.is_ending for transaction in self.broker.transactions.values())
        )

    def _is_read(self, tp: TopicPartition) -> bool:
        """Whether no record is left after the committed offset."""
        committed = self.broker.offsets.get(tp)
        return committed is not None and not self.broker.logs[tp].read(committed.offset, 1)[0]

    def _state(self) -> str:
        behind = {
            f"{tp.topic}-{tp.partition}": (committed.offset if committed else None, self.broker.logs[tp].end)
            for tp in self.inputs()
            if not self._is_read(tp)
            for committed in [self.broker.offsets.get(tp)]
        }
        held = {number: processor.partition.pending_rounds for number, processor in self.processors()}
        hanging = {log.name: log.open for log in self.broker.logs.values() if log.open}
        return f"committed and end {behind}, rounds that wait by open partition {held}, open transactions {hanging}"

    def inputs(self) -> list[TopicPartition]:
        """The topic-partitions of the inputs."""
        return [TopicPartition(name, p) for name in self.config.inputs for p in range(self.scenario.partitions)]

    def processors(self) -> list[tuple[int, Any]]:
        """The open partitions of all workers."""
        return [
            (number, processor)
            for worker in self.workers.values()
            if worker.host.alive
            for number, processor in worker.supervisor.processors.items()
        ]

    # --- workers -----------------------------------------------------------------------------------------------------

    def start(self, number: int) -> None:
        """Start a worker process."""
        self._starts += 1
        host = Host(f"worker-{number}.{self._starts}")
        instance = f"lapse-{number}" if self.scenario.static_members else None
        config = _config(self.scenario, group_instance_id=instance)

        def clock() -> Micros:
            return self.clock() + self._skew.get(number, 0)

        def begin() -> None:
            worker = model.Worker(
                host,
                config,
                engine(),
                network=self.network,
                group=self.group,
                clock=clock,
                partitions=self.scenario.partitions,
            )
            self.workers[number] = worker
            worker.app.fail = lambda error: self._on_failure(number, worker, error)
            self.loop.spawn(host, worker.run(), "worker")

        self.trace(host.name, "starts")
        host.context.run(begin)

    def _on_failure(self, number: int, worker: model.Worker, error: BaseException) -> None:
        if self.is_over:
            return
        self.run.broken.append(f"{worker.host.name} ended: {type(error).__name__}: {error}")
        self.kill(worker.host, f"by itself: {error}")

    def kill(self, host: Host, why: str, restart: float | None = None) -> None:
        """Kill -9, and another process in its place a little later."""
        if not host.alive or (self._calm and restart is None and not why.startswith("by")):
            return
        self.run.kills += 1
        self.trace(host.name, f"killed {why}")
        host.alive = False
        for number, worker in list(self.workers.items()):
            if worker.host is host:
                self.later(self.rng.uniform(0.05, 2) if restart is None else restart, lambda n=number: self.start(n))

    def thaw(self, host: Host) -> None:
        """Let a frozen worker go on."""
        if host.alive and host.frozen:
            self.trace(host.name, "goes on")
            self.loop.thaw(host)

    # --- trouble -----------------------------------------------------------------------------------------------------

    def do(self, event: Event) -> None:
        """Let one event happen."""
        if self._calm:
            return
        worker = self.workers.get(event.worker)
        self.trace("world", str(event))
        if event.kind == "outage":
            self.network.down_until = self.loop.time() + event.seconds
        elif event.kind == "jump":
            self.loop.jump(event.seconds)
        elif event.kind == "clock":
            self._skew[event.worker] = round(event.seconds * SECOND)
        elif worker is not None and worker.host.alive:
            self._do_to(worker, event)

    def _do_to(self, worker: model.Worker, event: Event) -> None:
        host = worker.host
        if event.kind == "kill":
            self.kill(host, "by the scenario", restart=event.seconds)
        elif event.kind == "freeze":
            host.frozen = True
            self.later(event.seconds, lambda: self.thaw(host))
        elif event.kind == "stop":
            self.loop.spawn(host, self._stop(worker, event.seconds), "stop")

    async def _stop(self, worker: model.Worker, seconds: float) -> None:
        await worker.stop()
        self.kill(worker.host, "by its own end", restart=seconds)


def _config(scenario: Scenario, **more: Any) -> KafkaConfig:
    return KafkaConfig(
        act_from_is_set=True,
        session_timeout=6 * SECOND,
        heartbeat_interval=SECOND,
        rebalance_timeout=10 * SECOND,
        transaction_timeout=3 * SECOND,
        broker_patience=120 * SECOND,
        fetch_max_wait=300 * MILLISECOND,
        batch_records=scenario.batch_records,
        dead_letter_limit=None,
        **more,
    )


def _in_a_transaction(log: Log, record: tuple[Any, ...], *, commit: bool) -> None:
    """Write a record with a marker after it. Both come at once, so that no reader waits for the marker."""
    state = log.producers.get(_UPSTREAM)
    log.append(Parsed(_UPSTREAM, 0, 0 if state is None else state.last_sequence + 1, [record]))
    log.mark(_UPSTREAM, 0, commit=commit)


@contextmanager
def _replaced(world: World) -> Iterator[None]:
    """Put the model where the real workers would reach for a broker."""

    async def nothing_found(*_: Any) -> dict[str, Any]:
        return {}

    limit = world.scenario.inbox_limit
    replacements: list[tuple[Any, str, Any]] = [
        (KafkaConfig, "inbox_limit", lambda self, partitions: limit),
        (Supervisor, "_restored", _checked(world, Supervisor._restored)),
        (streams.kafka.producer, "AIOKafkaClient", lambda **arguments: Client(world.network, **arguments)),
        (streams.kafka.brokers, "diagnose", nothing_found),
        (streams.worker.restore, "plain_consumer", model.plain_consumer_over(world.network)),
        (streams.worker.restore, "unwrap_fetched_records", lambda consumer: None),
        (streams.worker.supervisor, "committed_offsets", model.committed_offsets_over(world.network)),
        (streams.worker.supervisor, "check_topics", model.topics_are_there),
    ]
    before = [(where, name, getattr(where, name)) for where, name, _ in replacements]
    for where, name, value in replacements:
        setattr(where, name, value)
    try:
        yield
    finally:
        for where, name, value in before:
            setattr(where, name, value)


def _checked(world: World, restored: Any) -> Any:
    """Hold the rows of every partition against its changelogs when it is opened."""

    async def restored_and_checked(self: Any, producer: Any, generation: int) -> Any:
        processor, rows = await restored(self, producer, generation)
        broken = different_rows(world, producer.partition, processor.partition.tables)
        world.run.broken.extend(f"{text} when it is opened" for text in broken)
        return processor, rows

    return restored_and_checked


@contextmanager
def _logged(trace: Callable[[str, str], None] | None) -> Iterator[None]:
    """Write what the workers log into the trace, or nowhere."""

    class IntoTrace(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            host = HOST.get()
            assert trace is not None
            trace("nobody" if host is None else host.name, f"logs: {record.getMessage()}")

    logger, handler = logging.getLogger("streams"), IntoTrace()
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    logger.setLevel(logging.CRITICAL + 1 if trace is None else logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.level, logger.propagate = before
