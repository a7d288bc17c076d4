"""Every fetch response, including empty ones, with the time of its request. aiokafka itself returns records only."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition

from streams.core.model import Micros


class Answer(NamedTuple):
    """One broker's response to one fetch."""

    node_id: int
    asked_at: Micros
    answered: Sequence[TopicPartition]
    """The topic-partitions that the response covers."""
    empty: frozenset[TopicPartition]
    """The covered topic-partitions without records."""
    has_data: bool


def watch_fetches(consumer: AIOKafkaConsumer, clock: Callable[[], Micros], note: Callable[[Answer], None]) -> None:
    """Call `note` for every fetch response of this consumer, which must have been started.

    aiokafka stamps a position with the wall clock when a response covers it. That clock may jump, so the stamp only
    serves as a marker: it is removed before the request, and its presence afterwards shows that there was a response.
    """
    fetcher = consumer._fetcher
    process: Callable[[Any, Any, Any], Awaitable[bool]] = fetcher._proc_fetch_request

    async def process_and_note(assignment: Any, node_id: int, request: Any) -> bool:
        asked = [TopicPartition(topic, ask[0]) for topic, asks in request.topics for ask in asks]
        for tp in asked:
            assignment.state_value(tp).timestamp = None
        asked_at = clock()
        has_data = await process(assignment, node_id, request)
        answered = [tp for tp in asked if assignment.state_value(tp).timestamp is not None]
        empty = frozenset(tp for tp in answered if tp not in fetcher._records)
        note(Answer(node_id, asked_at, answered, empty, has_data))
        return has_data

    fetcher._proc_fetch_request = process_and_note
