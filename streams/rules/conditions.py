"""Reads the conditions of a trigger from nodes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

from streams.core import normal
from streams.core.conditions import number
from streams.core.names import CHANNEL_FIELD, REASON_FIELD, STATE_FIELD
from streams.core.normal import CUSTOM_FIELD_PREFIX
from streams.core.triggers import Condition, Operator
from streams.documents.problems import did_you_mean, listed, nearest
from streams.documents.shape import Shape
from streams.documents.yaml_nodes import ListNode, Node, ScalarNode, kind, plain
from streams.rules.reference import (
    CONDITION_FIELD_ALIASES,
    CONDITION_FIELDS,
    CUSTOM_FIELD_NAME,
    ENDED_REASON_FIELD,
    FIELD_HINTS,
    OPERATOR_HINTS,
    OPERATOR_NAMES,
    OPERATORS,
    SESSION_PREFIX,
    STRICT_KINDS,
    SYMBOLIC_IDS,
    TICKET_MEMBERS,
    UPDATE_ONLY_FIELDS,
    VALUE_HINTS,
    ConditionField,
    Kind,
    Takes,
    condition_field,
    looks_like_custom_field,
)

UNLISTED_HINTS = frozenset({"channel", "reason", "state"})
"""Names of members that session events have and tickets do not: authors who write them mean the session's member."""

_WHOLE = re.compile(r"(-?[0-9]+)\.0+")

CONDITION_KEYS = ("field", "operator", "value")
_KEY_HINTS = {"op": "the operator stands under `operator`", "values": "a list of values stands under `value`"}


class ConditionReader:
    """Turns nodes into conditions; invalid nodes are reported and left out."""

    def __init__(self, shape: Shape) -> None:
        """Read with `shape`, and report to its findings."""
        self._shape = shape
        self._findings = shape.findings

    def read(self, node: Node) -> Condition | None:
        """Return one condition; None when it is invalid, with a finding."""
        members = self._shape.members(node, CONDITION_KEYS, "a condition", _KEY_HINTS)
        if members is None:
            return None
        field_node = members.get("field")
        if field_node is None:
            if members.is_missing("field"):
                self._findings.add(node, "missing_key", "this condition names no `field`")
            known = None
        else:
            known = self._field(field_node)
        operator = self._operator(members.get("operator"))
        if known is None or operator is None or field_node is None:
            return None
        field, about = known
        operator_node = members.get("operator")
        if not self._suits(field_node, about, operator, operator_node or field_node):
            return None
        written = _written(operator, operator_node)
        value_node = members.get("value")
        takes = OPERATORS[operator].takes
        if takes is Takes.NOTHING:
            if value_node is None or _is_nothing(value_node):
                return Condition(field, operator)
            message = f"`{written}` takes no value; leave `value` out"
            self._findings.add(members.place_of("value"), "superfluous_value", message)
            return None
        if value_node is None:
            if members.is_missing("value"):
                message = f"`{written}` lacks its `value`: {takes.value}"
                self._findings.add(operator_node or field_node, "missing_value", message)
            return None
        if takes is Takes.RANK:
            return self._ranked(field, about, operator, value_node)
        if takes is Takes.WORDS:
            return self._words(field, about, operator, value_node)
        return self._valued(field, about, operator, value_node)

    # --- the three members ---

    def _field(self, node: Node) -> tuple[str, ConditionField] | None:
        """Return a field's canonical name and its entry in the table."""
        name = self._shape.text(node, "`field`")
        if name is None:
            return None
        name = CONDITION_FIELD_ALIASES.get(name, name)
        if name in CONDITION_FIELDS or CUSTOM_FIELD_NAME.fullmatch(name):
            return name, condition_field(name)
        message = _misspelt(name)
        if message is not None:
            self._findings.add(node, "unknown_field", message)
            return None
        similar = similar_field(name)
        if similar is not None and name not in UNLISTED_HINTS:
            self._findings.add(
                node, "similar_field", f"`{name}` is taken for a member of tickets; if `{similar}` is meant, write that"
            )
        if name in UPDATE_ONLY_FIELDS:
            self._findings.add(
                node,
                "update_field",
                f"`{name}` speaks of the update, the clock or the account in Zendesk; here it has a value only if "
                "ticket updates carry a member of that name",
            )
        elif name not in TICKET_MEMBERS and (similar is None or name in UNLISTED_HINTS):
            advice = f"; if the session's is meant, write `{similar}`" if similar is not None else _nearest_member(name)
            self._findings.add(
                node,
                "unlisted_member",
                f"`{name[:60]}` is no member of Zendesk's tickets, so this has a value only if ticket updates carry a "
                f"member of that name{advice}{_known_values(similar)}",
            )
        return name, condition_field(name)

    def _operator(self, node: Node | None) -> Operator | None:
        """Return the operator; a missing operator means `is`, as in Zendesk's exports."""
        if node is None or (isinstance(node, ScalarNode) and node.value is None):
            return Operator.IS
        name = self._shape.text(node, "`operator`")
        if name is None:
            return None
        operator = OPERATOR_NAMES.get(name)
        if operator is None:
            spelt = _spelt(name)
            hint = OPERATOR_HINTS.get(spelt)
            advice = (
                f"; write `{hint}`"
                if hint
                else did_you_mean(spelt, OPERATOR_NAMES) or f"; operators are {listed(OPERATOR_NAMES)}"
            )
            self._findings.add(node, "unknown_operator", f"there is no operator `{name[:60]}`{advice}")
        return operator

    def _suits(self, field_node: Node, about: ConditionField, operator: Operator, place: Node) -> bool:
        """Whether the operator may be used on the field; warns when it may but is rarely intended."""
        field, written = plain(field_node), _written(operator, place if place is not field_node else None)
        if operator in about.operators:
            return True
        suitable = listed(name for name in Operator if name in about.operators)
        if about.kind in STRICT_KINDS:
            why = (
                "tags are a list of words, which are compared one by one"
                if about.kind is Kind.TAGS
                else "it is always `change` here"
            )
            message = f"`{written}` makes no sense on `{field}`: {why}; use one of {suitable}"
            self._findings.add(place, "unsuitable_operator", message)
            return False
        message = f"`{written}` on `{field}`, which holds {_article(about)}: is one of {suitable} meant?"
        self._findings.add(place, "unusual_operator", message)
        return True

    # --- values ---

    def _valued(self, field: str, about: ConditionField, operator: Operator, node: Node) -> Condition | None:
        if isinstance(node, ListNode):
            if not node.items:
                self._findings.add(node, "empty_value", f"`{operator}` with an empty list")
                return None
            values = [self._scalar(field, about, item) for item in node.items]
            if any(bad for _, bad in values):
                return None
            return Condition(field, operator, [value for value, _ in values])
        value, bad = self._scalar(field, about, node)
        return None if bad else Condition(field, operator, value)

    def _words(self, field: str, about: ConditionField, operator: Operator, node: Node) -> Condition | None:
        items = self._shape.scalars(node, f"`{operator}` takes {Takes.WORDS.value}")
        if items is None:
            return None
        texts = [_word(about, item) for item in items if item.value is not None]
        splits = isinstance(node, ScalarNode) or about.kind is Kind.TAGS  # an entry of another list may contain spaces
        words = normal.words(" ".join(texts)) if splits else normal.words(list(texts))
        if about.kind is not Kind.TAGS:
            words = [normal.text(value) for word in words if (value := _normalised(field, word)) is not None]
        if about.kind is Kind.ID:
            for item in items:
                self._check_symbolic(item, item.text)
        if not words:
            self._findings.add(node, "empty_value", f"`{operator}` needs at least one word")
            return None
        check_separators(self._shape, items)
        return Condition(field, operator, words)

    def _ranked(self, field: str, about: ConditionField, operator: Operator, node: Node) -> Condition | None:
        if not isinstance(node, ScalarNode):
            self._findings.add(node, "wrong_type", f"`{operator}` takes {Takes.RANK.value}, and this is {kind(node)}")
            return None
        if about.order:
            value = _normalised(field, node.value)
            if value in about.order:
                return Condition(field, operator, value)
            wanted = f"one of {listed(about.order)}"
            advice = did_you_mean_value(about, str(value), about.order, 2)
        else:
            rank = number(node.value)
            if rank is not None and math.isfinite(rank):
                return Condition(field, operator, rank)
            wanted, advice = "a number", ""
        shown = "nothing" if node.value is None else f"`{node.text[:60]}`"
        message = f"`{operator}` on `{field}` needs {wanted}, and this is {shown}{advice}"
        self._findings.add(node, "unordered_value", message)
        return None

    def _scalar(self, field: str, about: ConditionField, node: Node) -> tuple[Any, bool]:
        """Return a normalised scalar, and whether it is empty."""
        if not isinstance(node, ScalarNode):
            self._findings.add(node, "wrong_type", f"the value for `{field}` is {kind(node)}; write a text or a number")
            return None, True
        if about.kind is not Kind.ID:  # an id stays as written
            check_number_spelling(self._shape, node)
        value = _normalised(field, written_id(node) if about.kind is Kind.ID else node.value)
        if value is None:
            return None, False
        if about.values and normal.text(value) not in about.values:
            suggestion = did_you_mean_value(about, str(value), about.values, 3)
            if about.closed or field == STATE_FIELD or (field in {REASON_FIELD, CHANNEL_FIELD} and suggestion):
                message = f"`{value}` is not a known value of `{field}` ({listed(about.values)}){suggestion}"
                self._findings.add(node, "unknown_value", message)
        elif about.kind is Kind.ID:
            self._check_symbolic(node, str(value))
        return value, False

    def _check_symbolic(self, node: Node, value: str) -> None:
        if _spelt(value) in SYMBOLIC_IDS:
            message = f"`{value}` is compared as text here and never equals an id; write the id"
            self._findings.add(node, "symbolic_id", message)


def written_id(node: ScalarNode) -> str | None:
    """Return an id as the text that was written; a number with a zero fraction becomes the integer."""
    if node.value is None:
        return None
    whole = isinstance(node.value, float) and node.value.is_integer() and _WHOLE.fullmatch(node.text)
    return whole[1] if whole else node.text


def _word(about: ConditionField, item: ScalarNode) -> str:
    return (written_id(item) or "") if about.kind is Kind.ID else item.text


def check_separators(shape: Shape, items: Iterable[ScalarNode]) -> None:
    """Warn of words that contain a comma or a semicolon, which are not separators here."""
    for item in items:
        for word in normal.words(item.text):
            if "," in word or ";" in word:
                parts = " ".join(re.split(r"[,;]+", item.text)).split()
                message = (
                    f"`{word[:60]}` is one word with its comma or semicolon, which no tag of Zendesk's can hold; words "
                    f"are separated by spaces: `{' '.join(parts)[:120]}`"
                )
                shape.findings.add(item, "separator_in_word", message)
                break


def check_number_spelling(shape: Shape, node: ScalarNode) -> None:
    """Warn of a number that is compared or sent in a different spelling from the one that was written."""
    if isinstance(node.value, float) and normal.text(node.value) != node.text:
        shape.findings.add(
            node,
            "number_spelling",
            f"`{node.text}` is the number {normal.text(node.value)}; put it in quotes if the text is meant",
        )


def _normalised(field: str, value: Any) -> Any:
    """Normalise a trigger's value; `open` is another spelling of the session state `active` (SPEC section 2)."""
    value = normal.field_value(field, value)
    return "active" if field == STATE_FIELD and value == "open" else value


def _is_nothing(node: Node) -> bool:
    return isinstance(node, ScalarNode) and (node.value is None or node.value == "")


def _article(about: ConditionField) -> str:
    return f"{'an' if about.kind.value[0] in 'aeiou' else 'a'} {about.kind.value}"


def _misspelt(name: str) -> str | None:
    """Return what is wrong with the name of a field that is not in the table; None when it may be a ticket's member."""
    if looks_like_custom_field(name):
        return f"`{name[:60]}` is not a custom field; write `custom_fields_<id>`, as in `custom_fields_360001`"
    if _spelt(name).rstrip("s") == ENDED_REASON_FIELD:
        return (
            f"there is no field `{name[:60]}`: records tell why a session became inactive, not why it ended; ask for "
            f"the state `ended` with `{STATE_FIELD}`"
        )
    if name.startswith(SESSION_PREFIX):
        session = [field for field in CONDITION_FIELDS if field.startswith(SESSION_PREFIX)]
        advice = did_you_mean(_spelt(name), session, 4) or f"; there are {listed(session)}"
        return f"there is no field `{name[:60]}`{advice}"
    # One typing error is treated as a misspelling. With two, the name may well be a ticket's own member: `state`,
    # `created_by`, `group_ids`.
    suggestion = None if name in UPDATE_ONLY_FIELDS else nearest(_spelt(name), _KNOWN_NAMES, 1)
    return f"there is no field `{name[:60]}`; did you mean `{suggestion}`?" if suggestion else None


def _spelt(name: str) -> str:
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def similar_field(name: str) -> str | None:
    """Return the known field that the name of a ticket's member probably means."""
    if name in UPDATE_ONLY_FIELDS:
        return None
    spelt = _spelt(name)
    number = _FIELD_NUMBER.fullmatch(spelt)
    if number is not None:
        return f"{CUSTOM_FIELD_PREFIX}{number[1]}"
    for prefix in ("ticket.", "ticket_"):
        if spelt.removeprefix(prefix) in _KNOWN_NAMES:
            return spelt.removeprefix(prefix)
    hint = FIELD_HINTS.get(spelt)
    if hint is not None:
        return hint
    found = nearest(spelt, _KNOWN_NAMES)
    return found if found is not None and _alike(spelt, found) else None


def _nearest_member(name: str) -> str:
    """Return the known field that shares the longest part of its name with an unknown member."""
    words = frozenset(_spelt(name).split("_"))
    shared = max(_KNOWN_NAMES, key=lambda known: (len(words & frozenset(known.split("_"))), -len(known)))
    return f"; if `{shared}` is meant, write that" if words & frozenset(shared.split("_")) - {"id", "at"} else ""


def _known_values(field: str | None) -> str:
    values = () if field is None else CONDITION_FIELDS[field].values
    return f"; its known values are {listed(values)}" if values else ""


def _alike(name: str, known: str) -> bool:
    """Whether names differ by typing errors, not by a whole short word: `created_by` does not mean `created_at`."""
    words, known_words = name.split("_"), known.split("_")
    return len(words) != len(known_words) or not any(
        len(word) <= 3 and nearest(word, [other], 1) is None for word, other in zip(words, known_words, strict=True)
    )


def _written(operator: Operator, node: Node | None) -> str:
    """Return an operator as written in the file."""
    return node.text if isinstance(node, ScalarNode) and node.value is not None else operator.value


def did_you_mean_value(about: ConditionField, value: str, values: Iterable[str], limit: int) -> str:
    """Return `; did you mean ...?` for a value that a field does not have, or an empty string."""
    hint = VALUE_HINTS.get(about.name, {}).get(_spelt(value))
    return f"; did you mean `{hint}`?" if hint else did_you_mean(value, values, limit)


_KNOWN_NAMES = (*CONDITION_FIELDS, *CONDITION_FIELD_ALIASES)
_FIELD_NUMBER = re.compile(r"(?:(?:ticket[._])?ticket_fields?_)?([0-9]+)", re.ASCII)
