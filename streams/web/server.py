"""The worker's HTTP server on a single port: metrics, probes, read-only API, pages."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from importlib import resources
from typing import Any, Self

import msgspec
from aiohttp import web

from streams.core.cycle import Rules
from streams.core.errors import Refused
from streams.core.model import SECOND, Micros
from streams.core.revisions import Rulebook
from streams.core.triggers import Ruleset
from streams.documents.durations import parse
from streams.telemetry.observer import Metrics
from streams.web import holding, live, page, tickets, views
from streams.web.access import Handler, add_headers, guard, is_loopback
from streams.web.formatting import age
from streams.web.health import STALLED_AFTER, StallWatch, reasons_not_ready
from streams.web.journal import Journal
from streams.web.limits import Site, runner_of, within
from streams.web.listening import cannot_listen
from streams.web.status import NoTables, StatusSource, Tables
from streams.wire import instants
from streams.wire.state import session_state

logger = logging.getLogger(__name__)

LOOK_EVERY = 1.0
"""Seconds between two checks of the stall watch."""

COUNTED_FOR = 30.0
"""Seconds after a page view during which sessions are recounted. Without viewers nothing is counted."""

COUNT_EVERY, COUNT_SHARE = 3.0, 50.0
"""Seconds between two counts of the sessions, and the inverse of the largest share of time spent on counting."""

JOIN_WAIT: Micros = parse("30s")

ASSETS = {"page.css": "text/css", "page.js": "text/javascript"}


NOT_KEPT = (
    "This worker keeps about two thousand of its latest rounds, and this one is not among them. Another worker may "
    "have it; `lapse explain` shows every round in a capture."
)


async def _unknown_holder(_: int) -> str | None:
    return None


class WebServerError(Refused):
    """The server can't start. The text is for the person who configured it."""


class Server:
    """Serves one worker from `start` to `stop`. It runs in the worker's event loop: if the loop hangs, so does it."""

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 6066,
        token: str | None = None,
        metrics: Metrics,
        source: StatusSource,
        ruleset: Ruleset,
        app_id: str = "lapse",
        stalled_after: float = STALLED_AFTER,
        journal: Journal | None = None,
        tables: Tables | None = None,
        join_wait: Micros = JOIN_WAIT,
        holder: Callable[[int], Awaitable[str | None]] = _unknown_holder,
        book: Rulebook | None = None,
    ) -> None:
        """Port 0 picks a free one. Without a token, `host` must be loopback. Raises `WebServerError` otherwise.

        The caller feeds `journal` and `metrics`. `tables` are those of the worker's partitions. `ruleset` and
        `join_wait` serve to explain rounds. `holder` returns the address of the worker that holds a partition. `book`
        has the revisions, with rules from their topic.
        """
        if not token and not is_loopback(host):
            raise WebServerError(
                f"The web server would listen on {host}, open to other machines, without a token. "
                "Set web_token, or web_host to 127.0.0.1."
            )
        if not 0 <= port <= 65_535:  # uvloop would take it modulo 65,536
            raise WebServerError(f"The web server can't listen on port {port}: ports go to 65535. Change web_port.")
        self.host = host
        self._wanted_port = port
        self._token = token or None
        self._metrics = metrics
        self._source = source
        self._ruleset = ruleset
        self._app_id = app_id
        self._journal = journal if journal is not None else Journal()
        self._tables: Tables = tables if tables is not None else NoTables()
        self._holder = holder
        self._explainer = tickets.Explainer(ruleset, Rules(ruleset), join_wait)
        self._book = book
        self._sessions: Counter[str] | None = None
        self._looked_at = -COUNTED_FOR
        self._counting: asyncio.Task[None] | None = None
        self._started_at = time.time()
        self._watch = StallWatch(stalled_after)
        self._runner: web.AppRunner | None = None
        self._looks: asyncio.Task[None] | None = None

    def use(self, ruleset: Ruleset) -> None:
        """Show and explain with other rules from here on."""
        self._ruleset = ruleset
        self._explainer = tickets.Explainer(ruleset, Rules(ruleset), self._explainer.join_wait)

    @property
    def port(self) -> int:
        """Return the listening port, which `start` must have opened."""
        if self._runner is None:
            raise RuntimeError("the web server has not been started")
        return int(self._runner.addresses[0][1])

    @property
    def url(self) -> str:
        """Return the address of the page."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/"

    async def start(self) -> None:
        """Open the port and serve. Raises `WebServerError` when that fails."""
        # Requests in flight get one second at a stop: all responses come from memory.
        runner = runner_of(self._app(), stop_seconds=1.0)
        await runner.setup()
        try:
            await Site(runner, self.host, self._wanted_port).start()
        except OSError as error:
            await runner.cleanup()
            raise WebServerError(cannot_listen("web server", "web", error, self.host, self._wanted_port)) from None
        self._runner = runner
        self._looks = asyncio.create_task(self._keep_looking(), name="lapse stall watch")
        self._counting = asyncio.create_task(self._keep_counting(), name="lapse session count")

    async def __aenter__(self) -> Self:
        """Start, for `async with`."""
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop."""
        await self.stop()

    async def stop(self) -> None:
        """Close the port; does nothing when it is not open."""
        for task in (self._looks, self._counting):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        self._looks = self._counting = None
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    # -----------------------------------------------------------------------------------------------------------------

    def _app(self) -> web.Application:
        app = web.Application(middlewares=[within(), guard(self._token), self._show_the_way])
        app.on_response_prepare.append(add_headers)
        app.add_routes(
            [
                web.get("/metrics", self._get_metrics),
                web.get("/healthz", self._get_healthz),
                web.get("/readyz", self._get_readyz),
                web.get("/", self._get_page),
                web.get("/tickets", self._get_ticket_page),
                web.get("/rounds/{id}", self._get_round_page),
                web.get("/assets/{name}", _get_asset),
                web.get("/api/v1/status", self._get_status),
                web.get("/api/v1/state", self._get_status),
                web.get("/api/v1/triggers", self._get_triggers),
                web.get("/api/v1/rules", self._get_rules),
                web.get("/api/v1/evaluations", self._get_evaluations),
                web.get("/api/v1/rates", self._get_rates),
                web.get("/api/v1/held", self._get_held),
                web.get("/api/v1/rules/shadow", self._get_shadow),
                web.get("/api/v1/tickets/{id}", self._get_ticket),
                web.get("/api/v1/rounds/{id}", self._get_round),
            ]
        )
        return app

    @web.middleware
    async def _show_the_way(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer a browser's request for an unknown address with a page that has links to existing ones."""
        try:
            return await handler(request)
        except web.HTTPNotFound:
            if "text/html" not in request.headers.get("Accept", ""):
                raise
            return self._missing("No such page", "Look up a ticket in the field above, or go to the front page.", 404)

    async def _keep_looking(self) -> None:
        while True:
            try:
                self._watch.look(time.monotonic(), self._source)
            except Exception:
                # An error in the status must not end the watch. It is no reason to restart a worker that may be well.
                logger.exception("can't read the worker's status", extra={"limit": "status"})
            await asyncio.sleep(LOOK_EVERY)

    def _status(self) -> views.StatusView:
        return views.status(
            app_id=self._app_id,
            started_at=self._started_at,
            now=time.time(),
            ruleset=self._ruleset,
            metrics=self._metrics,
            source=self._source,
            stalled=self._watch.stalled(),
        )

    async def _get_metrics(self, request: web.Request) -> web.Response:
        body, content_type = self._metrics.exposition(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _get_healthz(self, _: web.Request) -> web.Response:
        stalled = self._watch.stalled()
        partitions = [{"partition": partition, "seconds": round(seconds, 1)} for partition, seconds in stalled.items()]
        return _json({"alive": not stalled, "stalled": partitions}, 503 if stalled else 200)

    async def _get_readyz(self, _: web.Request) -> web.Response:
        reasons = reasons_not_ready(self._source)
        return _json({"ready": not reasons, "not_ready": reasons}, 503 if reasons else 200)

    async def _get_page(self, request: web.Request) -> web.Response:
        now = time.time()
        if self._sessions is None:
            await self._count_sessions()
        self._looked_at = time.monotonic()
        status, quiet = self._status(), self._journal.quiet()
        text = self._render(
            "index.html",
            status=status,
            up=age(now - self._started_at),
            defined=live.DEFINED,
            tiles=live.tiles(self._journal, self._sessions, status.figures, self._source.partitions(), now),
            plot=live.plot(self._journal, now),
            plot_span=live.span(self._journal, live.HOURS_SHOWN * 60, now),
            day_span=live.span(self._journal, live.MINUTES_OF_A_DAY, now),
            reasons=live.reasons(self._journal, now),
            other_reasons=live.other_reasons(self._journal, now),
            fired=live.fired(self._journal.fired()[: live.ROUNDS_SHOWN], self._ruleset, now),
            quiet=live.fired(quiet[:1], self._ruleset, now),
            quiet_kept=len(quiet),
            waiting=live.waiting(self._tables, now),
            held=holding.part(self._journal.held, now),
            shadow=live.shadow(self._journal, self._tables, now),
            rules=views.rules(self._book, self._source.partitions(), self._ruleset.digest),
            partitions=live.troubled_first(status.partitions),
            partition_count=self._tables.partition_count,
        )
        return web.Response(text=text, content_type="text/html")

    async def _get_ticket_page(self, request: web.Request) -> web.Response:
        ticket_id = request.query.get("id", "").strip()
        if not ticket_id:
            return self._missing("No ticket", "Enter its id in the field above.", 400)
        found = await self._ticket(ticket_id)
        if not found.known and ticket_id.startswith("#"):  # as Zendesk writes it
            found = await self._ticket(ticket_id.lstrip("# ") or ticket_id)
        session = None if found.session is None else session_state(found.session)
        now = instants.text(int(time.time()) * SECOND)
        text = self._render("ticket.html", found=found, session=session, looked_for=found.id, now=now)
        return web.Response(text=text, content_type="text/html", status=200 if found.known else 404)

    async def _get_round_page(self, request: web.Request) -> web.Response:
        found = self._journal.find(request.match_info["id"])
        if found is None:
            return self._missing("No such round", NOT_KEPT, 404)
        text = self._render("round.html", one=tickets.explained(found, self._explainer))
        return web.Response(text=text, content_type="text/html")

    def _missing(self, title: str, why: str, status: int) -> web.Response:
        text = self._render("missing.html", title=title, why=why)
        return web.Response(text=text, content_type="text/html", status=status)

    def _render(self, template: str, **context: Any) -> str:
        return page.render(template, app_id=self._app_id, ruleset=views.ruleset_view(self._ruleset), **context)

    async def _ticket(self, ticket_id: str) -> tickets.Ticket:
        held = {one.partition: one.state for one in self._source.partitions()}
        partition = self._tables.partition_of(ticket_id)
        holder = None if partition is None or partition in held else await self._holder(partition)
        return tickets.ticket(ticket_id, self._tables, held, self._journal, self._explainer, holder=holder)

    async def _keep_counting(self) -> None:
        while True:
            began = time.monotonic()
            if began - self._looked_at < COUNTED_FOR:
                await self._count_sessions()
            await asyncio.sleep(max(COUNT_EVERY, COUNT_SHARE * (time.monotonic() - began)))

    async def _count_sessions(self) -> None:
        try:
            self._sessions = await self._tables.count_sessions()
        except Exception:
            logger.exception("can't count the sessions", extra={"limit": "sessions"})

    async def _get_status(self, _: web.Request) -> web.Response:
        return _json(self._status())

    async def _get_triggers(self, _: web.Request) -> web.Response:
        return _json(views.triggers(self._ruleset, self._metrics.triggers_fired()))

    async def _get_rates(self, _: web.Request) -> web.Response:
        return _json(views.rates(self._journal, time.time()))

    async def _get_held(self, _: web.Request) -> web.Response:
        return _json(holding.view(self._journal.held))

    async def _get_shadow(self, _: web.Request) -> web.Response:
        return _json(views.shadow(self._journal, self._tables))

    async def _get_ticket(self, request: web.Request) -> web.Response:
        found = await self._ticket(request.match_info["id"])
        return _json(tickets.ticket_object(found), 200 if found.known else 404)

    async def _get_round(self, request: web.Request) -> web.Response:
        found = self._journal.find(request.match_info["id"])
        if found is None:
            return _json({"error": NOT_KEPT}, 404)
        return _json(tickets.explained_object(tickets.explained(found, self._explainer)))

    async def _get_rules(self, _: web.Request) -> web.Response:
        return _json(views.rules(self._book, self._source.partitions(), self._ruleset.digest))

    async def _get_evaluations(self, _: web.Request) -> web.Response:
        return _json(views.evaluations(self._journal))


async def _get_asset(request: web.Request) -> web.Response:
    name = request.match_info["name"]
    if name not in ASSETS:
        raise web.HTTPNotFound
    body = resources.files("streams.web").joinpath("assets", name).read_bytes()
    return web.Response(body=body, content_type=ASSETS[name], charset="utf-8")


def _json(body: Any, status: int = 200) -> web.Response:
    # Values from a trigger file may be dates and similar types: they are shown as text.
    return web.Response(
        body=msgspec.json.encode(body, enc_hook=str), status=status, content_type="application/json", charset="utf-8"
    )
