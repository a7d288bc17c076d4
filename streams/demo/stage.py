"""What every demo stands on: a broker, topics, free ports, and an end when a signal comes."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any, Literal

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import for_code

from streams.core.errors import LapseError
from streams.core.model import SECOND
from streams.demo.broker import TOPIC_CONFIG, EmbeddedBroker
from streams.kafka.brokers import admin_client
from streams.kafka.config import KafkaConfig
from streams.kafka.topics import wanted_topics

PARTITIONS = 4
_PATIENCE = 5 * SECOND


class DemoFailed(LapseError):
    """The demo can't continue."""


def stop_on_signals(stop: asyncio.Event) -> None:
    """Set `stop` on SIGINT, SIGTERM and SIGHUP. A second one ends the process at once."""
    loop = asyncio.get_running_loop()

    def on_signal(number: int) -> None:
        stop.set()
        loop.remove_signal_handler(number)  # a second signal ends the demo at once

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # SIGHUP: the terminal was closed
        loop.add_signal_handler(number, on_signal, number)


def broker_for(
    brokers: tuple[str, ...],
    security: Mapping[str, Any],
    stack: contextlib.AsyncExitStack,
    *,
    rules: Literal["file", "topic"] = "file",
) -> tuple[KafkaConfig, str]:
    """Start the embedded broker, or use those given, with a topic prefix of its own to avoid other data.

    Return the connection and a name for people.
    """
    if brokers:
        prefix = f"lapse-demo-{uuid.uuid4().hex[:6]}-"
        config = KafkaConfig(
            brokers=brokers, topic_prefix=prefix, security=security, broker_patience=_PATIENCE, rules=rules
        )
        return config, f"{', '.join(brokers)}, topics {prefix}*"
    broker = stack.enter_context(EmbeddedBroker())
    return KafkaConfig(brokers=(broker.address,), rules=rules), f"an embedded broker at {broker.address}"


@contextlib.asynccontextmanager
async def demo_topics(config: KafkaConfig, *, keep_all: bool) -> AsyncIterator[AIOKafkaAdminClient]:
    """Create the topics. Delete them afterwards, unless they disappear with the embedded broker."""
    async with admin_client(config) as admin:
        # Not `create_topics` of the runtime: it looks topics up first, and the embedded broker creates them on look-up.
        answer = await admin.create_topics(
            [
                NewTopic(
                    topic.name,
                    1 if topic.is_rules else PARTITIONS,
                    -1,
                    replica_assignments={},
                    topic_configs={
                        "cleanup.policy": "compact" if topic.cleanup == "compact" else "delete",
                        "max.message.bytes": str(topic.max_message_bytes),
                        **(TOPIC_CONFIG if keep_all else {}),
                    },
                )
                for topic in wanted_topics(config)
            ]
        )
        for name, code, *message in answer.topic_errors:
            if code:
                raise DemoFailed(f"can't create {name}: {(message and message[0]) or for_code(code).__name__}")
        try:
            yield admin
        finally:
            if not keep_all:
                # The broker also deletes the group once the topics of its offsets are deleted.
                await admin.delete_topics([topic.name for topic in wanted_topics(config)])


def free_port(preferred: int) -> int:
    """Return the preferred port if it is free, else any free one, on the loopback interface."""
    for port in (preferred, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # like the server: a port just closed is free
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise DemoFailed("no free port on the loopback interface for the live page")
