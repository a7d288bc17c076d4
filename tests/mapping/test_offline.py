"""Backtest and explain follow a mapping, as the worker does."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from streams.cli import app

ROOT = Path(__file__).parents[2]
MAPPING = ROOT / "deploy" / "mappings" / "debezium.yaml"
EVENTS = ROOT / "deploy" / "samples" / "mappings" / "debezium.jsonl"
TRIGGERS = """
triggers:
  - id: tag
    conditions:
      all:
        - {field: priority, value: high}
        - {field: messaging_session_state, operator: value, value: inactive}
    actions: [{field: add_tags, value: left}]
"""


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_backtest_of_mapped_records_commands_what_it_would_of_our_own(tmp_path):
    (tmp_path / "triggers.yaml").write_text(TRIGGERS)
    given = ["--events", EVENTS, "--triggers", tmp_path / "triggers.yaml", "--json"]
    counts = json.loads(run("backtest", *given, "--mapping", MAPPING, "--commands", tmp_path / "commands").stdout)
    assert (counts["applied"], counts["commands"]) == (6, 1)
    command = json.loads((tmp_path / "commands").read_text())
    assert (command["ticket_id"], command["actions"]) == ("5158", [{"field": "add_tags", "value": ["left"]}])
    assert json.loads(run("backtest", *given).stdout)["dead_letters"]["invalid"] == 5


def test_explain_finds_a_ticket_whose_key_is_json(tmp_path):
    (tmp_path / "triggers.yaml").write_text(TRIGGERS)
    given = ["--events", EVENTS, "--triggers", tmp_path / "triggers.yaml", "--ticket", "5158"]
    result = run("explain", *given, "--mapping", MAPPING)
    assert result.exit_code == 0, result.output
    assert "commanded" in result.stdout
