"""What comes out of Zendesk goes back in as it was, whether or not Lapse can do it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.rules.check import check_files
from streams.rules.triggers import load_triggers
from streams.rules.zendesk.command import convert_export, convert_import
from tests.rules.zendesk.forms import FORMS, Form, expected_back, trigger_of


def round_trip(folder: Path, triggers: list[dict[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
    """Return the trigger file and what is exported from it again."""
    source, file = folder / "zendesk.json", folder / "triggers.yaml"
    source.write_text(json.dumps({"triggers": triggers, "count": len(triggers), "next_page": None}))
    text = convert_import([source]).text
    file.write_text(text)
    found: list[dict[str, Any]] = json.loads(convert_export(file).text)["triggers"]
    return text, found


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_every_form_survives_a_round_trip(form: Form, tmp_path: Path) -> None:
    _, [back] = round_trip(tmp_path, [trigger_of(form)])
    assert back == expected_back(form)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_what_can_be_carried_stays_as_it_was_and_the_rest_is_inactive_and_named(form: Form, tmp_path: Path) -> None:
    source, file = tmp_path / "zendesk.json", tmp_path / "triggers.yaml"
    source.write_text(json.dumps({"trigger": trigger_of(form)}))
    converted = convert_import([source])
    file.write_text(converted.text)
    report = check_files([file])
    assert report.errors == 0, report.text()
    ruleset = load_triggers(file).ruleset
    assert ruleset is not None
    [trigger] = ruleset.triggers
    assert trigger.active is form.carried
    named = [line for line in converted.messages if line.endswith("; kept inactive")]
    assert bool(named) is not form.carried
    assert all(f"`{form.what['field']}" in line for line in named)
    assert ("# Not carried: " in converted.text) is not form.carried


def test_all_forms_in_one_export_survive_together_in_their_order(tmp_path: Path) -> None:
    sent = [trigger_of(form, number) for number, form in enumerate(FORMS, start=1)]
    text, back = round_trip(tmp_path, sent)
    assert back == [expected_back(form, number) for number, form in enumerate(FORMS, start=1)]
    again = tmp_path / "again.json"
    again.write_text(json.dumps({"triggers": back}))
    # What Lapse wrote, Lapse reads: a second round changes nothing more.
    (tmp_path / "second.yaml").write_text(convert_import([again]).text)
    assert json.loads(convert_export(tmp_path / "second.yaml").text)["triggers"] == back
    assert check_files([tmp_path / "triggers.yaml"]).errors == 0
    assert text.count("\n  - id: ") == len(FORMS)


VALUES = st.one_of(
    st.text(max_size=12), st.sampled_from(["open", "", "360", "{{x}}", "a: b # c", "true", "null", "0x1"])
)


@st.composite
def triggers(draw: st.DrawFn) -> dict[str, Any]:
    conditions = st.fixed_dictionaries(
        {
            "field": st.sampled_from(["status", "group_id", "current_tags", "custom_fields_1", "role", "nobody_knows"]),
            "operator": st.sampled_from(["is", "is_not", "value", "includes", "changed", "present", "within_days"]),
            "value": VALUES | st.none() | st.booleans() | st.integers() | st.lists(VALUES, max_size=2),
        }
    )
    actions = st.fixed_dictionaries(
        {
            "field": st.sampled_from(["status", "current_tags", "custom_fields_1", "notification_user", "follower"]),
            "value": VALUES | st.none() | st.lists(VALUES, max_size=2),
        }
    )
    return {
        "id": draw(st.integers(1, 2**62)),
        "title": draw(st.text(min_size=1, max_size=20)),
        "active": draw(st.booleans()),
        "position": draw(st.integers(0, 9_999)),
        "conditions": {
            "all": draw(st.lists(conditions, max_size=3)),
            "any": draw(st.lists(conditions, max_size=2)),
        },
        "actions": draw(st.lists(actions, max_size=3)),
    }


@given(st.lists(triggers(), min_size=1, max_size=4, unique_by=lambda one: one["id"]))
@settings(max_examples=150, deadline=None)
def test_whatever_an_export_holds_the_file_is_sound_and_names_all_triggers(
    tmp_path_factory: pytest.TempPathFactory, sent: list[dict[str, Any]]
) -> None:
    folder = tmp_path_factory.mktemp("zendesk")
    _, back = round_trip(folder, sent)
    report = check_files([folder / "triggers.yaml"])
    assert report.errors == 0, report.text()
    assert [one["id"] for one in back] == [one["id"] for one in sent]
    again = folder / "again.json"
    again.write_text(json.dumps({"triggers": back}))
    (folder / "second.yaml").write_text(convert_import([again]).text)
    assert json.loads(convert_export(folder / "second.yaml").text)["triggers"] == back
