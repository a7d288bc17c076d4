"""What the API and the page tell of a shadow."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from streams.core.cycle import Rules
from streams.core.shadow import Candidate
from streams.rules.triggers import parse_triggers
from streams.web.journal import DIFFERENCES_KEPT
from tests.web.desk import RULES, Desk

Get = Callable[[str], Awaitable[Any]]


def candidate(revision: int, text: str) -> Candidate:
    parsed = parse_triggers(text)
    assert parsed.ruleset is not None
    return Candidate(revision, Rules(parsed.ruleset))


TAGGING = RULES.replace("{field: status, value: solved}", "{field: add_tags, value: <b>}")


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
async def get(desk: Desk) -> AsyncIterator[Get]:
    async with desk.server() as server, aiohttp.ClientSession() as client:

        async def ask(path: str) -> Any:
            async with client.get(server.url.rstrip("/") + path) as answer:
                assert answer.status == 200
                return await (answer.json() if answer.content_type == "application/json" else answer.text())

        yield ask


async def test_without_a_shadow_nothing_is_told(desk: Desk, get: Get):
    desk.abandoned("5158")
    told = await get("/api/v1/rules/shadow")
    assert (told["revision"], told["partitions"], told["triggers"], told["differences"]) == (None, [], {}, [])
    assert told["rounds"] == {"same": 0, "only_live": 0, "only_shadow": 0, "different": 0}
    assert "Shadow" not in await get("/")


async def test_rounds_firings_and_differences_are_told_of_the_shadow_in_use(desk: Desk, get: Get):
    desk.pipeline.partition.follow_with(candidate(2, TAGGING))
    told = await get("/api/v1/rules/shadow")
    assert (told["revision"], told["partitions"]) == (2, [0])
    desk.abandoned("5158")
    desk.abandoned("5159", status="new")
    told = await get("/api/v1/rules/shadow")
    assert told["rounds"] == {"same": 1, "only_live": 0, "only_shadow": 0, "different": 1}
    assert told["since"] is not None
    assert told["triggers"] == {"solve": 1}
    (difference,) = told["differences"]
    assert (difference["ticket_id"], difference["revision"]) == ("5158", 2)
    assert difference["live"]["actions"] == [{"field": "status", "value": "solved"}]
    page = await get("/")
    assert "Shadow: revision 2" in page
    assert re.search(r"ended here since \d\d:\d\d:\d\d, 1 came out the same", page)
    (round_,) = desk.journal.rounds_of("5158")
    assert f'/rounds/{round_.id}">status = solved' in page[page.index("Shadow: revision 2") :]
    assert "In use in 1 partition of this worker." in page
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
    assert "1 came out the same" in page


async def test_another_shadow_begins_anew_and_one_that_ended_is_still_told_of(desk: Desk, get: Get):
    desk.pipeline.partition.follow_with(candidate(2, TAGGING))
    desk.abandoned("5158")
    desk.pipeline.partition.follow_with(candidate(4, RULES))
    assert (await get("/api/v1/rules/shadow"))["differences"] == []
    desk.abandoned("5159")
    told = await get("/api/v1/rules/shadow")
    assert (told["revision"], told["rounds"]["same"], told["rounds"]["different"]) == (4, 1, 0)
    desk.pipeline.partition.follow_with(None)
    desk.abandoned("5160")
    told = await get("/api/v1/rules/shadow")
    assert (told["revision"], told["partitions"], told["rounds"]["same"]) == (4, [], 1)
    assert "No longer in use here." in await get("/")


def test_differences_are_bounded(desk: Desk):
    desk.pipeline.partition.follow_with(candidate(2, TAGGING))
    for number in range(DIFFERENCES_KEPT + 5):
        desk.abandoned(str(number))
    kept = desk.journal.shadow()
    assert kept is not None
    assert [one.ticket_id for one in kept.differences][-1] == str(DIFFERENCES_KEPT + 4)
    assert len(kept.differences) == DIFFERENCES_KEPT
    assert kept.rounds["different"] == DIFFERENCES_KEPT + 5
