"""Runs a worker from start to stop, and says how it ended."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, cast

import uvloop
from aiokafka.errors import KafkaError

from streams.core.engine import Engine
from streams.core.errors import Failed, LapseError
from streams.core.inputs import DeadLetterLimitExceeded, Decode
from streams.core.model import SECOND
from streams.core.tables import RowCodec
from streams.host.app import App
from streams.host.clock import Clock
from streams.kafka.config import KafkaConfig
from streams.kafka.topics import require_topics
from streams.worker.first_start import require_act_from
from streams.worker.observer import Observer
from streams.worker.supervisor import Supervisor

logger = logging.getLogger(__name__)

_HARD_STOP_AFTER = 10.0
"""Seconds beyond `stop_grace` after which a stop that hangs is ended by force: what is not committed comes again."""

_LEAVE_SECONDS = 8.0

Beside = Callable[[Supervisor], AbstractAsyncContextManager[object]]
"""Something that runs as long as the worker does, such as its web server."""


class Worker:
    """One worker: group member, partitions, and what runs beside them."""

    def __init__(
        self,
        config: KafkaConfig,
        engine: Engine,
        *,
        decode: Decode,
        rows: RowCodec,
        observer: Observer,
        beside: tuple[Beside, ...] = (),
    ) -> None:
        """Describe a worker; `run` does everything."""
        self.config = config
        self._engine = engine
        self._decode = decode
        self._rows = rows
        self._observer = observer
        self._beside = beside
        self._stop = asyncio.Event()

    def stop(self) -> None:
        """Ask for a clean end: the steps in flight are committed, the group is left."""
        self._stop.set()

    async def run(self) -> None:
        """Work until `stop`. Raises `LapseError`, or whatever else went wrong, after everything was closed."""
        app = App(self.config, Clock())
        app.failure = asyncio.get_running_loop().create_future()
        supervisor = Supervisor(app, self._engine, decode=self._decode, rows=self._rows, observer=self._observer)
        async with AsyncExitStack() as stack:
            # First, so that probes are answered while a broker is waited for.
            for beside in self._beside:
                await stack.enter_async_context(beside(supervisor))
            if not await self._unless_stopped(self._check(supervisor)):
                return
            await stack.enter_async_context(_running(app, supervisor))
            await self._until_the_end(app)

    async def _check(self, supervisor: Supervisor) -> None:
        found = await require_topics(self.config)
        supervisor.partition_count, supervisor.max_message_bytes = found.existing[0].partitions, found.limits
        await require_act_from(self.config, supervisor.partition_count)

    async def _unless_stopped(self, work: Coroutine[None, None, None]) -> bool:
        """Do the work; return False when a stop was asked for before it ended."""
        task = asyncio.ensure_future(work)
        stopped = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if task.done():
            task.result()
            return True
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return False

    async def _until_the_end(self, app: App) -> None:
        assert app.failure is not None  # noqa: S101 set by `run`
        stopped = asyncio.ensure_future(self._stop.wait())
        crashed = asyncio.ensure_future(cast(Awaitable[None], app.wait_until_stopped()))
        ends: list[asyncio.Future[Any]] = [stopped, crashed, app.failure]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if app.failure.done():
                raise app.failure.result()
            if crashed.done() and not stopped.done():
                raise Failed(f"Faust stopped: {app.crash_reason!r}")
        finally:
            for task in (stopped, crashed):
                task.cancel()


@asynccontextmanager
async def _running(app: App, supervisor: Supervisor) -> AsyncIterator[None]:
    try:
        await app.start()
        yield
    finally:
        await supervisor.close()
        # Leaving the group takes an answer; a broker that hangs would be waited for until the request times out.
        leaving = asyncio.ensure_future(cast(Awaitable[None], app.stop()))
        done, _ = await asyncio.wait({leaving}, timeout=_LEAVE_SECONDS)
        if not done:
            leaving.cancel()
            logger.warning("left without a goodbye: the broker did not answer; the group will notice by itself")


def run_until_stopped(worker: Callable[[], Worker]) -> int:
    """Run a worker in an event loop of its own until SIGTERM or SIGINT; return the exit code.

    0 after a clean stop, 1 when something failed, 2 when settings or topics were refused. What went wrong is said on
    standard error in one message. A second signal, or a stop that hangs, ends the process at once.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(worker))


async def _run(make: Callable[[], Worker]) -> int:
    loop = asyncio.get_running_loop()
    try:
        worker = make()
    except LapseError as error:
        _say(str(error))
        return error.exit_code
    _spare_the_collector()
    hard_stop = worker.config.stop_grace / SECOND + _HARD_STOP_AFTER

    def on_signal(number: int) -> None:
        if worker._stop.is_set():
            _end_now("a second signal")
        logger.info("stopping on %s", signal.Signals(number).name)
        loop.call_later(hard_stop, _end_now, f"the stop took longer than {hard_stop:.0f} s")
        worker.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    try:
        await worker.run()
    except LapseError as error:
        _say(str(error))
        return error.exit_code
    except DeadLetterLimitExceeded as error:
        _say(str(error))
        return 1
    except (KafkaError, OSError, TimeoutError) as error:
        _say(f"{error or type(error).__name__}")
        return 1
    except Exception:
        logger.exception("the worker ends on an error of its own")
        return 1
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
    return 0


def _spare_the_collector() -> None:
    """Keep the cyclic collector from walking, many times a second, objects that never go.

    A step makes thousands of short-lived tuples and lists, none in a cycle; each few hundred of them would set the
    collector off. Tables are dictionaries of bytes, which it does not look into.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def _say(message: str) -> None:
    sys.stderr.write(f"lapse: {message}\n")
    sys.stderr.flush()


def _end_now(why: str) -> None:
    _say(f"ended at once: {why}")
    os._exit(1)
