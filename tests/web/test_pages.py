"""What the pages and the API tell of tickets, rounds and the last hours."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import aiohttp
import msgspec
import pytest
from markupsafe import escape

from streams.core.engine import EngineSettings
from streams.core.names import Topic
from streams.offline import explanation
from streams.telemetry.definitions import DEFINITIONS
from streams.web import live
from streams.web.formatting import clock
from tests.web.desk import Desk
from tests.web.worker import a_partition

Get = Callable[[str], Awaitable[tuple[int, Any]]]


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
async def get(desk: Desk) -> AsyncIterator[Get]:
    async with desk.server() as server, aiohttp.ClientSession() as client:

        async def ask(path: str) -> tuple[int, Any]:
            async with client.get(server.url.rstrip("/") + path) as answer:
                is_json = answer.content_type == "application/json"
                return answer.status, await (answer.json() if is_json else answer.text())

        yield ask


async def test_a_ticket_tells_its_rows_its_rounds_and_what_waits(desk: Desk, get: Get):
    desk.abandoned("5158", priority="urgent")
    status, found = await get("/api/v1/tickets/5158")
    assert (status, found["partition"], found["held"]) == (200, 0, True)
    assert found["ticket"]["fields"]["status"] == "open"
    assert found["session"]["state"] == "inactive"
    assert [entry["wait_ms"] for entry in found["session"]["pending"]] == [60_000]
    (ended,) = found["rounds"]
    assert (ended["outcome"], ended["triggers"], ended["not_asked"]) == (
        "commanded",
        ["solve"],
        [{"id": "remind", "why": "wait 1m"}],
    )
    assert [one["kind"] for one in found["transitions"]] == ["lapsed", "opened"]
    assert found["sentences"][0].startswith("The round with wait 1m is due at ")


async def test_a_round_shows_near_misses_with_the_values_they_saw(desk: Desk, get: Get):
    desk.abandoned("5158", priority="urgent", status="pending")
    (round_,) = (await get("/api/v1/tickets/5158"))[1]["rounds"]
    assert round_["outcome"] == "no_match"
    assert [(one["id"], one["short"]) for one in round_["not_fired"]] == [("solve", 1), ("vip", 1)]
    _, page = await get(f"/rounds/{round_['id']}")
    assert "tags includes vip" in page or "tags includes [vip]" in page
    assert "saw no value" in page
    assert "1 condition short" in page


async def test_a_command_id_leads_to_its_round(desk: Desk, get: Get):
    desk.abandoned("5158")
    (round_,) = desk.journal.fired()
    assert round_.command is not None
    status, found = await get(f"/api/v1/rounds/{round_.command.command_id}")
    assert (status, found["ticket_id"], found["command"]["actions"]) == (
        200,
        "5158",
        [{"field": "status", "value": "solved"}],
    )
    assert (await get("/api/v1/rounds/unheard-of"))[0] == 404
    assert (await get("/rounds/unheard-of"))[0] == 404


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ([], "No usable record of this ticket was ever read"),
        ([("ticket", {"status": "open"})], "No session state of this ticket is known"),
        ([("ticket", {"status": "open"}), ("session", "active")], "Its session has been active since"),
        ([("session", "active"), ("session", "ended")], "Its session has been ended since"),
        (
            [("session", "active"), ("session", "inactive")],
            "itself is not known. The round with wait 0s waits",
        ),
    ],
)
async def test_a_ticket_page_answers_why_nothing_happened(desk: Desk, get: Get, events: list[Any], said: str):
    for place, (topic, what) in enumerate(events):
        if topic == "ticket":
            desk.ticket("1", -10 + place, **what)
        else:
            desk.session("1", what, -10 + place, "user_inactive_or_offline" if what == "inactive" else None)
    status, page = await get("/tickets?id=1")
    assert said in page
    assert status == (200 if events else 404)


async def test_a_ticket_of_another_worker_is_said_to_be_there(desk: Desk, get: Get):
    desk.worker.held = []
    _, found = await get("/api/v1/tickets/1")
    (sentence,) = found["sentences"]
    assert sentence.startswith("This ticket belongs to partition 0, which another worker holds: look it up on that ")
    assert "`lapse state 1`" in sentence
    assert found["holder"] is None


async def test_the_address_of_the_worker_that_holds_a_ticket_is_named_where_it_is_known(desk: Desk):
    desk.worker.held = []

    async def holder(partition: int) -> str | None:
        return {0: "10.0.0.7"}.get(partition)

    async with desk.server(holder=holder) as server, aiohttp.ClientSession() as client:
        async with client.get(f"{server.url}api/v1/tickets/1") as answer:
            found = await answer.json()
        async with client.get(f"{server.url}tickets?id=1") as answer:
            page = await answer.text()
    assert found["holder"] == "10.0.0.7"
    assert "partition 0, which the worker at 10.0.0.7 holds" in page


async def test_a_deleted_ticket_is_told_as_one(desk: Desk, get: Get):
    desk.abandoned("1")
    desk.tell(Topic.TICKETS, "1", 0, None)
    _, found = await get("/api/v1/tickets/1")
    assert "The ticket itself is not known: no update of it has come, or it was deleted." in found["sentences"]
    assert {one["outcome"] for one in found["rounds"]} == {"commanded", "cancelled"}


async def test_rates_are_those_of_the_quarter_in_which_things_occurred(desk: Desk, get: Get):
    desk.session("1", "active", -3600.0)
    desk.abandoned("2")
    _, found = await get("/api/v1/rates")
    quarters = found["quarters"]
    assert len(quarters) == 96
    assert sum(one["sessions"] for one in quarters) == 2
    assert sum(one["sessions_abandoned"] for one in quarters) == 1
    busy = [one for one in quarters if one["sessions"]]
    assert len(busy) == 2
    assert busy[0]["abandonment_rate"] == 0.0
    assert busy[1]["lapses"] == {"user_inactive_or_offline": 1}


async def test_the_front_page_counts_open_and_inactive_sessions(desk: Desk, get: Get):
    for number in range(3):
        desk.session(str(number), "active", -1.0)
    desk.abandoned("9")
    _, page = await get("/")
    assert '<dt>open now</dt><dd class="figure">3</dd>' in page
    assert '<dt>inactive now</dt><dd class="figure">1</dd>' in page
    assert "1 of 4 sessions" in page


async def test_what_records_say_is_text_on_every_page(desk: Desk, get: Get):
    evil = "<img src=x onerror=alert(1)>"
    desk.abandoned(evil, subject=evil, tags=[evil])
    (round_,) = desk.journal.fired()
    pages = [(await get(path))[1] for path in ("/", f"/tickets?id={evil}", f"/rounds/{round_.id}")]
    for page in pages:
        assert "<img" not in page
        assert "Solve <b>" not in page
    assert all("&lt;img src=x" in page for page in pages)


async def test_ids_of_any_make_lead_to_their_pages(desk: Desk, get: Get):
    for ticket_id in ("a/b", "ü?&#", "a b", "%2F"):
        desk.abandoned(ticket_id)
        _, page = await get("/")
        link = page.split('<a href="/tickets?id=')[1].split('"')[0]
        status, found = await get(f"/tickets?id={link}")
        assert status == 200, ticket_id
        assert "<h1>Ticket " in found


async def test_a_ticket_of_a_partition_that_is_being_restored_is_not_said_to_be_unheard_of(desk: Desk, get: Get):
    desk.worker.held[0].state = "restoring"
    _, found = await get("/api/v1/tickets/1")
    assert found["sentences"] == [
        "Partition 0, to which this ticket belongs, is being restored. Try again in a moment."
    ]


async def test_a_ticket_is_found_by_the_number_that_zendesk_shows(desk: Desk, get: Get):
    desk.abandoned("5158")
    status, page = await get("/tickets?id=%235158")
    assert status == 200
    assert "<h1>Ticket 5158</h1>" in page


async def test_a_ticket_page_says_how_its_latest_round_ended(desk: Desk, get: Get):
    desk.abandoned("1", status="pending")
    desk.session("1", "active")
    _, page = await get("/tickets?id=1")
    assert "Its latest round (wait 1m, episode 1) ended as cancelled. Before the round was due, the customer" in page


@pytest.mark.parametrize(
    ("event", "cause"),
    [
        ((Topic.SESSIONS, {"state": "active"}), "the customer came back (event s-2, "),
        ((Topic.SESSIONS, {"state": "ended"}), "the session ended (event s-2, "),
        ((Topic.SESSIONS, {"state": "active", "session_id": "b"}), "another session began (event s-2, "),
        ((Topic.SESSIONS, {"state": "inactive", "session_id": "b"}), "another session began (event s-2, "),
        ((Topic.SESSIONS, {"state": "away"}), "the session changed (event s-2, "),
        ((Topic.SESSIONS, None), "the session was forgotten (event session-states/0/2, "),
        ((Topic.TICKETS, None), "the ticket was deleted (event ticket-updates/0/1, "),
    ],
)
async def test_a_page_and_explain_say_alike_what_cancelled_a_round(desk: Desk, get: Get, event: Any, cause: str):
    topic, members = event
    desk.ticket("1", -3.0, status="open")
    desk.session("1", "active", -2.0, session_id="a")
    desk.session("1", "inactive", -1.0, "user_inactive_or_offline", session_id="a")
    desk.tell(topic, "1", 0.0, members)
    _, found = await get("/api/v1/tickets/1")
    (why,) = [one["why"] for one in found["rounds"] if one["outcome"] == "cancelled" and one["event_id"] == "s-1"]
    assert why.startswith(f"Before the round was due, {cause}")
    evaluation = next(one.evaluation for one in desk.journal.quiet() if one.evaluation.event_id == "s-1")
    assert why == explanation.why(SimpleNamespace(evaluation=evaluation), EngineSettings())


async def test_rates_name_the_time_that_they_are_of(desk: Desk):
    now = desk.journal.began_at
    assert live.span(desk.journal, 60, now + 76) == f"since {clock(now)}, 76 s"
    assert live.span(desk.journal, 60, now + 3_600) == "last hour"
    assert live.span(desk.journal, 24 * 60, now + 3_600) == f"since {clock(now)}, 60 min"
    assert live.span(desk.journal, 24 * 60, now + 86_400) == "last 24 h"
    desk.session("1", "active", -7_200.0)
    assert live.span(desk.journal, 24 * 60, now + 76).endswith(", 2.0 h"), "records of a time before the start count"
    names = [tile.name for tile in live.tiles(desk.journal, None, desk.metrics.figures(), [], now + 76)]
    assert len(names) == len(set(names))


async def test_rounds_that_wait_are_not_said_to_be_forgotten(desk: Desk, get: Get):
    desk.session("1", "active", -2.0)
    desk.session("1", "inactive", -1.0, "user_inactive_or_offline")
    _, found = await get("/api/v1/tickets/1")
    assert len(found["session"]["pending"]) == 2
    assert all("waits for it until" in told or "is due at" in told for told in found["sentences"])


async def test_the_front_page_tells_triggers_by_their_titles_shortened(desk: Desk, get: Get):
    desk.abandoned("1")
    _, page = await get("/")
    assert "<li>Solve &lt;b&gt;abandoned&lt;/b&gt;</li>" in page
    desk.ruleset = msgspec.structs.replace(
        desk.ruleset, triggers=tuple(msgspec.structs.replace(one, title="ab" * 100) for one in desk.ruleset.triggers)
    )
    (line,) = live.fired(desk.journal.fired(), desk.ruleset, time.time())
    assert line.triggers == ["ab" * 34 + "a…"]


async def test_the_front_page_says_how_many_reasons_and_waits_it_leaves_out(desk: Desk, get: Get):
    for number in range(live.REASONS_SHOWN + 2):
        desk.session(str(number), "active", -2.0)
        desk.session(str(number), "inactive", -1.0, f"reason {number}")
    _, page = await get("/")
    assert "And 2 for 2 other reasons." in page
    assert f"The next 8 of {2 * (live.REASONS_SHOWN + 2)}." in page
    assert page.count("over: no ticket yet") == 8


async def test_figures_of_tables_that_are_not_restored_are_not_shown_as_none(desk: Desk, get: Get):
    desk.worker.held[0].state = "restoring"
    _, page = await get("/")
    for name in ("open now", "inactive now", "rounds waiting"):
        assert f'<dt>{name}</dt><dd class="figure">–</dd>' in page


async def test_the_front_page_tells_how_far_behind_the_worker_is(desk: Desk, get: Get):
    desk.worker.held = [a_partition(0), a_partition(1, lag=1_234)]
    desk.worker.held[1].topics[Topic.TICKETS].lag_seconds = 90.4
    _, page = await get("/")
    assert '<dt>records behind</dt><dd class="figure">1,234</dd><dd class="quiet">the oldest 90 s old</dd>' in page
    assert '1,234 <span class="quiet">90 s</span>' in page


async def test_partitions_in_trouble_stand_first(desk: Desk, get: Get):
    desk.worker.held = [a_partition(0), a_partition(1), a_partition(2, state="restoring")]
    _, page = await get("/")
    assert re.findall(r'data-partition="(\d)"', page) == ["2", "0", "1"]


async def test_every_figure_of_abandonment_has_its_definition_on_the_page(desk: Desk, get: Get):
    _, page = await get("/")
    for name in (
        "abandonment",
        "abandonment rate",
        "false abandonment",
        "false abandonment rate",
        "open abandonments",
    ):
        assert f"<dt>{name}</dt><dd>{escape(DEFINITIONS[name])}</dd>" in page


async def test_a_quarter_of_an_hour_with_sessions_and_no_abandonment_has_a_bar(desk: Desk, get: Get):
    desk.session("1", "active", -3600.0)
    with_sessions = [bar for bar in live.plot(desk.journal, time.time()).bars if bar.sums.sessions]
    assert [bar.height for bar in with_sessions] == [2.0]


async def test_a_browser_that_asks_for_no_page_is_shown_the_way(desk: Desk):
    async with desk.server() as server, aiohttp.ClientSession() as client:
        for accept, words in (("text/html", "<h1>No such page</h1>"), ("*/*", "404: Not Found")):
            async with client.get(f"{server.url}nowhere", headers={"Accept": accept}) as answer:
                assert answer.status == 404
                assert words in await answer.text()
