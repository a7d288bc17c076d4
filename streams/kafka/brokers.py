"""Connections to the brokers: the arguments all clients share, and retries while a broker is unavailable."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
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
    """Yield a started consumer without a group that reads committed records only."""

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
    # A request for one topic by name would wait for a missing topic, or make a broker with auto-creation create it.
    topics = await patiently("Can't ask for the topics", config, consumer.topics)
    if name not in topics:
        raise Refused(
            f"The topic {name} at {', '.join(config.brokers)} does not exist or may not be described by this user."
        )
    await wait_for_topic(consumer, name)
    return sorted(consumer.partitions_for_topic(name) or ())
