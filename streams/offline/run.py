"""Runs captured records through the worker's pipeline, for backtest, `explain` and inline tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice

from streams.core.batch import Batch
from streams.core.engine import Engine
from streams.core.inputs import Decode
from streams.core.model import MILLISECOND, Micros
from streams.core.names import Topic
from streams.core.partition import Partition
from streams.core.pipeline import Pipeline
from streams.offline.captures import Captures
from streams.wire.capture import CapturedRecord
from streams.wire.decode import decode
from streams.wire.rows import MsgpackRows

CHUNK = 2_000
"""Number of records read ahead per topic, and the size of a batch."""


def new_pipeline(engine: Engine, number: int = 0, decode: Decode = decode, partitions: int = 1) -> Pipeline:
    """Return the pipeline of a partition with empty tables. It does not stop, however many records are bad.

    Pass another `decode` when a mapping reads records of another shape. `limit`s are divided by `partitions`.
    """
    partition = Partition(
        engine,
        number=number,
        partition_count=None,
        decode=decode,
        rows=MsgpackRows(),
        dead_letter_limit=None,
        clock_grace=0,
        partitions=partitions,
    )
    return Pipeline(partition, slice_records=CHUNK)


def settled(pipeline: Pipeline) -> Iterator[Batch]:
    """Yield the batch that is ready, if any, and settle it. Offline, a batch can't fail to commit."""
    if (batch := pipeline.hand_over()) is not None:
        pipeline.settle()
        yield batch


def run_partition(captures: Captures, pipeline: Pipeline, *, now: Micros, last: int | None) -> Iterator[Batch]:
    """Run the pipeline's partition of a capture to its end, and then the rounds due by `last` (milliseconds).

    `now` is the wall clock used to detect `bad_timestamp`.
    """
    yield from take(pipeline, {topic: captures.read(pipeline.partition.number, topic) for topic in Topic}, now)
    if last is not None:
        pipeline.advance(last * MILLISECOND)
        yield from settled(pipeline)


def take(pipeline: Pipeline, inputs: Mapping[Topic, Iterator[CapturedRecord]], now: Micros) -> Iterator[Batch]:
    """Take the records of these inputs, in merged order. `now` is as in `run_partition`."""
    partition = pipeline.partition
    ends: dict[Topic, Micros | None] = dict.fromkeys(Topic)
    took_all = False
    while not took_all or None in ends.values():
        for topic, records in inputs.items():
            if ends[topic] is None and not partition.queued(topic):
                chunk = list(islice(records, CHUNK))
                if chunk:
                    pipeline.feed(topic, chunk, 0)
                else:
                    ends[topic] = 0
        took_all = pipeline.slice(now, ends)
        yield from settled(pipeline)
