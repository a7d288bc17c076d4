"""The four recipes that ship with Lapse: sound, alternatives, and doing what their comments and examples say."""

from __future__ import annotations

import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from streams.offline.inline_tests import run_tests
from streams.rules.coverage import cover
from streams.rules.schema import trigger_file_schema
from streams.rules.triggers import TriggerFile, load_triggers, parse_triggers

RECIPES = Path(__file__).parents[2] / "deploy" / "triggers" / "recipes.yaml"
IDS = ("solve-abandoned", "email-follow-up", "second-queue", "tag-abandoned")
TESTS = [test.name for test in load_triggers(RECIPES).tests]


def only(active: int) -> TriggerFile:
    """The file as an admin would have it who wants this recipe (1 to 4): the others off."""
    numbers = iter(range(1, 5))

    def switched(found: re.Match[str]) -> str:
        return f"{found[1]}{'true' if next(numbers) == active else 'false'}"

    return parse_triggers(re.sub(r"^(    active: )(?:true|false)$", switched, RECIPES.read_text(), flags=re.MULTILINE))


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
    assert overlaps[0].message.endswith("after which `second-queue` no longer matches: it never fires")


@pytest.mark.parametrize("recipe", [1, 2, 3, 4])
def test_every_example_passes_whichever_recipe_is_on(recipe):
    file = only(recipe)
    assert file.ruleset is not None
    assert [trigger.id for trigger in file.ruleset.triggers if trigger.active] == [IDS[recipe - 1]]
    runs = list(run_tests(file))
    assert [run.test.name for run in runs] == TESTS
    assert [run.problem for run in runs if run.problem is not None] == []


def test_each_recipe_has_examples_in_which_it_fires_and_in_which_it_does_not():
    tests = load_triggers(RECIPES).tests
    for recipe in IDS:
        own = [test.expect for test in tests if test.active == (recipe,)]
        assert any(expect.fired == (recipe,) and expect.actions for expect in own)
        assert any(expect.outcome == "no_match" for expect in own)


def test_the_examples_leave_nothing_of_the_recipes_out():
    file = load_triggers(RECIPES)
    covered = cover(file, run_tests(file))
    assert covered is not None
    assert covered.seen == covered.total
    assert all(one.counts for one in covered.triggers)


def test_the_patient_desk_is_sound_and_its_examples_leave_nothing_out():
    file = load_triggers(RECIPES.with_name("patient.yaml"))
    runs = list(run_tests(file))
    covered = cover(file, runs)
    assert file.problems == []
    assert [run.problem for run in runs if run.problem is not None] == []
    assert covered is not None
    assert covered.seen == covered.total
