"""Converts Zendesk's triggers to a trigger file; triggers with unsupported parts are reported and kept inactive."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from streams.core.names import UPDATE_FIELD
from streams.core.normal import NO_VALUES
from streams.core.triggers import WITHOUT_VALUE
from streams.rules.reference import (
    ACTION_FIELD_ALIASES,
    CONDITION_FIELD_ALIASES,
    CONDITION_FIELDS,
    CUSTOM_FIELD_NAME,
    ENDED_REASON_FIELD,
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
from streams.rules.zendesk import shapes
from streams.rules.zendesk.exports import Export
from streams.rules.zendesk.names import END_ACTION, ROUTING_ACTION, Names, looks_like_sessions
from streams.rules.zendesk.writing import document

_NEVER = {"field": UPDATE_FIELD, "operator": "is", "value": "create"}
"""Replaces the conditions of a trigger when none can be converted: it never holds here."""
_NOTHING = {"field": "add_tags", "value": "not_carried_over"}

T = TypeVar("T")

_SIDES = ("all", "any")
_CONDITION_MEMBERS = frozenset({"field", "operator", "value", "is_user_value"})
_ACTION_MEMBERS = frozenset({"field", "value"})
_TAKE_LISTS = frozenset({"notification_user", "notification_group", "notification_webhook", "notification_sms_user",
                         "notification_sms_group", "notification_target", "side_conversation_slack"})  # fmt: skip
"""Passed-on actions whose value is a list in every response of Zendesk's API."""

_MEMBERS = frozenset(
    "url id title raw_title description active default position category_id created_at updated_at conditions all any "
    "actions".split()
)
"""Members of a trigger in Zendesk's API; `usage_...` are counts that are included on request."""


@dataclass
class Imported:
    """One trigger as written to the file."""

    entry: dict[str, Any]
    """The members of the trigger, in the order of writing."""
    reasons: list[str] = field(default_factory=list)
    """Why it is kept inactive, one sentence for each part that can't be converted; empty when there is none."""
    remarks: list[str] = field(default_factory=list)
    """What is converted but works differently here."""

    @property
    def label(self) -> str:
        """The name that messages use for it."""
        return f'trigger {self.entry["id"]} "{self.entry["title"]}"'


def import_triggers(export: Export, names: Names, *, sessions_only: bool = False) -> list[Imported]:
    """Convert every trigger of an export to an entry of a trigger file, in the same order.

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
    unread: list[str] = []
    trigger_id = _read(shapes.text, trigger.get("id"), "its `id`", unread, "") or f"imported-{number}"
    while trigger_id in ids:
        trigger_id += "-again"
    ids.add(trigger_id)
    given = trigger.get("title") or trigger.get("raw_title")
    title = _read(shapes.text, given, "its `title`", unread, "").strip() or trigger_id
    active = _read(shapes.flag, trigger.get("active", True), "its flag `active`", unread, False)
    imported = Imported({"id": trigger_id, "title": title, "active": active}, unread)
    position = _read(shapes.number, trigger.get("position"), "its `position`", unread, None)
    if position is not None:
        imported.entry["position"] = position
    imported.entry["conditions"] = {
        side: [
            carried
            for condition in _objects(listed, f"`{side}`", "condition", unread)
            if (carried := _condition(condition, names, imported)) is not None
        ]
        for side, listed in _sides(trigger, unread).items()
    }
    imported.entry["actions"] = [
        carried
        for action in _objects(trigger.get("actions"), "`actions`", "action", unread)
        if (carried := _action(action, names, imported)) is not None
    ]
    acts = {action["field"] for action in imported.entry["actions"]}
    if {ROUTING_ACTION, END_ACTION} <= acts:
        unread.append(
            f"`{ROUTING_ACTION}` ends the messaging session in Zendesk, and must not stand beside `{END_ACTION}`"
        )
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


def _read(read: Callable[[Any], T], value: Any, what: str, unread: list[str], otherwise: T) -> T:
    """Return the result of `read` for a value; when it can't be read, note why in `unread` and return `otherwise`."""
    try:
        return read(value)
    except shapes.Unreadable as error:
        unread.append(f"{what} can't be read: {error}")
        return otherwise


def _sides(trigger: dict[str, Any], unread: list[str]) -> dict[str, Any]:
    """Return the conditions under `all` and `any`; in requests, Zendesk accepts both at the top level too."""
    found = shapes.unwrapped(trigger.get("conditions"))
    top = {side: trigger.get(side) for side in _SIDES if trigger.get(side)}
    if found in (None, "", []):
        return {side: top.get(side) for side in _SIDES}
    if not isinstance(found, dict):
        unread.append(f"`conditions` can't be read: {shapes.what_it_is(found, 'an object with `all` and `any`')}")
        return {side: None for side in _SIDES}
    unread.extend(
        f"`conditions` has `{key}`, which is neither `all` nor `any`"
        for key, value in found.items()
        if key not in _SIDES and value not in (None, "", [], {})
    )
    if top:
        unread.append(f"{' and '.join(f'`{side}`' for side in top)} stand beside `conditions`; which of them counts?")
    return {side: found.get(side) for side in _SIDES}


def _objects(value: Any, where: str, noun: str, unread: list[str]) -> Iterator[dict[str, Any]]:
    nothing: list[Any] = []
    for number, entry in enumerate(_read(shapes.entries, value, where, unread, nothing), start=1):
        found = _read(shapes.object_of, entry, f"{noun} {number} of {where}", unread, None)
        if found is not None:
            yield found


def _condition(condition: dict[str, Any], names: Names, imported: Imported) -> dict[str, Any] | None:
    theirs = _read(shapes.text, condition.get("field"), "the `field` of a condition", imported.reasons, None)
    operator = _read(shapes.text, condition.get("operator"), f"the operator of `{theirs}`", imported.reasons, None)
    if theirs is None or operator is None:
        return None
    operator = operator or "is"
    ours = CONDITION_FIELD_ALIASES.get(names.condition(theirs), names.condition(theirs))
    value = _value_as_written(condition.get("value"))
    why = _unknown_member(condition, _CONDITION_MEMBERS) or _why_no_condition(ours, operator, value)
    takes_value = OPERATOR_NAMES.get(operator) not in WITHOUT_VALUE
    if why is None and takes_value and "value" not in condition:
        why = "its `value` is missing"
    if why is None and not takes_value and value not in (None, ""):
        why = (
            f"`{operator}` takes no value, and here is {shapes.shown(value)}; if `{operator}_to` is meant, write that"
            if operator in {"changed", "not_changed"}
            else f"`{operator}` takes no value, and here is {shapes.shown(value)}"
        )
    if why is not None:
        imported.reasons.append(f"condition `{theirs} {operator}`: {why}")
        return None
    carried: dict[str, Any] = {"field": ours, "operator": operator}
    if takes_value:
        carried["value"] = _value(ours, value, names)
        if names.unlisted(ours, carried["value"]):
            imported.remarks.append(
                f"condition `{theirs} {operator}`: the definitions list no value `{value}`, so it is "
                "taken for the name that records carry"
            )
    elif value == "":
        carried["value"] = ""  # exported again unchanged
    return carried


def _value_as_written(value: Any) -> Any:
    """Return a value; a list written as an object with numbered keys becomes a list."""
    if isinstance(value, dict) and value and all(key.isascii() and key.isdigit() for key in value):
        return shapes.entries(value)
    return value


def _unknown_member(entry: dict[str, Any], known: frozenset[str]) -> str | None:
    for key, value in entry.items():
        if key not in known and value not in (None, "", False, [], {}):
            return f"it has a member `{key}`, which Lapse does not know"
    return None


def _unreadable_value(value: Any) -> str | None:
    """Return why a value of a condition, or of an action that sets, can't be read."""
    for one in value if isinstance(value, list) else [value]:
        if shapes.is_cut(one) or isinstance(one, list | dict):
            return f"its value can't be read: {shapes.what_it_is(one, 'a text or a number')}"
    return None


def _why_no_condition(field: str, operator: str, value: Any) -> str | None:
    if field == ENDED_REASON_FIELD:
        return (
            "records tell why a session became inactive, not why it ended; a trigger can ask for the state `ended`, "
            "and not for its reason"
        )
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
    unreadable = _unreadable_value(value)
    if unreadable is not None:
        return unreadable
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
    theirs = _read(shapes.text, action.get("field"), "the `field` of an action", imported.reasons, None)
    if theirs is None:
        return None
    ours = ACTION_FIELD_ALIASES.get(names.action(theirs), names.action(theirs))
    value = _value_as_written(action.get("value"))
    about = action_field(ours)
    why = None
    if about is None:
        why = "a command has no such action"
    elif (unknown := _unknown_member(action, _ACTION_MEMBERS)) is not None:
        why = unknown
    elif about.does is Does.PASSES and (shapes.holds_cut(value) or isinstance(value, dict)):
        why = f"its value can't be read: {shapes.what_it_is(value, 'a text or a list')}"
        if not shapes.is_cut(value) and not isinstance(value, dict):
            why = f"its value can't be read: a part of it was {shapes.CUT}"
    elif ours in _TAKE_LISTS and not isinstance(value, list):
        why = f"its value can't be read: {shapes.what_it_is(value, 'a list such as [recipient, subject, text]')}"
    elif about.does is not Does.PASSES and (unreadable := _unreadable_value(value)) is not None:
        why = unreadable
    elif about.does is not Does.PASSES and "value" not in action:
        why = "its `value` is missing"
    elif about.does is Does.SETS and isinstance(value, str) and value in {*SYMBOLIC_IDS, "default_ticket_form"}:
        why = f"`{value}` is known to Zendesk alone; write the id"
    elif about.does is Does.SETS and isinstance(value, str) and "{{" in value:
        why = "placeholders are filled in by Zendesk alone"
    elif ours in {"add_tags", "remove_tags"} and not str(value or "").strip():
        why = "it names no tag"
    if why is not None:
        imported.reasons.append(f"action `{theirs}`: {why}")
        return None
    assert about is not None  # noqa: S101 -- otherwise there would be a reason
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
    """Set the trigger's category; a category of unknown position is sorted by its first occurrence in the export."""
    known = export.categories.get(category_id, {})
    try:
        position = shapes.number(known.get("position"))
    except shapes.Unreadable:
        position = None
    if position is None:
        position = places.setdefault(category_id, len(places) + 1)
    given = known.get("name")
    name = given if isinstance(given, str) and given else category_id
    # Written before the conditions, where readers look for it.
    rest: dict[str, Any] = {key: entry.pop(key) for key in ("conditions", "actions", "zendesk") if key in entry}
    entry["category"] = {"position": position, "name": name}
    entry.update(rest)


def _keep_inactive(imported: Imported, trigger: dict[str, Any]) -> None:
    entry = imported.entry
    found = trigger.get("conditions")
    sides = found if isinstance(found, dict) else trigger
    if isinstance(found, dict | None) and all(isinstance(sides.get(side), list | None) for side in _SIDES):
        conditions: Any = {side: sides.get(side) or [] for side in _SIDES}
    else:
        conditions = found if found is not None else {side: trigger.get(side) for side in _SIDES}
    original = {
        "active": trigger.get("active", True),
        "conditions": conditions,
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
    """Return the problems a trigger file with these triggers would have."""
    return [problem.message for problem in parse_triggers(document(entries), "").errors]
