"""The HTTP server of `lapse apply`: metrics and probes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

from aiohttp import web

from streams.core.errors import Refused
from streams.telemetry.apply import ApplyMetrics
from streams.web.limits import Site, runner_of
from streams.web.listening import cannot_listen

_HEADERS = {"Cache-Control": "no-store", "Server": "lapse", "X-Content-Type-Options": "nosniff"}


class Probes:
    """Serves from `async with` on."""

    def __init__(self, metrics: ApplyMetrics, trouble: Callable[[], str | None], *, host: str, port: int) -> None:
        """`trouble` tells why the process is not ready, or None. Port 0 takes any free one."""
        self._metrics = metrics
        self._trouble = trouble
        self._host = host
        self._wanted_port = port
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Return the address, once the port is open."""
        if self._runner is None:
            raise RuntimeError("the server has not been started")
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._runner.addresses[0][1]}"

    async def __aenter__(self) -> Self:
        """Open the port. Raises `Refused` when that fails."""
        app = web.Application()
        app.on_response_prepare.append(_add_headers)
        app.add_routes(
            [
                web.get("/metrics", self._get_metrics),
                web.get("/healthz", self._get_healthz),
                web.get("/readyz", self._get_readyz),
            ]
        )
        runner = runner_of(app, stop_seconds=0.5)
        await runner.setup()
        try:
            await Site(runner, self._host, self._wanted_port).start()
        except OSError as error:
            await runner.cleanup()
            raise Refused(cannot_listen("server", "apply", error, self._host, self._wanted_port)) from None
        self._runner = runner
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the port."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _get_metrics(self, request: web.Request) -> web.Response:
        text, content_type = self._metrics.exposition(request.headers.get("Accept", ""))
        return web.Response(body=text, headers={"Content-Type": content_type})

    async def _get_healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _get_readyz(self, _: web.Request) -> web.Response:
        trouble = self._trouble()
        return web.Response(text="ready\n") if trouble is None else web.Response(status=503, text=f"{trouble}\n")


async def _add_headers(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_HEADERS)
