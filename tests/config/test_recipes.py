"""The four recipes that ship with Lapse: sound, alternatives, and doing what their comments and examples say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest
import yaml

from streams.config.inline_tests import InlineTest
from streams.config.schema import trigger_file_schema
from streams.config.triggers import TriggerFile, load_triggers, parse_triggers
from streams.core import normal
from streams.core.cycle import Rules
from streams.core.model import Lapse

RECIPES = Path(__file__).parents[2] / "deploy" / "triggers" / "recipes.yaml"
IDS = ("solve-abandoned", "email-follow-up", "second-queue", "tag-abandoned")


def only(active: int) -> TriggerFile:
    """The file as an admin would have it who wants this recipe (1 to 4): the others off, its examples in."""
    head, tests = RECIPES.read_text().split("\ntests:\n")
    parts = iter(re.split(r"(    active: )(?:true|false)", head))
    head = next(parts)
    for number, (key, rest) in enumerate(zip(parts, parts, strict=True), 1):
        head += f"{key}{'true' if number == active else 'false'}{rest}"
    if active != 1:
        (tests,) = re.findall(rf"  # With recipe {active}, and recipe 1 off:\n((?:  #.*\n)+)", tests + "\n")
        tests = re.sub(r"^  # ?", "  ", tests, flags=re.MULTILINE)
    return parse_triggers(f"{head}\ntests:\n{tests}")


def outcome(file: TriggerFile, test: InlineTest) -> tuple[list[str], list[tuple[str, object]], str]:
    """Which triggers fire, what they do, how the round ends: worked out on the cycle itself."""
    assert file.ruleset is not None
    row = {name: normal.member_value(name, value) for name, value in (test.ticket or {}).items() if name != "tags"}
    row["tags"] = list(normal.words((test.ticket or {}).get("tags")))
    if row.get("status") == "closed":
        return [], [], "closed"
    before = test.session or {}
    reason = normal.name(str(test.when["reason"]))
    lapse = Lapse("e", 0, 0, 1, before.get("state"), None, None, reason, None)
    fired, copy = Rules(file.ruleset).fire(test.after, lapse, row)
    actions = [(action.field, action.value) for action in copy.net()]
    return [trigger.id for trigger in fired], actions, "commanded" if actions else "no_op" if fired else "no_match"


def test_the_file_is_sound_and_warns_only_of_the_trap_that_its_comment_explains():
    file = load_triggers(RECIPES)
    assert [problem.code for problem in file.problems] == ["open_is_not_new"]
    assert file.ruleset is not None
    assert tuple(trigger.id for trigger in file.ruleset.triggers) == IDS


def test_only_the_first_recipe_is_on():
    ruleset = load_triggers(RECIPES).ruleset
    assert ruleset is not None
    assert [trigger.active for trigger in ruleset.triggers] == [True, False, False, False]


def test_the_schema_takes_the_file():
    jsonschema.Draft202012Validator(trigger_file_schema()).validate(yaml.safe_load(RECIPES.read_text()))


def test_all_four_at_once_overlap():
    file = parse_triggers(RECIPES.read_text().replace("active: false", "active: true"))
    overlaps = [problem for problem in file.problems if problem.code == "overlap"]
    assert [problem.line for problem in overlaps] == [file.places["second-queue"].line]
    assert "`group_id`, `priority`" in overlaps[0].message


def examples() -> Iterator[tuple[int, str]]:
    for recipe in (1, 2, 3, 4):
        file = only(recipe)
        assert file.errors == []
        assert file.tests
        for test in file.tests:
            yield recipe, test.name


@pytest.mark.parametrize(("recipe", "name"), examples())
def test_every_example_is_what_happens(recipe, name):
    file = only(recipe)
    assert file.ruleset is not None
    assert [trigger.id for trigger in file.ruleset.triggers if trigger.active] == [IDS[recipe - 1]]
    (test,) = [test for test in file.tests if test.name == name]
    fired, actions, ended = outcome(file, test)
    expect = test.expect
    if expect.fired is not None:
        assert tuple(fired) == expect.fired
    if expect.actions is not None:
        assert actions == [(action["field"], action["value"]) for action in expect.actions]
    if expect.outcome is not None:
        assert ended == expect.outcome


def test_each_recipe_has_an_example_in_which_it_fires():
    for recipe in (1, 2, 3, 4):
        assert any((IDS[recipe - 1],) == test.expect.fired for test in only(recipe).tests)
