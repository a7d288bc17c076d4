"""Reaching the brokers: the arguments every client shares, and trying again while a broker is away."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.conn import create_conn
from aiokafka.errors import KafkaConnectionError, KafkaError

from streams.core.errors import Refused, Unreachable
from streams.core.model import SECOND
from streams.kafka.config import KafkaConfig
from streams.kafka.inside.metadata import wait_for_topic
from streams.kafka.inside.undecodable import name_undecodable_batches

logger = logging.getLogger(__name__)

T = TypeVar("T")

_FIRST_BACKOFF = 0.1
_LAST_BACKOFF = 2.0


def client_arguments(config: KafkaConfig) -> dict[str, Any]:
    """Return the keyword arguments that every aiokafka client takes."""
    return {
        "bootstrap_servers": list(config.brokers),
        "client_id": config.group,
        "request_timeout_ms": config.request_timeout // 1000,
        **config.security,
    }


def is_passing(error: BaseException) -> bool:
    """Whether trying again may help: the broker is away, moving, or not ready yet."""
    if isinstance(error, KafkaConnectionError | OSError | TimeoutError | asyncio.TimeoutError):
        return True
    return isinstance(error, KafkaError) and bool(error.retriable)


async def patiently(what: str, config: KafkaConfig, attempt: Callable[[], Awaitable[T]]) -> T:
    """Return what `attempt` returns, trying again while its errors may pass, at most for `config.broker_patience`.

    Raises `Unreachable` with `what` and the last error when time is over; an error that will not pass goes on at once.
    """
    deadline = time.monotonic() + config.broker_patience / SECOND
    backoff = _FIRST_BACKOFF
    while True:
        try:
            async with asyncio.timeout(max(1.0, deadline - time.monotonic())):
                return await attempt()
        except (KafkaError, OSError, TimeoutError) as error:
            if not is_passing(error):
                raise
            if time.monotonic() + backoff > deadline:
                raise Unreachable(
                    f"{what}: {await _explain(error, config)} Tried for {config.broker_patience // SECOND} s."
                ) from error
            logger.warning(
                "%s: %s; trying again for %.0f s at most",
                what,
                _shortly(error, config),
                deadline - time.monotonic(),
                extra={"limit": what},
            )
        await asyncio.sleep(backoff)
        backoff = min(backoff * 2, _LAST_BACKOFF)


def _shortly(error: BaseException, config: KafkaConfig) -> str:
    """Say what went wrong in a few words; aiokafka logs why each broker could not be reached."""
    if isinstance(error, KafkaConnectionError):
        return f"no broker of {', '.join(config.brokers)} answers"
    return str(error) or "no answer in time"


async def _explain(error: BaseException, config: KafkaConfig) -> str:
    """Say why no broker could be reached: aiokafka only logs it."""
    if not isinstance(error, KafkaConnectionError):
        return f"{error}."
    reasons = []
    for broker in config.brokers:
        host, _, port = broker.rpartition(":")
        arguments = client_arguments(config)
        del arguments["bootstrap_servers"]
        try:
            connection = await create_conn(host, int(port), **(arguments | {"request_timeout_ms": 5000}))
        except (KafkaError, OSError, TimeoutError, ValueError) as reason:
            reasons.append(f"{broker}: {reason or type(reason).__name__}")
        else:
            connection.close()
    return "no broker could be reached (" + "; ".join(reasons or [str(error)]) + ")."


@asynccontextmanager
async def admin_client(config: KafkaConfig) -> AsyncIterator[AIOKafkaAdminClient]:
    """Give a started admin client."""

    async def start() -> AIOKafkaAdminClient:
        client = AIOKafkaAdminClient(**client_arguments(config))
        try:
            await client.start()
        except BaseException:
            await client.close()
            raise
        return client

    client = await patiently("Can't connect", config, start)
    try:
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def plain_consumer(config: KafkaConfig, **arguments: Any) -> AsyncIterator[AIOKafkaConsumer]:
    """Give a started consumer outside any group, reading only what is committed."""

    async def start() -> AIOKafkaConsumer:
        consumer = AIOKafkaConsumer(
            **client_arguments(config),
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            **arguments,
        )
        try:
            await consumer.start()
        except BaseException:
            await consumer.stop()
            raise
        return consumer

    consumer = await patiently("Can't connect", config, start)
    name_undecodable_batches(consumer)
    try:
        yield consumer
    finally:
        await consumer.stop()


async def partitions_of(config: KafkaConfig, consumer: AIOKafkaConsumer, name: str) -> list[int]:
    """Return the partitions of a topic. Raises `Refused` when it does not exist."""
    # Asked for by name alone, a topic that is missing would be waited for, or made by a broker that makes topics.
    topics = await patiently("Can't ask for the topics", config, consumer.topics)
    if name not in topics:
        raise Refused(f"There is no topic {name} at {', '.join(config.brokers)}.")
    await wait_for_topic(consumer, name)
    return sorted(consumer.partitions_for_topic(name) or ())
