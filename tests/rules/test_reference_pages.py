"""`lapse fields` and `lapse operators`: the whole table, examples that can be copied, lines that fit the terminal."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from streams.cli import app
from streams.core.triggers import OPERATOR_ALIASES, Operator
from streams.rules.reference import ACTION_FIELDS, CONDITION_FIELDS
from streams.rules.reference_pages import UnknownName, action_entries, condition_entries, operator_entries
from streams.rules.triggers import parse_triggers

LEFT = "{field: messaging_session_state, operator: changed_to, value: inactive}"


def said(*arguments: str, columns: int = 80) -> str:
    done = CliRunner(env={"COLUMNS": str(columns)}).invoke(app, list(arguments))
    assert done.exit_code == 0, done.output
    return done.output


def codes(condition: str, action: str) -> list[str]:
    conditions = f"{{all: [{condition}]}}"
    text = f"triggers:\n- {{id: a, conditions: {conditions}, actions: [{action}]}}\n"
    return [problem.code for problem in parse_triggers(text).problems]


def test_every_example_can_be_copied_into_a_trigger_file():
    # Fields that only triggers change, and a member that stands for any that a team may have.
    advice = {"unreachable", "open_is_not_new", "unlisted_member"}
    for entry in (*condition_entries(), *operator_entries()):
        assert set(codes(entry.example, "{field: type, value: task}")) <= advice, entry
    for action in action_entries():
        assert codes(LEFT, action.example) == [], action


def test_json_holds_every_field_with_its_operators_and_an_example():
    found = json.loads(said("fields", "--json"))
    fields = {entry["field"]: entry for entry in found["conditions"]}
    assert set(CONDITION_FIELDS) <= set(fields)
    assert fields["status"] == {
        "field": "status",
        "aliases": [],
        "holds": "name",
        "values": ["new", "open", "pending", "hold", "solved", "closed"],
        "closed": True,
        "families": ["equality", "order", "change", "presence"],
        "operators": [operator.value for operator in Operator if not operator.value.endswith("includes")],
        "meaning": "status of the ticket; with custom statuses, its status category",
        "example": "{field: status, operator: is, value: open}",
    }
    assert fields["current_tags"]["aliases"] == ["tags"]
    assert {name for name, known in ACTION_FIELDS.items() if not known.prefix} <= {
        entry["field"] for entry in found["actions"]
    }


def test_json_holds_every_operator_with_its_aliases():
    found = {entry["operator"]: entry for entry in json.loads(said("operators", "--json"))["operators"]}
    assert list(found) == [operator.value for operator in Operator]
    assert {alias: name for name, entry in found.items() for alias in entry["aliases"]} == {
        alias: operator.value for alias, operator in OPERATOR_ALIASES.items()
    }
    assert found["changed"]["takes"] == "no value"
    assert found["value"]["family"] == "change"


@pytest.mark.parametrize("columns", [80, 100, 120])
@pytest.mark.parametrize("verb", ["fields", "operators"])
def test_the_table_fits_the_terminal(verb, columns):
    lines = said(verb, columns=columns).splitlines()
    assert max(map(len, lines)) <= columns
    names = CONDITION_FIELDS if verb == "fields" else [operator.value for operator in Operator]
    assert {line.split()[0].rstrip(",") for line in lines if line and not line[0].isspace()} >= set(names)


def test_one_name_shows_that_entry_alone():
    assert said("fields", "tags").splitlines()[1].startswith("current_tags, tags")
    assert "ACTION FIELD" not in said("fields", "requester_id")
    assert "CONDITION FIELD" not in said("fields", "notification_user")
    assert "custom_fields_<id>" in said("fields", "custom_fields_77")
    assert said("operators", "changed_to").splitlines()[1].startswith("value, changed_to")


def test_a_misspelt_name_is_answered_with_the_nearest_one():
    for verb, name, meant in (("fields", "statsu", "status"), ("operators", "changd_to", "changed_to")):
        done = CliRunner().invoke(app, [verb, name])
        assert isinstance(done.exception, UnknownName)
        assert done.exception.exit_code == 2
        assert f"did you mean `{meant}`?" in str(done.exception)
