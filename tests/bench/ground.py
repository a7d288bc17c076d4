"""Where contestants work: topics full of records on one broker, and the commands that must come out.

What must come out is worked out by the oracle of the system tests, which shares no code with `streams`. That takes a
minute for a million records, so it is kept in the cache directory under a digest of everything that it depends on.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from tests.bench import workload
from tests.kafka_kit import Broker, topics
from tests.system import oracle

ENDS_AT = 1_772_359_200_000
"""2026-03-01T10:00:00Z: the same bytes on every day."""

Commands: TypeAlias = "Counter[str]"
"""Commands by what decides: ticket, episode, triggers that fired and actions, as canonical JSON."""


@dataclass(frozen=True)
class Ground:
    """One broker with a backlog."""

    broker: Broker
    prefix: str
    partitions: int
    records: int
    triggers: Path
    expected: Commands


@dataclass(frozen=True)
class Equality:
    """How the commands that a contestant wrote differ from those that must come out."""

    expected: int
    got: int
    lost: int
    wrong: int
    """Commands that nobody asked for, or that came again."""

    @property
    def holds(self) -> bool:
        """Whether they are the same commands."""
        return self.lost == self.wrong == 0


def decisive(command: Mapping[str, Any]) -> str:
    """Return what makes two commands the same one, whoever wrote them."""
    parts = [
        command["ticket_id"],
        command["transition"]["episode"],
        [trigger["id"] for trigger in command["triggers"]],
        command["actions"],
    ]
    return json.dumps(parts, sort_keys=True)


def compare(expected: Commands, got: Commands) -> Equality:
    """Hold commands against those that must come out."""
    return Equality(expected.total(), got.total(), (expected - got).total(), (got - expected).total())


def write_triggers(directory: Path) -> Path:
    """Write the trigger file that all contestants follow: the four shipped recipes, all active."""
    path = directory / "recipes.yaml"
    path.write_text(workload.recipes())
    return path


async def backlog(broker: Broker, partitions: int, records: int, tickets: int, triggers: Path) -> Ground:
    """Make and fill the two inputs; `expected` holds what must come out of them."""
    prefix = await empty_inputs(broker, partitions)
    made = workload.records(records, tickets, ends_at=ENDS_AT)
    written = await workload.fill(broker.bootstrap, prefix, partitions, made)
    if written != records:
        raise RuntimeError(f"{written} records were written instead of {records}.")
    expected = await asyncio.to_thread(expectation, records, tickets)
    return Ground(broker, prefix, partitions, records, triggers, expected)


async def empty_inputs(broker: Broker, partitions: int) -> str:
    """Make the two inputs under a prefix of their own, and return it."""
    prefix = f"bench-{uuid.uuid4().hex[:6]}-"
    names = [prefix + workload.TICKETS, prefix + workload.SESSIONS]
    await topics.create(broker.bootstrap, names, partitions, {"max.message.bytes": str(2 << 20)})
    return prefix


def expectation(records: int, tickets: int) -> Commands:
    """Return the commands that must come out of `workload.records`, by the oracle."""
    kept = _cache() / f"expected-{_digest(records, tickets)}.json"
    if not kept.exists():
        found = _ask_oracle(workload.records(records, tickets, ends_at=ENDS_AT))
        kept.parent.mkdir(parents=True, exist_ok=True)
        unfinished = kept.with_suffix(f".{os.getpid()}")
        unfinished.write_text(json.dumps(found))
        unfinished.rename(kept)
    return Counter(json.loads(kept.read_text()))


def _ask_oracle(made: Iterable[workload.Made]) -> Commands:
    # With no wait in the recipes, partitions decide nothing: every ticket's records keep their order in one as well.
    expected = oracle.expect(_as_records(made), yaml.safe_load(workload.recipes()))
    return Counter(decisive(command) for command in expected.commands.values())


def _as_records(made: Iterable[workload.Made]) -> Iterator[oracle.Record]:
    for offset, (is_ticket, key, value, timestamp) in enumerate(made):
        yield oracle.Record(workload.TICKETS if is_ticket else workload.SESSIONS, 0, offset, timestamp, key, value)


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "lapse", "bench")


def _digest(records: int, tickets: int) -> str:
    """Return a name for what the expectation depends on: sizes, workload, recipes, oracle, and this file."""
    parts = [
        f"{records} {tickets}".encode(),
        workload.recipes().encode(),
        *(Path(module).read_bytes() for module in (workload.__file__, oracle.__file__, __file__)),
    ]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]
