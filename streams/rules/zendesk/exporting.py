"""Converts a trigger file to the JSON of Zendesk's API; unsupported triggers are reported and exported inactive."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from streams.core.names import CHANNEL_FIELD, UPDATE_FIELD
from streams.core.normal import text
from streams.core.triggers import WITHOUT_VALUE, Action, Condition, Operator, Trigger
from streams.documents.durations import render
from streams.rules.reference import Does, action_field
from streams.rules.triggers import TriggerFile
from streams.rules.zendesk.exports import Export
from streams.rules.zendesk.importing import import_triggers
from streams.rules.zendesk.names import Names

_WORDS = frozenset({Operator.INCLUDES, Operator.NOT_INCLUDES})


@dataclass
class Exported:
    """One trigger in the form Zendesk's API accepts (wrapped there as `{"trigger": {...}}`)."""

    trigger: dict[str, Any]
    label: str
    reasons: list[str] = field(default_factory=list)
    """Why it is exported inactive; empty when Zendesk supports all of it."""
    remarks: list[str] = field(default_factory=list)
    """What is lost in the conversion without changing what the trigger does."""


def export_triggers(file: TriggerFile, names: Names) -> list[Exported]:
    """Convert every trigger of a file without errors to Zendesk's form, in file order.

    A trigger that `lapse import` could not convert is exported in its original form as long as it is inactive: a user
    who activates it has rewritten it.
    """
    assert file.ruleset is not None, "a file with errors is not exported"  # noqa: S101
    return [
        _export(trigger, entry, names) for trigger, entry in zip(file.ruleset.triggers, _entries(file), strict=True)
    ]


def _entries(file: TriggerFile) -> list[dict[str, Any]]:
    """Return the triggers as written: a ruleset does not contain category names or what `lapse import` keeps."""
    content = yaml.load(Path(file.file).read_text("utf-8-sig"), yaml.CSafeLoader)
    entries: list[dict[str, Any]] = content["triggers"] or []
    return entries


def _export(trigger: Trigger, entry: dict[str, Any], names: Names) -> Exported:
    kept: dict[str, Any] = entry.get("zendesk") or {}
    body: dict[str, Any] = {}
    if trigger.id.isdecimal():
        body["id"] = int(trigger.id)
    exported = Exported(body, f'trigger {trigger.id} "{trigger.title}"')
    body["title"] = trigger.title
    body.update({key: kept[key] for key in ("raw_title", "description", "category_id") if key in kept})
    category = entry.get("category")
    if category and "category_id" not in kept:
        name = category.get("name", category.get("position"))
        exported.remarks.append(f"category `{name}`: Zendesk takes its id, as `category_id`, and none is known")
    if entry.get("position") is not None:
        body["position"] = int(trigger.position) if float(trigger.position).is_integer() else trigger.position
    original = kept.get("original")
    if isinstance(original, dict) and not trigger.active:
        body.update({key: original[key] for key in ("active", "conditions", "actions") if key in original})
        if _edited(entry, body, names):
            exported.remarks.append(
                "its conditions or actions were edited here and are not exported, as the trigger is inactive: "
                "`zendesk.original` is. Activate it, or remove `zendesk.original`, to export what stands here"
            )
        return exported
    if isinstance(original, dict):
        exported.remarks.append("it is active, so it is exported as it stands here, and not as `zendesk.original`")
    if trigger.wait:
        exported.reasons.append(f"`wait: {render(trigger.wait)}`: Zendesk can't wait, it would act at once")
    conditions = {
        side: [
            _condition(one, written, names, exported)
            for one, written in zip(listed, (entry["conditions"].get(side) or ()), strict=True)
        ]
        for side, listed in (("all", trigger.all), ("any", trigger.any))
    }
    body["active"] = trigger.active and not exported.reasons
    body["conditions"] = conditions
    body["actions"] = [_action(one, names) for one in trigger.actions]
    return exported


def _edited(entry: dict[str, Any], original: dict[str, Any], names: Names) -> bool:
    """Whether a trigger that was kept inactive differs from what `lapse import` made of its original."""
    here = {part: entry.get(part) for part in ("conditions", "actions")}
    export = Export(triggers=[original])
    # The file may have been imported without a definitions file, or with one that is not available now.
    made = [imported.entry for known in (names, Names()) for imported in import_triggers(export, known)]
    return all({part: one[part] for part in here} != here for one in made)


def _condition(condition: Condition, written: dict[str, Any], names: Names, exported: Exported) -> dict[str, Any]:
    field, operator, value = condition.field, condition.operator, condition.value
    found: dict[str, Any] = {"field": names.zendesk_condition(field), "operator": operator.value}
    if field == CHANNEL_FIELD:
        exported.reasons.append(f"condition `{field}`: Zendesk's triggers can't ask for it")
    if operator in WITHOUT_VALUE:
        return {**found, "value": written.get("value")}
    if isinstance(value, list):
        if operator in _WORDS and field == "current_tags":
            return {**found, "value": " ".join(value)}
        if operator not in _WORDS:
            exported.reasons.append(f"condition `{field} {operator.value}` with a list: Zendesk takes one value")
        return {**found, "value": [_value(field, one, names) for one in value]}
    return {**found, "value": _value(field, value, names)}


def _action(action: Action, names: Names) -> dict[str, Any]:
    about = action_field(action.field)
    if about is not None and about.does is Does.TAGS:
        return {
            "field": "current_tags" if action.field == "add_tags" else action.field,
            "value": " ".join(action.value),
        }
    field = names.zendesk_action(action.field)
    if about is not None and about.does is Does.PASSES:
        return {"field": field, "value": action.value}
    return {"field": field, "value": _value(action.field, action.value, names)}


def _value(field: str, value: Any, names: Names) -> Any:
    """Format a value as exports do: text, lists of texts, and `""` for an empty value."""
    if isinstance(value, list):
        return [_value(field, one, names) for one in value]
    if value is None:
        return ""
    if field == UPDATE_FIELD:
        return str(value).capitalize()
    return names.zendesk_value(field, value if isinstance(value, str) else text(value))
