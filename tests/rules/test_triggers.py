"""Trigger files: what they mean, and everything that can be wrong with them, at its place."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from streams.core.model import SECOND
from streams.core.triggers import WITHOUT_VALUE, Action, Condition, Holdout, Operator, Trigger
from streams.documents import reading
from streams.rules.reference import ACTION_FIELDS, CONDITION_FIELDS, OPERATOR_NAMES
from streams.rules.triggers import TriggerFile, load_triggers, parse_triggers

SPEC_EXAMPLE = """\
cycle: restart              # default; or single_pass
triggers:
  - id: solve-abandoned
    title: Solve abandoned conversations
    active: true            # default
    position: 1             # default: order in the file; category: {position, name} sorts first
    wait: 0s                # default; see rounds
    conditions:
      all:
        - {field: status, operator: is, value: open}
        - {field: messaging_session_state, operator: changed_to, value: inactive}
        - {field: messaging_session_inactive_reason, operator: is, value: user_inactive_or_offline}
      any: []
    actions:
      - {field: status, value: solved}
      - {field: add_tags, value: abandoned_conversation}
tests: []                   # examples beside the rules, section 7
"""


def errors(file: TriggerFile) -> list[str]:
    return [f"{problem.line}:{problem.column} {problem.code}" for problem in file.errors]


def unmarked(text: str) -> tuple[str, list[str]]:
    """The text without its `▸` marks, and the places where they stood."""
    places = []
    while (at := text.find("▸")) >= 0:
        places.append(f"{text.count(chr(10), 0, at) + 1}:{at - text.rfind(chr(10), 0, at)}")
        text = text[:at] + text[at + 1 :]
    return text, places


def only_trigger(text: str) -> Trigger:
    file = parse_triggers(text)
    assert file.errors == []
    assert file.ruleset is not None
    (trigger,) = file.ruleset.triggers
    return trigger


def with_condition(condition: str) -> TriggerFile:
    """A file with one condition, which begins in column 25 of line 1."""
    return parse_triggers(
        f"triggers: [{{id: t, conditions: {{all: [{condition}]}}, actions: [{{field: status, value: solved}}]}}]"
    )


AT = len("triggers: [{id: t, conditions: {all: [") + 1
"""Column of the condition in `with_condition`."""


def condition(written: str) -> Condition:
    file = with_condition(written)
    assert errors(file) == []
    assert file.ruleset is not None
    return file.ruleset.triggers[0].all[0]


def with_action(action: str) -> TriggerFile:
    return parse_triggers(
        f"triggers: [{{id: t, conditions: {{all: [{{field: status, value: new}}]}}, actions: [{action}]}}]"
    )


ACTION_AT = len("triggers: [{id: t, conditions: {all: [{field: status, value: new}]}, actions: [") + 1


def action(written: str) -> Action:
    file = with_action(written)
    assert errors(file) == []
    assert file.ruleset is not None
    return file.ruleset.triggers[0].actions[0]


# --- what files mean --------------------------------------------------------------------------------------------------


def test_the_example_of_the_contract():
    file = parse_triggers(SPEC_EXAMPLE)
    assert file.errors == []
    assert file.ruleset is not None
    assert file.ruleset.cycle == "restart"
    assert file.ruleset.triggers == (
        Trigger(
            id="solve-abandoned",
            title="Solve abandoned conversations",
            position=1,
            actions=(Action("status", "solved"), Action("add_tags", ["abandoned_conversation"])),
            all=(
                Condition("status", Operator.IS, "open"),
                Condition("messaging_session_state", Operator.VALUE, "inactive"),
                Condition("messaging_session_inactive_reason", Operator.IS, "user_inactive_or_offline"),
            ),
        ),
    )
    assert file.places["solve-abandoned"].line == 3


def test_what_is_not_said_has_defaults():
    trigger = only_trigger(
        "triggers: [{id: 7, conditions: {any: [{field: status, value: open}]}, actions: [{field: type, value: null}]}]"
    )
    assert trigger == Trigger(
        id="7",
        title="7",
        position=1,
        actions=(Action("type", None),),
        any=(Condition("status", Operator.IS, "open"),),
        active=True,
        category_position=0,
        wait=0,
    )


def test_a_position_that_is_not_given_is_the_place_in_the_file():
    body = "conditions: {all: [{field: status, value: new}]}, actions: [{field: type, value: task}]"
    file = parse_triggers(
        f"triggers: [{{id: a, {body}}}, {{id: b, position: 0.5, {body}}}, "
        f"{{id: c, category: {{position: 3, name: x}}, {body}}}]"
    )
    assert file.ruleset is not None
    assert [(t.category_position, t.position) for t in file.ruleset.triggers] == [(0, 1), (0, 0.5), (3, 3)]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("{field: status, value: open}", Condition("status", Operator.IS, "open")),
        ("{field: status, operator: null, value: open}", Condition("status", Operator.IS, "open")),
        ("{field: status, value: On-Hold}", Condition("status", Operator.IS, "hold")),
        ("{field: status, value: [New, Open]}", Condition("status", Operator.IS, ["new", "open"])),
        ("{field: status, value: [open, null]}", Condition("status", Operator.IS, ["open", None])),
        ("{field: priority, operator: is_not, value: ''}", Condition("priority", Operator.IS_NOT, None)),
        ("{field: priority, value: null}", Condition("priority", Operator.IS, None)),
        ("{field: priority, value: __NULL__}", Condition("priority", Operator.IS, None)),
        ("{field: group_id, value: 360}", Condition("group_id", Operator.IS, "360")),
        ("{field: group_id, value: 36000000000000000001}", Condition("group_id", Operator.IS, "36000000000000000001")),
        ("{field: group_id, value: 007}", Condition("group_id", Operator.IS, "007")),
        ("{field: custom_fields_11, value: 360}", Condition("custom_fields_11", Operator.IS, 360)),
        ("{field: custom_fields_11, value: Yes}", Condition("custom_fields_11", Operator.IS, "Yes")),
        ("{field: custom_fields_11, value: true}", Condition("custom_fields_11", Operator.IS, True)),
        ("{field: custom_fields_11, value: 2026-03-01}", Condition("custom_fields_11", Operator.IS, "2026-03-01")),
        ("{field: vip_level, value: gold}", Condition("vip_level", Operator.IS, "gold")),
        ("{field: status, operator: changed}", Condition("status", Operator.CHANGED)),
        ("{field: status, operator: changed, value: null}", Condition("status", Operator.CHANGED)),
        ("{field: status, operator: changed_to, value: open}", Condition("status", Operator.VALUE, "open")),
        ("{field: status, operator: changed_from, value: open}", Condition("status", Operator.VALUE_PREVIOUS, "open")),
        ("{field: status, operator: not_changed_to, value: a}", Condition("status", Operator.NOT_VALUE, "a")),
        (
            "{field: status, operator: not_changed_from, value: a}",
            Condition("status", Operator.NOT_VALUE_PREVIOUS, "a"),
        ),
        ("{field: status, operator: value, value: [a, b]}", Condition("status", Operator.VALUE, ["a", "b"])),
        ("{field: status, operator: less_than, value: Pending}", Condition("status", Operator.LESS_THAN, "pending")),
        ("{field: reopens, operator: greater_than, value: '3'}", Condition("reopens", Operator.GREATER_THAN, 3)),
        (
            "{field: custom_fields_1, operator: less_than_equal, value: 2.5}",
            Condition("custom_fields_1", Operator.LESS_THAN_EQUAL, 2.5),
        ),
        (
            "{field: tags, operator: includes, value: vip  late}",
            Condition("current_tags", Operator.INCLUDES, ["vip", "late"]),
        ),
        (
            "{field: current_tags, operator: not_includes, value: [vip, 7]}",
            Condition("current_tags", Operator.NOT_INCLUDES, ["vip", "7"]),
        ),
        (
            "{field: custom_fields_1, operator: includes, value: [a b, c]}",
            Condition("custom_fields_1", Operator.INCLUDES, ["a b", "c"]),
        ),
        ("{field: update_type, operator: is, value: Change}", Condition("update_type", Operator.IS, "change")),
        ("{field: messaging_session_state, value: Open}", Condition("messaging_session_state", Operator.IS, "active")),
        (
            "{field: messaging_session_inactive_reason, value: User inactive or offline}",
            Condition("messaging_session_inactive_reason", Operator.IS, "user_inactive_or_offline"),
        ),
    ],
)
def test_conditions_are_resolved_and_normalised(written, meant):
    assert condition(written) == meant


def test_every_spelling_of_every_operator_is_known():
    for name, operator in OPERATOR_NAMES.items():
        value = "" if operator in WITHOUT_VALUE else ", value: 3"
        assert condition(f"{{field: custom_fields_1, operator: {name}{value}}}").operator is operator


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("{field: status, value: Solved}", Action("status", "solved")),
        ("{field: group_id, value: 360}", Action("group_id", "360")),
        ("{field: assignee_id, value: ''}", Action("assignee_id", None)),
        ("{field: assignee_id, value: null}", Action("assignee_id", None)),
        ("{field: custom_fields_11, value: [a, b]}", Action("custom_fields_11", ["a", "b"])),
        ("{field: custom_fields_11, value: 5}", Action("custom_fields_11", 5)),
        ("{field: custom_fields_11, value: ''}", Action("custom_fields_11", None)),
        ("{field: routing_channel, value: email}", Action("routing_channel", "email")),
        ("{field: current_tags, value: a b a}", Action("add_tags", ["a", "b"])),
        ("{field: add_tags, value: [a b, 7]}", Action("add_tags", ["a", "b", "7"])),
        ("{field: remove_tags, value: a}", Action("remove_tags", ["a"])),
        ("{field: set_tags, value: ''}", Action("set_tags", [])),
        (
            "{field: notification_user, value: [requester_id, Hi, 5]}",
            Action("notification_user", ["requester_id", "Hi", 5]),
        ),
        ("{field: reply_public, value: {a: [yes]}}", Action("reply_public", {"a": ["yes"]})),
        ("{field: side_conversation_slack, value: ''}", Action("side_conversation_slack", "")),
        ("{field: end_messaging_session}", Action("end_messaging_session", None)),
        ("{field: end_messaging_session, value: true}", Action("end_messaging_session", True)),
    ],
)
def test_actions_are_resolved_and_normalised(written, meant):
    assert action(written) == meant


@pytest.mark.parametrize(("written", "wait"), [("0", 0), ("0s", 0), ("500ms", SECOND // 2), ("1h", 3600 * SECOND)])
def test_waits_are_durations(written, wait):
    assert only_trigger(SPEC_EXAMPLE.replace("wait: 0s", f"wait: {written}")).wait == wait


# --- what can be wrong ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "problem", "says"),
    [
        ("{field: ▸staus, value: open}", "unknown_field", "did you mean `status`?"),
        ("{field: ▸Priority, value: low}", "unknown_field", "did you mean `priority`?"),
        ("{field: ▸tag, operator: includes, value: x}", "unknown_field", "did you mean `tags`?"),
        ("{field: ▸messaging_session_status, value: x}", "unknown_field", "did you mean `messaging_session_state`?"),
        ("{field: ▸messaging_session_foo_bar, value: x}", "unknown_field", "`messaging_session_channel`"),
        ("{field: ▸custom_field_11, value: x}", "unknown_field", "`custom_fields_<id>`"),
        ("{field: ▸custom_fields, value: x}", "unknown_field", "`custom_fields_<id>`"),
        ("{field: ▸custom_fields_, value: x}", "unknown_field", "`custom_fields_<id>`"),
        ("{field: ▸'custom_fields_1 2', value: x}", "unknown_field", "`custom_fields_<id>`"),
        ("{field: ▸[a], value: x}", "wrong_type", "this is a list"),
        ("{field: ▸'', value: x}", "empty_value", "`field` is empty"),
        ("▸{operator: is, value: x}", "missing_key", "names no `field`"),
        ("{▸feild: status, value: x}", "unknown_key", "did you mean `field`?"),
        ("{field: status, ▸op: is, value: x}", "unknown_key", "under `operator`"),
        ("{field: status, operator: ▸equals, value: x}", "unknown_operator", "write `is`"),
        ("{field: status, operator: ▸Is Not, value: x}", "unknown_operator", "did you mean `is_not`?"),
        ("{field: status, operator: ▸matches, value: x}", "unknown_operator", "operators are `is`"),
        ("{field: status, operator: ▸not in, value: x}", "unknown_operator", "write `is_not` with a list"),
        ("{field: status, operator: ▸Is empty, value: x}", "unknown_operator", "write `not_present`"),
        ("{field: tags, operator: ▸contains_all, value: a b}", "unknown_operator", "`includes` once for each word"),
        ("{field: status, operator: ▸changed_to}", "missing_value", "`changed_to` lacks its `value`"),
        ("{field: status, operator: not_changed, ▸value: x}", "superfluous_value", "`not_changed` takes no value"),
        ("{field: tags, operator: ▸changed_to, value: a}", "unsuitable_operator", "`changed_to` makes no sense"),
        ("{field: tags, operator: includes, value: [a, ▸[b]]}", "wrong_type", "this is a list in the list"),
        ("{field: priority, operator: less_than, value: ▸hihg}", "unordered_value", "is `hihg`; did you mean `high`?"),
        ("{field: status, operator: ▸is}", "missing_value", "`is` lacks its `value`"),
        ("{field: ▸status}", "missing_value", "`is` lacks its `value`"),
        ("{field: status, operator: is, ▸valeu: x}", "unknown_key", "did you mean `value`?"),
        ("{field: status, operator: changed, ▸value: open}", "superfluous_value", "takes no value"),
        ("{field: status, operator: present, ▸value: true}", "superfluous_value", "takes no value"),
        ("{field: status, operator: is, value: ▸[]}", "empty_value", "empty list"),
        ("{field: status, operator: is, value: ▸{a: b}}", "wrong_type", "a mapping"),
        ("{field: status, operator: is, value: [a, ▸[b]]}", "wrong_type", "a list"),
        ("{field: tags, operator: ▸is, value: vip}", "unsuitable_operator", "makes no sense on `tags`"),
        ("{field: ▸tags, value: vip}", "unsuitable_operator", "`includes`"),
        ("{field: current_tags, operator: ▸is_not, value: vip}", "unsuitable_operator", "`includes`"),
        ("{field: current_tags, operator: ▸changed}", "unsuitable_operator", "`includes`"),
        ("{field: current_tags, operator: ▸not_changed_from, value: a}", "unsuitable_operator", "`includes`"),
        ("{field: current_tags, operator: ▸less_than, value: 5}", "unsuitable_operator", "`includes`"),
        ("{field: update_type, operator: ▸changed}", "unsuitable_operator", "always `change`"),
        ("{field: update_type, operator: ▸changed_to, value: change}", "unsuitable_operator", "always `change`"),
        ("{field: tags, operator: includes, value: ▸' '}", "empty_value", "at least one word"),
        ("{field: tags, operator: includes, value: ▸[]}", "empty_value", "at least one word"),
        ("{field: tags, operator: includes, value: ▸null}", "empty_value", "at least one word"),
        ("{field: tags, operator: includes, value: ▸{a: 1}}", "wrong_type", "a mapping"),
        ("{field: status, operator: less_than, value: ▸pendin}", "unordered_value", "did you mean `pending`?"),
        ("{field: status, operator: less_than, value: ▸3}", "unordered_value", "one of `new`"),
        ("{field: status, operator: less_than, value: ▸null}", "unordered_value", "this is nothing"),
        ("{field: status, operator: less_than, value: ▸[new]}", "wrong_type", "this is a list"),
        ("{field: custom_fields_1, operator: greater_than, value: ▸many}", "unordered_value", "needs a number"),
        ("{field: custom_fields_1, operator: greater_than, value: ▸2026-03-01}", "unordered_value", "a number"),
        ("{field: custom_fields_1, operator: greater_than, value: ▸inf}", "unordered_value", "a number"),
        ("{field: custom_fields_1, operator: greater_than, value: ▸true}", "unordered_value", "a number"),
        ("▸text", "wrong_type", "a condition is a mapping"),
    ],
)
def test_a_condition_that_cannot_be_one_is_refused_at_its_place(written, problem, says):
    file = with_condition(written.replace("▸", ""))
    (error,) = file.errors
    assert (error.line, error.column, error.code) == (1, AT + written.index("▸"), problem)
    assert says in error.message
    assert file.ruleset is None


@pytest.mark.parametrize(
    ("written", "problem", "says"),
    [
        ("{field: ▸stauts, value: solved}", "unknown_action", "did you mean `status`?"),
        ("{field: ▸tags, value: x}", "unknown_action", "did you mean `add_tags`?"),
        ("{field: ▸group, value: x}", "unknown_action", "did you mean `group_id`?"),
        ("{field: ▸subject, value: x}", "unknown_action", "actions are `status`"),
        ("{field: ▸Notify user, value: x}", "unknown_action", "did you mean `notification_user`?"),
        ("{field: ▸messaging_session_state, value: ended}", "unknown_action", "mean `end_messaging_session`?"),
        ("{field: add_tags, value: [a, ▸{b: c}]}", "wrong_type", "this is a mapping in the list"),
        ("{field: ▸custom_field_1, value: x}", "unknown_action", "`custom_fields_<id>`"),
        ("{field: ▸custom_fields_, value: x}", "unknown_action", "`custom_fields_<id>`"),
        ("{field: ▸reply_, value: x}", "unknown_action", "no action `reply_`"),
        ("{field: ▸status}", "missing_value", "write `value: null`"),
        ("{field: ▸add_tags}", "missing_value", "lacks its `value`"),
        ("{field: ▸notification_user}", "missing_value", "lacks its `value`"),
        ("{field: add_tags, value: ▸''}", "empty_value", "at least one tag"),
        ("{field: remove_tags, value: ▸[]}", "empty_value", "at least one tag"),
        ("{field: add_tags, value: ▸{a: b}}", "wrong_type", "a mapping"),
        ("{field: status, value: ▸[solved]}", "wrong_type", "one value"),
        ("{field: custom_fields_1, value: ▸{a: b}}", "wrong_type", "a mapping"),
        ("{field: status, ▸operator: is, value: solved}", "unknown_key", "an action has no operator"),
        ("▸{value: solved}", "missing_key", "names no `field`"),
        ("▸solved", "wrong_type", "an action is a mapping"),
    ],
)
def test_an_action_that_cannot_be_one_is_refused_at_its_place(written, problem, says):
    file = with_action(written.replace("▸", ""))
    (error,) = file.errors
    assert (error.line, error.column, error.code) == (1, ACTION_AT + written.index("▸"), problem)
    assert says in error.message
    assert file.ruleset is None


BODY = """
    conditions: {all: [{field: status, value: new}]}
    actions: [{field: type, value: task}]
"""


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("▸", "empty"),
        ("▸# only a comment\n", "empty"),
        ("▸null\n", "empty"),
        ("▸- id: a\n", "wrong_type"),
        ("▸just text\n", "wrong_type"),
        ("▸{}\n", "missing_key"),
        ("▸trigers: []\n", "unknown_key"),
        ("triggers: ▸{id: a}\n", "wrong_type"),
        ("cycle: ▸once\ntriggers: []\n", "bad_cycle"),
        ("cycle: ▸[restart]\ntriggers: []\n", "bad_cycle"),
        ("cycle:▸\ntriggers: []\n", "bad_cycle"),
        ("holdout:▸\ntriggers: []\n", "wrong_type"),
        ("holdout: ▸5%\ntriggers: []\n", "wrong_type"),
        ("holdout: ▸▸{}\ntriggers: []\n", "missing_key missing_key"),
        ("holdout: ▸{share: 5%}\ntriggers: []\n", "missing_key"),
        ("holdout: {share: 5%, ▸seed: a}\ntriggers: []\n", "unknown_key"),
        ("holdout: {share: 5%, salt: ▸' '}\ntriggers: []\n", "empty_value"),
        ("holdout: {share: ▸5, salt: a}\ntriggers: []\n", "bad_share"),
        ("holdout: {share: ▸0.05, salt: a}\ntriggers: []\n", "bad_share"),
        ("holdout: {share: ▸101%, salt: a}\ntriggers: []\n", "bad_share"),
        ("holdout: {share: ▸-1%, salt: a}\ntriggers: []\n", "bad_share"),
        ("holdout: {share: ▸0.00001%, salt: a}\ntriggers: []\n", "bad_share"),
        ("holdout: {share: ▸[5%], salt: a}\ntriggers: []\n", "bad_share"),
        ("holdout: {share: ▸٥%, salt: a}\ntriggers: []\n", "bad_share"),
        ("triggers:\n  - ▸a\n  - ▸[b]\n", "wrong_type wrong_type"),
        (f"triggers:\n  - ▸title: x{BODY}", "missing_key"),
        (f"triggers:\n  - id:▸{BODY}", "wrong_type"),
        (f"triggers:\n  - id: ▸' '{BODY}", "empty_value"),
        (f"triggers:\n  - id: ▸true{BODY}", "wrong_type"),
        (f"triggers:\n  - id: ▸1.5{BODY}", "wrong_type"),
        (f"triggers:\n  - id: a{BODY}  - id: ▸a{BODY}", "duplicate_id"),
        (f"triggers:\n  - id: 7{BODY}  - id: ▸'7'{BODY}", "duplicate_id"),
        (f"triggers:\n  - id: a\n    active: ▸yes{BODY}", "wrong_type"),
        (f"triggers:\n  - id: a\n    position: ▸first{BODY}", "wrong_type"),
        (f"triggers:\n  - id: a\n    position: ▸true{BODY}", "wrong_type"),
        (f"triggers:\n  - id: a\n    wait: ▸30{BODY}", "bad_duration"),
        (f"triggers:\n  - id: a\n    wait: ▸-5s{BODY}", "bad_duration"),
        (f"triggers:\n  - id: a\n    wait: ▸[5s]{BODY}", "bad_duration"),
        (f"triggers:\n  - id: a\n    category: ▸general{BODY}", "wrong_type"),
        (f"triggers:\n  - id: a\n    category: ▸{{name: general}}{BODY}", "missing_key"),
        (f"triggers:\n  - id: a\n    category: {{▸posiion: 1}}{BODY}", "unknown_key"),
        (f"triggers:\n  - id: a\n    ▸titel: x\n    ▸description: y{BODY}", "unknown_key unknown_key"),
        ("triggers:\n  - ▸▸id: a\n", "no_condition no_action"),
        ("triggers:\n  - id: a\n    ▸conditions:\n    ▸actions:\n", "no_condition no_action"),
        ("triggers:\n  - {id: a, ▸conditions: {all: [], any: }, ▸actions: []}\n", "no_condition no_action"),
        ("triggers:\n  - {id: a, conditions: ▸[], actions: ▸x}\n", "wrong_type wrong_type"),
        ("triggers:\n  - {id: a, conditions: {▸al: []}, ▸▸acions: []}\n", "unknown_key unknown_key no_action"),
        (
            "triggers:\n  - id: a\n    ▸condtions: {all: [{field: ▸statos, operator: is, value: open}]}\n"
            "    actions: [{▸feild: ▸statos, value: open}]\n",
            "unknown_key unknown_field unknown_key unknown_action",
        ),
        ("triggers:\n  - {id: a, conditions: {all: ▸x}, actions: ▸{}}\n", "wrong_type wrong_type"),
        ("triggers:\n  - ▸id: a\n    ▸all: []\n    actions: [{field: type, value: x}]\n", "no_condition unknown_key"),
        ('▸{"triggers": [{"id": 1, "url": "x"}], "count": 1, "next_page": null}', "zendesk_export"),
    ],
)
def test_a_file_that_cannot_be_one_is_refused_at_its_places(text, problems):
    text, places = unmarked(text)
    file = parse_triggers(text)
    assert errors(file) == [f"{place} {code}" for place, code in zip(places, problems.split(), strict=True)]
    assert file.ruleset is None


def test_all_problems_of_a_file_are_told_at_once():
    file = parse_triggers(
        """\
cycle: restat
triggers:
  - id: a
    titel: x
    wait: 30
    conditions:
      all:
        - {field: staus, operator: is, value: open}
        - {field: status, operator: equals}
        - {field: tags, operator: is, value: vip}
    actions:
      - {field: status}
  - id: a
tests:
  - {name: t, when: {session: {state: inactive}}, expect: {fired: [b]}}
"""
    )
    assert errors(file) == [
        "1:8 bad_cycle",
        "4:5 unknown_key",
        "5:11 bad_duration",
        "8:19 unknown_field",
        "9:37 unknown_operator",
        "10:35 unsuitable_operator",
        "12:17 missing_value",
        "13:5 no_condition",
        "13:5 no_action",
        "13:9 duplicate_id",
        "15:68 unknown_trigger",
    ]


def test_a_problem_reads_as_compilers_write_it():
    (problem,) = parse_triggers("", "rules/mine.yaml").problems
    assert str(problem) == "rules/mine.yaml:1:1: empty: the file is empty; it needs a list `triggers`"


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_file_is_read_from_its_path(tmp_path: Path):
    path = tmp_path / "rules.yaml"
    path.write_text(SPEC_EXAMPLE)
    assert load_triggers(path).ruleset == load_triggers(str(path)).ruleset == parse_triggers(SPEC_EXAMPLE).ruleset
    assert load_triggers(path).file == str(path)


def test_windows_line_ends_and_a_byte_order_mark_do_no_harm(tmp_path: Path):
    path = tmp_path / "rules.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + SPEC_EXAMPLE.replace("\n", "\r\n").encode())
    assert load_triggers(path).ruleset == parse_triggers(SPEC_EXAMPLE).ruleset


@pytest.mark.parametrize(
    ("data", "problem", "says"),
    [
        ("triggers:\n  - title: für\n".encode("cp1252"), "2:13 not_utf8", "Windows-encoded (`ü` there)"),
        ("triggers: []".encode("utf-16"), "1:1 not_utf8", "UTF-16"),
        (b"# " + b"x" * reading.MAX_BYTES, "1:1 too_large", "20 MB"),
        (b"", "1:1 empty", "empty"),
    ],
)
def test_a_file_that_is_no_text_is_refused(tmp_path: Path, data, problem, says):
    path = tmp_path / "rules.yaml"
    path.write_bytes(data)
    file = load_triggers(path)
    assert errors(file) == [problem]
    assert says in file.problems[0].message


def test_a_path_without_a_file_is_refused(tmp_path: Path):
    assert errors(load_triggers(tmp_path / "none.yaml")) == ["1:1 not_found"]
    assert errors(load_triggers(tmp_path)) == ["1:1 is_directory"]
    (tmp_path / "file").write_text("x")
    assert errors(load_triggers(tmp_path / "file" / "below")) == ["1:1 unreadable"]
    assert errors(load_triggers("nul\0byte")) == ["1:1 unreadable"]
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert errors(load_triggers(tmp_path / "loop")) == ["1:1 unreadable"]


# --- no way to break it -----------------------------------------------------------------------------------------------

WORDS = st.sampled_from(
    [
        *("cycle triggers tests id title active position category wait conditions actions all any field".split()),
        *("operator value name given when after expect fired outcome session ticket state 30s 5 1.10 true".split()),
        *CONDITION_FIELDS,
        *ACTION_FIELDS,
        *OPERATOR_NAMES,
    ]
) | st.text(max_size=3)
TREES = st.recursive(
    WORDS | st.integers() | st.floats() | st.booleans() | st.none(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(WORDS, children, max_size=6),
    max_leaves=30,
)
CONDITIONS = st.fixed_dictionaries({}, optional={"field": TREES, "operator": WORDS, "value": TREES})
ACTIONS = st.fixed_dictionaries({}, optional={"field": TREES, "value": TREES})
TRIGGERS = st.fixed_dictionaries(
    {},
    optional={
        "id": WORDS | TREES,
        "active": TREES,
        "wait": TREES,
        "category": TREES,
        "conditions": st.fixed_dictionaries({}, optional={"all": st.lists(CONDITIONS, max_size=3), "any": TREES}),
        "actions": st.lists(ACTIONS, max_size=3),
    },
)
FILES = st.fixed_dictionaries(
    {}, optional={"cycle": WORDS, "triggers": st.lists(TRIGGERS, max_size=4), "tests": st.lists(TREES, max_size=2)}
)


@given(st.text())
def test_no_text_breaks_the_reader(text):
    assert parse_triggers(text).errors


@given(FILES | TREES)
def test_no_tree_breaks_the_reader(tree):
    file = parse_triggers(yaml.safe_dump(tree, sort_keys=False))
    assert (file.ruleset is None) == bool(file.errors)
    lines = [(problem.line, problem.column) for problem in file.problems]
    assert lines == sorted(lines)
    assert all(line >= 1 and column >= 1 for line, column in lines)


def test_seven_thousand_triggers_are_checked_in_seconds():
    """Zendesk's limit of active triggers. The bound is far above the time it takes: it catches squares, not noise."""
    rng = random.Random(1)
    text = "triggers:\n" + "".join(
        f"""\
  - id: trigger-{n}
    wait: {rng.choice([0, 5])}s
    conditions:
      all:
        - {{field: messaging_session_state, operator: changed_to, value: inactive}}
        - {{field: group_id, operator: is_not, value: {n}}}
        - {{field: tiket_member_{n}, value: x}}
    actions:
      - {{field: priority, value: {rng.choice(["low", "high"])}}}
      - {{field: custom_fields_{n}, value: {n}}}
"""
        for n in range(7_000)
    )
    started = time.perf_counter()
    file = parse_triggers(text)
    assert time.perf_counter() - started < 20
    assert file.errors == []
    assert sum(problem.code == "overlap" for problem in file.problems) == 100
    assert sum(problem.code == "unlisted_overlaps" for problem in file.problems) == 1


@pytest.mark.parametrize(
    ("member", "meant"),
    [
        ("statuses", "status"),
        ("messagingSessionState", "messaging_session_state"),
        ("session_reason", "messaging_session_inactive_reason"),
        ("group", "group_id"),
        ("ticket.status", "status"),
        ("ticket_priority", "priority"),
        ("360001", "custom_fields_360001"),
        ("ticket_field_360001", "custom_fields_360001"),
    ],
)
def test_a_member_that_a_known_field_may_be_meant_by_is_taken_with_a_warning(member, meant):
    found = parse_triggers(SPEC_EXAMPLE.replace("field: status, operator", f"field: {member}, operator"))
    assert found.ruleset is not None
    assert found.ruleset.triggers[0].all[0].field == member
    (problem,) = found.problems
    assert (problem.code, problem.severity) == ("similar_field", "warning")
    assert f"if `{meant}` is meant" in problem.message


@pytest.mark.parametrize("member", ["created_by", "updated_by", "loyalty_level", "score", "country", "channel"])
def test_a_member_that_zendesks_tickets_do_not_have_is_taken_with_a_warning(member):
    found = parse_triggers(SPEC_EXAMPLE.replace("field: status, operator", f"field: {member}, operator"))
    assert found.ruleset is not None
    assert [(problem.code, problem.severity) for problem in found.problems] == [("unlisted_member", "warning")]


@pytest.mark.parametrize("member", ["via", "url", "skills", "encoded_id"])
def test_a_member_that_zendesks_tickets_have_is_taken(member):
    assert parse_triggers(SPEC_EXAMPLE.replace("field: status, operator", f"field: {member}, operator")).problems == []


@pytest.mark.parametrize(
    ("member", "meant"),
    [
        ("channel", "messaging_session_channel"),
        ("reason", "messaging_session_inactive_reason"),
        ("state", "messaging_session_state"),
    ],
)
def test_a_members_warning_names_the_sessions_field_that_is_meant_and_its_known_values(member, meant):
    found = parse_triggers(SPEC_EXAMPLE.replace("field: status, operator", f"field: {member}, operator"))
    (problem,) = found.problems
    assert problem.code == "unlisted_member"
    assert f"write `{meant}`" in problem.message
    assert all(f"`{value}`" in problem.message for value in CONDITION_FIELDS[meant].values)


def _advised(conditions: str, actions: str) -> list[tuple[str, int]]:
    lapse = "{field: messaging_session_state, operator: changed_to, value: inactive}"
    text = (
        f"triggers:\n  - id: a\n    conditions:\n      all:\n        - {lapse}\n        - {conditions}\n"
        f"    actions:\n      - {actions}\n"
    )
    return [(problem.code, problem.line) for problem in parse_triggers(text).problems]


@pytest.mark.parametrize("words", ['"vip, key_account"', '"vip,key_account"', "[vip, 'a,b']", "'vip; late'"])
def test_a_comma_in_the_words_of_a_condition_or_an_action_is_named(words):
    solve = "{field: status, value: solved}"
    assert _advised(f"{{field: tags, operator: not_includes, value: {words}}}", solve) == [("separator_in_word", 6)]
    condition = "{field: priority, operator: is, value: low}"
    assert _advised(condition, f"{{field: add_tags, value: {words}}}") == [("separator_in_word", 8)]


@pytest.mark.parametrize("value", ["[requester_id, Your chat: there?, Text]", "{Your chat: there?}", "[a, [b: c]]"])
def test_a_mapping_in_a_value_that_is_passed_on_is_named(value):
    condition = "{field: priority, operator: is, value: low}"
    found = _advised(condition, f"{{field: notification_user, value: {value}}}")
    assert found == [("mapping_in_value", 8)]
    quoted = '[requester_id, "Your chat: there?", Text]'
    assert _advised(condition, f"{{field: notification_user, value: {quoted}}}") == []


def test_setting_the_routing_channel_beside_ending_the_session_is_named():
    condition = "{field: priority, operator: is, value: low}"
    both = "{field: routing_channel, value: email}\n      - {field: end_messaging_session, value: true}"
    assert _advised(condition, both) == [("ends_session_twice", 9)]


def test_zendesks_ended_reason_is_refused_and_not_taken_for_the_inactive_reason():
    found = parse_triggers(
        SPEC_EXAMPLE.replace("field: messaging_session_inactive_reason", "field: messaging_session_ended_reason")
    )
    (problem,) = found.problems
    assert (problem.code, problem.severity) == ("unknown_field", "error")
    assert "not why it ended" in problem.message
    assert "did you mean" not in problem.message


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("enabled", "write `active`"),
        ("delay", "write `wait`"),
        ("order", "write `position`"),
        ("tags", "`{field: add_tags, value: abandoned}`"),
    ],
)
def test_a_key_of_other_rule_languages_is_answered_with_the_one_to_write(key, says):
    (problem,) = parse_triggers(SPEC_EXAMPLE.replace("    wait: 0s", f"    {key}: x")).problems
    assert (problem.code, says in problem.message) == ("unknown_key", True)


def test_another_word_for_conditions_or_actions_is_told_once():
    text = SPEC_EXAMPLE.replace("    conditions:", "    when:").replace("    actions:", "    then:")
    assert [problem.message for problem in parse_triggers(text).problems] == [
        "a trigger has no key `when`; write `conditions`",
        "a trigger has no key `then`; write `actions`",
    ]


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("active: yes", "write `true`, without quotes"),
        ("active: 'false'", "write `false`, without quotes"),
        ("position: '3'", "leave the quotes out"),
        ("position: first", "is a number, and this is a text: `first`"),
        ("wait: 5 minutes", "did you mean `5m`?"),
        ("wait: 1.5h", "did you mean `90m`?"),
        ("wait: PT1M30S", "did you mean `90s`?"),
        ("wait: '60'", "did you mean `60s`?"),
        ("wait: ''", "and this is nothing"),
        ("wait: soon", "as in `500ms`, `30s`, `5m`, `1h`, `30d`"),
    ],
)
def test_a_value_of_another_kind_is_answered_with_what_is_meant(written, says):
    key = written.split(":")[0]
    lines = (line for line in SPEC_EXAMPLE.splitlines() if not line.startswith(f"    {key}:"))
    text = "\n".join(lines).replace("    title:", f"    {written}\n    title:")
    (problem,) = parse_triggers(text).problems
    assert says in problem.message


@pytest.mark.parametrize(
    ("share", "ppm", "warned"),
    [
        ("5%", 50_000, []),
        ("'5 %'", 50_000, []),
        ("0.0001%", 1, []),
        ("12.5%", 125_000, []),
        ("0%", 0, ["1:18 holds_out_nothing"]),
        ("100.0%", 1_000_000, ["1:18 holds_out_everything"]),
    ],
)
def test_a_share_is_a_percentage_and_one_that_means_none_or_all_is_warned_of(share, ppm, warned):
    file = parse_triggers(f"holdout: {{share: {share}, salt: a}}\ntriggers:\n  - id: a{BODY}")
    assert file.ruleset is not None
    assert file.ruleset.holdout == Holdout(ppm, "a")
    found = [f"{one.line}:{one.column} {one.code}" for one in file.warnings if one.code.startswith("holds_out")]
    assert found == warned
