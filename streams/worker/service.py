"""Runs a worker from start to stop, and reports how it ended."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, cast

import uvloop
from aiokafka.errors import KafkaError

from streams.core.engine import Engine
from streams.core.errors import Failed, LapseError
from streams.core.inputs import Decode
from streams.core.revisions import Rulebook
from streams.core.tables import RowCodec
from streams.host.app import App
from streams.host.clock import Clock
from streams.kafka.config import KafkaConfig
from streams.kafka.topics import require_topics
from streams.wire.writes import MakeWrites, writes
from streams.worker.first_start import require_act_from
from streams.worker.observer import Observer
from streams.worker.rules_reader import RulesReader
from streams.worker.supervisor import Supervisor

logger = logging.getLogger(__name__)

_STOP_SECONDS = 4.5
"""Time limit of a stop: then the process exits, whatever hangs. A successor redoes what is not committed."""

_LEAVE_SECONDS = 0.8
_CANCEL_SECONDS = 0.5

_SIGNALS = (signal.SIGTERM, signal.SIGINT)

Say = Callable[[str], None]
"""Shows a message about the process itself, such as why it ends."""

Beside = Callable[[Supervisor], AbstractAsyncContextManager[object]]
"""Something that runs alongside the worker, such as its web server."""


class Worker:
    """One worker: its group member, its partitions, and what runs alongside them."""

    def __init__(
        self,
        config: KafkaConfig,
        engine: Engine,
        *,
        decode: Decode,
        rows: RowCodec,
        observer: Observer,
        beside: tuple[Beside, ...] = (),
        book: Rulebook | None = None,
        make_writes: MakeWrites = writes,
    ) -> None:
        """Configure a worker. Nothing starts before `run`.

        `book` is for rules that come from their topic. `make_writes` returns what a batch writes.
        """
        self.config = config
        self._engine = engine
        self._decode = decode
        self._rows = rows
        self._observer = observer
        self._beside = beside
        self._book = book
        self._make_writes = make_writes
        self._stop = asyncio.Event()

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._stop.is_set()

    def stop(self) -> None:
        """Request a clean stop: the worker commits the batches in flight and leaves the group."""
        self._stop.set()

    async def run(self) -> None:
        """Run until `stop`. Raises `LapseError` or any other error after everything was closed."""
        app = App(self.config, Clock())
        app.failure = asyncio.get_running_loop().create_future()
        supervisor = Supervisor(
            app,
            self._engine,
            decode=self._decode,
            rows=self._rows,
            observer=self._observer,
            book=self._book,
            make_writes=self._make_writes,
        )
        async with AsyncExitStack() as stack:
            # First, so that probes are answered while the worker waits for a broker.
            for beside in self._beside:
                await stack.enter_async_context(beside(supervisor))
            if not await self._until_done(self._check(supervisor), app.failure):
                return
            if self._book is not None:
                reader = RulesReader(self.config, self._book, supervisor.on_rules)
                stack.push_async_callback(reader.stop)
                if not await self._until_done(reader.start(), app.failure):
                    return
            await stack.enter_async_context(_closing(app, supervisor))
            if await self._until_done(cast(Awaitable[None], app.start()), app.failure):
                supervisor.watch()
                if await self._until_done(cast(Awaitable[None], app.wait_until_stopped()), app.failure):
                    raise Failed(f"Faust stopped: {app.crash_reason!r}")

    async def _check(self, supervisor: Supervisor) -> None:
        found = await require_topics(self.config, holds=self._book is not None or bool(self._engine.rules.limits))
        supervisor.partition_count, supervisor.max_message_bytes = found.existing[0].partitions, found.limits
        await require_act_from(self.config, supervisor.partition_count)

    async def _until_done(self, work: Awaitable[None], failure: asyncio.Future[BaseException]) -> bool:
        """Run the work; return False if a stop was requested before it ended. Raises an error set on `failure`."""
        task = asyncio.ensure_future(work)
        stopped = asyncio.ensure_future(self._stop.wait())
        ends: set[asyncio.Future[Any]] = {task, stopped, failure}
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if failure.done():
                raise failure.result()
            if not task.done():
                return False
            task.result()
            return True
        finally:
            stopped.cancel()
            if not task.done():
                task.cancel()
                await asyncio.wait({task}, timeout=_CANCEL_SECONDS)


@asynccontextmanager
async def _closing(app: App, supervisor: Supervisor) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await supervisor.close()
        # Leaving the group waits for a response: with a hanging broker, until the request times out.
        leaving = asyncio.ensure_future(app.leave())
        done, _ = await asyncio.wait({leaving}, timeout=_LEAVE_SECONDS)
        if not done:
            leaving.cancel()
            logger.warning("could not leave the group, as the broker did not answer; it will notice by itself")


def _to_standard_error(message: str) -> None:
    sys.stderr.write(f"lapse: {message}\n")
    sys.stderr.flush()


def run_until_stopped(worker: Callable[[], Worker], say: Say = _to_standard_error) -> int:
    """Run a worker in its own event loop until SIGTERM or SIGINT; return the exit code.

    The code is 0 after a stop, 1 after a failure, 2 when settings or topics were refused. Any error is passed to `say`
    in one message. A stop that hangs is cut off after some seconds, or at once by a second signal. Both exit with 0:
    the partition's next owner ends an open transaction.
    """
    ending = threading.Timer(_STOP_SECONDS, _leave, [f"the stop took longer than {_STOP_SECONDS} s", say])
    ending.daemon = True
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        code = runner.run(_run(worker, ending, say))
    ending.cancel()
    for number, handler in before.items():
        signal.signal(number, handler)
    return code


async def _run(make: Callable[[], Worker], ending: threading.Timer, say: Say) -> int:
    loop = asyncio.get_running_loop()
    try:
        worker = make()
    except LapseError as error:
        say(str(error))
        return error.exit_code
    _spare_the_collector()

    def stop(number: int) -> None:
        logger.info("stopping on %s", signal.Signals(number).name)
        worker.stop()

    def on_signal(number: int, _: object) -> None:
        # Outside the event loop: this handler and its timer run even while a step blocks the loop.
        if ending.is_alive():
            _leave("a second signal", say)
        ending.start()
        loop.call_soon_threadsafe(stop, number)

    for number in _SIGNALS:
        signal.signal(number, on_signal)
    return await _exit_code(worker, say)


async def _exit_code(worker: Worker, say: Say) -> int:
    try:
        await worker.run()
    except Exception as error:
        if worker.stopping:
            logger.warning("while stopping: %s", error or type(error).__name__)
            return 0
        if isinstance(error, LapseError):
            say(str(error))
            return error.exit_code
        if isinstance(error, KafkaError | OSError | TimeoutError):
            say(str(error) or type(error).__name__)
            return 1
        logger.exception("the worker ends on an error of its own")
        return 1
    return 0


def _spare_the_collector() -> None:
    """Keep the cyclic garbage collector from scanning permanent objects many times a second.

    A step creates thousands of short-lived tuples and lists, none of them in a cycle; every few hundred of them would
    trigger the collector. Tables are dictionaries of bytes, which it does not traverse.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def _leave(why: str, say: Say) -> None:
    """End the process immediately, from any thread."""
    say(f"left at once: {why}")
    os._exit(0)
