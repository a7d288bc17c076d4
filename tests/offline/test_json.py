"""`docs/workbench-json.md` names every member that `backtest --json` and `explain --json` print, and no other."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from streams.cli import app

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/workbench-json.md").read_text(encoding="utf-8")
CAPTURE = str(ROOT / "deploy/samples/support-week.jsonl.gz")
RECIPES, PATIENT = (str(ROOT / f"deploy/triggers/{name}.yaml") for name in ("recipes", "patient"))

RECORDS = {"transitions", "command", "old", "new", "from", "to", "value", "before", "now"}
"""Members whose insides are described elsewhere, or are whatever a record holds."""
BY_NAME = {"dead_letters", "rounds", "transitions", "triggers", "changes"}
"""Objects whose members are names out of the data: codes, kinds, outcomes, ids, fields."""


def members(found: Any) -> Iterator[str]:
    if isinstance(found, list):
        for one in found:
            yield from members(one)
    elif isinstance(found, dict):
        for name, value in found.items():
            yield name
            inside = value.values() if name in BY_NAME and isinstance(value, dict) else [value]
            if name not in RECORDS:
                for one in inside:
                    yield from members(one)


def documented(heading: str) -> set[str]:
    [text] = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    return set(re.findall(r"`([a-z_]+)`", text))


def printed(*call: str) -> dict[str, Any]:
    done = CliRunner().invoke(app, [*call, "--json"])
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_backtest_prints_what_the_page_says():
    found = printed(
        "backtest",
        "--events",
        CAPTURE,
        "--triggers",
        PATIENT,
        "--against",
        RECIPES,
        "--suggest-wait",
        "--suggest-limit",
        "--samples",
        "1",
    )
    said = documented("backtest")
    assert set(members(found)) <= said
    assert set(found) == {
        *("records", "applied", "stale", "duplicate", "dead_letters", "transitions", "rounds", "commands", "pending"),
        *("triggers", "against", "waits", "limits"),
    }
    assert {*found["against"], *found["waits"], *found["waits"]["waits"][0]} <= said


@pytest.mark.parametrize("ticket", ["51009", "51001"])
def test_an_explanation_prints_what_the_page_says(ticket: str):
    found = printed("explain", "--events", CAPTURE, "--triggers", PATIENT, "--ticket", ticket)
    evaluation = json.loads((ROOT / "schemas/evaluation.schema.json").read_text(encoding="utf-8"))["properties"]
    said = documented("explain")
    assert set(members(found)) - set(evaluation) <= said
    assert found["rounds"]
    assert {"why", "ended_by", "passes", "fired", "not_fired", "actions", "not_asked", "command"} == set(
        found["rounds"][0]
    ) - set(evaluation)
