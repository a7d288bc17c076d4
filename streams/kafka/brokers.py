"""Connections to the brokers: the arguments all clients share, and retries while a broker is unavailable."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    InvalidSessionTimeoutError,
    KafkaConnectionError,
    KafkaError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)

from streams.core.errors import Refused, Unreachable
from streams.core.model import SECOND
from streams.kafka.config import KafkaConfig
from streams.kafka.diagnosis import diagnose
from streams.kafka.inside.metadata import wait_for_topic
from streams.kafka.inside.undecodable import name_undecodable_batches

logger = logging.getLogger(__name__)

T = TypeVar("T")

_FIRST_BACKOFF = 0.1
_LAST_BACKOFF = 2.0
_RETRY_BACKOFF_MS = 250
"""Pause of aiokafka's own retries. An installation has a client for every partition, and an outage meets all of them:
with the default of 100 ms, each worker would open some sixty connections a second."""
_LOOK_AGAIN_SECONDS = 30.0
"""How often the cause is diagnosed while brokers are unavailable."""


def client_arguments(config: KafkaConfig) -> dict[str, Any]:
    """Return the keyword arguments that every aiokafka client takes."""
    return {
        "bootstrap_servers": list(config.brokers),
        "client_id": config.group,
        "request_timeout_ms": config.request_timeout // 1000,
        "retry_backoff_ms": _RETRY_BACKOFF_MS,
        **config.security,
    }


def is_passing(error: BaseException) -> bool:
    """Whether a retry may help: the broker is unavailable, moving, or not ready yet."""
    if isinstance(error, KafkaConnectionError | OSError | TimeoutError | asyncio.TimeoutError):
        return True
    return isinstance(error, KafkaError) and bool(error.retriable)


async def patiently(what: str, config: KafkaConfig, attempt: Callable[[], Awaitable[T]]) -> T:
    """Return what `attempt` returns. Transient errors are retried for at most `config.broker_patience`.

    Raises `Unreachable` with `what` and the reason when the time is over. Raises `Refused` at once when no broker can
    be used with these settings or a permission is missing. Any other permanent error is raised unchanged at once.
    """
    deadline = time.monotonic() + config.broker_patience / SECOND
    backoff = _FIRST_BACKOFF
    looked_at = -math.inf
    reason = ""
    while True:
        try:
            async with asyncio.timeout(max(1.0, deadline - time.monotonic())):
                return await attempt()
        except (KafkaError, OSError, TimeoutError) as error:
            if not is_passing(error):
                raise explained(what, config, error) from error
            is_last = time.monotonic() + backoff > deadline
            if is_last or time.monotonic() - looked_at > _LOOK_AGAIN_SECONDS:
                looked_at = time.monotonic()
                reason = await _reason(what, error, config)
            if is_last:
                raise Unreachable(f"{what}: {reason} Tried for {config.broker_patience // SECOND} s.") from error
            logger.warning(
                "%s: %s Trying again for %.0f s at most.",
                what,
                reason,
                deadline - time.monotonic(),
                extra={"limit": what},
            )
        await asyncio.sleep(backoff)
        backoff = min(backoff * 2, _LAST_BACKOFF)


async def _reason(what: str, error: BaseException, config: KafkaConfig) -> str:
    """Return why no broker can be used: aiokafka only logs it. Raises `Refused` when waiting does not fix the cause."""
    said = str(error).removesuffix(".") or "no answer in time"
    if not isinstance(error, KafkaConnectionError | OSError | TimeoutError):
        return f"{said}."
    found = await diagnose(config.brokers, config.security)
    if not found:
        return f"{said}, but {' and '.join(config.brokers)} can be reached now."
    reasons = " ".join(f"{broker}: {finding.text}" for broker, finding in found.items())
    if len(found) == len(config.brokers) and not any(finding.passing for finding in found.values()):
        raise Refused(f"{what}: {reasons}") from error
    return reasons


def explained(what: str, config: KafkaConfig, error: BaseException) -> BaseException:
    """Return `Refused` for an error that a missing permission or a setting explains, any other error unchanged."""
    lacking = _LACKING.get(type(error))
    if lacking is not None:
        user = config.security.get("sasl_plain_username")
        who = "this client" if user is None else f"user {user}"
        return Refused(
            f"{what}: {who} has no right to {lacking.format(group=config.group)} ({error}). The rights that are needed "
            "are listed in docs/operations.md."
        )
    if isinstance(error, InvalidSessionTimeoutError):
        return Refused(
            f"{what}: the brokers do not accept session_timeout={config.session_timeout / SECOND:g}s. It must lie "
            "between their group.min.session.timeout.ms and group.max.session.timeout.ms."
        )
    return error


_LACKING = {
    TopicAuthorizationFailedError: "a topic",
    GroupAuthorizationFailedError: "the group {group}",
    ClusterAuthorizationFailedError: "this operation on the cluster",
    TransactionalIdAuthorizationFailed: "the transactional ids {group}-*",
}


@asynccontextmanager
async def admin_client(config: KafkaConfig) -> AsyncIterator[AIOKafkaAdminClient]:
    """Yield a started admin client."""

    client = await _started(
        "Can't connect",
        config,
        lambda: AIOKafkaAdminClient(**client_arguments(config)),
        AIOKafkaAdminClient.start,
        AIOKafkaAdminClient.close,
    )
    try:
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def bare_client(config: KafkaConfig) -> AsyncIterator[AIOKafkaClient]:
    """Yield a connected client for requests that aiokafka's other clients don't make."""
    client = await _started(
        "Can't connect",
        config,
        lambda: AIOKafkaClient(**client_arguments(config)),
        AIOKafkaClient.bootstrap,
        AIOKafkaClient.close,
    )
    try:
        yield client
    finally:
        await client.close()


async def started_producer(config: KafkaConfig, what: str = "Can't connect", **arguments: Any) -> AIOKafkaProducer:
    """Return a started producer. The caller stops it. `what` begins the message when it can't be started.

    The arguments are those of `AIOKafkaProducer`, besides those that every client takes and the compression.
    """
    return await _started(
        what,
        config,
        lambda: AIOKafkaProducer(**client_arguments(config), compression_type=config.compression_type, **arguments),
        AIOKafkaProducer.start,
        AIOKafkaProducer.stop,
    )


@asynccontextmanager
async def plain_consumer(config: KafkaConfig, **arguments: Any) -> AsyncIterator[AIOKafkaConsumer]:
    """Yield a started consumer without a group that reads committed records only."""

    consumer = await _started(
        "Can't connect",
        config,
        lambda: AIOKafkaConsumer(
            **client_arguments(config),
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            **arguments,
        ),
        AIOKafkaConsumer.start,
        AIOKafkaConsumer.stop,
    )
    name_undecodable_batches(consumer)
    try:
        yield consumer
    finally:
        await consumer.stop()


async def _started(
    what: str,
    config: KafkaConfig,
    make: Callable[[], T],
    start: Callable[[T], Awaitable[None]],
    close: Callable[[T], Awaitable[None]],
) -> T:
    """Make and start a client. One that did not start is closed, and the next attempt makes another."""

    async def attempt() -> T:
        client = make()
        try:
            await start(client)
        except BaseException:
            await close(client)
            raise
        return client

    return await patiently(what, config, attempt)


async def partitions_of(config: KafkaConfig, consumer: AIOKafkaConsumer, name: str) -> list[int]:
    """Return the partitions of a topic. Raises `Refused` when it does not exist."""
    # A request for one topic by name would wait for a missing topic, or make a broker with auto-creation create it.
    topics = await patiently("Can't ask for the topics", config, consumer.topics)
    if name not in topics:
        raise Refused(
            f"The topic {name} at {', '.join(config.brokers)} does not exist or may not be described by this user."
        )
    await wait_for_topic(consumer, name)
    return sorted(consumer.partitions_for_topic(name) or ())
