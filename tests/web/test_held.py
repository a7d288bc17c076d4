"""What the API and the page tell of commands that limits hold."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from streams.core.cycle import Rules
from streams.core.engine import Engine
from streams.core.model import Evaluation, RoundOutcome
from streams.rules.triggers import parse_triggers
from streams.web import holding
from tests.web.desk import RULES, Desk

Get = Callable[[str], Awaitable[Any]]

LIMITED = "limit: {count: 1, per: 10m}\n" + RULES.replace("id: solve", "id: so<b>lve")


@pytest.fixture
def desk() -> Desk:
    """A worker whose triggers fire once in ten minutes, and no more."""
    ruleset = parse_triggers(LIMITED, "rules").ruleset
    assert ruleset is not None
    return Desk(Engine(Rules(ruleset)))


@pytest.fixture
async def get(desk: Desk) -> AsyncIterator[Get]:
    async with desk.server() as server, aiohttp.ClientSession() as client:

        async def ask(path: str) -> Any:
            async with client.get(server.url.rstrip("/") + path) as answer:
                assert answer.status == 200
                return await (answer.json() if answer.content_type == "application/json" else answer.text())

        yield ask


async def test_while_nothing_is_held_the_page_does_not_speak_of_it(desk: Desk, get: Get):
    desk.abandoned("5158")
    told = await get("/api/v1/held")
    assert told == {"held": 0, "withdrawn": 0, "waiting": 0, "triggers": {}, "oldest": None, "commands": []}
    assert "Held commands" not in await get("/")


async def test_held_commands_are_told_by_trigger_with_the_oldest_and_a_link_to_each(desk: Desk, get: Get):
    for ticket_id in ("1", "2", "3"):
        desk.abandoned(ticket_id)
    told = await get("/api/v1/held")
    assert (told["held"], told["withdrawn"], told["waiting"], told["triggers"]) == (2, 0, 2, {"so<b>lve": 2})
    assert [one["ticket_id"] for one in told["commands"]] == ["3", "2"]
    assert told["oldest"] <= told["commands"][0]["held_at"]
    page = await get("/")
    assert "<strong>2 wait</strong>" in page
    assert "so&lt;b&gt;lve" in page
    assert "so<b>lve" not in page
    link = f"/rounds/{told['commands'][0]['id']}"
    assert link in page
    assert "held" in await get(link)


async def test_a_command_that_was_withdrawn_waits_no_more(desk: Desk, get: Get):
    for ticket_id in ("1", "2"):
        desk.abandoned(ticket_id)
    desk.session("2", "active")
    told = await get("/api/v1/held")
    assert (told["held"], told["withdrawn"], told["waiting"], told["triggers"]) == (1, 1, 0, {})
    assert told["oldest"] is None
    assert "None waits." in await get("/")


def test_held_commands_are_kept_in_bounds(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(holding, "HELD_KEPT", 3)
    for number in range(6):
        desk.abandoned(str(number))
    kept = desk.journal.held.waiting()
    assert [one.evaluation.ticket_id for one in kept] == ["3", "4", "5"]
    assert all(type(one.evaluation) is Evaluation and one.evaluation.outcome is RoundOutcome.HELD for one in kept)
    assert desk.journal.held.held == 5
