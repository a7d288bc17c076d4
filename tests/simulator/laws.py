"""What must hold at the end of every run, whatever happened in it.

The expected outputs come from `tests/system/oracle.py`, which shares no code with the engine. The rows are compared
with a fold of the changelogs that is made here.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from aiokafka import TopicPartition

from streams.core.names import Output, Table
from streams.core.tables import OWN
from tests.simulator.log import Entry
from tests.simulator.scenario import JOIN_WAIT
from tests.system.compare import compare, compare_all
from tests.system.oracle import SESSIONS, TICKETS, Record, expect, load_rules

if TYPE_CHECKING:
    from tests.simulator.world import World

_RULES: dict[str, Any] = {}


def broken_laws(world: World) -> list[str]:
    """Return a line for every law that does not hold."""
    return [*_outputs(world), *_offsets(world), *_rows(world)]


def _outputs(world: World) -> list[str]:
    """Lost 0, phantom 0, twice 0: commands, transitions, evaluations, dead letters."""
    from tests.simulator.world import TRIGGERS

    if not _RULES:
        _RULES.update(load_rules(TRIGGERS))
    records = [
        Record(topic, number, entry.offset, entry.timestamp, entry.key, entry.value, entry.headers)
        for topic in (TICKETS, SESSIONS)
        for number in range(world.scenario.partitions)
        for entry in _read(world, world.config.topic(topic), number)
    ]
    expected = expect(records, _RULES, join_wait=JOIN_WAIT)
    commands = [json.loads(entry.value or b"") for entry in _all_of(world, Output.COMMANDS)]
    outputs = [json.loads(entry.value or b"") for entry in _all_of(world, Output.TRANSITIONS)]
    letters = compare(
        "dead letters",
        (_place(*where, code) for where, code in expected.dead_letters.items()),
        (_letter(entry) for entry in _all_of(world, Output.DEAD_LETTERS)),
    )
    found = [*compare_all(expected, commands, outputs), letters]
    return [str(difference) for difference in found if difference.counts != (0, 0, 0)]


def _offsets(world: World) -> list[str]:
    """Nothing is left to read after the committed offsets, they are within the log, and none ever became lower."""
    broken = [f"an offset was set back: {text}" for text in world.broker.set_back]
    for tp in world.inputs():
        log, committed = world.broker.logs[tp], world.broker.offsets.get(tp)
        if committed is None or committed.offset > log.end or log.read(committed.offset, 1)[0]:
            broken.append(f"{tp.topic}-{tp.partition} ends at {log.end}, and committed is {committed}")
    return broken


def _rows(world: World) -> list[str]:
    return [
        text
        for number, processor in world.processors()
        for text in different_rows(world, number, processor.partition.tables)
    ]


def different_rows(world: World, number: int, tables: Any) -> list[str]:
    """The tables in memory are what the changelogs say at read_committed."""
    broken = []
    for table, have in ((Table.TICKETS, tables.tickets), (Table.SESSIONS, tables.sessions)):
        want: dict[str, bytes] = {}
        for entry in _read(world, world.config.changelog(table), number):
            if entry.key is None or entry.key.startswith(OWN):
                continue
            if entry.value is None:
                want.pop(entry.key.decode(), None)
            else:
                want[entry.key.decode()] = entry.value
        different = sorted(key for key in want.keys() | have.keys() if want.get(key) != have.get(key))
        if different:
            broken.append(f"partition {number}: the {table} rows of {different[:5]} are not those of the changelog")
    return broken


def _read(world: World, topic: str, number: int) -> list[Entry]:
    return world.broker.logs[TopicPartition(topic, number)].committed_records()


def _all_of(world: World, topic: str) -> list[Entry]:
    name = world.config.topic(topic)
    return [entry for number in range(world.scenario.partitions) for entry in _read(world, name, number)]


def _letter(entry: Entry) -> dict[str, Any]:
    headers = {name: value.decode() for name, value in entry.headers if name.startswith("lapse.")}
    return _place(
        headers["lapse.source.topic"],
        int(headers["lapse.source.partition"]),
        int(headers["lapse.source.offset"]),
        headers["lapse.error.code"],
    )


def _place(topic: str, partition: int, offset: int, code: str) -> dict[str, Any]:
    return {"topic": topic, "partition": partition, "offset": offset, "code": code}
