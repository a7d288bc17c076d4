"""The HTTP server: routes, authentication, quotas and faults around tickets and jobs.

A request meets, in this order: a fault, the token, the account's quota on requests, and then its endpoint.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from email.utils import formatdate
from typing import Any, Self

import msgspec
from aiohttp import web

from streams.core.model import SECOND, Micros
from streams.testing.zendesk.answers import Answer, Failed, described, no_such_endpoint, plain, unusable
from streams.testing.zendesk.faults import Fault, Faults, Kind
from streams.testing.zendesk.jobs import Jobs
from streams.testing.zendesk.limits import Limits, Quotas
from streams.testing.zendesk.page import page
from streams.testing.zendesk.tickets import Tickets, read_tags
from streams.testing.zendesk.tokens import READ, WRITE, Client, Tokens
from streams.wire import instants

Seconds = float
Endpoint = Callable[[web.Request, str], Awaitable[Answer]]
"""Takes the request and its user."""

CLIENT = Client("lapse", "a-secret-for-tests", "lapse")
LARGEST_PAGE = 100
HTML = {"Content-Type": "text/html; charset=utf-8"}


class ZendeskServer:
    """One account on a loopback port. `tickets`, `jobs`, `tokens`, `quotas` and `faults` may be used while it runs."""

    def __init__(
        self,
        *,
        port: int = 0,
        limits: Limits | None = None,
        clients: tuple[Client, ...] = (CLIENT,),
        now: Callable[[], Seconds] = time.time,
        required_to_solve: Iterable[int] = (),
        stamp_step: Micros = SECOND,
        job_takes: Seconds = 0.0,
    ) -> None:
        """`now` gives the time in seconds since the epoch; it dates changes, ends tokens and rolls quotas."""
        self.limits = limits or Limits()
        self.tickets = Tickets(now, required_to_solve=required_to_solve, stamp_step=stamp_step)
        self.quotas = Quotas(self.limits)
        self.tokens = Tokens(clients, self.limits.token_seconds)
        self.jobs = Jobs(self.tickets, self.quotas, now, takes=job_takes)
        self.faults = Faults()
        self.requests: list[tuple[str, str, int]] = []
        """Method, path, and status of every answer made; 0 for a connection that was cut."""
        self._now = now
        self._port = port
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """The base URL, without a slash at its end."""
        return f"http://127.0.0.1:{self._port}"

    async def start(self) -> Self:
        """Listen. A stopped server that starts again keeps its port and all it knows."""
        app = web.Application(client_max_size=8 * 1024 * 1024)
        app.router.add_get("/", self._page)
        app.router.add_route("*", "/{path:.+}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        self._port = self._runner.addresses[0][1]
        return self

    async def stop(self) -> None:
        """Close every connection; jobs end where they are."""
        await self.jobs.stop()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        """Start."""
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        """Stop."""
        await self.stop()

    async def _page(self, _: web.Request) -> web.Response:
        return web.Response(text=page(self.tickets), content_type="text/html")

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        await request.read()
        fault = self.faults.next(request.method, request.path)
        answer = await self._outcome(request, fault)
        if answer is None:
            self.requests.append((request.method, request.path, 0))
            if request.transport is not None:
                request.transport.abort()
            return web.Response()
        self.requests.append((request.method, request.path, answer.status))
        headers = {"Date": formatdate(self._now(), usegmt=True), **answer.headers}
        if answer.text is not None:
            headers.setdefault("Content-Type", "text/plain; charset=utf-8")
            return web.Response(status=answer.status, body=answer.text.encode(), headers=headers)
        return web.Response(
            status=answer.status,
            body=msgspec.json.encode(answer.json),
            headers={"Content-Type": "application/json; charset=utf-8", **headers},
        )

    async def _outcome(self, request: web.Request, fault: Fault | None) -> Answer | None:
        """Return the answer to send; None cuts the connection."""
        kind = None if fault is None else fault.kind
        seconds = 0.0 if fault is None else fault.seconds
        if kind is Kind.STUCK:
            await asyncio.sleep(seconds)
        if kind in (Kind.STUCK, Kind.DROPPED):
            return None
        try:
            _raise(kind, seconds)
            answer = await self._serve(request)
        except Failed as failed:
            answer = failed.answer
        if kind is Kind.SLOW:
            await asyncio.sleep(seconds)
        return None if kind is Kind.LOST else answer

    async def _serve(self, request: web.Request) -> Answer:
        if (request.method, request.path) == ("POST", "/oauth/tokens"):
            return self.tokens.issue(await _body(request), self._now())
        if (request.method, request.path) == (
            "GET",
            "/api/v2/users/me.json",
        ) and "Authorization" not in request.headers:
            return Answer(200, {"user": {"id": None, "name": "Anonymous user"}})  # so it is of no use as a probe
        now = self._now()
        needed = READ if request.method in ("GET", "HEAD") else WRITE
        user = self.tokens.user_of(request.headers.get("Authorization"), needed, now)
        try:
            self.quotas.take_request(now)
            answer = await self._endpoint(request)(request, user)
        except Failed as failed:
            answer = failed.answer
        return msgspec.structs.replace(answer, headers={**self.quotas.headers(now), **answer.headers})

    def _endpoint(self, request: web.Request) -> Endpoint:
        """Return what serves the path. Both `/tickets/1` and `/tickets/1.json` are known. Raises 404."""
        parts = request.path.removeprefix("/api/v2/").removesuffix(".json").split("/")
        match (request.method, *parts):
            case ("GET", "tickets", "count"):
                return self._count_tickets
            case ("GET", "tickets", "show_many"):
                return self._show_tickets
            case ("GET", "tickets", _):
                return self._show_ticket
            case ("GET", "tickets", _, "audits"):
                return self._audits
            case ("PUT" | "POST" | "DELETE", "tickets", _, "tags"):
                return self._update_tags
            case ("PUT", "tickets", "update_many"):
                return self._update_many
            case ("PUT", "tickets", _):
                return self._update_ticket
            case ("GET", "job_statuses", "show_many"):
                return self._show_jobs
            case ("GET", "job_statuses", _):
                return self._show_job
            case ("GET", "users", "me"):
                return self._me
            case _:
                raise no_such_endpoint()

    async def _me(self, _: web.Request, user: str) -> Answer:
        return Answer(200, {"user": {"id": 1, "name": user, "role": "admin"}})

    # --- tickets -----------------------------------------------------------------------------------------------------

    async def _show_ticket(self, request: web.Request, _: str) -> Answer:
        return Answer(200, {"ticket": self.tickets.seen(_last(request)).json(self.url)})

    async def _count_tickets(self, _: web.Request, __: str) -> Answer:
        count = sum(not ticket.deleted for ticket in self.tickets)
        return Answer(200, {"count": {"value": count, "refreshed_at": instants.text(int(self._now()) * SECOND)}})

    async def _show_tickets(self, request: web.Request, _: str) -> Answer:
        """Show up to 100 tickets; those that the user can't see are left out."""
        found = []
        for ticket_id in _ids(request):
            with contextlib.suppress(Failed):
                found.append(self.tickets.seen(ticket_id).json(self.url))
        return Answer(200, {"tickets": found, "count": len(found), "next_page": None, "previous_page": None})

    async def _update_ticket(self, request: web.Request, user: str) -> Answer:
        ticket_id = _last(request)
        asked = (await _body(request)).get("ticket")
        if not isinstance(asked, Mapping):
            raise unusable("the body has no object `ticket`")
        return self._updated(ticket_id, asked, user)

    async def _update_tags(self, request: web.Request, user: str) -> Answer:
        """Add tags (PUT), replace them (POST) or remove them (DELETE). Each can be a safe update."""
        ticket_id = request.path.split("/")[4]
        body = await _body(request)
        given = {name: value for name, value in body.items() if name in ("safe_update", "updated_stamp")}
        had, named = set(self.tickets.seen(ticket_id).tags), set(read_tags(body.get("tags")))
        tags = {"PUT": had | named, "POST": named, "DELETE": had - named}[request.method]
        answer = self._updated(ticket_id, {**given, "tags": sorted(tags)}, user)
        if answer.status != 200:
            return answer
        shown = {"tags": self.tickets.of(ticket_id).tags}
        return Answer(201 if request.method == "POST" else 200, shown, headers=answer.headers)

    def _updated(self, ticket_id: str, asked: Mapping[str, Any], user: str) -> Answer:
        """Update one ticket, within its quotas."""
        now = self._now()
        try:
            self.quotas.take_update(user, ticket_id, now)
            change = self.tickets.update(ticket_id, asked, by=user, via="api")
        except Failed as failed:
            answer = failed.answer
        else:
            shown = self.tickets.of(ticket_id).json(self.url)
            answer = Answer(200, {"ticket": shown, "audit": change.audit()})
        return msgspec.structs.replace(answer, headers={**self.quotas.update_headers(now), **answer.headers})

    async def _audits(self, request: web.Request, _: str) -> Answer:
        """List a ticket's audits, the oldest first, by cursor (`page[size]`, `page[after]`) or by number."""
        ticket_id = request.path.split("/")[4]
        self.tickets.seen(ticket_id)
        audits = [change.audit() for change in self.tickets.changes_of(ticket_id)]
        base = f"{self.url}/api/v2/tickets/{ticket_id}/audits.json"
        if "page[size]" in request.query:
            return Answer(200, _by_cursor(audits, request.query, base))
        return Answer(200, _by_number(audits, request.query, base))

    # --- jobs --------------------------------------------------------------------------------------------------------

    async def _update_many(self, request: web.Request, user: str) -> Answer:
        body = await _body(request)
        updates: list[tuple[str, Mapping[str, Any]]]
        by_ids = "ids" in request.query
        if by_ids:
            one = body.get("ticket")
            if not isinstance(one, Mapping):
                raise unusable("with ids, the body needs an object `ticket`")
            updates = [(ticket_id.strip(), one) for ticket_id in request.query["ids"].split(",") if ticket_id.strip()]
        else:
            many = body.get("tickets")
            if not isinstance(many, list) or not all(isinstance(one, Mapping) and "id" in one for one in many):
                raise unusable("without ids, the body needs a list `tickets`, each with an id")
            updates = [(str(one["id"]), {name: value for name, value in one.items() if name != "id"}) for one in many]
        job = self.jobs.queue(user, updates, add_and_remove=by_ids)
        return Answer(200, {"job_status": job.json(self.url)}, headers=self.quotas.job_headers(self.jobs.in_flight))

    async def _show_job(self, request: web.Request, _: str) -> Answer:
        return Answer(200, {"job_status": self.jobs.status(_last(request)).json(self.url)})

    async def _show_jobs(self, request: web.Request, _: str) -> Answer:
        """Show up to 100 jobs; those that are not known are left out."""
        found = []
        for job_id in _ids(request):
            with contextlib.suppress(Failed):
                found.append(self.jobs.status(job_id).json(self.url))
        return Answer(200, {"job_statuses": found, "count": len(found), "next_page": None, "previous_page": None})


def _raise(kind: Kind | None, seconds: Seconds) -> None:
    """Raise the error of a fault that has one."""
    wait = {"Retry-After": str(round(seconds))} if seconds else {}
    match kind:
        case Kind.UNAVAILABLE:
            raise plain(503, "<html><body>Service unavailable</body></html>", {**HTML, **wait})
        case Kind.ERROR:
            raise plain(500, "<html><body>Something went wrong</body></html>", HTML)
        case Kind.LIMITED:
            raise plain(429, "Number of allowed API requests per minute exceeded", {"Retry-After": str(round(seconds))})
        case Kind.COLLISION:
            raise described(409, "DatabaseConflict", "Database collision")


async def _body(request: web.Request) -> dict[str, Any]:
    """Return the body: JSON, or a form where its type says so. Raises 400."""
    if request.content_type == "application/x-www-form-urlencoded":
        return {name: str(value) for name, value in (await request.post()).items()}
    try:
        body = msgspec.json.decode(await request.read())
    except msgspec.DecodeError:
        body = None
    if not isinstance(body, dict):
        raise described(400, "UnprocessableJson", "The body is not a JSON object")
    return body


def _ids(request: web.Request) -> list[str]:
    """Return what the query names in `ids`, up to a page. Raises 400."""
    ids = [one.strip() for one in request.query.get("ids", "").split(",") if one.strip()]
    if not 0 < len(ids) <= LARGEST_PAGE:
        raise described(400, "BadRequest", f"ids must name 1 to {LARGEST_PAGE} records")
    return ids


def _last(request: web.Request) -> str:
    return request.path.rsplit("/", 1)[-1].removesuffix(".json")


def _by_number(audits: list[dict[str, Any]], query: Mapping[str, str], base: str) -> dict[str, Any]:
    size, number = _whole(query, "per_page", LARGEST_PAGE), _whole(query, "page", 1)
    size = min(size, LARGEST_PAGE)
    more = number * size < len(audits)

    def link(page: int) -> str:
        return f"{base}?page={page}&per_page={size}"

    return {
        "audits": audits[(number - 1) * size : number * size],
        "count": len(audits),
        "next_page": link(number + 1) if more else None,
        "previous_page": link(number - 1) if number > 1 else None,
    }


def _by_cursor(audits: list[dict[str, Any]], query: Mapping[str, str], base: str) -> dict[str, Any]:
    size = min(_whole(query, "page[size]", LARGEST_PAGE), LARGEST_PAGE)
    after = int(query["page[after]"]) if query.get("page[after]", "").isdecimal() else 0
    shown = [audit for audit in audits if audit["id"] > after]
    part, more = shown[:size], len(shown) > size
    cursor = str(part[-1]["id"]) if part else None
    return {
        "audits": part,
        "meta": {"has_more": more, "after_cursor": cursor, "before_cursor": str(part[0]["id"]) if part else None},
        "links": {"next": f"{base}?page[size]={size}&page[after]={cursor}" if more else None, "prev": None},
    }


def _whole(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name, "")
    return max(1, int(text)) if text.isdecimal() else default
