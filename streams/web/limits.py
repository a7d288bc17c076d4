"""Limits on connections, so that strangers can't use up the file descriptors, the memory or the time of a process.

The brokers' connections come out of the same file descriptors: whoever could connect to the page as often as he likes
could end the worker. Beside these limits stand those of aiohttp: 8 KiB for a line or a field of a request's head, 128
fields, 1 MiB for a body.
"""

from __future__ import annotations

import asyncio
import logging
from typing import cast

from aiohttp import web
from aiohttp.typedefs import Middleware

from streams.web.access import Handler, requests_logger

CONNECTIONS = 256
"""Connections at a time. What comes beyond them is answered 503 and closed."""

HEAD_SECONDS = 30.0
"""Seconds for the head of a request, from the connection or from the answer before; then the connection is closed."""

ANSWER_SECONDS = 30.0
"""Seconds for an answer; then the request is answered 503."""

_TEXT = b"There are too many connections. Try again later.\n"
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n"
    b"Retry-After: 1\r\nConnection: close\r\n\r\n%b"
) % (len(_TEXT), _TEXT)

logger = logging.getLogger(__name__)


def runner_of(app: web.Application, *, stop_seconds: float, head_seconds: float = HEAD_SECONDS) -> web.AppRunner:
    """Return a runner that closes idle connections; requests in flight get `stop_seconds` at a stop."""
    return web.AppRunner(
        app,
        access_log=None,
        handle_signals=False,
        shutdown_timeout=stop_seconds,
        keepalive_timeout=head_seconds,
        logger=requests_logger(),
    )


class Site(web.TCPSite):
    """A port of a runner, with a limit on its connections."""

    __slots__ = ("_limit", "_place")

    def __init__(self, runner: web.AppRunner, host: str, port: int, connections: int = CONNECTIONS) -> None:
        """Serve on a port; 0 takes a free one."""
        super().__init__(runner, host, port)
        self._limit = connections
        self._place = (host, port)

    async def start(self) -> None:
        """Open the port."""
        await web.BaseSite.start(self)
        host, port = self._place
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._connected, host, port, backlog=self._backlog)

    def _connected(self) -> asyncio.BaseProtocol:
        """Return what handles a new connection."""
        server = self._runner.server
        if server is None:  # it was stopped meanwhile
            return _Refusal()
        if len(server.connections) < self._limit:
            return server()
        logger.warning(
            "there are %d connections to %s:%d; new ones are refused", self._limit, *self._place,
            extra={"limit": "connections"},
        )  # fmt: skip
        return _Refusal()


class _Refusal(asyncio.Protocol):
    """A connection too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Answer without reading, and close."""
        writing = cast(asyncio.WriteTransport, transport)
        writing.write(_FULL)
        writing.close()


def within(seconds: float = ANSWER_SECONDS) -> Middleware:
    """Return the middleware that answers 503 to a request that takes longer."""

    @web.middleware
    async def limited(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            async with asyncio.timeout(seconds):
                return await handler(request)
        except TimeoutError:
            raise web.HTTPServiceUnavailable(text=f"There was no answer within {seconds:g} s.\n") from None

    return limited
