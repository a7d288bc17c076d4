"""Clear errors for record batches that can't be decoded: which batch, where, and what to do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer.fetcher import FetchResult

from streams.core.errors import LapseError, Refused


class Undecodable(Refused):
    """A batch of a log is damaged, or its compression is not supported here. Retrying does not help."""

    def __init__(self, tp: TopicPartition, offset: int, reason: BaseException) -> None:
        """Build the error; `offset` is the first that could not be read."""
        name = f"{tp.topic}-{tp.partition}"
        super().__init__(
            f"{name}: the record batch at offset {offset} can't be decoded ({_text(reason)}). Nothing from it on was "
            f"used, and nothing is skipped. If `kafka-console-consumer --topic {tp.topic} --partition {tp.partition} "
            f"--offset {offset} --max-messages 1` can't read it either, the log is damaged: restore it from a "
            f"replica, or, where losing the batch is acceptable, set the group's offset of {name} to the batch after "
            "it with kafka-consumer-groups."
        )
        self.tp = tp
        self.offset = offset


def name_undecodable_batches(consumer: AIOKafkaConsumer) -> None:
    """Make this consumer, which must have been started, raise `Undecodable` for any decoding error of aiokafka.

    aiokafka decodes records when they are taken, and passes on the errors of its codecs unchanged. It also drops the
    records before the bad batch, so continuing after the error would lose them.
    """
    fetcher = consumer._fetcher
    process: Callable[[Any, Any, Any], Awaitable[bool]] = fetcher._proc_fetch_request

    async def process_and_name(assignment: Any, node_id: Any, request: Any) -> bool:
        has_data = await process(assignment, node_id, request)
        for topic, asks in request.topics:
            for partition, *_ in asks:
                tp = TopicPartition(topic, partition)
                result = fetcher._records.get(tp)
                if isinstance(result, FetchResult) and result.has_more():
                    _name(tp, result)
        return has_data

    fetcher._proc_fetch_request = process_and_name


def _name(tp: TopicPartition, result: FetchResult) -> None:
    take, records = result.getall, result._partition_records
    if getattr(take, "names", False):
        return

    def getall(max_records: int | None = None) -> list[Any]:
        try:
            taken: list[Any] = take(max_records)
        except LapseError:
            raise
        except Exception as error:
            raise Undecodable(tp, records.next_fetch_offset, error) from error
        return taken

    getall.names = True  # type: ignore[attr-defined]
    result.getall = getall


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__
