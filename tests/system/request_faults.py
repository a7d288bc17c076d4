"""What is done to single requests of a transaction while records flow: every request with every kind of fault, and
requests of one transaction that land in the next.

A worker reaches the broker through a proxy of its own; the records are sent past it. A `Stage` is one installation
under traffic; `Kind.strike` does one fault to one partition and returns when the partition has caught up.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.kafka_kit import topics
from tests.kafka_kit.broker import Broker
from tests.kafka_kit.proxy import (
    TRANSACTIONAL,
    Api,
    CutAfter,
    CutBefore,
    Delay,
    Drop,
    Duplicate,
    Exchange,
    Fault,
    Hold,
    Injection,
    Match,
    Proxy,
    Swallow,
)
from tests.kafka_kit.proxy_frames import name_of
from tests.system.installation import Installation, Outcome
from tests.system.pump import Pump
from tests.system.traffic import stories
from tests.system.waiting import eventually
from tests.system.worker import Supervisor

PARTITIONS = 3

_STRIKE_SECONDS = 60.0
_CATCH_UP_SECONDS = 120.0
_PLACED_WITHIN = 15.0
_GATE_SECONDS = 5.0
_BACKLOG_SECONDS = 3.0
_BACKLOG_RECORDS = 4_000
_BATCH_BYTES = 48 << 10
"""What one batch of transition records takes here: the backlog has many more, so it takes several Produce requests."""


class Stage:
    """One installation, its workers behind proxies, and records that keep coming."""

    def __init__(
        self, broker: Broker, prefix: str, logs: Path, *, seed: int, workers: int = 2, rate: float = 200
    ) -> None:
        """`broker` has as many proxied listeners as there are to be workers; `rate` is records a second."""
        self.rng = random.Random(seed)
        self.broker, self.logs = broker, logs
        self.installation = Installation(broker, prefix, PARTITIONS, logs)
        self.proxies = [Proxy(broker, number) for number in range(workers)]
        self.supervisor = Supervisor([])
        self.pump = Pump(broker.bootstrap, prefix, PARTITIONS, stories(seed), rate=rate, count=0)
        self._stack = AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        try:
            await self._begin()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def _begin(self) -> None:
        bootstrap, prefix = self.broker.bootstrap, self.installation.prefix
        limit = {"max.message.bytes": str(_BATCH_BYTES)}
        await topics.create(bootstrap, [f"{prefix}session-transitions"], PARTITIONS, limit)
        await self.installation.create()
        for number, proxy in enumerate(self.proxies, start=1):
            await self._stack.enter_async_context(proxy)
            self.supervisor.workers.append(self.installation.worker(f"worker-{number}", brokers=proxy.bootstrap))
        for worker in self.supervisor.workers:
            worker.start()
        self.pump.more = True
        self._tasks = [asyncio.create_task(self.pump.run()), asyncio.create_task(self._tend())]
        for partition in range(PARTITIONS):
            written = Match(Api.PRODUCE, transactional_id=self.transactional_id(partition))
            await eventually(
                lambda match=written: any(proxy.find(match) for proxy in self.proxies),
                _CATCH_UP_SECONDS,
                f"a record written for partition {partition}",
            )
            await self.until_commits(partition, 1)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.supervisor.close()
        await self._stack.aclose()

    async def judge(self) -> Outcome:
        """End the traffic, wait until everything is read, and hold the outputs against the oracle."""
        self.pump.more = False
        await asyncio.wait_for(self._tasks[0], 300)
        await self.installation.until_no_lag(_CATCH_UP_SECONDS)
        outcome = await self.installation.judge(await self.installation.expected(), 60, self.pump.unsure)
        assert outcome.records == self.pump.sent
        return outcome

    def transactional_id(self, partition: int) -> str:
        """Return the transactional id of a partition's producer."""
        return f"{self.installation.group}-{partition}"

    def owner(self, partition: int) -> int:
        """Return which worker, from 0, committed last for a partition."""
        return max(range(len(self.proxies)), key=lambda number: self._last_commit(number, partition))

    def sends(self, api: Api) -> bool:
        """Whether workers send such requests at all; with `transaction.version` 2 some are not needed."""
        return any(proxy.requests[name_of(api)] for proxy in self.proxies)

    def inject(self, match: Match, fault: Fault) -> Injection:
        """Apply a fault to the next request that matches, whichever worker sends it."""
        injection = self.proxies[0].inject(match, fault)
        for other in self.proxies[1:]:
            other.share(injection)
        return injection

    async def until_commits(self, partition: int, count: int, within: float = _CATCH_UP_SECONDS) -> None:
        """Wait for transactions of a partition that begin from now on to be committed."""
        commit = _commit_of(self.transactional_id(partition))
        for _ in range(count):
            waiting = [proxy.next(lambda each: commit(each) and not each.errors) for proxy in self.proxies]
            done, left = await asyncio.wait(waiting, timeout=within, return_when=asyncio.FIRST_COMPLETED)
            for future in left:
                future.cancel()
            if not done:
                logs = "\n".join(f"{worker.name}:\n{worker.tail()}" for worker in self.supervisor.workers)
                raise AssertionError(f"Partition {partition} did not commit within {within:.0f} s.\n{logs}")

    async def restart(self, number: int) -> None:
        """End a worker; the supervisor starts it again, and the group shares the partitions out anew."""
        worker = self.supervisor.workers[number]
        code = await asyncio.to_thread(worker.stop)
        assert code == 0, f"{worker.name} ended with {code} after SIGTERM:\n{worker.tail()}"

    def longest_stop(self, partition: int, since: float) -> float:
        """Return the longest time without a commit of a partition since an instant of `time.monotonic`."""
        times = [since, *self._commits(partition, since)]
        return max(b - a for a, b in zip(times, [*times[1:], time.monotonic()], strict=True))

    def tracebacks(self) -> list[str]:
        """Return what the workers have logged with a traceback."""
        return [line for worker in self.supervisor.workers for line in worker.tracebacks()]

    def journal(self) -> str:
        """Return the transactional requests of all proxies."""
        parts = []
        for number, proxy in enumerate(self.proxies, start=1):
            proxy.write_journal(path := self.logs / f"proxy-{number}.journal")
            parts.append(f"proxy {number}: {path}")
        return "\n".join(parts)

    async def _tend(self) -> None:
        while True:
            self.supervisor.tend()
            await asyncio.sleep(0.2)

    def _commits(self, partition: int, since: float) -> list[float]:
        return sorted(
            proxy.began + exchange.answered
            for proxy in self.proxies
            for exchange in proxy.find(_commit_of(self.transactional_id(partition)), since=since - proxy.began)
            if exchange.answered is not None and not exchange.errors
        )

    def _last_commit(self, number: int, partition: int) -> float:
        proxy = self.proxies[number]
        commit = _commit_of(self.transactional_id(partition))
        for exchange in reversed(proxy.journal):
            if commit(exchange) and exchange.answered is not None and not exchange.errors:
                return proxy.began + exchange.answered
        return 0.0


@dataclass(frozen=True)
class Strike:
    """One fault that was done. `placed`: it hit what it was meant for. `stop`: seconds without a commit around it."""

    placed: bool
    stop: float


@dataclass(frozen=True)
class Kind:
    """A kind of fault by its name; `act` does it to a partition and says whether it hit."""

    name: str
    api: Api
    act: Callable[[Stage, int], Awaitable[bool]]
    restarts: bool = False
    """Whether a worker has to end for it."""

    async def strike(self, stage: Stage, partition: int) -> Strike:
        """Do it once, and wait until the partition commits again."""
        began = time.monotonic()
        placed = await asyncio.wait_for(self.act(stage, partition), _STRIKE_SECONDS)
        # The first may be the end of the transaction that was hit.
        await stage.until_commits(partition, 2)
        return Strike(placed, stage.longest_stop(partition, began))


def _commit_of(transactional_id: str) -> Match:
    return Match(Api.END_TXN, transactional_id=transactional_id, committed=True)


# --- every request with every kind of fault


FAULTS: dict[str, Callable[[random.Random], Fault]] = {
    "delay": lambda rng: Delay(rng.uniform(0.05, 1.5), answer=rng.random() < 0.5),
    "cut before": lambda rng: CutBefore(),
    "cut after": lambda rng: CutAfter(),
    "swallow the answer": lambda rng: Swallow(cut_after=rng.uniform(0.3, 2.0)),
    "hold": lambda rng: Hold(rng.choice([0.0, rng.uniform(0.0, 0.03), rng.uniform(0.0, 0.5)])),
    "duplicate": lambda rng: Duplicate(rng.choice([0.0, rng.uniform(0.0, 0.03), rng.uniform(0.0, 0.5)])),
}


def _single(api: Api, fault: str) -> Kind:
    async def act(stage: Stage, partition: int) -> bool:
        match = Match(api, transactional_id=stage.transactional_id(partition))
        injection = stage.inject(match, FAULTS[fault](stage.rng))
        if api is Api.INIT_PRODUCER_ID:
            await stage.restart(stage.owner(partition))
        try:
            await eventually(lambda: injection.done, _PLACED_WITHIN, "the request")
        except AssertionError:
            injection.stop()
            return False
        return True

    return Kind(f"{fault}: {name_of(api)}", api, act, restarts=api is Api.INIT_PRODUCER_ID)


SINGLE = [_single(api, fault) for api in TRANSACTIONAL for fault in FAULTS]


# --- a request of transaction N that lands in N+1


def _late(
    name: str, late_api: Api, *, behind: Api, before: Api, skip: int = 0, backlog: bool = False, kill: str = ""
) -> Kind:
    """Hold `late_api` of N; let it through once `behind` of N+1 was answered, and before `before` of N+1 passes.

    `skip` requests of `before` pass first. With `backlog` the answer that ends N is kept back for some seconds, so that
    N+1 is large. `kill` says when the worker gets kill -9: "late", as soon as the late request was answered, or
    "committed", as soon as N+1 was.
    """

    async def act(stage: Stage, partition: int) -> bool:
        number = stage.owner(partition)
        proxy, worker = stage.proxies[number], stage.supervisor.workers[number]
        transactional_id = stage.transactional_id(partition)
        reached = asyncio.Event()  # the place for the late request
        over = asyncio.Event()  # the late request was answered

        def ends(exchange: Exchange) -> bool:
            return _commit_of(transactional_id)(exchange) and exchange not in held.hits

        def keep_back() -> None:
            gates.append(proxy.inject(Match(before, transactional_id=transactional_id), gate, skip=skip))

        async def right_moment() -> None:
            ended = proxy.next(lambda exchange: ends(exchange) and not exchange.errors)
            if backlog:
                proxy.inject(Match(where=ends), Delay(_BACKLOG_SECONDS, answer=True))
                stage.pump.burst(_BACKLOG_RECORDS)
            await ended
            # A transaction without records may come first, to say again how N ended: not its end is to be kept back.
            if before is not Api.END_TXN:
                keep_back()
            await proxy.next(Match(behind, transactional_id=transactional_id, where=lambda each: not each.errors))
            if before is Api.END_TXN:
                keep_back()
            reached.set()

        gate: Fault = Drop() if kill == "late" else Delay(over.wait, at_most=_GATE_SECONDS)
        gates: list[Injection] = []
        commit = True if late_api is Api.END_TXN else None
        held = proxy.inject(
            Match(late_api, transactional_id=transactional_id, committed=commit),
            Hold(right_moment, at_most=_PLACED_WITHIN),
        )
        late = proxy.next(lambda exchange: exchange in held.hits)
        try:
            answered = (await asyncio.wait_for(late, 2 * _PLACED_WITHIN)).answered or 0.0
            if kill == "committed":
                done = proxy.next(lambda exchange: ends(exchange) and not exchange.errors)
            over.set()
            if kill == "committed":
                await asyncio.wait_for(done, _PLACED_WITHIN)
            if kill:
                await asyncio.to_thread(worker.kill)
        except TimeoutError:
            return False
        finally:
            over.set()
            for injection in (held, *gates):
                injection.stop()
        gated = [hit.forwarded for gate in gates for hit in gate.hits]
        return reached.is_set() and all(at is None or at >= answered for at in gated)

    return Kind(name, late_api, act, restarts=bool(kill))


LATE = [
    _late(
        "late EndTxn after the offsets of N+1, before its records",
        *(Api.END_TXN,),
        behind=Api.TXN_OFFSET_COMMIT,
        before=Api.PRODUCE,
    ),
    _late(
        "late EndTxn between two Produce of N+1",
        *(Api.END_TXN,),
        behind=Api.PRODUCE,
        before=Api.PRODUCE,
        skip=1,
        backlog=True,
    ),
    _late(
        "late EndTxn after the records of N+1, before its offsets, kill -9",
        *(Api.END_TXN,),
        behind=Api.PRODUCE,
        before=Api.TXN_OFFSET_COMMIT,
        kill="late",
    ),
    _late(
        "late TxnOffsetCommit after the offsets of N+1, kill -9",
        *(Api.TXN_OFFSET_COMMIT,),
        behind=Api.TXN_OFFSET_COMMIT,
        before=Api.END_TXN,
        kill="committed",
    ),
]


def _late_at_random() -> Kind:
    async def act(stage: Stage, partition: int) -> bool:
        proxy = stage.proxies[stage.owner(partition)]
        match = _commit_of(stage.transactional_id(partition))
        held = proxy.inject(match, Hold(stage.rng.uniform(0.005, 0.035)))
        try:
            await asyncio.wait_for(proxy.next(lambda exchange: exchange in held.hits), _PLACED_WITHIN)
        except TimeoutError:
            return False
        finally:
            held.stop()
        return True

    return Kind("late EndTxn at a random moment within 30 ms", Api.END_TXN, act)


LATE.append(_late_at_random())
KINDS: Sequence[Kind] = (*SINGLE, *LATE)
