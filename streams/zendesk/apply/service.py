"""`lapse apply` as a process: from start to SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable
from typing import Protocol

import msgspec
import uvloop

from streams.core.errors import LapseError, Refused
from streams.core.model import Micros
from streams.core.names import Output
from streams.core.revisions import Stops
from streams.kafka.topics import check_topics
from streams.telemetry.apply import ApplyMetrics
from streams.web.probes import Port
from streams.zendesk.apply.carry import Carrier
from streams.zendesk.apply.client import Account, Zendesk
from streams.zendesk.apply.config import ApplyConfig
from streams.zendesk.apply.gate import Gate
from streams.zendesk.apply.group import Group
from streams.zendesk.apply.pace import Pace
from streams.zendesk.apply.pause import Pause, PauseReader

logger = logging.getLogger(__name__)

Say = Callable[[str], None]

_SENDING_SECONDS = 1.5
"""How long a stop waits for updates in flight; for those without an answer, the next start reads the audits."""
_STOP_SECONDS = 4.5
"""A stop that hangs is cut off then: the next owner of a partition ends an open transaction."""


class Follower(Protocol):
    """Reads a topic to its end at `start`, and follows it until `stop`."""

    async def start(self) -> None:
        """Read to the end."""
        ...

    async def stop(self) -> None:
        """Stop following."""
        ...


class ApplyOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What `lapse apply` needs beside the connection to the brokers. Durations are in microseconds."""

    host: str
    port: int
    account: Account
    updates_per_minute: int
    max_age: Micros
    command_field: str | None = None
    stops: Callable[[Callable[[Stops], None]], Follower] | None = None
    """With `rules: topic`: makes what follows the rules topic and calls back with what is stopped."""


def run_apply(config: ApplyConfig, options: ApplyOptions, say: Say) -> int:
    """Carry commands out until SIGTERM or SIGINT; return the exit code.

    0 after a stop; 1 when brokers stay away for `broker_patience`, or Zendesk refuses every command; 2 when settings,
    port or topics will not do. The reason goes to `say`.
    """
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_apply(config, options))
    except LapseError as error:
        say(str(error))
        return error.exit_code
    return 0


async def _apply(config: ApplyConfig, options: ApplyOptions) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    process = _Process(config, options)
    async with process.probes:
        logger.info("metrics and probes on %s", process.probes.url)
        work = asyncio.ensure_future(process.run())
        stopped = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
            logger.info("stopping: updates in flight are finished first")
            loop.call_later(_STOP_SECONDS, os._exit, 0)
            await process.leave()
        finally:
            stopped.cancel()
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)


class _Process:
    """The parts of the process."""

    def __init__(self, config: ApplyConfig, options: ApplyOptions) -> None:
        self._config = config
        self._options = options
        self._gate = Gate()
        self._metrics = ApplyMetrics()
        pace = Pace(options.updates_per_minute)
        self._zendesk = Zendesk(options.account, pace, self._metrics.answered)
        self._carrier = Carrier(
            self._zendesk, pace, self._gate, max_age=options.max_age, command_field=options.command_field
        )
        self._group: Group | None = None
        self.probes = Port(
            what="server",
            host=options.host,
            port=options.port,
            settings="apply",
            exposition=self._metrics.exposition,
            not_ready=self._trouble,
            stop_seconds=0.5,
        )

    def _trouble(self) -> str | None:
        if self._group is None:
            return self._zendesk.trouble or "brokers and topics are being read"
        return self._group.trouble or (None if self._group.is_ready else "partitions are being opened")

    async def run(self) -> None:
        """Work until cancelled."""
        config, options = self._config, self._options
        limits = await limits_of(config)
        followers: list[Follower] = [PauseReader(config, self._paused)]
        if options.stops is not None:
            followers.append(options.stops(self._stopped))
        try:
            for follower in followers:
                await follower.start()
            self._gate.ready()
            async with self._zendesk:
                await self._zendesk.sign_in()
                logger.info("carrying out the commands of %s at %s", config.topic(Output.COMMANDS), options.account.url)
                self._group = Group(config, self._carrier, self._gate, self._metrics, limits)
                try:
                    await self._group.run()
                finally:
                    await self._carrier.close()
        finally:
            await asyncio.gather(*(follower.stop() for follower in followers))

    async def leave(self) -> None:
        """Send nothing more, and wait a moment for what was sent."""
        self._gate.leave()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SENDING_SECONDS):
                await self._carrier.quiet.wait()

    def _paused(self, said: Pause) -> None:
        logger.warning(
            "%s by %s: %s",
            "paused" if said.paused else "resumed",
            said.author or "somebody",
            said.reason or "no reason was given",
        )
        self._gate.pause(said.paused)

    def _stopped(self, stops: Stops) -> None:
        if stops != self._gate.stops:
            logger.warning("stopped: %s", "all" if stops.everything else ", ".join(stops.ids) or "nothing")
        self._gate.stop(stops)


async def limits_of(config: ApplyConfig) -> dict[str, int]:
    """Return the topics' `max.message.bytes`. Raises `Refused` when a topic that is needed will not do."""
    report = await check_topics(config)
    needed = [config.topic(name) for name in (Output.COMMANDS, Output.RESULTS, Output.APPLY_DEAD_LETTERS)]
    existing = {topic.name: topic for topic in report.existing}
    missing = [name for name in needed if name not in existing]
    if missing:
        raise Refused(
            f"{' and '.join(missing)} at {', '.join(config.brokers)} {'does' if len(missing) == 1 else 'do'} not exist "
            "or may not be described by this user. Make them with `lapse topics create`."
        )
    counts = {existing[name].partitions for name in needed}
    if len(counts) > 1:
        told = ", ".join(f"{name} has {existing[name].partitions}" for name in needed)
        raise Refused(f"These topics need the same number of partitions, but {told}.")
    return report.limits
