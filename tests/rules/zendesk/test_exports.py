"""Zendesk's answers as they come: paged either way, over several files, and files that are something else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from streams.cli import app
from streams.rules.triggers import load_triggers
from streams.rules.zendesk.command import convert_export, convert_import
from streams.rules.zendesk.exports import ExportError, read_export

ABANDONED = {"field": "messaging_session_state", "operator": "value", "value": "inactive"}
SOLVE = {"field": "status", "value": "solved"}


def trigger(number: int, **others: Any) -> dict[str, Any]:
    return {
        "id": number,
        "title": f"Trigger {number}",
        "active": True,
        "position": number,
        "conditions": {"all": [ABANDONED], "any": []},
        "actions": [SOLVE],
        **others,
    }


def write(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def ids(paths: list[Path]) -> list[str]:
    return [str(one["id"]) for one in read_export(paths).triggers]


def by_offset(number: int, following: str | None) -> dict[str, Any]:
    return {"triggers": [trigger(number)], "count": 2, "next_page": following, "previous_page": None}


def by_cursor(number: int, more: bool) -> dict[str, Any]:
    links = {"next": "https://example.test/api/v2/triggers.json?page[after]=xyz" if more else None, "prev": None}
    return {"triggers": [trigger(number)], "meta": {"has_more": more, "after_cursor": "xyz"}, "links": links}


@pytest.mark.parametrize(
    "pages",
    [
        [by_offset(1, "https://example.test/api/v2/triggers.json?page=2"), by_offset(2, None)],
        [by_cursor(1, True), by_cursor(2, False)],
    ],
    ids=["offset", "cursor"],
)
def test_pages_may_be_files_one_after_the_other_in_a_file_or_a_list(pages: list[Any], tmp_path: Path):
    several = [write(tmp_path / f"{number}.json", page) for number, page in enumerate(pages)]
    one = write(tmp_path / "one.json", "\n".join(map(json.dumps, pages)))
    listed = write(tmp_path / "listed.json", pages)
    for paths in (several, [one], [listed]):
        assert ids(paths) == ["1", "2"]
        assert read_export(paths).remarks == []
    (remark,) = read_export(several[:1]).remarks
    assert "there is another page, at https://example.test/" in remark


def test_conditions_may_stand_at_the_top_as_zendesk_takes_them(tmp_path: Path):
    flat = trigger(1)
    del flat["conditions"]
    flat |= {"all": [ABANDONED], "any": []}
    nested = write(tmp_path / "nested.json", {"trigger": trigger(1)})
    assert convert_import([write(tmp_path / "flat.json", flat)]).text == convert_import([nested]).text


def test_a_trigger_that_comes_on_two_pages_counts_once_and_is_named(tmp_path: Path):
    path = write(tmp_path / "z.json", [by_cursor(1, True), by_cursor(1, False)])
    export = read_export([path])
    assert len(export.triggers) == 1
    assert export.remarks == [f"{path}: trigger 1 came twice; the first one counts"]


def test_categories_order_triggers_as_zendesk_does(tmp_path: Path):
    path = write(
        tmp_path / "z.json", {"triggers": [trigger(1, category_id="20"), trigger(2, category_id="10"), trigger(3)]}
    )
    categories = write(
        tmp_path / "c.json",
        {"trigger_categories": [{"id": "10", "name": "First", "position": 1}, {"id": 20, "name": "L", "position": 2}]},
    )
    file = write(tmp_path / "t.yaml", convert_import([path], categories=categories).text)
    ruleset = load_triggers(file).ruleset
    assert ruleset is not None
    places = {one.id: (one.category_position, one.position) for one in ruleset.triggers}
    assert places == {"3": (0, 3), "2": (1, 2), "1": (2, 1)}
    back = json.loads(convert_export(file).text)["triggers"]
    assert [(one["title"], one.get("category_id")) for one in back] == [
        ("Trigger 1", "20"),
        ("Trigger 2", "10"),
        ("Trigger 3", None),
    ]


DEFINITIONS = {
    "definitions": {
        "conditions_all": [
            {
                "title": "Ticket > Messaging session state",
                "subject": "ms_state_x1",
                "values": [{"value": "st_9", "title": "Inactive", "enabled": True}],
            },
            {
                "title": "Messaging session inactive reason",
                "subject": "ms_reason_x2",
                "values": [{"value": "r_1", "title": "User inactive or offline", "enabled": True}],
            },
        ],
        "conditions_any": [],
        "actions": [
            {
                "title": "Ticket > Set routing channel",
                "subject": "rc_x3",
                "values": [{"value": "em", "title": "Email", "enabled": True}],
            }
        ],
    }
}


def test_definitions_tell_the_accounts_own_names_and_the_way_back_restores_them(tmp_path: Path):
    conditions = [
        {"field": "ms_state_x1", "operator": "value", "value": "st_9"},
        {"field": "ms_reason_x2", "operator": "is", "value": "r_1"},
    ]
    actions = [{"field": "rc_x3", "value": "em"}]
    sent = trigger(7, conditions={"all": conditions, "any": []}, actions=actions)
    definitions = write(tmp_path / "d.json", DEFINITIONS)
    converted = convert_import([write(tmp_path / "z.json", {"triggers": [sent]})], definitions)
    file = write(tmp_path / "t.yaml", converted.text)
    ruleset = load_triggers(file).ruleset
    assert ruleset is not None
    (found,) = ruleset.triggers
    assert [(c.field, c.value) for c in found.all] == [
        ("messaging_session_state", "inactive"),
        ("messaging_session_inactive_reason", "user_inactive_or_offline"),
    ]
    assert [(a.field, a.value) for a in found.actions] == [("routing_channel", "email")]
    (back,) = json.loads(convert_export(file, definitions).text)["triggers"]
    assert (back["conditions"]["all"], back["actions"]) == (conditions, actions)


def test_a_value_may_be_a_number_in_the_export_and_one_that_no_definition_lists_is_named(tmp_path: Path):
    listed = json.loads(json.dumps(DEFINITIONS))
    listed["definitions"]["conditions_all"][1]["values"].append({"value": 12, "title": "Agent ended it"})
    reasons = [{"field": "ms_reason_x2", "operator": "is", "value": value} for value in (12, "12", "r_9", "")]
    sent = trigger(7, conditions={"all": [{**LEFT_BY_DEFINITION}], "any": reasons})
    definitions = write(tmp_path / "d.json", listed)
    converted = convert_import([write(tmp_path / "z.json", {"triggers": [sent]})], definitions)
    ruleset = load_triggers(write(tmp_path / "t.yaml", converted.text)).ruleset
    assert ruleset is not None
    assert [one.value for one in ruleset.triggers[0].any] == ["agent_ended_it", "agent_ended_it", "r_9", None]
    named = [line for line in converted.messages if "the definitions list no value" in line]
    assert len(named) == 1
    assert "`ms_reason_x2 is`: the definitions list no value `r_9`" in named[0]


LEFT_BY_DEFINITION = {"field": "ms_state_x1", "operator": "value", "value": "st_9"}


def test_definitions_in_another_language_are_named_with_what_to_do(tmp_path: Path):
    german = {
        "definitions": {
            "conditions_all": [
                {"title": "Messaging-Sitzungsstatus", "subject": "messaging_session_state_x", "values": []},
                {"title": "Status", "subject": "status", "values": []},
            ],
            "actions": [],
        }
    }
    left = {"field": "messaging_session_state_x", "operator": "value", "value": "INACTIVE"}
    path = write(tmp_path / "z.json", {"triggers": [trigger(1, conditions={"all": [left], "any": []})]})
    definitions = write(tmp_path / "d.json", german)
    first, second = convert_import([path], definitions).messages
    assert first == (
        f"{definitions}: no condition is titled `Messaging session state` and `Messaging session inactive reason`; "
        "what looks like it is `messaging_session_state_x` (Messaging-Sitzungsstatus). Titles come in the language of "
        "the user who asks: fetch the file as a user whose language is English"
    )
    assert "tell by --definitions, with titles in English; kept inactive" in second


def test_a_member_that_zendesk_may_add_one_day_is_named(tmp_path: Path):
    sent = trigger(1, restriction={"type": "Group", "id": 1}, usage_7d=3, default=True, url="x", note=None)
    converted = convert_import([write(tmp_path / "z.json", {"trigger": sent})])
    assert [line for line in converted.messages if "not carried" in line] == [
        f'{tmp_path / "z.json"}: trigger 1 "Trigger 1": its `restriction` is not carried: neither Lapse nor the way '
        "back knows it"
    ]


KEPT = {"field": "assignee_id", "value": "current_user"}


def kept_inactive(folder: Path) -> tuple[Path, str]:
    """A trigger that can't be carried, as a file."""
    text = convert_import([write(folder / "z.json", {"trigger": trigger(1, actions=[KEPT, SOLVE])})]).text
    assert "active: false" in text
    return folder / "t.yaml", text


def test_a_trigger_that_was_rewritten_and_activated_is_exported_as_it_stands_in_the_file(tmp_path: Path):
    path, text = kept_inactive(tmp_path)
    write(path, text.replace("active: false", "active: true", 1).replace("value: solved}", "value: pending}", 1))
    exported = convert_export(path)
    [back] = json.loads(exported.text)["triggers"]
    assert (back["active"], back["actions"]) == (True, [{"field": "status", "value": "pending"}])
    assert "exported as it stands here, and not as `zendesk.original`" in exported.messages[-1]


def test_one_that_was_edited_and_left_inactive_goes_back_as_it_came_and_is_named(tmp_path: Path):
    path, text = kept_inactive(tmp_path)
    untouched = convert_export(write(path, text))
    exported = convert_export(write(path, text.replace("value: solved}", "value: pending}", 1)))
    assert exported.text == untouched.text
    assert json.loads(exported.text)["triggers"][0]["actions"] == [KEPT, SOLVE]
    assert not any("were edited" in line for line in untouched.messages)
    assert "its conditions or actions were edited here and are not exported" in exported.messages[-1]


HTML = "<!DOCTYPE html><html><body>Sign in</body></html>"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (HTML.encode(), ":1:1: an HTML page, not JSON: was the request logged in?"),
        (b'{"error": "Couldn\'t authenticate you"}', ":1:1: Zendesk answered with an error: Couldn't authenticate you"),
        (b'{"error": {"title": "Forbidden", "message": "No access"}}', "Zendesk answered with an error: No access"),
        (b'{"triggers": [\n  {"id": 1,, }]}', ":2:12: not JSON: "),
        (b"", ":1:1: the file is empty"),
        (b" \n", ":1:1: the file is empty"),
        ('{"triggers": [{"title": "gelöst"}]}'.encode("cp1252"), "UTF-8"),
        (b'{"tickets": [], "count": 0}', ":1:1: a JSON object with `tickets`, `count`; expected the answer of GET"),
        (b"[1, 2]", ":1:1: a JSON value; expected"),
        (b'{"triggers": {"id": 1}}', ":1:1: `triggers` is no list"),
        (b'{"triggers": ["x"]}', ":1:1: entry 1 of `triggers` has no `conditions` and `actions`"),
        (b"[" * 100_000, ":1:1: nested too deeply"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_another_file_is_named_for_what_it_is(content: bytes, said: str, tmp_path: Path):
    path = tmp_path / "z.json"
    path.write_bytes(content)
    with pytest.raises(ExportError) as raised:
        read_export([path])
    assert str(raised.value).startswith(str(path))
    assert said in str(raised.value)


def test_a_file_saved_by_windows_as_utf_16_is_named_or_read(tmp_path: Path):
    path = tmp_path / "z.json"
    path.write_bytes(json.dumps({"triggers": [trigger(1)]}).encode("utf-16"))
    try:
        assert ids([path]) == ["1"]
    except ExportError as error:
        assert "UTF-16" in str(error)


@pytest.mark.parametrize("name", ["missing.json", "."])
def test_no_file_is_one_line_and_exit_code_1(name: str, tmp_path: Path):
    done = CliRunner().invoke(app, ["import", str(tmp_path / name)])
    assert done.exit_code != 0
    error = done.exception
    assert isinstance(error, ExportError), done.output
    assert str(error).startswith(str(tmp_path))


def test_the_verbs_write_a_file_that_check_takes_and_say_what_they_left(tmp_path: Path):
    sent = [trigger(1), trigger(2, actions=[{"field": "share_ticket", "value": "1"}])]
    path = write(tmp_path / "z.json", {"triggers": sent})
    file, back = tmp_path / "t.yaml", tmp_path / "back.json"
    done = CliRunner().invoke(app, ["import", str(path), "-o", str(file)])
    assert done.exit_code == 0, done.output
    assert 'trigger 2 "Trigger 2": action `share_ticket`: a command has no such action; kept inactive' in done.stderr
    assert done.stderr.endswith("2 triggers: 1 carried (1 active), 1 kept inactive\n")
    assert CliRunner().invoke(app, ["check", str(file)]).exit_code == 0
    assert CliRunner().invoke(app, ["export", str(file), "-o", str(back)]).exit_code == 0
    assert [one["actions"] for one in json.loads(back.read_text())["triggers"]] == [one["actions"] for one in sent]
