"""Page, API and readiness with rules that come from their topic."""

from __future__ import annotations

import aiohttp

from streams.core.revisions import Entry, EntryKind, InUse, Rulebook, Stops
from streams.core.triggers import Ruleset
from streams.rules.source import compile_source
from streams.rules.triggers import parse_triggers
from streams.telemetry.observer import Metrics
from streams.web.health import reasons_not_ready
from streams.web.server import Server
from streams.wire import instants
from tests.web.desk import RULES
from tests.web.worker import Worker, a_partition

AT = instants.read("2026-03-01T10:00:00Z") or 0
HOUR = 3_600_000_000


def rules() -> Ruleset:
    ruleset = parse_triggers(RULES).ruleset
    assert ruleset is not None
    return ruleset


def entry(number: int, source: str = RULES, digest: str | None = None) -> Entry:
    return Entry(
        number=number, kind=EntryKind.LIVE, published_at=AT, author="ada", reason="<b>wait</b>", source=source,
        ruleset=rules().digest if digest is None else digest, effective_from=AT + (number - 1) * HOUR,
    )  # fmt: skip


async def test_page_api_and_readiness_tell_what_each_partition_has_in_use_and_waits_for() -> None:
    book = Rulebook(compile_source)
    book.add(entry(1))
    book.add(entry(2))
    book.add(entry(3, "triggers: 5"))
    in_use = InUse(1, rules().digest, 1, Stops(ids=("vip",)), 1, AT, "ada", "<b>first</b>")
    waits = "the rules topic has no live revision yet"
    worker = Worker([a_partition(0, in_use=in_use), a_partition(1, state="restoring", waits_for=waits)])
    async with (
        Server(port=0, metrics=Metrics(), source=worker, ruleset=rules(), book=book) as server,
        aiohttp.ClientSession() as session,
    ):
        async with session.get(f"{server.url}api/v1/rules") as answer:
            told = await answer.json()
        async with session.get(server.url) as answer:
            page = await answer.text()
        async with session.get(f"{server.url}readyz") as answer:
            assert answer.status == 503
    assert (told["source"], told["ruleset"], told["newest"]) == ("topic", rules().digest, 2)
    assert told["pending"] == [
        {"number": 2, "effective_from": "2026-03-01T11:00:00Z", "author": "ada", "reason": "<b>wait</b>"}
    ]
    assert list(told["refused"]) == ["3"]
    first, second = told["partitions"]
    assert (first["revision"], first["stopped"], first["since"]) == (1, ["vip"], "2026-03-01T10:00:00Z")
    assert (second["revision"], second["waits_for"]) == (None, waits)
    assert "Not in use everywhere yet: revision 2" in page
    assert "&lt;b&gt;first&lt;/b&gt;" in page
    assert "<b>first</b>" not in page
    assert waits in page
    (reason,) = reasons_not_ready(worker)
    assert (reason.code, reason.partition) == ("rules", 1)


async def test_with_rules_from_a_file_only_their_digest_is_told_and_the_page_is_silent() -> None:
    async with (
        Server(port=0, metrics=Metrics(), source=Worker([a_partition(0)]), ruleset=rules()) as server,
        aiohttp.ClientSession() as session,
    ):
        async with session.get(f"{server.url}api/v1/rules") as answer:
            told = await answer.json()
        async with session.get(server.url) as answer:
            assert "Rules in use" not in await answer.text()
    assert (told["source"], told["ruleset"], told["partitions"]) == ("file", rules().digest, [])
