"""Zendesk's triggers to a trigger file: what can be carried is, the rest is named and kept, inactive."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from streams.core.names import UPDATE_FIELD
from streams.core.normal import NO_VALUES
from streams.core.triggers import WITHOUT_VALUE
from streams.rules.reference import (
    ACTION_FIELD_ALIASES,
    CONDITION_FIELD_ALIASES,
    CONDITION_FIELDS,
    CUSTOM_FIELD_NAME,
    OPERATOR_NAMES,
    SESSION_PREFIX,
    SYMBOLIC_IDS,
    UPDATE_ONLY_FIELDS,
    Does,
    Kind,
    action_field,
    condition_field,
)
from streams.rules.triggers import parse_triggers
from streams.rules.zendesk.exports import Export
from streams.rules.zendesk.names import Names, looks_like_sessions
from streams.rules.zendesk.writing import document

_NEVER = {"field": UPDATE_FIELD, "operator": "is", "value": "create"}
"""Stands where a trigger has no condition that can be carried: it never holds here."""
_NOTHING = {"field": "add_tags", "value": "not_carried_over"}


_MEMBERS = frozenset(
    "url id title raw_title description active default position category_id created_at updated_at conditions all any "
    "actions".split()
)
"""What a trigger of Zendesk's API has; `usage_...` are counts that come when asked for."""


@dataclass
class Imported:
    """One trigger as the file will have it."""

    entry: dict[str, Any]
    """The members of the trigger, in the order in which they are written."""
    reasons: list[str] = field(default_factory=list)
    """Why it is kept inactive, one sentence for each part that can't be carried; empty when all of it is."""
    remarks: list[str] = field(default_factory=list)
    """What is carried and works differently here."""

    @property
    def label(self) -> str:
        """How messages call it."""
        return f'trigger {self.entry["id"]} "{self.entry["title"]}"'


def import_triggers(export: Export, names: Names, *, sessions_only: bool = False) -> list[Imported]:
    """Turn every trigger of an export into an entry of a trigger file, in the same order.

    With `sessions_only`, triggers that ask nothing about the messaging session are kept inactive too.
    """
    ids: set[str] = set()
    places: dict[str, int] = {}
    found = []
    for number, trigger in enumerate(export.triggers, start=1):
        imported = _import(trigger, number, names, ids)
        category_id = trigger.get("category_id")
        if category_id not in (None, ""):
            _categorise(imported.entry, str(category_id), export, places)
        asks = any(
            condition["field"].startswith(SESSION_PREFIX)
            for side in imported.entry["conditions"].values()
            for condition in side
        )
        if not asks and not imported.reasons:
            told = "it asks nothing about the messaging session, so here it would fire whenever a customer leaves"
            (imported.reasons if sessions_only else imported.remarks).append(told)
        found.append(imported)
    if _problems(one.entry for one in found):
        for one in found:
            one.reasons.extend(_problems([one.entry]) if not one.reasons else ())
    for one, trigger in zip(found, export.triggers, strict=True):
        if one.reasons:
            _keep_inactive(one, trigger)
    return found


def _import(trigger: dict[str, Any], number: int, names: Names, ids: set[str]) -> Imported:
    trigger_id = str(trigger.get("id") or f"imported-{number}")
    while trigger_id in ids:
        trigger_id += "-again"
    ids.add(trigger_id)
    title = str(trigger.get("title") or trigger.get("raw_title") or trigger_id).strip() or trigger_id
    imported = Imported({"id": trigger_id, "title": title, "active": trigger.get("active", True) is not False})
    position = trigger.get("position")
    if isinstance(position, int | float) and not isinstance(position, bool):
        imported.entry["position"] = position
    sides = trigger.get("conditions")
    if not isinstance(sides, dict):
        sides = trigger  # on writes Zendesk takes `all` and `any` at the top level too
    imported.entry["conditions"] = {
        side: [
            carried
            for condition in _objects(sides.get(side))
            if (carried := _condition(condition, names, imported)) is not None
        ]
        for side in ("all", "any")
    }
    imported.entry["actions"] = [
        carried
        for action in _objects(trigger.get("actions"))
        if (carried := _action(action, names, imported)) is not None
    ]
    kept = {key: trigger[key] for key in ("category_id", "description") if trigger.get(key) not in (None, "")}
    if trigger.get("raw_title") not in (None, title):
        kept["raw_title"] = trigger["raw_title"]
    if kept:
        imported.entry["zendesk"] = kept
    imported.remarks.extend(
        f"its `{key}` is not carried: neither Lapse nor the way back knows it"
        for key, value in trigger.items()
        if key not in _MEMBERS and not key.startswith("usage_") and value not in (None, "", [], {})
    )
    return imported


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    for entry in value if isinstance(value, list) else []:
        if isinstance(entry, dict):
            yield entry


def _condition(condition: dict[str, Any], names: Names, imported: Imported) -> dict[str, Any] | None:
    theirs = str(condition.get("field", ""))
    ours = CONDITION_FIELD_ALIASES.get(names.condition(theirs), names.condition(theirs))
    operator = str(condition.get("operator") or "is")
    why = _why_no_condition(ours, operator, condition.get("value"))
    if why is not None:
        imported.reasons.append(f"condition `{theirs} {operator}`: {why}")
        return None
    carried: dict[str, Any] = {"field": ours, "operator": operator}
    if OPERATOR_NAMES[operator] not in WITHOUT_VALUE:
        carried["value"] = _value(ours, condition.get("value"), names)
        if names.unlisted(ours, carried["value"]):
            imported.remarks.append(
                f"condition `{theirs} {operator}`: the definitions list no value `{condition.get('value')}`, so it is "
                "taken for the name that records carry"
            )
    return carried


def _why_no_condition(field: str, operator: str, value: Any) -> str | None:
    if field in UPDATE_ONLY_FIELDS:
        return "it speaks of the update, the clock or the account, and a ticket's record has no such member"
    if field.startswith(("requester.", "organization.", "user.")):
        return "records hold the ticket, not its requester or organization"
    if field not in CONDITION_FIELDS and looks_like_sessions(field):
        return (
            "Lapse does not know this field; if it is the session's state or inactive reason, tell by --definitions, "
            "with titles in English"
        )
    if field not in CONDITION_FIELDS and not CUSTOM_FIELD_NAME.fullmatch(field):
        return "Lapse does not know this field; if your ticket records carry such a member, write the condition by hand"
    if operator not in OPERATOR_NAMES:
        return "Lapse has no such operator"
    about = condition_field(field)
    if OPERATOR_NAMES[operator] not in about.operators:
        return f"`{operator}` does not suit this field here"
    values = value if isinstance(value, list) else [value]
    if field == UPDATE_FIELD and "create" in [str(one).lower() for one in values]:
        return "sessions change on tickets that exist, so here it would never hold"
    if about.kind is Kind.ID and any(one in SYMBOLIC_IDS for one in values if isinstance(one, str)):
        return f"`{value}` is known to Zendesk alone; here it is compared as text and never equals an id"
    if operator in {"includes", "not_includes"} and not any(str(one).strip() for one in values if one is not None):
        return "it names no word to look for"
    if any(isinstance(one, str) and "{{" in one for one in values):
        return "placeholders are filled in by Zendesk alone"
    return None


def _action(action: dict[str, Any], names: Names, imported: Imported) -> dict[str, Any] | None:
    theirs = str(action.get("field", ""))
    ours = ACTION_FIELD_ALIASES.get(names.action(theirs), names.action(theirs))
    value = action.get("value")
    about = action_field(ours)
    why = None
    if about is None:
        why = "a command has no such action"
    elif about.does is Does.SETS and isinstance(value, str) and value in {*SYMBOLIC_IDS, "default_ticket_form"}:
        why = f"`{value}` is known to Zendesk alone; write the id"
    elif about.does is Does.SETS and isinstance(value, str) and "{{" in value:
        why = "placeholders are filled in by Zendesk alone"
    elif ours in {"add_tags", "remove_tags"} and not str(value or "").strip():
        why = "it names no tag"
    if why is not None:
        imported.reasons.append(f"action `{theirs}`: {why}")
        return None
    assert about is not None  # noqa: S101 -- or there would be a reason
    if about.does is Does.PASSES:
        if "{{" in str(value):
            imported.remarks.append(f"action `{theirs}`: its placeholders are passed on as they are written")
        return {"field": ours, **({} if value is None else {"value": value})}
    return {"field": ours, "value": _value(ours, value, names)}


def _value(field: str, value: Any, names: Names) -> Any:
    if isinstance(value, list):
        return [_value(field, one, names) for one in value]
    if isinstance(value, str) and value in NO_VALUES:
        return None if field not in {"set_tags"} else ""
    return names.value(field, value)


def _categorise(entry: dict[str, Any], category_id: str, export: Export, places: dict[str, int]) -> None:
    """Give the trigger its category; one whose position is not known sorts by where it first stands in the export."""
    known = export.categories.get(category_id, {})
    position = known.get("position")
    if position is None:
        position = places.setdefault(category_id, len(places) + 1)
    name = str(known.get("name") or category_id)
    # Written before the conditions, where a reader looks for it.
    rest: dict[str, Any] = {key: entry.pop(key) for key in ("conditions", "actions", "zendesk") if key in entry}
    entry["category"] = {"position": position, "name": name}
    entry.update(rest)


def _keep_inactive(imported: Imported, trigger: dict[str, Any]) -> None:
    entry = imported.entry
    sides = trigger.get("conditions") if isinstance(trigger.get("conditions"), dict) else trigger
    original = {
        "active": trigger.get("active", True),
        "conditions": {side: sides.get(side) or [] for side in ("all", "any")},  # type: ignore[union-attr]
        "actions": trigger.get("actions") or [],
    }
    entry["active"] = False
    if not any(entry["conditions"].values()):
        entry["conditions"] = {"all": [_NEVER], "any": []}
    if not entry["actions"]:
        entry["actions"] = [_NOTHING]
    if _problems([entry]):
        entry["conditions"], entry["actions"] = {"all": [_NEVER], "any": []}, [_NOTHING]
    entry["zendesk"] = {**entry.pop("zendesk", {}), "original": original}


def _problems(entries: Iterable[dict[str, Any]]) -> list[str]:
    """Return what a trigger file would have against these triggers."""
    return [problem.message for problem in parse_triggers(document(entries), "").errors]
