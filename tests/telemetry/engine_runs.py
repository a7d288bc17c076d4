"""A partition without a broker whose steps are told to metrics, as the runtime does after each commit."""

from __future__ import annotations

from collections.abc import Iterable

from streams.core.cycle import Rules
from streams.core.engine import Engine, EngineSettings
from streams.core.model import Topic
from streams.core.partition import Partition
from streams.rules.triggers import parse_triggers
from streams.telemetry.observer import Metrics
from streams.testing.traffic import Record
from streams.wire.capture import CapturedRecord
from streams.wire.decode import decode
from streams.wire.rows import MsgpackRows


def a_partition(triggers: str) -> Partition:
    """An empty partition with these triggers."""
    parsed = parse_triggers(triggers)
    assert parsed.ruleset is not None, parsed.errors
    return Partition(
        Engine(Rules(parsed.ruleset), EngineSettings()),
        number=0,
        partition_count=1,
        decode=decode,
        rows=MsgpackRows(),
        dead_letter_limit=None,
        clock_grace=0,
    )


def take(partition: Partition, records: Iterable[Record], metrics: Metrics | None = None) -> None:
    """Let the partition take these records, in order of their timestamps, at the time of the last of them."""
    ordered = sorted(records, key=lambda record: record.timestamp)
    for topic in Topic:
        fetched = [
            CapturedRecord(offset, record.timestamp, record.key, record.value)
            for offset, record in enumerate(record for record in ordered if record.topic is topic)
        ]
        partition.add(topic, fetched, 0)
    now = ordered[-1].timestamp * 1000
    while (step := partition.step(now, dict.fromkeys(Topic, now), 500)) is not None:
        partition.commit(step)
        if metrics is not None:
            metrics.stepped(partition.number, step, 0.01, 0.005)
