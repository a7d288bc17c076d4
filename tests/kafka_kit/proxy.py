"""A byte-level proxy between Kafka's clients and a broker: journals every request, and breaks the ones it is told to.

The broker is started with `proxied=1` and advertises the proxy's port to everyone who connects through the proxy, so
no frame is rewritten: what passes is what the client and the broker said.

    with Broker(proxied=1) as broker:
        async with Proxy(broker) as proxy:
            injection = proxy.inject(Match(Api.END_TXN, transactional_id="t"), CutAfter())
            ...  # a client of proxy.bootstrap commits
            assert injection.hits

All of it runs in the event loop that entered it. A fault with a moment takes seconds, or a function whose awaitable
ends when it is time: `Hold(lambda: proxy.next(Match(Api.PRODUCE), "answered"))`.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from tests.kafka_kit.broker import Broker
from tests.kafka_kit.proxy_frames import TRANSACTIONAL, Api, Request, read_errors, read_header, read_request

__all__ = [
    "TRANSACTIONAL",
    "Api",
    "CutAfter",
    "CutBefore",
    "Delay",
    "Drop",
    "Duplicate",
    "Exchange",
    "Fault",
    "Hold",
    "Injection",
    "Match",
    "Proxy",
    "Swallow",
]

_BUFFER = 1 << 20
_CONNECT_SECONDS = 5.0
_JOURNAL = 200_000

Point = Literal["arrived", "forwarded", "answered", "delivered"]
"""Where an exchange is: at the proxy, sent to the broker, answered by the broker, the answer sent to the client."""

Until = float | Callable[[], Awaitable[object]]
"""Seconds, or a function whose awaitable ends when it is time."""


@dataclass(eq=False)
class Exchange:
    """One request and what became of it. Times are seconds since the proxy started."""

    number: int
    connection: int
    request: Request
    arrived: float
    forwarded: float | None = None
    answered: float | None = None
    delivered: float | None = None
    errors: tuple[int, ...] = ()
    fault: str = ""
    injected: Fault | None = field(default=None, repr=False)
    frame: bytes = field(default=b"", repr=False)
    """The request's bytes, kept until they are sent."""

    def __str__(self) -> str:
        """Return one line of the journal."""
        request = self.request
        times = " ".join(
            f"{name} {at:.4f}" if at is not None else f"{name} -"
            for name, at in (("forwarded", self.forwarded), ("answered", self.answered), ("delivered", self.delivered))
        )
        said = {
            "txn": request.transactional_id,
            "group": request.group,
            "pid": request.producer_id,
            "epoch": request.epoch,
            "committed": request.committed,
            "records": request.records or None,
            "offsets": sorted(request.offsets.values()) or None,
            "errors": self.errors or None,
            "fault": self.fault or None,
        }
        told = " ".join(f"{name}={value}" for name, value in said.items() if value is not None)
        return (
            f"{self.arrived:10.4f} #{self.number} c{self.connection} {request.name} v{request.version} {told} | {times}"
        )


class Match:
    """Which exchanges are meant. What is not given does not matter; `where` is any further condition."""

    def __init__(
        self,
        *apis: Api,
        transactional_id: str | None = None,
        group: str | None = None,
        client_id: str | None = None,
        topic: str | None = None,
        committed: bool | None = None,
        where: Callable[[Exchange], bool] | None = None,
    ) -> None:
        """`committed` speaks of EndTxn; `topic` is one that the request names."""
        self._apis = frozenset(apis)
        self._wanted = {
            name: value
            for name, value in (
                ("transactional_id", transactional_id),
                ("group", group),
                ("client_id", client_id),
                ("committed", committed),
            )
            if value is not None
        }
        self._topic, self._where = topic, where

    def __call__(self, exchange: Exchange) -> bool:
        """Whether the exchange is meant."""
        request = exchange.request
        return (
            (not self._apis or request.api in self._apis)
            and all(getattr(request, name) == value for name, value in self._wanted.items())
            and (self._topic is None or self._topic in request.topics)
            and (self._where is None or self._where(exchange))
        )


class Fault:
    """What is done to an exchange: the two hooks; as they stand here, nothing."""

    async def on_request(self, link: _Link, exchange: Exchange) -> None:
        """Take the request; later ones of the same connection wait meanwhile, as they would in a network."""
        await link.forward(exchange)

    async def on_answer(self, link: _Link, exchange: Exchange, frame: bytes) -> None:
        """Take the broker's answer; later ones of the same connection wait meanwhile."""
        link.deliver(exchange, frame)

    def __str__(self) -> str:
        """Return its name in the journal."""
        return type(self).__name__


@dataclass
class Delay(Fault):
    """Let the request (or, with `answer`, its answer) through later, `at_most` seconds later in any case."""

    until: Until = 0.5
    at_most: float = 30.0
    answer: bool = False

    async def on_request(self, link: _Link, exchange: Exchange) -> None:
        if not self.answer:
            await _wait(self.until, self.at_most)
        await link.forward(exchange)

    async def on_answer(self, link: _Link, exchange: Exchange, frame: bytes) -> None:
        if self.answer:
            await _wait(self.until, self.at_most)
        link.deliver(exchange, frame)

    __str__ = Fault.__str__


class CutBefore(Fault):
    """Close the client's connection; the broker never sees the request."""

    async def on_request(self, link: _Link, exchange: Exchange) -> None:
        link.cut()


class CutAfter(Fault):
    """Close the client's connection once the broker has answered; the client never sees the answer."""

    async def on_answer(self, link: _Link, exchange: Exchange, frame: bytes) -> None:
        link.cut()


@dataclass
class Swallow(Fault):
    """Let the request through and drop its answer and all that follow on the connection, which stays open.

    The client's own time-out ends it, or the proxy after `cut_after` seconds.
    """

    cut_after: float | None = None

    async def on_answer(self, link: _Link, exchange: Exchange, frame: bytes) -> None:
        link.mute()
        if self.cut_after is not None:
            link.later(self.cut_after, link.cut)

    __str__ = Fault.__str__


class Drop(Fault):
    """Let neither this request nor a later one of the connection through; the connection stays open."""

    async def on_request(self, link: _Link, exchange: Exchange) -> None:
        await asyncio.Event().wait()


@dataclass
class Hold(Fault):
    """Close the client's connection, keep the request, and let the broker have it later on the connection that it was
    sent on: what happens to bytes that a network delivers after the client has given up.

    `at_most` bounds the wait. With `cut_after` the client waits that many seconds before its connection breaks.
    """

    until: Until = 0.1
    at_most: float = 30.0
    cut_after: float = 0.0

    async def on_request(self, link: _Link, exchange: Exchange) -> None:
        if self.cut_after:
            await asyncio.sleep(self.cut_after)
        link.leave(exchange, lambda: _wait(self.until, self.at_most))

    __str__ = Fault.__str__


@dataclass
class Duplicate(Fault):
    """Let the request through, and the same bytes once more on another connection: at once, or `until` then."""

    until: Until = 0.0
    at_most: float = 30.0

    async def on_request(self, link: _Link, exchange: Exchange) -> None:
        link.repeat(exchange, lambda: _wait(self.until, self.at_most))
        await link.forward(exchange)

    __str__ = Fault.__str__


async def _wait(until: Until, at_most: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(at_most):
            await (asyncio.sleep(until) if isinstance(until, int | float) else until())


@dataclass(eq=False)
class Injection:
    """A fault that waits for what it is meant for. `hits` are the exchanges that it was applied to."""

    match: Match
    fault: Fault
    times: int
    skip: int
    hits: list[Exchange] = field(default_factory=list)

    @property
    def done(self) -> bool:
        """Whether it was applied as often as it was asked for."""
        return self.times == 0

    def stop(self) -> None:
        """Apply it no more."""
        self.times = 0


class Proxy:
    """Listens where the broker's proxied listener number `listener` says that it is."""

    def __init__(self, broker: Broker, listener: int = 0) -> None:
        self._broker, self._listener = broker, listener
        self._server: asyncio.Server | None = None
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[object]] = set()
        self._injections: list[Injection] = []
        self._watchers: list[tuple[Point, Callable[[Exchange], bool], asyncio.Future[Exchange]]] = []
        self.began = time.monotonic()
        """When it was made, by `time.monotonic`."""
        self._number = 0
        self.journal: deque[Exchange] = deque(maxlen=_JOURNAL)
        """The latest exchanges, in the order in which they arrived."""
        self.requests: Counter[str] = Counter()
        """How many requests arrived, by name."""
        self.connections = 0
        """How many connections clients have opened, those included that found no broker."""
        self.unread: Counter[str] = Counter()
        """Requests and answers whose bytes could not be understood; they passed all the same."""

    @property
    def bootstrap(self) -> str:
        """`host:port` for clients that are to go through the proxy."""
        return f"127.0.0.1:{self._broker.proxied[self._listener].advertised}"

    @property
    def now(self) -> float:
        """Seconds since the proxy started, the time of the journal."""
        return time.monotonic() - self.began

    async def __aenter__(self) -> Self:
        await self.come_back()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await self.go_away()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- what tests do

    async def go_away(self) -> None:
        """Close every connection and refuse new ones, as the port of a broker that does not run does."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for link in list(self._links):
            link.close()

    async def come_back(self) -> None:
        """Listen, as at the start."""
        ports = self._broker.proxied[self._listener]
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", ports.advertised, limit=_BUFFER)

    def inject(self, match: Match, fault: Fault, *, times: int = 1, skip: int = 0) -> Injection:
        """Apply `fault` to the next `times` requests that match, after `skip` that do; the oldest injection goes first.

        A request gets one fault at most.
        """
        injection = Injection(match, fault, times, skip)
        self.share(injection)
        return injection

    def share(self, injection: Injection) -> None:
        """Apply another proxy's injection here too, as often as it is left to be applied in all."""
        self._injections.append(injection)

    def next(self, match: Callable[[Exchange], bool], point: Point = "answered") -> asyncio.Future[Exchange]:
        """Return a future of the next exchange that matches and gets to `point`."""
        future: asyncio.Future[Exchange] = asyncio.get_running_loop().create_future()
        self._watchers.append((point, match, future))
        return future

    def cut_all(self) -> None:
        """Close every client's connection."""
        for link in list(self._links):
            link.cut()

    def find(self, match: Callable[[Exchange], bool], since: float = 0.0) -> list[Exchange]:
        """Return the exchanges that match and arrived at `since` or later."""
        return [exchange for exchange in self.journal if exchange.arrived >= since and match(exchange)]

    def write_journal(self, path: Path, apis: Iterable[Api] = TRANSACTIONAL) -> None:
        """Write the exchanges of `apis`, a line each."""
        chosen = set(apis)
        path.write_text("".join(f"{each}\n" for each in self.journal if each.request.api in chosen))

    # --- what links tell

    def arrived(self, link: _Link, frame: bytes) -> Exchange:
        """Note a request, and what is to be done to it."""
        try:
            request = read_request(frame)
        except ValueError as error:
            self.unread[str(error)] += 1
            request = read_header(frame)
        self._number += 1
        exchange = Exchange(self._number, link.number, request, self.now, frame=frame)
        self.journal.append(exchange)
        self.requests[request.name] += 1
        self._inject_into(exchange)
        self.notify(exchange, "arrived")
        return exchange

    def copied(self, original: Exchange) -> Exchange:
        """Note a second copy of a request."""
        self._number += 1
        copy = Exchange(self._number, original.connection, original.request, self.now, frame=original.frame)
        copy.fault = f"copy of #{original.number}"
        self.journal.append(copy)
        return copy

    def errors(self, exchange: Exchange, frame: bytes) -> tuple[int, ...]:
        """Return the error codes of an answer; one that can't be understood is noted in `unread`."""
        try:
            return read_errors(exchange.request, frame)
        except ValueError as error:
            self.unread[str(error)] += 1
            return ()

    def notify(self, exchange: Exchange, point: Point) -> None:
        """Wake those who wait for this."""
        if not self._watchers:
            return
        due = [each for each in self._watchers if each[0] == point and not each[2].done() and each[1](exchange)]
        for _, _, future in due:
            future.set_result(exchange)
        self._watchers = [each for each in self._watchers if not each[2].done()]

    def spawn(self, work: Coroutine[object, object, None]) -> None:
        """Run something that may outlive its connection, but not the proxy."""
        self._keep(asyncio.create_task(work))

    def _keep(self, task: asyncio.Task[object]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection to the broker."""
        async with asyncio.timeout(_CONNECT_SECONDS):
            return await asyncio.open_connection(
                "127.0.0.1", self._broker.proxied[self._listener].listens, limit=_BUFFER
            )

    def _inject_into(self, exchange: Exchange) -> None:
        for injection in self._injections:
            if injection.done or not injection.match(exchange):
                continue
            if injection.skip:
                injection.skip -= 1
                continue
            injection.times -= 1
            injection.hits.append(exchange)
            exchange.injected, exchange.fault = injection.fault, str(injection.fault)
            break
        self._injections = [each for each in self._injections if not each.done]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if (task := asyncio.current_task()) is not None:
            self._keep(task)
        link = _Link(self, self.connections, reader, writer)
        self._links.add(link)
        try:
            await link.run()
        finally:
            self._links.discard(link)


class _Link:
    """One client's connection and the broker's end of it."""

    def __init__(
        self, proxy: Proxy, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter | None
    ) -> None:
        self.number = number
        self._proxy, self._reader, self._writer = proxy, reader, writer
        self._upstream: asyncio.StreamWriter | None = None
        self._pending: deque[Exchange] = deque()
        self._muted = False
        self._left = False  # the client is gone; the broker's end waits for a request that comes late

    async def run(self) -> None:
        """Carry requests and answers until one side is gone."""
        try:
            answers, self._upstream = await self._proxy.dial()
        except (OSError, TimeoutError):
            self.close()
            return
        self._proxy.spawn(self._carry_answers(answers))
        try:
            while self._writer is not None:
                exchange = self._proxy.arrived(self, await _read_frame(self._reader))
                if exchange.injected is None:
                    await self.forward(exchange)
                else:
                    await exchange.injected.on_request(self, exchange)
        except (OSError, EOFError, asyncio.CancelledError):
            pass  # a side is gone, or the proxy is closed
        finally:
            self.cut()

    async def _carry_answers(self, answers: asyncio.StreamReader) -> None:
        try:
            while True:
                frame = await _read_frame(answers)
                exchange = self._pending.popleft()
                exchange.answered = self._proxy.now
                exchange.errors = self._proxy.errors(exchange, frame)
                self._proxy.notify(exchange, "answered")
                if exchange.injected is None:
                    self.deliver(exchange, frame)
                else:
                    await exchange.injected.on_answer(self, exchange, frame)
        except (OSError, EOFError):
            pass
        finally:
            self.close()

    async def forward(self, exchange: Exchange) -> None:
        """Send the request to the broker; without effect when the broker's end is gone."""
        if self._upstream is None:
            return
        if not exchange.request.answerless:
            self._pending.append(exchange)
        frame, exchange.frame = exchange.frame, b""
        self._upstream.write(struct.pack(">i", len(frame)) + frame)
        exchange.forwarded = self._proxy.now
        self._proxy.notify(exchange, "forwarded")
        await self._upstream.drain()

    def deliver(self, exchange: Exchange, frame: bytes) -> None:
        """Send an answer to the client, if it is still there to be told."""
        if self._writer is None or self._muted:
            return
        # Without waiting for the client: one that is frozen must not keep what others do from the journal.
        self._writer.write(struct.pack(">i", len(frame)) + frame)
        exchange.delivered = self._proxy.now
        self._proxy.notify(exchange, "delivered")

    def mute(self) -> None:
        """Tell the client nothing any more."""
        self._muted = True

    def cut(self) -> None:
        """Close the client's connection, and the broker's end unless a late request waits for it."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()
        if not self._left:
            self.close()

    def close(self) -> None:
        """Close both ends."""
        self._left = False
        for writer in (self._writer, self._upstream):
            if writer is not None:
                writer.close()
        self._writer = self._upstream = None

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        """Do something after a while."""
        asyncio.get_running_loop().call_later(seconds, act)

    def leave(self, exchange: Exchange, wait: Callable[[], Awaitable[None]]) -> None:
        """Cut the client off, and forward the request when `wait` is over."""
        self._left = True
        self.cut()

        async def deliver_late() -> None:
            await wait()
            with contextlib.suppress(OSError):
                await self.forward(exchange)

        self._proxy.spawn(deliver_late())

    def repeat(self, exchange: Exchange, wait: Callable[[], Awaitable[None]]) -> None:
        """Send a copy of the request on a connection of its own when `wait` is over."""
        copy = self._proxy.copied(exchange)

        async def send() -> None:
            await wait()
            with contextlib.suppress(OSError, EOFError, TimeoutError):
                answers, upstream = await self._proxy.dial()
                upstream.write(struct.pack(">i", len(copy.frame)) + copy.frame)
                copy.forwarded, copy.frame = self._proxy.now, b""
                frame = await _read_frame(answers)
                copy.answered, copy.errors = self._proxy.now, self._proxy.errors(copy, frame)
                self._proxy.notify(copy, "answered")
                upstream.close()

        self._proxy.spawn(send())


async def _read_frame(reader: asyncio.StreamReader) -> bytes:
    (size,) = struct.unpack(">i", await reader.readexactly(4))
    return await reader.readexactly(size)
