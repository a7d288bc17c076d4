"""Everything between a worker and the brokers: latency, lost requests and answers, requests that arrive late.

`Client` takes the place of aiokafka's `AIOKafkaClient` below the transactional producer: the producer's own requests
and its own retries are what the model broker sees.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError, NodeNotReadyError, RequestTimedOutError

from tests.simulator.broker import Broker
from tests.simulator.errors import Code
from tests.simulator.loop import HOST, Host, VirtualLoop

Trace = Callable[[str, str], None]
"""Takes who and what."""

API_VERSIONS = 18
_TRANSACTIONAL = {0: "Produce", 24: "AddPartitions", 25: "AddOffsets", 26: "EndTxn", 28: "TxnOffsetCommit"}
_MOST_REQUESTS_LATER = 8
"""About two transactions."""

NAMES = {**_TRANSACTIONAL, 18: "ApiVersions", 22: "InitProducerId", 65: "DescribeTransactions"}


@dataclass
class Faults:
    """Chances by request, each from 0 to 1."""

    lost: float = 0.0
    """The request never arrives, and the connection breaks."""
    unanswered: float = 0.0
    """It is done, and the connection breaks before the answer."""
    late: float = 0.0
    """The connection breaks, and the request arrives later all the same."""
    held: float = 0.0
    """As `late`, but a request of a transaction arrives just after a later one of the same producer."""
    slow: float = 0.0
    """The answer takes seconds."""
    silent: float = 0.0
    """Nothing is heard until the client's own timeout."""
    refused: float = 0.0
    """The broker answers that it is not ready, or not responsible any more."""
    crash: float = 0.0
    """The worker is killed: before the request is sent, when it has arrived, or when it is answered."""


@dataclass
class _Held:
    """A request under way, and how many of the same producer's requests arrive before it."""

    requests: int
    arrive: Callable[[], None]


class Network:
    """Carries requests between hosts and the broker."""

    def __init__(self, loop: VirtualLoop, broker: Broker, rng: random.Random, trace: Trace, nodes: int = 1) -> None:
        self.loop, self.broker, self.rng, self.trace = loop, broker, rng, trace
        self.faults = Faults()
        self.nodes = nodes
        self.traces = True
        """Whether every request is to be traced."""
        self.down_until = 0.0
        self.idle_seconds = 0.0
        """How long a fetch without records is held at least; for times in which nothing happens."""
        self.kill: Callable[[Host, str], None] = lambda host, why: None
        self.group: Any = None
        """The group coordinator."""
        self.late_arrivals = 0
        self._held: dict[str, list[_Held]] = {}

    def latency(self) -> float:
        """Seconds of one way; now and then much longer."""
        rng = self.rng
        chance = rng.random()
        return 0.0001 + chance * 0.001 if chance < 0.95 else rng.uniform(0.001, 0.05)

    @property
    def is_down(self) -> bool:
        """Whether the brokers are away."""
        return self.loop.time() < self.down_until

    async def request(
        self, what: str, do: Callable[[], Any], within: float, *, refuse: Any = None, producer: str | None = None
    ) -> Any:
        """Do something at the broker for the current host; raises what aiokafka's client raises.

        `refuse` makes the answer of a broker that is not ready; `producer` is the transactional id of a request that
        belongs to a transaction.
        """
        rng, faults, host = self.rng, self.faults, HOST.get()
        assert host is not None
        if self.is_down:
            await asyncio.sleep(self.latency())
            raise NodeNotReadyError("the broker is away")
        crash = rng.random() < faults.crash
        crash_at = rng.randrange(3) if crash else -1
        if crash_at == 0:
            self.kill(host, f"before {what}")
            await asyncio.sleep(3_600)
        chance = rng.random()
        answered: asyncio.Future[Any] = self.loop.create_future()
        fate = "ok"
        for name in ("lost", "unanswered", "late", "held", "silent", "slow", "refused"):
            chance -= getattr(faults, name)
            if chance < 0:
                fate = name
                break
        if fate == "refused" and refuse is None:
            fate = "ok"

        def answer(value: Any, error: BaseException | None = None) -> None:
            if crash_at == 2 and host.alive:
                self.kill(host, f"at the answer to {what}")
            if host.alive and not answered.done():
                if error is None:
                    answered.set_result(value)
                else:
                    answered.set_exception(error)

        def arrive() -> None:
            if self.is_down:
                self._later(self.latency(), lambda: answer(None, KafkaConnectionError("cut")))
                return
            if fate in ("late", "held"):
                self.late_arrivals += 1
            value = refuse() if fate == "refused" and refuse is not None else do()
            if self.traces:
                self.trace(host.name, f"{what}{'' if fate == 'ok' else f' [{fate}]'} -> {shown(value)}")
            if crash_at == 1 and host.alive:
                self.kill(host, f"after {what}")
            if producer is not None and fate != "held":
                self._let_go(producer)
            if fate in ("ok", "refused"):
                self._later(self.latency(), lambda: answer(value))
            elif fate == "slow":
                self._later(min(rng.uniform(0.1, 4), within), lambda: answer(value))
            elif fate == "unanswered":
                self._later(self.latency(), lambda: answer(None, KafkaConnectionError("cut")))

        if fate == "lost":
            self.trace(host.name, f"{what} [lost]")
            self._later(self.latency(), lambda: answer(None, KafkaConnectionError("cut")))
        elif fate in ("late", "held"):
            self._later(self.latency(), lambda: answer(None, KafkaConnectionError("cut")))
            if fate == "held" and producer is not None:
                self._held.setdefault(producer, []).append(_Held(rng.randint(1, _MOST_REQUESTS_LATER), arrive))
            else:
                self._later(10 ** rng.uniform(-3.5, 0.5), arrive)
        else:
            self._later(self.latency(), arrive)
            if fate == "silent":
                self._later(within, lambda: answer(None, RequestTimedOutError()))
        return await answered

    def _let_go(self, producer: str) -> None:
        """Count a request that has arrived; let those arrive that were held until then."""
        waiting = self._held.get(producer)
        if not waiting:
            return
        for each in waiting:
            each.requests -= 1
        self._held[producer] = [each for each in waiting if each.requests > 0]
        for each in waiting:
            if each.requests <= 0:
                self._later(self.rng.uniform(0, 0.001), each.arrive)

    def _later(self, seconds: float, do: Callable[[], None]) -> None:
        """Outside of any host: what is under way does not stop with who sent it."""
        self.loop.call_later(seconds, do, context=NOBODY)


NOBODY = Host("nobody").context
"""For what goes on outside of every host."""

NOBODY.run(HOST.set, None)


def shown(value: Any) -> str:
    """An answer in a few words."""
    if isinstance(value, SimpleNamespace):
        members = {name: each for name, each in vars(value).items() if name != "tags"}
        return ", ".join(f"{name}={each}" for name, each in members.items())
    return "" if value is None else str(value)[:120]


class Client:
    """One worker's client below one producer: what `PartitionProducer` uses of `AIOKafkaClient`."""

    def __init__(self, network: Network, request_timeout_ms: int = 40_000, **_: Any) -> None:
        self._network = network
        self._timeout = request_timeout_ms / 1_000
        self.cluster = self

    async def bootstrap(self) -> None:
        await self._network.request("bootstrap", lambda: None, self._timeout)

    def set_topics(self, topics: Any) -> None:
        """Leaders of all topics are known."""

    async def add_topic(self, topic: str) -> None:
        """Leaders of all topics are known."""

    def get_random_node(self) -> int | None:
        return None if self._network.is_down else 0

    async def coordinator_lookup(self, kind: int, key: str) -> int:
        await self._network.request(f"FindCoordinator {key}", lambda: None, self._timeout)
        return 0

    def leader_for_partition(self, tp: TopicPartition) -> int:
        return node_of(tp, self._network.nodes)

    async def force_metadata_update(self) -> None:
        await asyncio.sleep(self._network.latency())

    async def close(self) -> None:
        """Close at once."""

    async def send(self, node: int, request: Any, group: Any = None) -> Any:
        broker = self._network.broker
        struct = request.prepare(broker.versions)
        what = _described(struct) if self._network.traces else NAMES[struct.API_KEY]
        rng = self._network.rng

        def refuse() -> Any:
            return _refusal(struct, rng)

        return await self._network.request(
            what,
            lambda: broker.handle(struct),
            self._timeout,
            refuse=None if struct.API_KEY == API_VERSIONS else refuse,
            producer=struct.transactional_id if struct.API_KEY in _TRANSACTIONAL else None,
        )


def node_of(tp: TopicPartition, nodes: int) -> int:
    """The node that leads a partition."""
    return (len(tp.topic) + tp.partition) % nodes


def _described(struct: Any) -> str:
    name = NAMES[struct.API_KEY]
    if struct.API_KEY == 26:
        return f"{name}({struct.producer_epoch}, {'commit' if struct.transaction_result else 'abort'})"
    if struct.API_KEY == 28:
        offsets = [(topic, several[0][:2]) for topic, several, *_ in struct.topics]
        return f"{name}({struct.producer_epoch}, {offsets})"
    if struct.API_KEY == 0:
        return f"{name}({struct.transactional_id}, {[topic for topic, *_ in struct.topics]})"
    return name


def _refusal(struct: Any, rng: random.Random) -> Any:
    """The answer of a broker that is not ready, or not responsible any more."""
    if struct.API_KEY == 0:
        code = int(Code.NOT_LEADER_OR_FOLLOWER)
        return SimpleNamespace(topics=[(topic, [(several[0][0], code)]) for topic, several, *_ in struct.topics])
    code = int(rng.choice([Code.COORDINATOR_LOAD_IN_PROGRESS, Code.NOT_COORDINATOR]))
    if struct.API_KEY == 24:
        return SimpleNamespace(errors=[(topic, [(several[0], code)]) for topic, several in struct.topics])
    if struct.API_KEY == 28:
        return SimpleNamespace(errors=[(topic, [(several[0][0], code)]) for topic, several, *_ in struct.topics])
    if struct.API_KEY == 65:
        return SimpleNamespace(transactions=[(code, struct.transactional_ids[0], "")])
    return SimpleNamespace(error_code=code, producer_id=-1, producer_epoch=-1)
