"""Strangers can't use up connections, memory or time of a process that listens."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from streams.web import access
from streams.web.limits import CONNECTIONS, HEAD_SECONDS, Site, runner_of, within

PATIENCE = 60.0
GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def _fine(_: web.Request) -> web.Response:
    return web.Response(text="fine\n")


async def _never(_: web.Request) -> web.Response:
    await asyncio.Event().wait()
    raise AssertionError("nobody sets the event")


@contextlib.asynccontextmanager
async def serving(*, connections: int = CONNECTIONS, head_seconds: float = HEAD_SECONDS) -> AsyncIterator[int]:
    """Serve with limits on a free port, and return the port."""
    app = web.Application(middlewares=[within(0.05)])
    app.add_routes([web.get("/healthz", _fine), web.get("/never", _never), web.post("/healthz", _fine)])
    runner = runner_of(app, stop_seconds=0.1, head_seconds=head_seconds)
    await runner.setup()
    try:
        await Site(runner, "127.0.0.1", 0, connections).start()
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


class Client:
    """One connection, spoken to in bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connected(cls, port: int) -> Client:
        return cls(*await asyncio.wait_for(asyncio.open_connection("127.0.0.1", port), PATIENCE))

    async def asks(self, request: bytes = GET) -> str:
        """Send a request and return the status line of the answer, which is read to the end of its body."""
        self.writer.write(request)
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), PATIENCE)
        lines = head.decode().splitlines()
        length = next(int(line.split(":")[1]) for line in lines if line.lower().startswith("content-length:"))
        await asyncio.wait_for(self.reader.readexactly(length), PATIENCE)
        return lines[0]

    async def reads_to_the_end(self) -> bytes:
        return await asyncio.wait_for(self.reader.read(), PATIENCE)

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


async def test_one_connection_too_many_is_refused_and_the_others_go_on() -> None:
    async with serving(connections=2) as port:
        first, second = await Client.connected(port), await Client.connected(port)
        assert "200" in await first.asks()
        assert "200" in await second.asks()
        third = await Client.connected(port)
        refusal = await third.reads_to_the_end()
        assert refusal.startswith(b"HTTP/1.1 503 ")
        assert refusal.endswith(b"\r\n\r\nThere are too many connections. Try again later.\n")
        assert "200" in await first.asks()
        for client in (first, second, third):
            await client.close()


async def test_a_connection_that_was_closed_makes_room_for_another() -> None:
    async with serving(connections=1) as port:
        first = await Client.connected(port)
        assert "200" in await first.asks()
        await first.close()
        deadline = time.monotonic() + PATIENCE
        while True:
            second = await Client.connected(port)
            second.writer.write(GET)
            answer = await asyncio.wait_for(second.reader.readline(), PATIENCE)
            await second.close()
            if b"200" in answer:
                break
            assert time.monotonic() < deadline, "the server never noticed that the first connection was closed"
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("sent", [b"", b"GET /healthz HT", b"GET /healthz HTTP/1.1\r\nHost: a\r\nX-Slow: "])
async def test_a_client_that_never_ends_the_head_of_its_request_is_disconnected(sent: bytes) -> None:
    async with serving(head_seconds=0.05) as port:
        client = await Client.connected(port)
        client.writer.write(sent)
        with contextlib.suppress(ConnectionError):
            assert await client.reads_to_the_end() == b""
        await client.close()


async def test_a_client_that_asks_no_more_is_disconnected() -> None:
    async with serving(head_seconds=0.05) as port:
        client = await Client.connected(port)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await client.asks()
            assert await client.reads_to_the_end() == b""
        await client.close()


async def test_a_request_that_takes_too_long_is_answered_503() -> None:
    async with serving() as port, aiohttp.ClientSession() as session:
        async with session.get(f"http://127.0.0.1:{port}/never") as answer:
            assert answer.status == 503
            assert await answer.text() == "There was no answer within 0.05 s.\n"


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX-Large: " + b"a" * 9_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"".join(b"X-%d: a\r\n" % number for number in range(200)) + b"\r\n",
    ],
    ids=["line", "field", "fields"],
)
async def test_a_head_that_is_too_large_is_refused(request_bytes: bytes) -> None:
    async with serving() as port:
        client = await Client.connected(port)
        client.writer.write(request_bytes)
        line = await asyncio.wait_for(client.reader.readline(), PATIENCE)
        assert line.startswith((b"HTTP/1.0 400 ", b"HTTP/1.1 400 ", b"HTTP/1.0 431 ", b"HTTP/1.1 431 ")), line
        await client.close()


def test_the_token_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    def compare(given: bytes, expected: bytes) -> bool:
        compared.append((given, expected))
        return given == expected

    monkeypatch.setattr(access.hmac, "compare_digest", compare)
    assert access._carries("Bearer the token", "the token")
    assert not access._carries("Bearer another", "the token")
    assert not access._carries("Basic eDphbm90aGVy", "the token")
    assert compared == [(b"the token", b"the token"), (b"another", b"the token"), (b"another", b"the token")]
