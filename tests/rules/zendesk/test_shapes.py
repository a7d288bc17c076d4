"""Exports that went through a script: what can only mean one thing is read, everything else is named and inactive."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from streams.cli import app
from streams.cli.root import UsageError
from streams.rules.check import check_files
from streams.rules.triggers import load_triggers
from streams.rules.zendesk.command import Converted, convert_export, convert_import
from streams.rules.zendesk.exports import ExportError

LEFT = {"field": "messaging_session_state", "operator": "value", "value": "inactive"}
NO_VIP = {"field": "current_tags", "operator": "not_includes", "value": "vip"}
SOLVE = {"field": "status", "value": "solved"}


def imported(folder: Path, page: Any) -> tuple[Converted, Path]:
    source, file = folder / "z.json", folder / "t.yaml"
    source.write_text(page if isinstance(page, str) else json.dumps(page))
    converted = convert_import([source])
    file.write_text(converted.text)
    report = check_files([file])
    assert report.errors == 0, report.text()
    return converted, file


def trigger(**members: Any) -> dict[str, Any]:
    return {"id": 7, "title": "T", "conditions": {"all": [LEFT, NO_VIP], "any": []}, "actions": [SOLVE]} | members


def loaded(file: Path) -> Any:
    ruleset = load_triggers(file).ruleset
    assert ruleset is not None
    (found,) = ruleset.triggers
    return found


@pytest.mark.parametrize(
    "conditions",
    [
        {"all": {"0": LEFT, "2": NO_VIP}, "any": []},
        {"all": [json.dumps(LEFT), NO_VIP], "any": None},
        {"all": json.dumps([LEFT, NO_VIP]), "any": ""},
        json.dumps({"all": [LEFT, NO_VIP], "any": []}),
        {"all": [LEFT, NO_VIP], "any": {}},
    ],
    ids=["numbered keys", "an entry as text", "a list as text", "all of it as text", "empty object"],
)
def test_conditions_that_can_only_mean_one_thing_are_read(conditions: Any, tmp_path: Path) -> None:
    _, file = imported(tmp_path, {"triggers": [trigger(conditions=conditions)]})
    found = loaded(file)
    assert found.active
    assert [condition.field for condition in found.all] == ["messaging_session_state", "current_tags"]


def test_a_list_of_one_that_was_unrolled_is_that_list(tmp_path: Path) -> None:
    _, file = imported(tmp_path, {"trigger": trigger(conditions={"all": LEFT, "any": []}, actions=SOLVE)})
    assert loaded(file).active


UNREADABLE: list[tuple[dict[str, Any], str]] = [
    ({"conditions": {"all": [LEFT, "status is open"]}}, "condition 2 of `all` can't be read: it is a text"),
    ({"conditions": {"all": [LEFT, ["status", "is", "open"]]}}, "condition 2 of `all` can't be read: it is a list"),
    ({"conditions": {"all": [LEFT, None]}}, "condition 2 of `all` can't be read: it is nothing"),
    ({"conditions": {"all": {"first": LEFT}}}, "`all` can't be read: it is an object"),
    ({"conditions": {"all": [LEFT], "none": [NO_VIP]}}, "`conditions` has `none`"),
    ({"conditions": {"All": [LEFT, NO_VIP]}}, "`conditions` has `All`"),
    ({"conditions": [LEFT]}, "`conditions` can't be read: it is a list"),
    ({"all": [LEFT]}, "`all` stand beside `conditions`"),
    ({"conditions": {"all": [LEFT, "@{field=current_tags; value=vip}"]}}, "`-Depth`"),
    ({"conditions": {"all": [LEFT, "System.Collections.Hashtable"]}}, "`-Depth`"),
    ({"conditions": "@{all=System.Object[]; any=System.Object[]}"}, "`conditions` can't be read: it is the text"),
    ({"conditions": {"all": [LEFT, NO_VIP | {"value": "System.Object[]"}]}}, "its value can't be read"),
    ({"conditions": {"all": [LEFT, NO_VIP | {"value": {"a": "vip"}}]}}, "its value can't be read"),
    ({"conditions": {"all": [LEFT, NO_VIP | {"negate": True}]}}, "it has a member `negate`"),
    ({"conditions": {"all": [LEFT, {"field": "status", "operator": "is"}]}}, "its `value` is missing"),
    ({"conditions": {"all": [LEFT, NO_VIP | {"operator": ["is"]}]}}, "the operator of `current_tags` can't be read"),
    ({"conditions": {"all": [LEFT, NO_VIP | {"field": {"id": 1}}]}}, "the `field` of a condition can't be read"),
    ({"conditions": {"all": [LEFT, {"field": "status", "operator": "changed", "value": "open"}]}}, "`changed_to`"),
    ({"conditions": {"all": [LEFT, {"field": "priority", "operator": "present", "value": "low"}]}}, "takes no value"),
    ({"actions": [SOLVE, "current_tags y"]}, "action 2 of `actions` can't be read"),
    ({"actions": [SOLVE, "@{field=status; value=open}"]}, "`-Depth`"),
    ({"actions": "System.Object[]"}, "`actions` can't be read"),
    ({"actions": [SOLVE, {"field": "notification_user", "value": "requester_id Subject Body"}]}, "not a list"),
    ({"actions": [{"field": "notification_user", "value": ["a", "System.Object[]", "b"]}]}, "`-Depth`"),
    ({"actions": [{"field": "status"}]}, "its `value` is missing"),
    ({"actions": [{"field": "status", "value": {"id": 1}}]}, "its value can't be read"),
    ({"active": "maybe"}, "its flag `active` can't be read"),
    ({"active": None}, "its flag `active` can't be read"),
    ({"active": 2}, "its flag `active` can't be read"),
    ({"position": "first"}, "its `position` can't be read"),
    ({"position": True}, "its `position` can't be read"),
    ({"position": 10**30}, "its `position` can't be read"),
    ({"id": {"a": 1}}, "its `id` can't be read"),
    ({"title": ["T"]}, "its `title` can't be read"),
    (
        {"conditions": {"all": [LEFT, {"field": "messaging_session_ended_reason", "operator": "is", "value": "x"}]}},
        "not why it ended",
    ),
    (
        {"actions": [{"field": "routing_channel", "value": "email"}, {"field": "end_messaging_session", "value": "1"}]},
        "must not stand beside `end_messaging_session`",
    ),
]


@pytest.mark.parametrize(("members", "says"), UNREADABLE, ids=[says for _, says in UNREADABLE])
def test_what_cannot_be_read_is_named_and_keeps_the_trigger_inactive(
    members: dict[str, Any], says: str, tmp_path: Path
) -> None:
    sent = trigger(**members)
    converted, file = imported(tmp_path, {"triggers": [sent]})
    assert any(says in line and line.endswith("; kept inactive") for line in converted.messages), converted.messages
    assert not loaded(file).active
    [back] = json.loads(convert_export(file).text)["triggers"]
    assert back["actions"] == sent["actions"]
    if isinstance(sent["conditions"], dict) and all(isinstance(side, list) for side in sent["conditions"].values()):
        assert back["conditions"].get("all") == sent["conditions"].get("all", [])
    else:
        assert back["conditions"] == sent["conditions"]


@pytest.mark.parametrize(
    ("written", "active"),
    [(True, True), ("true", True), ("TRUE", True), ("1", True), (1, True), (False, False), ("false", False),
     ("0", False), (0, False), ("", False), ("no", False)],
)  # fmt: skip
def test_a_flag_that_is_written_as_text_or_number_is_that_flag(written: Any, active: bool, tmp_path: Path) -> None:
    _, file = imported(tmp_path, {"trigger": trigger(active=written)})
    assert loaded(file).active is active


@pytest.mark.parametrize(("written", "position"), [("3", 3), (" 4 ", 4), ("2.5", 2.5), (5.0, 5)])
def test_a_position_that_is_written_as_text_is_that_position(written: Any, position: float, tmp_path: Path) -> None:
    _, file = imported(tmp_path, {"trigger": trigger(position=written)})
    assert loaded(file).position == position


@pytest.mark.parametrize("empty", ["", None])
def test_an_empty_value_of_changed_goes_back_as_it_came(empty: str | None, tmp_path: Path) -> None:
    condition = {"field": "group_id", "operator": "changed", "value": empty}
    _, file = imported(tmp_path, {"trigger": trigger(conditions={"all": [LEFT, condition], "any": []})})
    assert loaded(file).active
    [back] = json.loads(convert_export(file).text)["triggers"]
    assert back["conditions"]["all"][1] == condition


@pytest.mark.parametrize(
    ("page", "more"),
    [
        ({"next_page": "null"}, False),
        ({"next_page": "None"}, False),
        ({"meta": {"has_more": "false"}}, False),
        ({"meta": {"has_more": "true", "after_cursor": "x"}}, True),
        ({"next_page": "https://x.zendesk.com/api/v2/triggers.json?page=2"}, True),
    ],
)
def test_a_page_that_is_written_as_text_is_that_page(page: dict[str, Any], more: bool, tmp_path: Path) -> None:
    converted, _ = imported(tmp_path, {"triggers": [trigger()], **page})
    assert any("there is another page" in line for line in converted.messages) is more


def test_triggers_under_numbered_keys_are_the_list(tmp_path: Path) -> None:
    _, file = imported(tmp_path, {"triggers": {"0": trigger()}})
    assert loaded(file).active


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"triggers": ["@{url=x; id=1}"]}', "`-Depth`"),
        ('{"triggers": [{"id": 1, "conditions": {"all": [1], "all": []}, "actions": []}]}', "`all` is written twice"),
        ('{"triggers": [{"position": NaN, "conditions": {}, "actions": []}]}', "`NaN` is no JSON number"),
        ("id,title,active\n1,T,true\n", "it looks like CSV"),
        ('{"triggers": []} "rest"', "is no answer of Zendesk's API"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_with_the_reason(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "z.json").write_text(text)
    with pytest.raises(ExportError) as raised:
        convert_import([tmp_path / "z.json"])
    assert says in str(raised.value)


@pytest.mark.parametrize("verb", ["import", "export"])
def test_no_file_is_written_over_without_force(verb: str, tmp_path: Path) -> None:
    source, output = tmp_path / "z.json", tmp_path / "out"
    source.write_text(json.dumps({"trigger": trigger()}))
    if verb == "export":
        (tmp_path / "t.yaml").write_text(convert_import([source]).text)
        source = tmp_path / "t.yaml"
    output.write_text("mine")
    refused = CliRunner().invoke(app, [verb, str(source), "-o", str(output)])
    assert isinstance(refused.exception, UsageError)
    assert "--force" in str(refused.exception)
    assert output.read_text() == "mine"
    assert CliRunner().invoke(app, [verb, str(source), "-o", str(output), "--force"]).exit_code == 0
    assert output.read_text() != "mine"
