"""docs/writing-triggers.md: its commands run, its examples are sound, and it quotes `check` as `check` speaks."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from streams.documents.problems import CODES
from streams.offline.inline_tests import run_tests
from streams.rules.triggers import parse_triggers

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "writing-triggers.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


COMMANDS = [line for block in blocks("sh") for line in block.splitlines()]
YAML = blocks("yaml")


@pytest.mark.timeout(200)
@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_runs_as_it_stands(line):
    assert line.startswith("./dev lapse ")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LAPSE_")}
    done = subprocess.run(
        [sys.executable, "-m", "streams", *shlex.split(line.removeprefix("./dev lapse "))],
        cwd=ROOT,
        env=clean,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_every_trigger_on_the_page_is_sound():
    found = [block for block in YAML if block.startswith("triggers:")]
    assert len(found) >= 2
    for block in found:
        assert parse_triggers(block).problems == []


def test_the_test_on_the_page_passes_with_the_waiting_trigger_above_it():
    (waiting,) = [block for block in YAML if "wait: 10m" in block]
    (tests,) = [block for block in YAML if block.startswith("tests:")]
    (run,) = run_tests(parse_triggers(waiting + tests))
    assert run.problem is None


def test_what_check_says_of_the_recipes_is_what_the_page_says():
    text = (ROOT / "deploy" / "triggers" / "recipes.yaml").read_text(encoding="utf-8")
    (said,) = [
        problem
        for problem in parse_triggers(text.replace("active: false", "active: true"), "recipes.yaml").problems
        if problem.code == "overlap"
    ]
    assert f"\n{said} (warning)\n" in PAGE


def test_misspelt_names_are_answered_as_the_page_says():
    wrong = "{field: staus, operator: equals, value: open}"
    above = "triggers:\n- id: a\n\n  actions: [{field: type, value: task}]\n\n  conditions:\n    all:\n"
    text = f"{above}       - {wrong}\n"
    for problem in parse_triggers(text, "rules.yaml").problems:
        assert f"\n{problem}\n" in PAGE


def test_every_code_on_the_page_exists():
    """In the list of traps, codes stand in brackets at the end of their trap."""
    codes = [
        code
        for group in re.findall(r"\((?:an error: )?((?:`[a-z_]+`(?:, )?)+)\)", PAGE)
        for code in re.findall(r"`(\w+)`", group)
    ]
    assert len(codes) >= 10
    assert set(codes) <= set(CODES)
