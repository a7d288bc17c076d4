"""What the stand-in tells of its tickets is what `lapse ingest` reads."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from aiohttp import web

from streams.core.model import SECOND
from streams.core.names import Topic
from streams.testing.zendesk.hooks import Webhooks, events
from streams.testing.zendesk.tickets import Tickets
from streams.wire import instants
from streams.zendesk.events import Kind, receive
from streams.zendesk.signatures import SIGNATURE, TIMESTAMP, Verdict, verify

ROOT = Path(__file__).parents[2]
START = 1_772_359_200.0
NOW = int(START) * SECOND
SECRET = "a-secret"


def read(body: bytes, command_field: str | None = None) -> dict[str, Any]:
    """Return the value of the record that `lapse ingest` writes for a body."""
    signed_at = instants.text(NOW)
    got = receive(body, signature="s", signed_at=signed_at, arrived_at=NOW, command_field=command_field)
    assert got.kind is Kind.TICKET
    assert got.record is not None
    assert got.record.value is not None
    return msgspec.json.decode(got.record.value)


def test_each_field_that_changed_is_an_event_with_the_same_time_and_an_id_of_its_own():
    tickets = Tickets(lambda: START + 0.25)
    ticket = tickets.make(7, tags=["vip"], group_id=360)
    asked = {"status": "solved", "tags": ["vip", "gone"], "custom_fields": [{"id": 11, "value": "c-1"}]}
    change = tickets.update(7, asked, by="lapse", via="api")
    bodies = list(events(ticket, change))
    types = [msgspec.json.decode(body)["type"].removeprefix("zen:event-type:ticket.") for body in bodies]
    assert types == ["status_changed", "tags_changed", "custom_field_changed"]
    records = [read(body, command_field="11") for body in bodies]
    assert {record["occurred_at"] for record in records} == {"2026-03-01T10:00:00.250Z"}
    assert len({record["event_id"] for record in records}) == 3
    for record in records:
        assert record["ticket_id"] == "7"
        assert (record["ticket"]["status"], record["ticket"]["tags"]) == ("solved", ["gone", "vip"])
        assert (record["ticket"]["group_id"], record["ticket"]["updated_at"]) == ("360", "2026-03-01T10:00:00Z")
    assert [record.get("command_id") for record in records] == [None, None, "c-1"]


def test_a_change_that_changes_nothing_tells_nothing_and_a_comment_is_an_event():
    tickets = Tickets(lambda: START)
    ticket = tickets.make(7)
    assert list(events(ticket, tickets.update(7, {"status": "open"}, by="agent", via="screen"))) == []
    comment = tickets.update(7, {"comment": {"body": "Are you there?"}}, by="agent", via="screen")
    (body,) = events(ticket, comment)
    told = msgspec.json.decode(body)
    assert (told["type"], told["event"]["comment"]["body"]) == ("zen:event-type:ticket.comment_added", "Are you there?")
    assert "Are you there?" not in str(read(body)), "words of people are not taken over"


@asynccontextmanager
async def endpoint(refused: int = 0):
    """An endpoint that answers 409 so many times, and then 200; yields its URL and the requests with their bodies."""
    seen: list[tuple[dict[str, str], bytes]] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append((dict(request.headers), await request.read()))
        return web.Response(status=409 if len(seen) <= refused else 200)

    app = web.Application()
    app.router.add_post("/zendesk", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/zendesk", seen
    finally:
        await runner.cleanup()


async def test_what_happens_is_posted_signed_and_in_the_order_of_each_ticket():
    async with endpoint(refused=2) as (url, seen), Webhooks(url, SECRET, now=lambda: START, pause=0.01) as hooks:
        tickets = Tickets(lambda: START, on_change=hooks.changed)
        for ticket_id in (1, 2, 3):
            hooks.created(tickets.make(ticket_id))
            hooks.session(ticket_id, "Inactive", "User inactive or offline")
            tickets.update(ticket_id, {"status": "solved"}, by="lapse", via="api")
        await asyncio.wait_for(hooks.sent(), 60)
        assert (hooks.delivered, hooks.answers) == (9, {200: 9})
    assert len(seen) == 11, "two were refused and sent again"
    told: dict[str, list[str]] = {}
    for headers, body in seen:
        verdict = verify(headers[SIGNATURE], headers[TIMESTAMP], body, [SECRET.encode()], now=NOW, max_age=1)
        assert verdict is Verdict.VALID
        got = receive(body, signature=headers[SIGNATURE], signed_at=headers[TIMESTAMP], arrived_at=NOW)
        assert got.record is not None
        lines = told.setdefault(got.record.key.decode(), [])
        what = got.record.topic if got.record.topic is Topic.SESSIONS else msgspec.json.decode(body)["type"]
        if what not in lines:
            lines.append(what)
    in_order = ["zen:event-type:ticket.created", Topic.SESSIONS, "zen:event-type:ticket.status_changed"]
    assert told == {"1": in_order, "2": in_order, "3": in_order}


async def test_as_a_process_it_serves_until_it_is_stopped():
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "streams.testing.zendesk", "--tickets", "3"),
        cwd=ROOT,
        env=dict(os.environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        line = (await asyncio.wait_for(process.stdout.readline(), 60)).decode()
        url = line.removeprefix("API and page: ").strip()
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            assert "3 open" in await answer.text()
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 60) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
