"""What backtest and explain say of a limit."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from streams.cli import app

RULES = """\
limit: {count: 2, per: 10m}
triggers:
  - id: note
    conditions: {all: [{field: status, operator: is, value: open}]}
    actions: [{field: add_tags, value: left}]
"""


def lapse(tmp_path, partitions: int, verb: str, *more: str) -> str:
    """Run a verb over a capture in which tickets 1, 2 and 3 of partition 0 lapse, a second after each other."""
    (tmp_path / "rules.yaml").write_text(RULES)
    lines = []
    for number, ticket in enumerate(("1", "2", "3")):
        for topic, at, members in (
            ("ticket-updates", number, {"ticket": {"status": "open"}}),
            ("session-states", 30 + number, {"state": "inactive", "reason": "user_inactive_or_offline"}),
        ):
            value = {"ticket_id": ticket, "event_id": f"{topic}-{at}", "occurred_at": f"2026-03-01T10:00:{at:02}Z"}
            place = {"topic": topic, "partition": 0, "offset": number, "timestamp": 1_772_359_200_000 + at * 1000}
            lines.append(place | {"key": ticket, "value": value | members})
    lines += [line | {"partition": number, "key": f"x{number}", "value": {}} for number in range(1, partitions)
              for line in lines[:1]]  # fmt: skip
    (tmp_path / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    words = [verb, "--events", str(tmp_path / "events.jsonl"), "--triggers", str(tmp_path / "rules.yaml"), *more]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    return done.output


def test_a_backtest_says_how_many_commands_a_limit_held(tmp_path):
    assert "commands: 2\ncommands that a limit held: 1\n" in lapse(tmp_path, 1, "backtest")


def test_a_backtest_divides_the_limit_by_the_partitions_of_the_capture(tmp_path):
    found = json.loads(lapse(tmp_path, 2, "backtest", "--json"))
    assert (found["commands"], found["rounds"]["held"]) == (1, 2)


def test_explain_says_that_a_limit_holds_the_command_and_what_fired(tmp_path):
    said = lapse(tmp_path, 1, "explain", "--ticket", "3")
    assert "wait 0s: held" in said
    assert "a `limit` of the trigger file was reached" in said
    assert "1. note" in said
