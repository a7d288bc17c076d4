"""Captured records through the worker's own pipeline: what backtest, `explain` and inline tests run."""

from __future__ import annotations

from collections.abc import Iterator
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
"""Records of one topic that are read ahead at a time, and of a batch."""


def new_pipeline(engine: Engine, number: int = 0, decode: Decode = decode) -> Pipeline:
    """Return the pipeline of a partition with empty tables; nothing stops it, however many records are bad.

    `decode` differs from the default where records of another shape are mapped.
    """
    partition = Partition(
        engine,
        number=number,
        partition_count=None,
        decode=decode,
        rows=MsgpackRows(),
        dead_letter_limit=None,
        clock_grace=0,
    )
    return Pipeline(partition, slice_records=CHUNK)


def settled(pipeline: Pipeline) -> Iterator[Batch]:
    """Yield the batch that is ready, if there is one, settled: offline, nothing can keep it from being carried out."""
    if (batch := pipeline.hand_over()) is not None:
        pipeline.settle()
        yield batch


def run_partition(captures: Captures, pipeline: Pipeline, *, now: Micros, last: int | None) -> Iterator[Batch]:
    """Run the pipeline's partition of a capture to its end, and what is due by `last` (milliseconds).

    `now` is the wall clock that `bad_timestamp` is judged by.
    """
    partition = pipeline.partition
    inputs: dict[Topic, Iterator[CapturedRecord]] = {topic: captures.read(partition.number, topic) for topic in Topic}
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
    if last is not None:
        pipeline.advance(last * MILLISECOND)
        yield from settled(pipeline)
