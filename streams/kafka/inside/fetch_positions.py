"""A consumer's position in a topic-partition without waiting: aiokafka's own `position` has to be awaited."""

from __future__ import annotations

from typing import NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition


class FetchPosition(NamedTuple):
    """A position, and the ends as of the latest fetch response; None where nothing is known yet."""

    next_offset: int | None
    stable_end: int | None
    """The last stable offset."""
    end: int | None
    """The high watermark."""


def fetch_position(consumer: AIOKafkaConsumer, tp: TopicPartition) -> FetchPosition | None:
    """Return the consumer's position; None when it has no assignment. `tp` must belong to the assignment."""
    subscription = consumer._subscription.subscription
    if subscription is None or subscription.assignment is None:
        return None
    state = subscription.assignment.state_value(tp)
    if state is None:
        return None
    return FetchPosition(state.position if state.has_valid_position else None, state.lso, state.highwater)
