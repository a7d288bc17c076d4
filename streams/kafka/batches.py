"""Encodes records into record batches, as a transactional producer writes them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder

from streams.wire.writes import Write

_MAGIC = 2
_SEQUENCES = 2**31

CODECS = {
    "none": DefaultRecordBatch.CODEC_NONE,
    "gzip": DefaultRecordBatch.CODEC_GZIP,
    "snappy": DefaultRecordBatch.CODEC_SNAPPY,
    "lz4": DefaultRecordBatch.CODEC_LZ4,
    "zstd": DefaultRecordBatch.CODEC_ZSTD,
}
"""Kafka's compression codecs by name."""


class Epoch(NamedTuple):
    """A producer epoch: the right to write until a later epoch begins."""

    producer_id: int
    number: int


class Batches:
    """Builds the batches of one epoch. Sequence numbers increase by one per record within each topic."""

    def __init__(self, epoch: Epoch, codec: str, batch_bytes: Callable[[str], int]) -> None:
        """Begin an epoch. A batch has at most `batch_bytes(topic)` bytes before compression, or a single record."""
        self.epoch = epoch
        self._codec = CODECS[codec]
        self._batch_bytes = batch_bytes
        self._sequences: dict[str, int] = {}

    def of(self, topic: str, records: Iterable[Write], timestamp: int) -> list[bytes]:
        """Return the batches that hold these records in order. `timestamp` is that of the records, in milliseconds."""
        batches: list[bytes] = []
        sequence = self._sequences.get(topic, 0)
        size = self._batch_bytes(topic)
        builder = self._builder(sequence, size)
        count = 0
        for key, value, headers in records:
            if builder.append(count, timestamp, key, value, headers) is None:
                batches.append(bytes(builder.build()))
                sequence = (sequence + count) % _SEQUENCES
                builder, count = self._builder(sequence, size), 0
                builder.append(0, timestamp, key, value, headers)
            count += 1
        if count:
            batches.append(bytes(builder.build()))
        self._sequences[topic] = (sequence + count) % _SEQUENCES
        return batches

    def _builder(self, sequence: int, size: int) -> DefaultRecordBatchBuilder:
        return DefaultRecordBatchBuilder(
            _MAGIC, self._codec, 1, self.epoch.producer_id, self.epoch.number, sequence, size
        )


def size_alone(record: Write) -> int:
    """Return the maximum size in bytes, before compression, of a batch that holds only this record."""
    size: int = DefaultRecordBatchBuilder.estimate_size_in_bytes(*record)
    return size
