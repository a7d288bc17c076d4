"""Every answer to a fetch, empty ones too, and when it was asked for; aiokafka hands out records only."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition

from streams.core.model import Micros


class Answer(NamedTuple):
    """What one broker answered to one fetch."""

    node_id: int
    asked_at: Micros
    answered: Sequence[TopicPartition]
    """Those that the answer says something of."""
    empty: frozenset[TopicPartition]
    """Those of them that it brought no records of."""
    has_data: bool


def watch_fetches(consumer: AIOKafkaConsumer, clock: Callable[[], Micros], note: Callable[[Answer], None]) -> None:
    """Call `note` for every answer that this consumer, which must have been started, gets.

    aiokafka stamps a position with the wall clock when an answer shows it. That clock may jump, so the stamp is used
    only as a mark: it is taken away before asking, and is there again when there was an answer.
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
