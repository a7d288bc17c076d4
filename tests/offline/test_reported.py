"""Captures that other programs wrote: what is wrong with them is said, and what can be read is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from streams.cli import app
from streams.offline.command import BacktestError

AT = 1_772_359_200_000
TRIGGERS = """
triggers:
  - id: solve
    conditions:
      all:
        - {field: messaging_session_state, operator: changed_to, value: inactive}
        - {field: status, operator: less_than, value: solved}
    actions:
      - {field: status, value: solved}
"""


def entry(topic: str, **members: Any) -> dict[str, Any]:
    body = {"ticket": {"status": "open"}} if topic == "ticket-updates" else {"state": "inactive"}
    value = {"ticket_id": "1", "occurred_at": "2026-03-01T10:00:00Z", **body}
    return {"topic": topic, "partition": 0, "offset": 0, "timestamp": AT, "key": "1", "value": value} | members


def run(folder: Path, lines: list[Any], verb: str = "backtest", *more: str) -> Result:
    capture, triggers = folder / "c.jsonl", folder / "t.yaml"
    capture.write_text("".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in lines))
    triggers.write_text(TRIGGERS)
    arguments = [verb, "--events", str(capture), "--triggers", str(triggers), *more]
    return CliRunner().invoke(app, [*arguments, *(("--ticket", "1") if verb == "explain" else ())])


OUT_OF_RANGE = [
    ("timestamp", 2**64 - 1), ("timestamp", 2**63), ("timestamp", -(2**63)), ("timestamp", 10**400),
    ("offset", 2**64 - 1000), ("offset", -1), ("offset", 10**400), ("partition", 2**31), ("partition", 2**64),
]  # fmt: skip


@pytest.mark.parametrize("verb", ["backtest", "explain"])
@pytest.mark.parametrize(("member", "number"), OUT_OF_RANGE)
def test_a_number_out_of_range_is_a_broken_line_and_the_rest_is_read(
    member: str, number: int, verb: str, tmp_path: Path
) -> None:
    done = run(tmp_path, [entry("ticket-updates", **{member: number}), entry("session-states")], verb)
    assert done.exit_code == 0, done.exception
    assert "c.jsonl:1: " in done.stderr


@pytest.mark.parametrize("timestamp", [-1, 0, -(2**53), -62_135_596_800_000, 253_402_300_799_999, 2**63 - 1])
@pytest.mark.parametrize("verb", ["backtest", "explain"])
def test_every_timestamp_of_kafkas_is_read(timestamp: int, verb: str, tmp_path: Path) -> None:
    lines = [entry("ticket-updates", timestamp=timestamp), entry("session-states", timestamp=timestamp)]
    done = run(tmp_path, lines, verb)
    assert done.exit_code == 0, done.exception


@pytest.mark.parametrize("occurred_at", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999Z"])
@pytest.mark.parametrize("verb", ["backtest", "explain"])
def test_the_ends_of_the_calendar_are_read(occurred_at: str, verb: str, tmp_path: Path) -> None:
    lines = [entry(topic) for topic in ("ticket-updates", "session-states")]
    for line in lines:
        line["value"]["occurred_at"] = occurred_at
    for now in ("9999-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00", "2026-03-02 00:00:60Z"):
        done = run(tmp_path, lines, verb, "--now", now)
        assert done.exit_code == 0, done.exception


@pytest.mark.parametrize("verb", ["backtest", "explain"])
def test_a_run_in_which_nothing_could_be_read_fails(verb: str, tmp_path: Path) -> None:
    done = run(tmp_path, ["{", entry("tickets")], verb)
    assert isinstance(done.exception, BacktestError)
    assert done.exception.exit_code == 1
    assert "c.jsonl:1: " in done.stderr


def test_a_line_that_can_be_read_is_enough(tmp_path: Path) -> None:
    assert run(tmp_path, ["{", entry("ticket-updates")]).exit_code == 0


@pytest.mark.parametrize("verb", ["backtest", "explain"])
def test_timestamps_in_seconds_are_warned_of(verb: str, tmp_path: Path) -> None:
    done = run(tmp_path, [entry("ticket-updates"), entry("session-states", timestamp=AT // 1000)], verb)
    assert "warning: session-states: 1 of 1 records looked at" in done.stderr
    assert "56 years or so before their `occurred_at`" in done.stderr
    assert "looks like seconds" in done.stderr
    assert "ticket-updates" not in done.stderr
    assert done.exit_code == 0


def test_timestamps_that_can_be_right_are_not_warned_of(tmp_path: Path) -> None:
    late = entry("session-states", timestamp=AT + 3_000_000_000)  # an old event that was written later
    assert run(tmp_path, [entry("ticket-updates"), late]).stderr == ""


@pytest.mark.parametrize("headers", [None, {}, {"ce_id": None}, {"ce_id": "\udcff"}, {"ce_id": "\ud83d"}])
def test_headers_of_every_kind_are_read(headers: Any, tmp_path: Path) -> None:
    done = run(tmp_path, [entry("ticket-updates"), entry("session-states", headers=headers)], "backtest", "--json")
    assert json.loads(done.stdout)["commands"] == 1


@pytest.mark.parametrize("as_text", [True, False])
def test_half_a_surrogate_pair_is_read_in_a_value_of_either_form(as_text: bool, tmp_path: Path) -> None:
    ticket, session = entry("ticket-updates"), entry("session-states")
    ticket["value"]["ticket"]["subject"] = "parcel \ud83d"
    session["value"]["preview"] = "parcel \ud83d"
    if as_text:
        ticket["value"], session["value"] = json.dumps(ticket["value"]), json.dumps(session["value"])
    done = run(tmp_path, [ticket, session], "backtest", "--json")
    assert json.loads(done.stdout)["commands"] == 1
    assert done.stderr == ""
