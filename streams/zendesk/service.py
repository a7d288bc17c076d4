"""`lapse ingest` as a process: from start to SIGTERM, and the replay of saved bodies."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import uvloop

from streams.core.errors import LapseError, Refused
from streams.core.model import Micros
from streams.kafka.config import KafkaConfig
from streams.telemetry.ingest import IngestMetrics
from streams.zendesk.receiver import Receiver
from streams.zendesk.writer import Writer

logger = logging.getLogger(__name__)

Say = Callable[[str], None]


class IngestOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What `lapse ingest` needs beside the connection to the brokers. Durations are in microseconds."""

    host: str
    port: int
    secrets: tuple[bytes, ...]
    max_age: Micros
    keep_bodies: bool = False
    command_field: str | None = None


def run_ingest(config: KafkaConfig, options: IngestOptions, say: Say) -> int:
    """Receive until SIGTERM or SIGINT; return the exit code.

    0 after a stop, 1 when the brokers stay away for `broker_patience` at the start, 2 when settings, port or topics
    will not do. The reason goes to `say`.
    """
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_receive(config, options))
    except LapseError as error:
        say(str(error))
        return error.exit_code
    return 0


async def _receive(config: KafkaConfig, options: IngestOptions) -> None:
    if not options.secrets:
        raise Refused(
            "No signing secret is set. Copy it from the webhook's page in Zendesk (Reveal secret), and set it with "
            "ingest_secrets_file, LAPSE_INGEST_SECRETS or `ingest_secrets:` in lapse.yaml."
        )
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    writer = Writer(config, keep_bodies=options.keep_bodies)
    receiver = Receiver(
        writer,
        IngestMetrics(),
        host=options.host,
        port=options.port,
        secrets=options.secrets,
        max_age=options.max_age,
        command_field=options.command_field,
    )
    try:
        async with receiver:
            logger.info("webhooks on %s; metrics and probes on the same port", receiver.url)
            await _until_stopped(writer.start(), stop)
            if not stop.is_set():
                logger.info("writing to %s", ", ".join(config.inputs))
            await stop.wait()
            logger.info("stopping: requests in flight are answered first")
    finally:
        await writer.stop()


async def _until_stopped(work: Coroutine[Any, Any, None], stop: asyncio.Event) -> None:
    """Wait for the work, or until a stop is asked for."""
    task = asyncio.ensure_future(work)
    stopped = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
    finally:
        stopped.cancel()
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
