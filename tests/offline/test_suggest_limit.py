"""`lapse backtest --suggest-limit`: limits that ordinary traffic does not reach, from the traffic of a capture."""

from __future__ import annotations

from array import array
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.core.guard import Guard
from streams.core.model import SECOND
from streams.core.tables import Tables
from streams.core.triggers import Limit
from streams.offline.limits import Firings, suggest_limit
from streams.wire.rows import MsgpackRows
from tests.offline.scene import Capture

RULES = """
triggers:
  - id: note
    conditions: {all: [{field: messaging_session_state, operator: changed_to, value: inactive}]}
    actions: [{field: notification_target, value: "1"}]
  - id: never
    conditions: {all: [{field: status, operator: is, value: hold}]}
    actions: [{field: status, value: solved}]
"""
PER = 600 * SECOND


def fired(*partitions: list[int]) -> Firings:
    """Firings of `note` in each partition, by seconds."""
    found = Firings(PER)
    found.by_trigger["note"] = [array("q", [at * SECOND for at in one]) for one in partitions]
    return found


def lapses(tmp_path: Path, *at: int) -> Capture:
    """One ticket for each lapse, that many seconds after 10 o'clock."""
    capture = Capture(tmp_path)
    for number, _ in enumerate(at):
        capture.ticket(0, str(number), status="open")
    for number, seconds in enumerate(at):
        capture.leaves(seconds, str(number))
    return capture


def test_the_right_limit_of_a_capture_is_known_by_hand(tmp_path: Path) -> None:
    # Spans from 10:00 with 1, 2 and 3 lapses, and one between 10:50 and 11:00 that begins within 10 m of none.
    found = lapses(tmp_path, 60, 1200, 1210, 2400, 2410, 2420, 3590).json(RULES, "--suggest-limit")["limits"]
    assert (found["per_ms"], found["partitions"], found["suggested_count"]) == (600_000, 1, 6)
    assert found["triggers"]["note"] == {
        "firings": 7,
        "spans": 4,
        "median": 1,
        "most": 3,
        "highest": 3,
        "suggested_count": 6,
        "would_hold": 0,
        "few": True,
    }
    assert found["triggers"]["never"]["suggested_count"] is None


def test_the_line_to_paste_is_a_limit_that_check_takes_and_that_holds_nothing_of_the_capture(tmp_path: Path) -> None:
    capture = lapses(tmp_path, 60, 1200, 1210, 2400, 2410, 2420, 3590)
    text = capture.backtest(RULES, "--suggest-limit").stdout
    assert "in spans of 10m, in 1 partition:" in text
    assert "(holds 0 of 7, few spans: use a longer capture)" in text
    assert "never fired: nothing to go by" in text
    (line,) = [line for line in text.splitlines() if line.startswith("limit: ")]
    assert line == "limit: {count: 6, per: 10m}"
    limited = capture.json(f"{line}\n{RULES}")
    assert (limited["commands"], limited["rounds"]["held"]) == (7, 0)


def test_another_span_gives_another_limit(tmp_path: Path) -> None:
    capture = lapses(tmp_path, 60, 1200, 1210, 2400, 2410, 2420, 3590)
    found = capture.json(RULES, "--suggest-limit", "--span", "1h")["limits"]
    assert (found["per_ms"], found["suggested_count"]) == (3_600_000, 14)


def test_a_count_is_for_all_partitions_and_the_busiest_one_decides() -> None:
    advice = suggest_limit(fired([0, 1, 2, 3], [0]), ["note"], 3)
    assert advice.triggers["note"].suggested == 2 * 4 * 3


def test_one_span_in_a_hundred_does_not_decide() -> None:
    quiet = [600 * number for number in range(1, 100)]
    burst = [600_000 + number for number in range(50)]
    one = suggest_limit(fired([*quiet, *burst]), ["note"], 1).triggers["note"]
    assert (one.spans, one.median, one.most, one.highest, one.suggested) == (100, 1, 1, 50, 2)
    assert one.would_hold == 48
    assert not one.few


def test_more_than_a_limit_can_count_is_not_suggested() -> None:
    advice = suggest_limit(fired(list(range(101))), ["note"], 100)
    assert (advice.triggers["note"].suggested, advice.head) == (None, None)


def test_a_dry_run_counts_what_it_would_have_commanded(tmp_path: Path) -> None:
    found = lapses(tmp_path, 60, 61).json(RULES, "--suggest-limit", "--dry-run")["limits"]
    assert (found["triggers"]["note"]["firings"], found["suggested_count"]) == (2, 4)


@pytest.mark.parametrize(("span", "says"), [("soon", "is not a duration"), ("0s", "must be longer than 0s")])
def test_a_span_is_a_duration(span: str, says: str, tmp_path: Path) -> None:
    done = lapses(tmp_path, 60).backtest(RULES, "--suggest-limit", "--span", span)
    assert says in str(done.exception)
    assert done.exit_code != 0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 3_000), min_size=1, max_size=60))
def test_what_a_suggested_limit_would_hold_is_what_the_guard_holds(seconds: list[int]) -> None:
    one = suggest_limit(fired(seconds), ["note"], 1).triggers["note"]
    assert one.suggested is not None
    tables = Tables(MsgpackRows(), 1)
    held = 0
    for at in sorted(seconds):
        guard = Guard(tables, {"note": Limit(one.suggested, PER)}, at * SECOND)
        held += len(guard.judge(["note"]))
        for key, row in guard.rows.items():
            tables.restore_own(key, row)
    assert held == one.would_hold
