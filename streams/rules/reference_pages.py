"""The table of fields and operators, as `lapse fields` and `lapse operators` show it to people and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from streams.core.errors import Refused
from streams.core.names import REASON_FIELD, STATE_FIELD
from streams.core.triggers import Operator
from streams.documents.problems import did_you_mean
from streams.rules.reference import (
    ACTION_FIELD_ALIASES,
    ACTION_FIELDS,
    CONDITION_FIELD_ALIASES,
    CONDITION_FIELDS,
    CUSTOM_FIELD,
    FAMILIES,
    OPERATOR_NAMES,
    OPERATORS,
    OTHER_MEMBER,
    TAGS_FIELD,
    ActionField,
    ConditionField,
    Takes,
    action_field,
    condition_field,
)


class UnknownName(Refused):
    """Nothing in the table has this name."""


class ConditionEntry(msgspec.Struct, frozen=True):
    """One field that conditions can look at."""

    field: str
    aliases: tuple[str, ...]
    holds: str
    values: tuple[str, ...]
    """Known values; empty when any value is allowed."""
    closed: bool
    """Whether any other value is certainly a mistake."""
    families: tuple[str, ...]
    operators: tuple[str, ...]
    meaning: str
    example: str
    """A condition as written in a trigger file."""


class ActionEntry(msgspec.Struct, frozen=True):
    """One field that actions can write."""

    field: str
    aliases: tuple[str, ...]
    does: str
    values: tuple[str, ...]
    meaning: str
    example: str


class OperatorEntry(msgspec.Struct, frozen=True):
    """One operator."""

    operator: str
    """The name in Zendesk's API."""
    aliases: tuple[str, ...]
    label: str
    """The name in Zendesk's interface."""
    family: str
    takes: str
    meaning: str
    example: str


def condition_entries(name: str | None = None) -> list[ConditionEntry]:
    """Return all condition fields, or the one called `name`."""
    if name is None:
        return [_condition(known) for known in (*CONDITION_FIELDS.values(), CUSTOM_FIELD, OTHER_MEMBER)]
    canonical = CONDITION_FIELD_ALIASES.get(name, name)
    known = condition_field(canonical)
    return [] if known is OTHER_MEMBER else [_condition(known)]


def action_entries(name: str | None = None) -> list[ActionEntry]:
    """Return all action fields, or the one called `name`."""
    if name is None:
        return [_action(known) for known in ACTION_FIELDS.values()]
    known = action_field(ACTION_FIELD_ALIASES.get(name, name))
    return [] if known is None else [_action(known)]


def field_entries(name: str | None = None) -> tuple[list[ConditionEntry], list[ActionEntry]]:
    """Return the fields of conditions and of actions: all, or those called `name`. Raises UnknownName."""
    conditions, actions = condition_entries(name), action_entries(name)
    if name is not None and not conditions and not actions:
        names = (*CONDITION_FIELDS, *CONDITION_FIELD_ALIASES, *ACTION_FIELDS, *ACTION_FIELD_ALIASES)
        advice = did_you_mean(name, names) or "; `lapse fields` lists them"
        raise UnknownName(f"no field is called `{name}`{advice}")
    return conditions, actions


def operator_entries(name: str | None = None) -> list[OperatorEntry]:
    """Return all operators, or the one called `name`. Raises UnknownName."""
    if name is None:
        return [_operator(operator) for operator in Operator]
    operator = OPERATOR_NAMES.get(name)
    if operator is None:
        advice = did_you_mean(name, OPERATOR_NAMES) or "; `lapse operators` lists them"
        raise UnknownName(f"no operator is called `{name}`{advice}")
    return [_operator(operator)]


def fields_json(name: str | None = None) -> dict[str, Any]:
    """Return `field_entries` as one JSON object."""
    conditions, actions = field_entries(name)
    return {"conditions": msgspec.to_builtins(conditions), "actions": msgspec.to_builtins(actions)}


def operators_json(name: str | None = None) -> dict[str, Any]:
    """Return `operator_entries` as one JSON object."""
    return {"operators": msgspec.to_builtins(operator_entries(name))}


def _condition(known: ConditionField) -> ConditionEntry:
    operator = next(operator for operator in (Operator.IS, *Operator) if operator in known.operators)
    if known.name == TAGS_FIELD:
        operator = Operator.INCLUDES
    return ConditionEntry(
        known.name,
        known.aliases,
        known.kind.value,
        known.values,
        known.closed,
        tuple(family for family, operators in FAMILIES.items() if operators <= known.operators),
        tuple(operator.value for operator in Operator if operator in known.operators),
        known.meaning,
        _written(_SPELT_OUT.get(known.name, known.name), operator, known.example),
    )


def _action(known: ActionField) -> ActionEntry:
    name = f"{known.name}…" if known.prefix else known.name
    return ActionEntry(
        name,
        known.aliases,
        known.does.value,
        known.values,
        known.meaning,
        f"{{field: {_SPELT_OUT.get(known.name, known.name)}, value: {known.example}}}",
    )


def _operator(operator: Operator) -> OperatorEntry:
    info = OPERATORS[operator]
    family = next(family for family, operators in FAMILIES.items() if operator in operators)
    field = {"words": TAGS_FIELD, "change": STATE_FIELD}.get(family, "status")
    if info.example in CONDITION_FIELDS["priority"].values:
        field = "priority"
    elif operator in (Operator.CHANGED, Operator.NOT_CHANGED):
        field = REASON_FIELD
    elif info.example in CONDITION_FIELDS["status"].values:
        field = "status"
    return OperatorEntry(
        operator.value,
        info.aliases,
        info.label,
        family,
        info.takes.value if info.takes is not Takes.NOTHING else "no value",
        info.meaning,
        _written(field, operator, info.example),
    )


def _spelling(operator: Operator) -> str:
    """Return the recommended spelling: `changed_to` is clear, while `value`, Zendesk's name in its API, is not."""
    return OPERATORS[operator].aliases[0] if OPERATORS[operator].aliases else operator.value


def _written(field: str, operator: Operator, value: str) -> str:
    given = f", value: {value}" if OPERATORS[operator].takes is not Takes.NOTHING else ""
    return f"{{field: {field}, operator: {_spelling(operator)}{given}}}"


_SPELT_OUT = {
    CUSTOM_FIELD.name: "custom_fields_360001",
    OTHER_MEMBER.name: "loyalty_level",
    "custom_fields_": "custom_fields_360001",
    "notification_": "notification_user",
    "reply_": "reply_public",
    "side_conversation_": "side_conversation_slack",
}
"""A complete example name for each prefix, so that examples can be copied."""


def families_in_words() -> Iterator[tuple[str, str]]:
    """Yield each family with its operators."""
    for family, operators in FAMILIES.items():
        yield family, ", ".join(_spelling(operator) for operator in Operator if operator in operators)
