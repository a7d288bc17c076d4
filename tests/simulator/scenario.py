"""What a seed stands for: how large the installation is, which records come, what goes wrong and when.

The records are the stories of the system tests, and *close calls*: customers who come back, and tickets that arrive,
within milliseconds of the end of a wait, often when nothing else happens and the clock alone moves stream time.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from tests.simulator.network import Faults
from tests.system.oracle import SESSIONS, TICKETS, Record
from tests.system.traffic import Sent, compact, instant, partition_of, simulate

JOIN_WAIT = 4
WAITS = (2, 5)
"""The waits of tests/system/triggers.yaml, in seconds."""

_FIRST_CLOSE_CALL = 900_001
_CLOSE_MS = (-900, -300, -100, -20, -2, -1, 0, 1, 2, 20, 100, 300, 900)
"""How far from the end of a wait a close call is, in milliseconds."""


@dataclass(frozen=True)
class Event:
    """One thing that goes wrong: `kind` at `at` seconds, to worker `worker`, for `seconds`."""

    at: float
    kind: str
    worker: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        who = "" if self.kind in ("outage", "jump") else f" worker {self.worker}"
        long = f" for {self.seconds:.2f} s" if self.seconds else ""
        return f"at {self.at:.2f} s: {self.kind}{who}{long}"


@dataclass(frozen=True)
class Scenario:
    """One run, whole."""

    seed: int
    records: int
    partitions: int
    workers: int
    nodes: int
    transaction_version: int
    batch_records: int
    static_members: bool
    grow_old: bool
    """Whether the run goes on until rows expire, and all workers are then restarted."""
    inbox_limit: int
    """Records in an inbox at which fetching pauses."""
    slow_markers: float
    """Seconds that a marker takes at most."""
    rate: float
    """Stories that begin in a second."""
    close_calls: int
    seconds: float
    """How long there is trouble, at least until the last record."""
    clocks_differ: bool
    """Whether each worker's clock is a little early or late from the beginning."""
    upstream_transactions: bool
    """Whether the records come in transactions of other producers, some of which are aborted."""
    faults: Faults = field(default_factory=Faults)
    events: tuple[Event, ...] = ()
    tickets: frozenset[str] | None = None
    """Only these tickets' records; None for all."""

    def __str__(self) -> str:
        rates = ", ".join(f"{name} {rate:.3f}" for name, rate in vars(self.faults).items() if rate) or "none"
        size = (
            f"{self.records} records{'' if self.tickets is None else f' of {len(self.tickets)} tickets'}, "
            f"{self.close_calls} close calls, {self.partitions} partitions, {self.workers} workers, "
            f"{self.nodes} brokers, transaction.version {self.transaction_version}, "
            f"batches of {self.batch_records}, inboxes of {self.inbox_limit}"
        )
        more = "".join(f"\n  {event}" for event in self.events)
        return f"seed {self.seed}: {size}\n  requests that go wrong: {rates}{more}"


def scenario_of(seed: int) -> Scenario:
    """Draw the scenario of a seed."""
    rng = random.Random(f"scenario/{seed}")
    workers = rng.choice([1, 2, 2, 3])
    bad = rng.choice([0.0, 0.01, 0.03, 0.1])
    faults = Faults(
        lost=bad * rng.random() / 2,
        unanswered=bad * rng.random(),
        late=bad * rng.random(),
        held=bad * rng.random(),
        slow=rng.choice([0.0, bad * rng.random() / 2]),
        silent=bad * rng.random() / 10,
        refused=bad * rng.random() / 2,
        crash=rng.choice([0.0, 0.0, 0.002, 0.005]),
    )
    seconds = rng.choice([15.0, 15.0, 30.0])
    count = rng.choice([0, 1, 2, 4, 8])
    events = sorted((_event(rng, workers, seconds) for _ in range(count)), key=lambda event: event.at)
    return Scenario(
        seed=seed,
        records=rng.choice([10, 20, 40]),
        partitions=rng.choice([2, 2, 3]),
        workers=workers,
        nodes=rng.choice([1, 1, 2]),
        transaction_version=rng.choice([1, 2]),
        batch_records=rng.choice([1, 3, 10, 10_000]),
        static_members=rng.random() < 0.3,
        grow_old=rng.random() < 0.1,
        inbox_limit=rng.choice([2, 5, 500]),
        slow_markers=rng.choice([0.0, 0.005, 0.05, 1.0]),
        rate=rng.choice([0.5, 4.0, 4.0]),
        close_calls=rng.choice([0, 2, 5]),
        seconds=seconds,
        clocks_differ=rng.random() < 0.5,
        upstream_transactions=rng.random() < 0.3,
        faults=faults,
        events=tuple(events),
    )


def _event(rng: random.Random, workers: int, within: float) -> Event:
    kind = rng.choice(["kill", "kill", "freeze", "freeze", "stop", "outage", "clock", "jump"])
    seconds = {
        "kill": rng.uniform(0.1, 3),
        "freeze": rng.choice([rng.uniform(0.01, 1), rng.uniform(1, 5), rng.uniform(7, 15)]),
        "stop": rng.uniform(0.1, 3),
        "outage": rng.choice([rng.uniform(0.01, 0.5), rng.uniform(0.5, 6)]),
        "clock": rng.uniform(-0.4, 0.4),
        "jump": rng.uniform(0.1, 10),
    }[kind]
    return Event(rng.uniform(0.2, within), kind, rng.randrange(workers), seconds)


def without_trouble(scenario: Scenario) -> Scenario:
    """The same records and sizes, and nothing goes wrong."""
    return replace(scenario, faults=Faults(), events=())


def records_of(scenario: Scenario, start: int) -> list[Record]:
    """The records of a scenario, by the time at which they are sent, in milliseconds from `start`."""
    told = simulate(scenario.seed, scenario.records, partitions=scenario.partitions, rate=scenario.rate, start=start)
    records = sorted([*told, *_close_calls(scenario, start)], key=lambda record: record.timestamp)
    tickets = scenario.tickets
    return [record for record in records if tickets is None or (record.key or b"").decode() in tickets]


def _close_calls(scenario: Scenario, start: int) -> Iterator[Record]:
    rng = random.Random(f"close calls/{scenario.seed}")
    for number in range(scenario.close_calls):
        ticket_id = str(_FIRST_CLOSE_CALL + number)
        for at, topic, members in _close_call(rng, round(rng.uniform(0, scenario.seconds) * 1_000)):
            now = start + at
            body = {"ticket_id": ticket_id, "occurred_at": instant(now - rng.choice([0, 0, 30])), **members}
            sent = Sent(topic, ticket_id.encode(), compact(body))
            yield Record(topic, partition_of(sent, scenario.partitions), 0, now, sent.key, sent.value)


def _close_call(rng: random.Random, at: int) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Yield (milliseconds, topic, members) of one ticket's records."""
    ticket = {"ticket": {"status": "open", "priority": "low", "group_id": "360", "tags": ["vip", "nudged"]}}
    comes_late = rng.random() < 0.3
    if not comes_late:
        yield at, TICKETS, ticket
    at += rng.randint(50, 900)
    yield at, SESSIONS, {"state": "active"}
    for _ in range(rng.choice([1, 1, 2])):
        at += rng.randint(50, 900)
        yield at, SESSIONS, {"state": "inactive", "reason": "user_inactive_or_offline"}
        if comes_late:
            comes_late = False
            at += JOIN_WAIT * 1_000 + rng.choice(_CLOSE_MS)
            yield at, TICKETS, ticket
            at += rng.randint(50, 900)
        else:
            at += rng.choice(WAITS) * 1_000 + rng.choice(_CLOSE_MS)
        yield at, SESSIONS, {"state": "active"}


def tickets_of(scenario: Scenario) -> set[str]:
    """The keys of the scenario's records; those without a key are one."""
    return {(record.key or b"").decode() for record in records_of(scenario, 0)}
