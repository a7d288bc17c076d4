"""The Faust app. It hosts the group, the assignment and the agents, not Faust's producer, tables, commit or web."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import faust
from aiokafka import TopicPartition
from faust.app.base import BootStrategy
from faust.tables.manager import TableManager
from faust.types.transports import TransportT

from streams.core.model import SECOND, Micros
from streams.host.agents import declare_agents
from streams.host.clock import Clock
from streams.host.consumer import Consumer, Transport
from streams.host.inbox import Inbox
from streams.kafka.config import KafkaConfig


class _OurBootStrategy(BootStrategy):
    enable_kafka_producer = False
    enable_web = False
    enable_sensors = False


class _NoTables(TableManager):
    """Resumes reading after a rebalance at once: there are no Faust tables to wait for."""

    async def on_start(self) -> None:
        await self._update_channels()
        await self.recovery.start()


class App(faust.App):
    """The Faust app of one worker. `fail` ends the worker; consumer, agents and processors share `inboxes`."""

    BootStrategy = _OurBootStrategy
    consumer: Consumer

    def __init__(self, runtime: KafkaConfig, clock: Clock, **options: Any) -> None:
        """Build the app of one worker. Nothing connects before it is started."""
        super().__init__(
            runtime.group,
            broker=[f"kafka://{broker}" for broker in runtime.brokers],
            broker_client_id=runtime.group,
            broker_session_timeout=runtime.session_timeout / SECOND,
            broker_heartbeat_interval=runtime.heartbeat_interval / SECOND,
            broker_rebalance_timeout=runtime.rebalance_timeout / SECOND,
            broker_request_timeout=max(runtime.request_timeout, runtime.session_timeout) / SECOND,
            consumer_auto_offset_reset="earliest",
            store="memory://",
            stream_wait_empty=False,
            stream_recovery_delay=0.0,
            table_standby_replicas=0,
            topic_allow_declare=False,
            topic_disable_leader=True,
            web_enabled=False,
            TableManager=_NoTables,
            **options,
        )
        self.runtime = runtime
        self.clock: Callable[[], Micros] = clock
        self.inboxes: dict[TopicPartition, Inbox] = {}
        self.failure: asyncio.Future[BaseException] | None = None
        """Set by the runner. Receives the first error that ends the worker."""
        self.on_empty_answer: Callable[[Iterable[TopicPartition]], None] = lambda tps: None
        """Called when a fetch response had no records for these topic-partitions."""
        declare_agents(self)

    async def leave(self) -> None:
        """Stop and leave the group.

        This cancels Faust's fetcher. During a rebalance, Faust treats a cancelled fetcher as crashed: it logs a
        traceback and asks a supervisor, which does not exist here, to restart it. So the rebalance is first marked as
        finished.
        """
        self.rebalancing = False
        await self.stop()

    def fail(self, error: BaseException) -> None:
        """End the worker because of this error. Only the first call has an effect."""
        if self.failure is not None and not self.failure.done():
            self.failure.set_result(error)

    def _new_transport(self) -> TransportT:
        return Transport(self.conf.broker_consumer, self)

    def _new_producer_transport(self) -> TransportT:
        return Transport(self.conf.broker_producer, self)

    def _create_directories(self) -> None:
        """Create no directories: there is no state on disk."""
