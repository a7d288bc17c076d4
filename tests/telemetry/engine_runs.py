"""A partition without a broker whose batches are counted by metrics, as a worker does after each commit."""

from __future__ import annotations

from collections.abc import Iterable

from streams.core.cycle import Rules
from streams.core.engine import Engine, EngineSettings
from streams.core.names import Topic
from streams.core.partition import Partition
from streams.core.pipeline import Pipeline
from streams.offline.run import settled
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
    pipeline = Pipeline(partition)
    took_all = False
    while not took_all:
        took_all = pipeline.slice(now, dict.fromkeys(Topic, now))
        for batch in settled(pipeline):
            if metrics is not None:
                metrics.batch_committed(partition.number, batch, 0.01, 0.005)
