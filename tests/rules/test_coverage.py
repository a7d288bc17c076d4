"""`lapse check --coverage`: what no test of a file made true, and what none made false."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streams.cli import app
from streams.offline.inline_tests import run_tests
from streams.rules.coverage import Coverage, cover
from streams.rules.triggers import parse_triggers

RULES = """\
triggers:
  - id: solve
    conditions:
      all:
        - {field: messaging_session_state, operator: changed_to, value: inactive}
        - {field: status, operator: is, value: open}
      any:
        - {field: priority, operator: is, value: low}
        - {field: group_id, operator: is, value: 7}
    actions: [{field: status, value: solved}]
  - id: always
    wait: 5m
    conditions: {all: [{field: messaging_session_state, operator: is, value: inactive}]}
    actions: [{field: add_tags, value: left}]
  - id: draft
    active: false
    conditions: {all: [{field: status, operator: is, value: new}]}
    actions: [{field: status, value: open}]
tests:
"""


def example(name: str, ticket: str, *, after: str = "0s", active: str = "") -> str:
    given = f"ticket: {{{ticket}}}{f', active: [{active}]' if active else ''}"
    when = "{session: {state: inactive}}"
    expect = "{outcome: commanded}"
    return f"  - {{name: {name}, given: {{{given}}}, when: {when}, after: {after}, expect: {expect}}}\n"


def coverage(*tests: str) -> Coverage:
    file = parse_triggers(RULES + "".join(tests), "f")
    assert file.errors == []
    found = cover(file, run_tests(file))
    assert found is not None
    return found


def gaps(*tests: str) -> list[str]:
    return [line for line in coverage(*tests).lines() if " untested: " in line]


def test_without_tests_every_active_trigger_is_untested():
    assert gaps() == [
        "f:2:5: untested: no test asks `solve`: its round is the one with `after: 0s`",
        "f:11:5: untested: no test asks `always`: its round is the one with `after: 5m`",
    ]
    # solve: 2 and 1 + 2 + 2 + 2 of its conditions; always: 1 and 1.
    assert (coverage().seen, coverage().total) == (0, 11)


def test_what_no_test_made_true_or_false_is_named_at_its_place():
    one = example("one", "status: open, priority: low")
    assert gaps(one, example("two", "", after="5m")) == [
        "f:2:5: untested: no test shows `solve` not firing",
        "f:6:11: untested: no test makes `status is open` of `solve` false",
        "f:8:11: untested: no test makes `priority is low` of `solve` false",
        "f:9:11: untested: no test makes `group_id is 7` of `solve` true",
    ]
    never = example("never", "status: pending, priority: high")
    assert gaps(never, example("two", "", after="5m")) == [
        "f:2:5: untested: no test makes `solve` fire",
        "f:6:11: untested: no test makes `status is open` of `solve` true",
        "f:8:11: untested: no test makes `priority is low` of `solve` true",
        "f:9:11: untested: no test makes `group_id is 7` of `solve` true",
    ]


def test_what_holds_in_every_round_need_not_be_shown_failing():
    assert not [gap for gap in gaps(example("late", "", after="5m")) if "`always`" in gap]


def test_all_seen_leaves_no_gap():
    tests = (
        example("one", "status: open, priority: low"),
        example("two", "status: pending, group_id: 7"),
        example("three", "status: pending, group_id: 8"),
        example("late", "", after="5m"),
    )
    found = coverage(*tests)
    assert gaps(*tests) == []
    assert (found.seen, found.total) == (11, 11)
    *_, idle, summary = found.lines()
    assert idle == "f: not active, and tried out by no test (`given: {active: [...]}`): `draft`"
    assert summary.startswith("f: 4 tests saw 11 of 11 outcomes (100%)")


def test_a_trigger_that_is_off_counts_once_a_test_tries_it_out():
    found = coverage(example("draft", "status: new", active="draft"))
    assert (found.seen, found.total) == (2, 15)
    assert "f:17:24: untested: no test makes `status is new` of `draft` false" in found.lines()


def test_a_condition_counts_as_it_was_when_its_trigger_fired():
    """In the second pass the ticket is solved, and `late` asks for that: it was false before."""
    text = (
        RULES.replace("tests:\n", "")
        .replace("id: draft\n    active: false", "id: first")
        .replace("value: new}]}", "value: solved}]}")
    )
    file = parse_triggers(f"{text}tests:\n" + example("one", "status: open, priority: low"))
    found = cover(file, run_tests(file))
    assert found is not None
    (condition,) = next(one.conditions for one in found.triggers if one.trigger.id == "first")
    assert (condition.held, condition.failed) == (1, 0)


def test_a_file_with_errors_has_no_coverage():
    assert cover(parse_triggers("triggers: [{}]"), []) is None


@pytest.fixture
def path(tmp_path: Path) -> str:
    file = tmp_path / "f.yaml"
    file.write_text(RULES + example("one", "status: open, priority: low"))
    return str(file)


def test_the_verb_prints_gaps_and_still_ends_with_0(path):
    done = CliRunner().invoke(app, ["check", "--coverage", path])
    assert done.exit_code == 0, done.output
    assert f"{path}:6:11: untested: no test makes `status is open` of `solve` false" in done.output
    assert "untested" not in CliRunner().invoke(app, ["check", path]).output


def test_json_holds_the_counts(path):
    found = json.loads(CliRunner().invoke(app, ["check", "--coverage", "--json", path]).output)
    (file,) = found["coverage"]
    assert (file["file"], file["tests"], file["seen"], file["total"]) == (path, 1, 5, 11)
    solve = file["triggers"][0]
    assert (solve["id"], solve["fired"], solve["not_fired"]) == ("solve", 1, 0)
    assert solve["conditions"][0] == {
        "side": "all",
        "line": 5,
        "column": 11,
        "condition": "messaging_session_state changed_to inactive",
        "true": 1,
        "false": 0,
        "always_true": True,
    }
    assert [one["false"] for one in solve["conditions"]] == [0, 0, 0, 1]


def test_other_forms_have_no_place_for_it(path):
    done = CliRunner().invoke(app, ["check", "--coverage", "--format", "sarif", path])
    assert getattr(done.exception, "exit_code", None) == 2
