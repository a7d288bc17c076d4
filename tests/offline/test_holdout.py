"""What backtest and explain say of a holdout."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from streams.cli import app

RULES = """\
triggers:
  - id: note
    conditions: {all: [{field: status, operator: is, value: open}]}
    actions: [{field: add_tags, value: left}]
"""
RECORDS = [
    ("ticket-updates", "10:00:00", {"ticket": {"status": "open"}}),
    ("session-states", "10:05:00", {"state": "inactive", "reason": "user_inactive_or_offline"}),
]


def lapse(tmp_path, verb: str, head: str, *more: str) -> str:
    (tmp_path / "rules.yaml").write_text(head + RULES)
    lines = [
        {
            "topic": topic,
            "partition": 0,
            "offset": 0,
            "timestamp": 1_772_359_200_000 + number * 300_000,
            "key": "2",
            "value": {"ticket_id": "2", "event_id": f"e{number}", "occurred_at": f"2026-03-01T{at}Z", **members},
        }
        for number, (topic, at, members) in enumerate(RECORDS)
    ]
    (tmp_path / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    words = [verb, "--events", str(tmp_path / "events.jsonl"), "--triggers", str(tmp_path / "rules.yaml"), *more]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    return done.output


HOLDOUT = 'holdout: {share: 5%, salt: "2026-q4"}\n'


def test_a_backtest_says_how_many_commands_the_holdout_kept_back(tmp_path):
    said = lapse(tmp_path, "backtest", HOLDOUT)
    assert "commands: 0\ncommands that the holdout kept back: 1\n  note  1\n" in said
    assert json.loads(lapse(tmp_path, "backtest", HOLDOUT, "--json"))["held_out"] == {"note": 1}
    assert "held_out" not in json.loads(lapse(tmp_path, "backtest", "", "--json"))
    assert json.loads(lapse(tmp_path, "backtest", HOLDOUT, "--json"))["rounds"]["held_out"] == 1


def test_a_backtest_without_a_holdout_says_nothing_of_it(tmp_path):
    assert "holdout" not in lapse(tmp_path, "backtest", "")


def test_explain_says_that_the_holdout_left_a_ticket_alone_and_what_fired(tmp_path):
    said = lapse(tmp_path, "explain", HOLDOUT, "--ticket", "2")
    assert "wait 0s: held out" in said
    assert "the `holdout` of the trigger file leaves this ticket alone" in said
    assert "1. note" in said
