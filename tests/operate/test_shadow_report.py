"""What is told of a shadow: how its records add up, what people see, and that the records of a real topic are found."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from typer.testing import CliRunner

from streams.cli import app
from streams.core.model import MILLISECOND, ShadowResult
from streams.operate.shadow_report import SAMPLES, ShadowReports, as_lines, as_object, begin_of, read_shadow_reports
from tests.core.stories import START_MS, rfc3339
from tests.worker.kit import config_for, producing, topics


def side(*triggers: str, outcome: str = "commanded", **actions: Any) -> dict[str, Any]:
    return {
        "outcome": outcome if triggers else "no_match",
        "triggers": list(triggers),
        "actions": [{"field": field, "value": value} for field, value in actions.items()],
    }


def record(
    live: dict[str, Any] | None, shadow: dict[str, Any] | None, number: int = 0, revision: int = 7, **more: Any
) -> bytes:
    told = {
        "type": "shadow",
        "ticket_id": str(number),
        "event_id": f"s-{number}",
        "occurred_at": rfc3339(START_MS + 1_000 * number),
        "episode": 1,
        "wait_ms": 0,
        "revision": revision,
        "after_live": False,
        "live": live,
        "shadow": shadow,
    }
    return json.dumps(told | more, separators=(",", ":")).encode()


SOLVED, PENDING = side("solve", status="solved"), side("pend", status="pending")
OTHERS = [
    b'{"type":"transition","ticket_id":"1","kind":"lapsed","channel":"shadow"}',
    b'{"type":"evaluation","ticket_id":"1","triggers":["shadow"]}',
    b'"shadow" and no JSON',
    None,
]


def reports(*values: bytes | None) -> ShadowReports:
    found = ShadowReports()
    found.take([*OTHERS, *values])
    return found


def test_rounds_are_sorted_by_who_acts_and_by_whether_the_actions_differ():
    found = reports(
        record(SOLVED, None, 1),
        record(SOLVED, side(), 2, after_live=True),
        record(None, PENDING, 3),
        record(SOLVED, PENDING, 4),
    ).of(None)
    assert found is not None
    told = as_object(found)
    assert told["rounds"] == {"only_live": 2, "only_shadow": 1, "different": 1}
    assert told["after_live"] == 1
    assert told["triggers"] == {
        "pend": {"only_live": 0, "only_shadow": 2},
        "solve": {"only_live": 3, "only_shadow": 0},
    }
    assert (told["first"], told["last"]) == (rfc3339(START_MS + 1_000), rfc3339(START_MS + 4_000))
    assert told["samples"]["different"] == [json.loads(record(SOLVED, PENDING, 4))]


def test_the_newest_revision_is_told_of_unless_another_one_is_asked_for():
    found = reports(record(SOLVED, None, 1), record(SOLVED, None, 2, revision=9), record(SOLVED, None, 3, revision=9))
    newest, older = found.of(None), found.of(7)
    assert newest is not None
    assert older is not None
    assert (newest.revision, newest.rounds[ShadowResult.ONLY_LIVE]) == (9, 2)
    assert older.rounds[ShadowResult.ONLY_LIVE] == 1
    assert found.of(8) is None
    assert reports().of(None) is None


def test_the_samples_are_the_latest_of_each_result():
    found = reports(*(record(SOLVED, None, number) for number in range(30)), record(None, PENDING, 99)).of(None)
    assert found is not None
    kept = [one.ticket_id for one in found.samples[ShadowResult.ONLY_LIVE]]
    assert kept == [str(number) for number in range(30 - SAMPLES, 30)]
    assert [one.ticket_id for one in found.samples[ShadowResult.ONLY_SHADOW]] == ["99"]


def test_people_see_what_either_side_did_and_no_control_character_of_a_record():
    shadow = side("ta\x1b[31mg", add_tags=["left\x07"])
    found = reports(record(SOLVED, shadow, 1, wait_ms=60_000, after_live=True), record(SOLVED, None, 2)).of(None)
    assert found is not None
    text = "\n".join(as_lines(found))
    assert "Revision 7 as a shadow: 2 rounds differ" in text
    assert "ticket 1, event s-1, 2026-03-01T10:00:01Z, wait 60s, after a live command" in text
    assert 'live:   commanded by solve: status = "solved"' in text
    assert "shadow: no round with this wait" in text
    assert "\x1b" not in text
    assert "\x07" not in text


@pytest.mark.parametrize("text", ["9", "25:00", "yesterday", "09:00+01:00", "2026-03-01"])
def test_a_time_that_cannot_be_read_is_refused_with_what_can(text: str):
    with pytest.raises(ValueError, match="write `09:00`"):
        begin_of(text, START_MS * MILLISECOND)


async def test_the_records_of_a_topic_are_read_from_a_time_on(kafka: Any, topic_prefix: str) -> None:
    config = await topics(config_for(kafka, topic_prefix), 2)
    name = config.topic("session-transitions")
    async with producing(config) as producer:
        for number in range(10):
            at = START_MS + 1_000 * number
            for value in (OTHERS[0], record(SOLVED, None, number)):
                await producer.send_and_wait(name, key=b"1", value=value, partition=number % 2, timestamp_ms=at)
    counted = []
    for begins in (None, START_MS + 4_000, START_MS + 3_600_000):
        found = await read_shadow_reports(config, None if begins is None else begins * MILLISECOND)
        report = found.of(None)
        counted.append(0 if report is None else report.rounds[ShadowResult.ONLY_LIVE])
    assert counted == [10, 6, 0]

    words = ["rules", "shadow", "--report", "--json", "--brokers", config.brokers[0], "--topic-prefix", topic_prefix]
    words += ["--since", rfc3339(START_MS + 4_000)]
    told = await asyncio.to_thread(CliRunner().invoke, app, words)
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout)["rounds"] == {"only_live": 6, "only_shadow": 0, "different": 0}
