"""The JSON Schema of trigger files, generated from the reference table: for editors, and for checks in other languages.

It covers everything a schema can express; `lapse check` finds more (misspelt ticket members, clashes, overlaps).
`python -m streams.rules.schema schemas/trigger-file.schema.json` writes it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from streams.core.normal import CUSTOM_FIELD_PREFIX
from streams.core.triggers import HIGHEST_COUNT, Operator
from streams.documents import durations
from streams.rules.conditions import CONDITION_KEYS
from streams.rules.holdout import PATTERN as SHARE_PATTERN
from streams.rules.inline_tests import OUTCOMES, SESSION_KEYS
from streams.rules.reference import (
    ACTION_FIELD_ALIASES,
    ACTION_FIELDS,
    ACTION_PREFIXES,
    CONDITION_FIELDS,
    CUSTOM_FIELD,
    OPERATOR_NAMES,
    OPERATORS,
    SESSION_PREFIX,
    STRICT_KINDS,
    ConditionField,
    Does,
    Takes,
)
from streams.rules.triggers import CYCLES

Schema = dict[str, Any]

SCALAR: Schema = {"type": ["string", "number", "boolean", "null"]}
SCALARS: Schema = {"type": "array", "items": SCALAR}
WORD: Schema = {"type": ["string", "number", "boolean"], "pattern": r"\S"}
WORDS: Schema = {"anyOf": [WORD, {"type": "array", "items": WORD, "minItems": 1}]}
NOTHING: Schema = {"enum": [None, ""]}
NUMERIC: Schema = {"anyOf": [{"type": "number"}, {"type": "string", "pattern": r"^\s*[-+]?[0-9.]"}]}
CUSTOM_FIELD_PATTERN = rf"^{CUSTOM_FIELD_PREFIX}[^\s{{}}<>]+$"

_VALUES: dict[Takes, Schema] = {
    Takes.VALUE: {"anyOf": [SCALAR, {**SCALARS, "minItems": 1}]},
    Takes.RANK: {"type": ["string", "number"]},
    Takes.WORDS: WORDS,
}


def trigger_file_schema() -> Schema:
    """Return the schema, JSON Schema 2020-12, of a trigger file's content."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:lapse:schema:trigger-file",
        "title": "Trigger file",
        "description": "Zendesk-style triggers that Lapse evaluates when a messaging session becomes inactive.",
        "type": "object",
        "required": ["triggers"],
        "additionalProperties": False,
        "properties": {
            "cycle": {
                "enum": list(CYCLES),
                "default": "restart",
                "description": "restart: after a trigger that changes the ticket, begin again from the top.",
            },
            "holdout": {
                "type": "object",
                "description": "Tickets that get no command, so that they can be compared with the others.",
                "required": ["share", "salt"],
                "additionalProperties": False,
                "properties": {
                    "share": {
                        "type": "string",
                        "pattern": rf"^\s*{SHARE_PATTERN}\s*$",
                        "description": "Share of the tickets, as in 5%.",
                    },
                    "salt": {"$ref": "#/$defs/text", "description": "Another salt chooses other tickets."},
                },
            },
            "limit": {"$ref": "#/$defs/limit"},
            "triggers": {"type": ["array", "null"], "items": {"$ref": "#/$defs/trigger"}},
            "tests": {"type": ["array", "null"], "items": {"$ref": "#/$defs/test"}},
        },
        "$defs": {
            "text": {"type": ["string", "integer"], "pattern": r"\S"},
            "duration": {
                "description": f"A whole number and a unit: {durations.FORMS.replace('`', '')}.",
                "anyOf": [{"type": "string", "pattern": rf"^\s*{durations.PATTERN}\s*$"}, {"const": 0}],
            },
            "limit": {
                "type": "object",
                "description": "The commands of more firings in the span are held. On a trigger, or at the head of the "
                "file for every trigger that has none.",
                "required": ["count", "per"],
                "additionalProperties": False,
                "properties": {
                    "count": {
                        "type": "integer",
                        "minimum": 1,
                        "maximum": HIGHEST_COUNT,
                        "description": "In all partitions together; each takes its share, rounded up.",
                    },
                    "per": {"$ref": "#/$defs/duration"},
                },
            },
            "trigger": _trigger(),
            "condition": _condition(),
            "action": _action(),
            "test": _test(),
            "session": _session(),
        },
    }


def rendered() -> str:
    """Return the schema as the text of its file."""
    return json.dumps(trigger_file_schema(), indent=2, ensure_ascii=False) + "\n"


def _trigger() -> Schema:
    conditions = {"type": "array", "items": {"$ref": "#/$defs/condition"}}
    some_conditions = {**conditions, "minItems": 1}
    return {
        "type": "object",
        "required": ["id", "conditions", "actions"],
        "additionalProperties": False,
        "properties": {
            "id": {
                "$ref": "#/$defs/text",
                "description": "Names the trigger in records and figures; each once a file.",
            },
            "title": {
                "description": "For people; the id when not given.",
                "anyOf": [{"$ref": "#/$defs/text"}, NOTHING],
            },
            "active": {"type": "boolean", "default": True},
            "position": {"type": "number", "description": "Sorts triggers; the place in the file when not given."},
            "category": {
                "type": ["object", "null"],
                "description": "Sorts before the position; no category sorts as position 0.",
                "required": ["position"],
                "additionalProperties": False,
                "properties": {"position": {"type": "number"}, "name": {"$ref": "#/$defs/text"}},
            },
            "wait": {"$ref": "#/$defs/duration", "default": "0s"},
            "limit": {"$ref": "#/$defs/limit"},
            "zendesk": {
                "type": "object",
                "description": "Kept by `lapse import` for `lapse export`; means nothing here.",
            },
            "conditions": {
                "type": "object",
                "description": "Matches when every one of `all` holds, and one of `any` if there are any.",
                "additionalProperties": False,
                "properties": {
                    "all": {**conditions, "type": ["array", "null"]},
                    "any": {**conditions, "type": ["array", "null"]},
                },
                "anyOf": [
                    {"required": ["all"], "properties": {"all": some_conditions}},
                    {"required": ["any"], "properties": {"any": some_conditions}},
                ],
            },
            "actions": {"type": "array", "items": {"$ref": "#/$defs/action"}, "minItems": 1},
        },
    }


def _condition() -> Schema:
    by_takes: dict[Takes, list[str]] = {}
    for name, operator in OPERATOR_NAMES.items():
        by_takes.setdefault(OPERATORS[operator].takes, []).append(name)
    rules = [
        {
            "if": {"properties": {"operator": {"enum": by_takes[Takes.NOTHING]}}, "required": ["operator"]},
            "then": {"properties": {"value": NOTHING}},
            "else": {"required": ["value"]},
        }
    ]
    for takes, value in _VALUES.items():
        condition: Schema = {"properties": {"operator": {"enum": by_takes[takes]}}}
        if takes is not Takes.VALUE:  # a missing operator means `is`, which takes a value
            condition["required"] = ["operator"]
        rules.append({"if": condition, "then": {"properties": {"value": value}}})
    rules.append(
        {
            "if": {
                "properties": {
                    "field": {"not": {"enum": [known.name for known in CONDITION_FIELDS.values() if known.order]}},
                    "operator": {"enum": by_takes[Takes.RANK]},
                },
                "required": ["operator"],
            },
            "then": {"properties": {"value": NUMERIC}},
        }
    )
    rules.extend(_strict(known) for known in CONDITION_FIELDS.values() if known.kind in STRICT_KINDS)
    return {
        "type": "object",
        "required": ["field"],
        "additionalProperties": False,
        "properties": dict(
            zip(
                CONDITION_KEYS,
                (
                    {"description": "What the condition looks at.", "anyOf": _condition_fields()},
                    {
                        "description": "`is` when not given.",
                        "anyOf": [*map(_operator, OPERATOR_NAMES), {"type": "null"}],
                    },
                    {"description": "What the operator compares with."},
                ),
                strict=True,
            )
        ),
        "allOf": rules,
    }


def _condition_fields() -> list[Schema]:
    named = [
        {"const": name, "description": _about(known)}
        for known in CONDITION_FIELDS.values()
        for name in (known.name, *known.aliases)
    ]
    return [
        *named,
        {"type": "string", "pattern": CUSTOM_FIELD_PATTERN, "description": _about(CUSTOM_FIELD)},
        {
            "type": "string",
            "description": "Any other member of the ticket.",
            "pattern": rf"^(?!{SESSION_PREFIX}|custom_?fields?(?![a-z]))\S",
        },
    ]


def _about(known: ConditionField) -> str:
    values = f"; {', '.join(known.values)}{'' if known.closed else ', …'}" if known.values else ""
    return f"{known.meaning[0].upper()}{known.meaning[1:]}{values}. Example: {known.example}"


def _operator(name: str) -> Schema:
    info = OPERATORS[OPERATOR_NAMES[name]]
    return {"const": name, "description": f"{info.label}: {info.meaning}. Takes {info.takes.value}."}


def _strict(known: ConditionField) -> Schema:
    """Return the rule that a field takes only the operators that suit it."""
    names = [name for name, operator in OPERATOR_NAMES.items() if operator in known.operators]
    suited: Schema = {"properties": {"operator": {"enum": names}}}
    if Operator.IS not in known.operators:
        suited["required"] = ["operator"]
    return {"if": {"properties": {"field": {"enum": [known.name, *known.aliases]}}}, "then": suited}


def _action() -> Schema:
    fields: list[Schema] = [
        {"const": name, "description": f"{known.does.value[0].upper()}{known.does.value[1:]}: {known.meaning}."}
        for known in ACTION_FIELDS.values()
        if not known.prefix
        for name in (known.name, *known.aliases)
    ]
    for known in ACTION_PREFIXES:
        pattern = CUSTOM_FIELD_PATTERN if known.name == CUSTOM_FIELD_PREFIX else rf"^{known.name}."
        fields.append({"type": "string", "pattern": pattern, "description": f"{known.does.value}: {known.meaning}."})
    plain = [name for name, known in ACTION_FIELDS.items() if not known.prefix]
    optional = [name for name in plain if not ACTION_FIELDS[name].needs_value]
    sets = [name for name in plain if ACTION_FIELDS[name].does is Does.SETS]
    tags = [name for name in plain if ACTION_FIELDS[name].does is Does.TAGS]
    tags_not_empty = [name for name in (*tags, *ACTION_FIELD_ALIASES) if name != "set_tags"]
    return {
        "type": "object",
        "required": ["field"],
        "additionalProperties": False,
        "properties": {
            "field": {"description": "What the action writes.", "anyOf": fields},
            "value": {"description": "What it writes there; null clears a field."},
        },
        "allOf": [
            {"if": {"properties": {"field": {"not": {"enum": optional}}}}, "then": {"required": ["value"]}},
            {"if": _field_in(sets), "then": {"properties": {"value": SCALAR}}},
            {"if": _field_in(tags_not_empty), "then": {"properties": {"value": WORDS}}},
            {"if": _field_in(["set_tags"]), "then": {"properties": {"value": {"anyOf": [SCALAR, SCALARS]}}}},
            {
                "if": {"properties": {"field": {"pattern": CUSTOM_FIELD_PATTERN}}},
                "then": {"properties": {"value": {"anyOf": [SCALAR, SCALARS]}}},
            },
        ],
    }


def _field_in(names: list[str]) -> Schema:
    return {"properties": {"field": {"enum": names}}}


def _test() -> Schema:
    text = {"$ref": "#/$defs/text"}
    return {
        "type": "object",
        "description": "An example: given this, when a session event comes, expect that of the round.",
        "required": ["name", "when", "expect"],
        "additionalProperties": False,
        "properties": {
            "name": text,
            "given": {
                "type": ["object", "null"],
                "additionalProperties": False,
                "properties": {
                    "ticket": {"type": ["object", "null"], "description": "Members of the ticket, as in its records."},
                    "session": {"anyOf": [{"$ref": "#/$defs/session"}, {"type": "null"}]},
                    "active": {
                        "type": ["array", "null"],
                        "items": text,
                        "description": "Ids of the triggers that are on in this test; as in the file when not given.",
                    },
                },
            },
            "when": {
                "type": "object",
                "required": ["session"],
                "additionalProperties": False,
                "properties": {"session": {"$ref": "#/$defs/session"}},
            },
            "after": {"$ref": "#/$defs/duration", "description": "The `wait` of the round that is meant."},
            "expect": {
                "type": "object",
                "minProperties": 1,
                "additionalProperties": False,
                "properties": {
                    "fired": {"type": ["array", "null"], "items": text},
                    "actions": {
                        "type": ["array", "null"],
                        "items": {
                            "type": "object",
                            "required": ["field"],
                            "additionalProperties": False,
                            "properties": {"field": text, "value": {}},
                        },
                    },
                    "outcome": {"enum": list(OUTCOMES)},
                },
            },
        },
    }


def _session() -> Schema:
    return {
        "type": "object",
        "required": ["state"],
        "additionalProperties": False,
        "properties": {key: {"$ref": "#/$defs/text"} if key == "state" else SCALAR for key in SESSION_KEYS},
    }


if __name__ == "__main__":
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(rendered(), encoding="utf-8")
    else:
        sys.stdout.write(rendered())
