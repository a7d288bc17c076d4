"""The demo with Zendesk: customers leave, and tickets are solved, through every part of Lapse and back.

```text
 stand-in for Zendesk ── webhooks ──▶ lapse ingest ──▶ topics ──▶ lapse run ──▶ commands ──▶ lapse apply
          ▲                                                                                       │
          └──────────────────────────────── ticket API ───────────────────────────────────────────┘
```

Worker, ingest and apply are processes of their own, as in production. The stand-in is inside the demo's process.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from aiokafka.errors import KafkaError
from rich.console import Console

from streams.core.errors import LapseError
from streams.demo.account import COMMAND_FIELD, Account
from streams.demo.customers import Happening, plan
from streams.demo.demo import REASON, Options
from streams.demo.loop_screen import Figures, LoopScreen, summary
from streams.demo.seen import Seen, read_metrics
from streams.demo.stage import DemoFailed, broker_for, demo_topics, free_port, stop_on_signals
from streams.demo.worker import Worker, WorkerFailed, until_ready
from streams.kafka.config import KafkaConfig
from streams.rules.triggers import load_triggers
from streams.testing.zendesk.hooks import Webhooks
from streams.testing.zendesk.limits import Limits
from streams.testing.zendesk.server import CLIENT, ZendeskServer

TRIGGERS = Path(__file__).with_name("zendesk.yaml")
LIMITS = Limits(requests_per_minute=2_500, updates_per_minute=300)
"""Those of an account with the add-on for high volume."""
RECORDS_A_CUSTOMER = 30.0
"""`--rate` is in records a second; so many of them stand for one customer here."""

_SECRET = "a-secret-for-the-demo"  # noqa: S105 - of webhooks on the loopback interface
_REFRESH = 0.25
_SETTLE = 30.0


def run_loop(options: Options, console: Console) -> None:
    """Run until the time is over or Ctrl-C is pressed, then print a summary. Raises DemoFailed."""
    file = load_triggers(options.triggers)
    if file.errors or file.ruleset is None:
        raise DemoFailed("\n  ".join(["these triggers can't be used:", *map(str, file.errors)]))
    waits = len({trigger.wait for trigger in file.ruleset.triggers if trigger.active})
    try:
        asyncio.run(_run(options, waits, console))
    except LapseError as error:
        raise DemoFailed(str(error)) from error
    except KafkaError as error:
        raise DemoFailed(f"the broker refused: {error}") from error


async def _run(options: Options, waits: int, console: Console) -> None:
    stop = asyncio.Event()
    stop_on_signals(stop)
    async with contextlib.AsyncExitStack() as stack:
        config, broker_name = broker_for(options.brokers, options.security, stack)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lapse-demo-")))
        await stack.enter_async_context(demo_topics(config, keep_all=not options.brokers))
        screen = LoopScreen(console, f"Lapse demo with Zendesk on {broker_name}")
        stack.callback(screen.close)
        server = await stack.enter_async_context(ZendeskServer(limits=LIMITS))
        ports = _Ports(free_port(6066), free_port(6067), free_port(6068))
        hooks = await stack.enter_async_context(Webhooks(f"http://127.0.0.1:{ports.ingest}/zendesk", _SECRET))
        loop = _Loop(options, config, server, hooks, waits=waits, ports=ports, screen=screen, stop=stop)
        await loop.run(folder)
    console.print(summary(loop.figures()))


class _Ports(msgspec.Struct, frozen=True):
    worker: int
    ingest: int
    apply: int

    @property
    def pages(self) -> tuple[str, ...]:
        return tuple(f"http://127.0.0.1:{port}/" for port in (self.worker, self.ingest, self.apply))


class _Loop:
    """The processes and tasks that run while the demo is shown."""

    def __init__(
        self,
        options: Options,
        config: KafkaConfig,
        server: ZendeskServer,
        hooks: Webhooks,
        *,
        waits: int,
        ports: _Ports,
        screen: LoopScreen,
        stop: asyncio.Event,
    ) -> None:
        self._options = options
        self._config = config
        self._server = server
        self._hooks = hooks
        self._waits = waits
        self._ports = ports
        self._screen = screen
        self._stop = stop
        self._account = Account(server, hooks)
        self._seen = Seen()
        self._started = time.time()
        self._ended: float | None = None

    async def run(self, folder: Path) -> None:
        """Run until stopped or the time is over, wait until every command has come back, and end the processes."""
        processes = [await Worker.start(folder, settings, verb) for verb, settings in self._settings().items()]
        try:
            try:
                async with asyncio.TaskGroup() as tasks:
                    background = [tasks.create_task(process.ended()) for process in processes]
                    if await self._until_ready():
                        self._started = time.time()
                        background += [tasks.create_task(self._refresh()), tasks.create_task(self._measure())]
                        await self._play()
                        await self._settle()
                    for task in background:
                        task.cancel()
            except* WorkerFailed as group:
                raise group.exceptions[0] from None
            self._ended = time.time()
            for process in reversed(processes):
                await process.stop()
        finally:
            for process in processes:
                process.kill()

    def figures(self) -> Figures:
        """Return the figures of this moment, or of the end."""
        return Figures(
            running=(self._ended or time.time()) - self._started,
            statuses=self._account.statuses,
            solvers=self._account.solvers,
            left=self._account.left,
            back=self._account.back,
            webhooks=self._hooks.delivered,
            requests=len(self._server.requests),
            lapses=self._seen.lapses,
            commands=self._seen.commands,
            results=self._seen.results,
            known=self._seen.known,
            delay=self._account.delay(),
        )

    def _settings(self) -> dict[str, dict[str, Any]]:
        """Return the settings of each process, by its verb."""
        common = {
            **self._options.settings,
            "brokers": ",".join(self._config.brokers),
            "topic_prefix": self._config.topic_prefix,
            "zendesk_command_field": str(COMMAND_FIELD),
            "log_format": "text",
        }
        return {
            "ingest": {**common, "ingest_port": self._ports.ingest, "ingest_secrets": _SECRET},
            "run": {
                **common,
                "triggers": str(self._options.triggers.resolve()),
                "act_from": "beginning",
                "abandonment_reasons": [REASON],
                "web_port": self._ports.worker,
            },
            "apply": {
                **common,
                "apply_port": self._ports.apply,
                "zendesk_url": self._server.url,
                "zendesk_client_id": CLIENT.client_id,
                "zendesk_client_secret": CLIENT.secret,
                "zendesk_updates_per_minute": LIMITS.updates_per_minute,
            },
        }

    async def _until_ready(self) -> bool:
        """Wait for the processes; return whether they are ready, and not stopped before."""
        self._screen.note("lapse ingest, lapse run and lapse apply start")
        async with asyncio.TaskGroup() as tasks:
            ready = [tasks.create_task(until_ready(page)) for page in self._ports.pages]
            stopped = tasks.create_task(self._stop.wait())
            while not stopped.done() and not all(task.done() for task in ready):
                running = {stopped, *(task for task in ready if not task.done())}
                await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in (*ready, stopped):
                task.cancel()
        return not self._stop.is_set()

    async def _play(self) -> None:
        """Let customers and agents act until the time is over."""
        self._screen.note(f"live page of Lapse: {self._ports.pages[0]}  tickets: {self._server.url}/")
        began = time.monotonic()
        rate = self._options.rate / RECORDS_A_CUSTOMER
        for happening in self._plan(rate):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, began + happening.at - time.monotonic())):
                    await self._stop.wait()
            if self._stop.is_set():
                return
            self._account.play(happening)

    def _plan(self, customers_per_second: float) -> Iterator[Happening]:
        return plan(self._options.seed, customers_per_second, self._options.seconds)

    async def _settle(self) -> None:
        """Wait, up to a limit, until the tickets of all who left are solved, and every command has come back."""
        self._screen.note("nobody else comes; what is under way is finished")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SETTLE):
                await self._account.all_solved()
                await self._hooks.sent()
                while True:
                    self._seen = await self._read()
                    if self._seen.has_settled(self._account.left, self._waits):
                        break
                    await asyncio.sleep(_REFRESH)
        self._show()

    async def _refresh(self) -> None:
        while True:
            self._show()
            await asyncio.sleep(_REFRESH)

    def _show(self) -> None:
        for line in self._account.take_lines():
            self._screen.tell(line)
        self._screen.refresh(self.figures())

    async def _measure(self) -> None:
        while True:
            self._seen = await self._read()
            await asyncio.sleep(1)

    async def _read(self) -> Seen:
        worker, _, apply = self._ports.pages
        try:
            return await asyncio.to_thread(read_metrics, worker, apply)
        except OSError:
            return self._seen
