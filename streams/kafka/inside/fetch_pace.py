"""How long a broker holds its next response. aiokafka sets this once, at the start; here it changes at run time."""

from __future__ import annotations

from aiokafka import AIOKafkaConsumer


def hold_next_answer(consumer: AIOKafkaConsumer, *, least_bytes: int, most_ms: int) -> None:
    """Let brokers hold responses until they have `least_bytes`, or for `most_ms`, from the next fetch on."""
    fetcher = consumer._fetcher
    fetcher._fetch_min_bytes = least_bytes
    fetcher._fetch_max_wait_ms = most_ms
