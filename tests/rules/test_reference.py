"""The table of fields, operators and actions: whole, and of one mind with the engine and the schema made from it."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from streams.core.actions import is_passed_on
from streams.core.normal import NAMES, SESSION_FIELDS, is_id
from streams.core.triggers import PASSED_ON, SET_FIELDS, TAG_ACTIONS, WITHOUT_VALUE, Operator
from streams.rules import schema
from streams.rules.reference import (
    ACTION_FIELDS,
    CONDITION_FIELDS,
    OPERATOR_NAMES,
    OPERATORS,
    STRICT_KINDS,
    action_field,
)
from streams.rules.triggers import parse_triggers

ROOT = Path(__file__).parents[2]
VALIDATOR = jsonschema.Draft202012Validator(schema.trigger_file_schema())


def test_every_operator_has_an_entry():
    assert set(OPERATORS) == set(Operator)


def test_actions_are_those_of_the_engine():
    assert {name for name, known in ACTION_FIELDS.items() if not known.prefix} == SET_FIELDS | TAG_ACTIONS | PASSED_ON
    for name in ("notification_user", "reply_public", "side_conversation_slack", "end_messaging_session"):
        assert is_passed_on(name)
        assert action_field(name) is not None


def test_kinds_agree_with_how_the_engine_normalises():
    for name, known in CONDITION_FIELDS.items():
        assert (known.kind.value == "id") == is_id(name)
        assert (known.kind.value == "name") == (SESSION_FIELDS.get(name, name) in NAMES)


def test_examples_of_the_table_are_sound():
    for name, known in CONDITION_FIELDS.items():
        operator = "includes" if known.kind.value == "tags" else "is"
        check_condition({"field": name, "operator": operator, "value": known.example})
    for operator, info in OPERATORS.items():
        field = "status" if info.example in ("pending", "solved") else "priority"
        field = "current_tags" if operator.value.endswith("includes") else field
        value = {} if operator in WITHOUT_VALUE else {"value": info.example}
        check_condition({"field": field, "operator": operator.value, **value})
    for name, known in ACTION_FIELDS.items():
        full = f"{name}1" if known.prefix else name
        check_action({"field": full, "value": yaml.safe_load(known.example)})


def document(condition: object = None, action: object = None) -> dict[str, object]:
    return {
        "triggers": [
            {
                "id": "t",
                "conditions": {"all": [condition or {"field": "type", "value": "task"}]},
                "actions": [action or {"field": "type", "value": "task"}],
            }
        ]
    }


def check_condition(condition: object) -> None:
    check(document(condition=condition))


def check_action(action: object) -> None:
    check(document(action=action))


def check(content: object) -> None:
    assert parse_triggers(json.dumps(content)).errors == []
    VALIDATOR.validate(content)


def test_the_committed_schema_is_the_generated_one():
    """To make it anew: `python -m streams.rules.schema schemas/trigger-file.schema.json`."""
    assert (ROOT / "schemas" / "trigger-file.schema.json").read_text(encoding="utf-8") == schema.rendered()


def test_the_schema_is_a_schema():
    jsonschema.Draft202012Validator.check_schema(schema.trigger_file_schema())


def test_the_schema_takes_every_operator_where_it_suits():
    for name, operator in OPERATOR_NAMES.items():
        value = {} if operator in WITHOUT_VALUE else {"value": "3"}
        check_condition({"field": "custom_fields_1", "operator": name, **value})


@pytest.mark.parametrize(
    "content",
    [
        document({"field": "status", "value": None}),
        document({"field": "status", "operator": "is", "value": ["new", None]}),
        document({"field": "vip_level", "operator": "greater_than", "value": 3}),
        document({"field": "tags", "operator": "includes", "value": ["a", 7]}),
        document({"field": "priority", "operator": "changed", "value": None}),
        document(action={"field": "set_tags", "value": ""}),
        document(action={"field": "custom_fields_1", "value": ["a", "b"]}),
        document(action={"field": "end_messaging_session"}),
        document(action={"field": "notification_user", "value": [1, {"a": None}]}),
        {"cycle": "single_pass", "triggers": [], "tests": None},
        {"holdout": {"share": "5%", "salt": "a"}, "triggers": []},
        {"holdout": {"share": "100.0 %", "salt": 7}, "triggers": []},
        {"triggers": [], "tests": [{"name": "x", "when": {"session": {"state": "a"}}, "expect": {"fired": []}}]},
    ],
)
def test_the_schema_takes_what_the_reader_takes(content):
    check(content)


@pytest.mark.parametrize(
    "content",
    [
        [],
        {},
        {"triggers": [], "trigers": []},
        {"triggers": {}},
        {"cycle": "once", "triggers": []},
        {"holdout": {"share": "5", "salt": "a"}, "triggers": []},
        {"holdout": {"share": "100.5%", "salt": "a"}, "triggers": []},
        {"holdout": {"share": "5%"}, "triggers": []},
        {"triggers": [{"id": "a"}]},
        {"triggers": [{**document()["triggers"][0], "id": " "}]},
        {"triggers": [{**document()["triggers"][0], "active": "yes"}]},
        {"triggers": [{**document()["triggers"][0], "wait": 30}]},
        {"triggers": [{**document()["triggers"][0], "wait": "30"}]},
        {"triggers": [{**document()["triggers"][0], "category": {"name": "x"}}]},
        {"triggers": [{**document()["triggers"][0], "conditions": {"all": [], "any": []}}]},
        {"triggers": [{**document()["triggers"][0], "conditions": {}}]},
        {"triggers": [{**document()["triggers"][0], "actions": []}]},
        document({"operator": "is", "value": "x"}),
        document({"field": "status"}),
        document({"field": "status", "operator": "is"}),
        document({"field": "status", "operator": "equals", "value": "x"}),
        document({"field": "status", "operator": "changed", "value": "x"}),
        document({"field": "status", "value": []}),
        document({"field": "status", "value": {"a": 1}}),
        document({"field": "status", "op": "is", "value": "x"}),
        document({"field": "tags", "value": "x"}),
        document({"field": "tags", "operator": "is", "value": "x"}),
        document({"field": "current_tags", "operator": "changed"}),
        document({"field": "current_tags", "operator": "includes", "value": []}),
        document({"field": "update_type", "operator": "changed_to", "value": "change"}),
        document({"field": "messaging_session_status", "value": "x"}),
        document({"field": "custom_field_11", "value": "x"}),
        document({"field": "custom_fields_1", "operator": "less_than", "value": "many"}),
        document(action={"field": "subject", "value": "x"}),
        document(action={"field": "status"}),
        document(action={"field": "add_tags", "value": ""}),
        document(action={"field": "status", "value": ["solved"]}),
        {"triggers": [], "tests": [{"name": "x", "expect": {"fired": []}}]},
        {"triggers": [], "tests": [{"name": "x", "when": {"session": {}}, "expect": {"fired": []}}]},
        {"triggers": [], "tests": [{"name": "x", "when": {"session": {"state": "a"}}, "expect": {}}]},
        {"triggers": [], "tests": [{"name": "x", "when": {"session": {"state": "a"}}, "expect": {"outcome": "ok"}}]},
    ],
)  # fmt: skip
def test_the_schema_refuses_what_the_reader_refuses(content):
    assert parse_triggers(json.dumps(content)).errors
    assert not VALIDATOR.is_valid(content)


def test_only_tags_and_the_kind_of_update_are_strict():
    assert {name for name, known in CONDITION_FIELDS.items() if known.kind in STRICT_KINDS} == {
        "current_tags",
        "update_type",
    }
