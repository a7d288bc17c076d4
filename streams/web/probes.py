"""The port of a process that has no page: metrics, probes, and what else the process serves."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Self, TypeAlias

from aiohttp import web

from streams.core.errors import Refused
from streams.web.health import STALLED_AFTER, StallWatch, reasons_not_ready
from streams.web.limits import CONNECTIONS, Site, runner_of
from streams.web.listening import cannot_listen
from streams.web.status import StatusSource

_LOOK_SECONDS = 1.0
_HEADERS = {"Cache-Control": "no-store", "Server": "lapse", "X-Content-Type-Options": "nosniff"}

Exposition: TypeAlias = Callable[[str], tuple[bytes, str]]
"""Returns the metrics and their content type for an Accept header."""

Trouble: TypeAlias = Callable[[], str | None]
"""Tells what is wrong, None while nothing is."""


def _nothing() -> str | None:
    return None


class Port:
    """Serves `/metrics`, `/healthz` and `/readyz` from `async with` on, and `routes` beside them."""

    def __init__(
        self,
        *,
        what: str,
        host: str,
        port: int,
        settings: str,
        exposition: Exposition,
        not_ready: Trouble,
        stalled: Trouble = _nothing,
        host_settings: str | None = None,
        routes: Sequence[web.RouteDef] = (),
        largest_body: int = 1024,
        connections: int = CONNECTIONS,
        stop_seconds: float = 1.0,
    ) -> None:
        """Port 0 takes any free one.

        `what` names the server when the port can't be opened; `settings` and `host_settings`: see `cannot_listen`.
        Bodies of more than `largest_body` bytes are answered with 413. At most `connections` are open at a time. A stop
        waits `stop_seconds` for requests in flight.
        """
        self._what = what
        self._host = host
        self._wanted_port = port
        self._settings = settings
        self._host_settings = host_settings
        self._exposition = exposition
        self._not_ready = not_ready
        self._stalled = stalled
        self._routes = routes
        self._largest_body = largest_body
        self._connections = connections
        self._stop_seconds = stop_seconds
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Return the address, once the port is open."""
        if self._runner is None:
            raise RuntimeError(f"the {self._what} has not been started")
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._runner.addresses[0][1]}"

    async def __aenter__(self) -> Self:
        """Open the port. Raises `Refused` when that fails."""
        app = web.Application(client_max_size=self._largest_body)
        app.on_response_prepare.append(_add_headers)
        app.add_routes(
            [
                *self._routes,
                web.get("/metrics", self._get_metrics),
                web.get("/healthz", self._get_healthz),
                web.get("/readyz", self._get_readyz),
            ]
        )
        runner = runner_of(app, stop_seconds=self._stop_seconds)
        await runner.setup()
        try:
            await Site(runner, self._host, self._wanted_port, self._connections).start()
        except OSError as error:
            await runner.cleanup()
            message = cannot_listen(
                self._what, self._settings, error, self._host, self._wanted_port, host_settings=self._host_settings
            )
            raise Refused(message) from None
        self._runner = runner
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the port, after the requests in flight."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _get_metrics(self, request: web.Request) -> web.Response:
        body, content_type = self._exposition(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _get_healthz(self, _: web.Request) -> web.Response:
        return _probed(self._stalled(), "ok")

    async def _get_readyz(self, _: web.Request) -> web.Response:
        return _probed(self._not_ready(), "ready")


def _probed(trouble: str | None, fine: str) -> web.Response:
    return web.Response(text=f"{fine}\n") if trouble is None else web.Response(status=503, text=f"{trouble}\n")


async def _add_headers(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_HEADERS)


# --- what the probes of a worker tell --------------------------------------------------------------------------------


def not_ready(source: StatusSource) -> Trouble:
    """Return what tells why a worker is not ready, one reason a line."""

    def reasons() -> str | None:
        return "\n".join(reason.message for reason in reasons_not_ready(source)) or None

    return reasons


@asynccontextmanager
async def watching_for_stalls(source: StatusSource, after: float = STALLED_AFTER) -> AsyncIterator[Trouble]:
    """Look at the partitions of a worker every second; yield what tells which stood still for `after` seconds."""
    watch = StallWatch(after)

    def stalled() -> str | None:
        waited = ", ".join(f"partition {number} for {seconds:.0f} s" for number, seconds in watch.stalled().items())
        return f"stalled: {waited}" if waited else None

    async def look() -> None:
        while True:
            watch.look(time.monotonic(), source)
            await asyncio.sleep(_LOOK_SECONDS)

    looking = asyncio.create_task(look(), name="stall watch")
    try:
        yield stalled
    finally:
        looking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await looking
