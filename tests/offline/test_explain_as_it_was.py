"""`lapse explain --as-it-was`: each round by the revision that was in use when it ended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from streams.cli import app
from streams.core.cycle import Rules
from streams.core.model import MILLISECOND
from streams.core.names import Topic
from streams.core.revisions import Entry, EntryKind, Rulebook
from streams.core.triggers import Ruleset
from streams.rules.source import compile_source
from streams.testing.driver import Driver
from streams.wire import instants
from tests.offline.revised import START_MS, captured, leaves, live
from tests.offline.test_json import documented, members


def explained(file: Path, *more: str) -> Any:
    words = ["explain", "--events", str(file), "--as-it-was", "--now", "2030-01-01T00:00:00Z", *more]
    return CliRunner().invoke(app, words)


def told(file: Path, ticket: str) -> dict[str, Any]:
    done = explained(file, "--ticket", ticket, "--json")
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def entry(number: int, kind: EntryKind, *triggers: str) -> Entry:
    return Entry(
        number=number,
        kind=kind,
        published_at=START_MS * MILLISECOND,
        reason="too many",
        triggers="all" if triggers == ("all",) else triggers,
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Ticket 1 leaves under revision 1, 2 under revision 2, 3 when `solve` is stopped, 4 when everything is."""
    book = Rulebook(compile_source)
    book.add(live(1, "tag"))
    driver = Driver(Rules(Ruleset(())), None, book=book, now_ms=START_MS)
    leaves(driver, "1", 1_000)
    driver.run()
    book.add(msgspec.structs.replace(live(2, "solve"), reason="solve them"))
    leaves(driver, "2", 2_000)
    driver.run()
    book.add(entry(3, EntryKind.STOP, "solve"))
    leaves(driver, "3", 3_000)
    driver.run()
    book.add(live(4, "tag"))
    book.add(entry(5, EntryKind.STOP, "all"))
    leaves(driver, "4", 4_000)
    driver.run()
    captured(driver, book, tmp_path / "capture.ndjson")
    return tmp_path / "capture.ndjson"


def test_a_round_is_explained_by_the_revision_in_use_when_it_ended(file: Path) -> None:
    first, second = told(file, "1")["rounds"], told(file, "2")["rounds"]
    assert [([one["id"] for one in round["fired"]], round["in_use"]["revision"]) for round in (*first, *second)] == [
        (["tag"], 1),
        (["solve"], 2),
    ]
    assert second[0]["in_use"] == {
        "revision": 2,
        "ruleset": second[0]["command"]["ruleset"],
        "since": instants.text((START_MS + 1_000) * MILLISECOND),
        "stopped": [],
        "author": "ada",
        "reason": "solve them",
    }
    assert second[0]["command"]["revision"] == 2


def test_a_stopped_trigger_is_named_as_stopped_and_a_stop_of_all_as_the_reason(file: Path) -> None:
    text = explained(file, "--ticket", "4").stdout
    assert "everything was stopped (`lapse rules stop`), so no command is sent" in text
    assert "Rules in use: revision 4 (ruleset" in text
    assert "published by ada; everything stopped" in text
    assert told(file, "4")["rounds"][0]["in_use"]["stopped"] == "all"
    assert told(file, "3")["rounds"] == [], "no active trigger, so no round 0"


def test_a_round_that_waits_is_explained_by_the_later_revision(tmp_path: Path) -> None:
    book = Rulebook(compile_source)
    book.add(live(1, "wait"))
    driver = Driver(Rules(Ruleset(())), None, book=book, now_ms=START_MS)
    leaves(driver, "1", 1_000)
    driver.run()
    book.add(live(2, "tag"))
    driver.run()
    driver.advance(START_MS + 60_000)
    update = {"ticket_id": "2", "occurred_at": instants.text((START_MS + 60_000) * MILLISECOND), "ticket": {}}
    driver.pipe(Topic.TICKETS, "2", update, START_MS + 60_000)
    driver.run()
    captured(driver, book, tmp_path / "capture.ndjson")
    (round,) = told(tmp_path / "capture.ndjson", "1")["rounds"]
    assert (round["wait_ms"], round["outcome"], round["in_use"]["revision"]) == (10_000, "no_match", 2)
    assert round["not_asked"] == [{"id": "tag", "why": "wait 0s"}]


def test_the_page_names_the_members_that_say_which_revision(file: Path) -> None:
    assert set(members(told(file, "2")["rounds"][0]["in_use"])) <= documented("explain")


@pytest.mark.parametrize("flags", [[], ["--as-it-was", "--triggers", "x.yaml"]])
def test_one_source_of_rules_must_be_named(flags: list[str], tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["explain", "--events", str(tmp_path / "none"), "--ticket", "1", *flags])
    assert "Say which rules to use" in str(done.exception)
