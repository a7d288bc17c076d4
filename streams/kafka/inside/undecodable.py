"""Record batches that can't be decoded: which, where, and what to do, instead of an error of some library."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer.fetcher import FetchResult

from streams.core.errors import LapseError, Refused


class Undecodable(Refused):
    """A batch of a log is damaged, or compressed in a way that nobody here can read. It stays so."""

    def __init__(self, tp: TopicPartition, offset: int, reason: BaseException) -> None:
        """Name the first offset that could not be read."""
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
    """Have this consumer, which must have been started, raise `Undecodable` where aiokafka raises anything else.

    aiokafka decodes when records are taken, and lets errors of its codecs through as they are. It also forgets the
    records before the bad batch, so that going on after the error would lose them.
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
