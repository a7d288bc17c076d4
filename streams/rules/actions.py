"""Reads the actions of a trigger from nodes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from streams.core import normal
from streams.core.actions import is_passed_on
from streams.core.triggers import TAG_ACTIONS, Action
from streams.documents.problems import did_you_mean, listed
from streams.documents.shape import Shape
from streams.documents.yaml_nodes import ListNode, MapNode, Node, ScalarNode, kind, plain
from streams.rules.conditions import check_number_spelling, check_separators, written_id
from streams.rules.reference import (
    ACTION_FIELD_ALIASES,
    ACTION_HINTS,
    ACTION_PREFIXES,
    CUSTOM_FIELD,
    SYMBOLIC_IDS,
    VALUE_HINTS,
    ActionField,
    Does,
    action_field,
    looks_like_custom_field,
    plain_action_names,
)

_KEYS = ("field", "value")
_KEY_HINTS = {"operator": "an action has no operator", "values": "a list of values stands under `value`"}


class ActionReader:
    """Turns nodes into actions; invalid nodes are reported and left out."""

    def __init__(self, shape: Shape) -> None:
        """Read with `shape`, and report to its findings."""
        self._shape = shape
        self._findings = shape.findings

    def read_all(self, nodes: Iterable[Node]) -> tuple[Action, ...]:
        """Return the actions of one trigger that could be read."""
        actions: list[Action] = []
        places: dict[str, list[Node]] = {}
        for node in nodes:
            action = self.read(node)
            if action is None:
                continue
            actions.append(action)
            for field in _writes_over(action.field):
                for earlier in places.pop(field, ()):
                    message = f"this has no effect: `{action.field}` on line {node.line} writes over it"
                    self._findings.add(earlier, "repeated_action", message)
            places.setdefault(action.field, []).append(node)
        if "routing_channel" in places and "end_messaging_session" in places:
            message = (
                "`routing_channel` ends the messaging session in Zendesk, and must not stand beside "
                "`end_messaging_session`"
            )
            self._findings.add(places["end_messaging_session"][0], "ends_session_twice", message)
        return tuple(actions)

    def read(self, node: Node) -> Action | None:
        """Return one action; None when it is invalid, with a finding."""
        members = self._shape.members(node, _KEYS, "an action", _KEY_HINTS)
        if members is None:
            return None
        field_node = members.get("field")
        if field_node is None:
            if members.is_missing("field"):
                self._findings.add(node, "missing_key", "this action names no `field`")
            return None
        found = self._field(field_node)
        if found is None:
            return None
        name, about = found
        value_node = members.get("value")
        if value_node is None:
            if not about.needs_value:
                return Action(name)
            if members.is_missing("value"):
                clears = "; to clear the field, write `value: null`" if about.does is Does.SETS else ""
                message = f"the action `{name}` lacks its `value`, such as `{about.example}`{clears}"
                self._findings.add(field_node, "missing_value", message)
            return None
        if about.does is Does.PASSES:
            self._check_passed_on(value_node)
            return Action(name, plain(value_node))
        if about.does is Does.TAGS:
            return self._tags(name, value_node)
        return self._set(name, about, value_node)

    def _check_passed_on(self, node: Node) -> None:
        """Warn of mappings in a value that is passed on: `[a, b: c]` is a list that contains a mapping."""
        if isinstance(node, ListNode):
            for item in node.items:
                self._check_passed_on(item)
        elif isinstance(node, MapNode):
            key = next(iter(node.entries), "")
            message = f"the value holds a mapping (`{key[:40]}: …`); if a text with a colon is meant, put it in quotes"
            self._findings.add(node, "mapping_in_value", message)

    def _field(self, node: Node) -> tuple[str, ActionField] | None:
        name = self._shape.text(node, "`field`")
        if name is None:
            return None
        name = ACTION_FIELD_ALIASES.get(name, name)
        about = action_field(name)
        if about is not None:
            return name, about
        hint = ACTION_HINTS.get(name.strip().lower().replace(" ", "_").replace("-", "_"))
        if hint is not None:
            advice = f"; did you mean `{hint}`?"
        elif looks_like_custom_field(name):
            advice = f"; a custom field is `{CUSTOM_FIELD.name}`, as in `custom_fields_360001`"
        else:
            names = plain_action_names()
            prefixes = ", ".join(f"`{known.name}…`" for known in ACTION_PREFIXES)
            advice = did_you_mean(name.lower().replace(" ", "_"), names) or f"; actions are {listed(names)}, {prefixes}"
        self._findings.add(node, "unknown_action", f"there is no action `{name[:60]}`{advice}")
        return None

    def _tags(self, name: str, node: Node) -> Action | None:
        items = self._shape.scalars(node, f"`{name}` takes words")
        if items is None:
            return None
        texts = [item.text for item in items if item.value is not None]
        words = [word for text in texts for word in normal.words(text)]
        check_separators(self._shape, items)
        if not words and name != "set_tags":
            self._findings.add(node, "empty_value", f"`{name}` needs at least one tag")
            return None
        return Action(name, list(dict.fromkeys(words)))

    def _set(self, name: str, about: ActionField, node: Node) -> Action | None:
        if about.prefix:  # a custom field
            items = self._shape.scalars(node, f"`{name}` takes a text, a number or a list of them")
            if items is None:
                return None
            for item in items:
                check_number_spelling(self._shape, item)
            return Action(name, normal.custom_field_value(plain(node)))
        if not isinstance(node, ScalarNode):
            self._findings.add(node, "wrong_type", f"`{name}` takes one value, and this is {kind(node)}")
            return None
        is_id = normal.is_id(name)
        if not is_id:  # an id stays as written
            check_number_spelling(self._shape, node)
        written: Any = written_id(node) if is_id else node.value
        value = normal.member_value(name, written)
        if value is not None and about.values and value not in about.values:
            hint = VALUE_HINTS.get(name, {}).get(str(value))
            suggestion = f"; did you mean `{hint}`?" if hint else did_you_mean(str(value), about.values)
            message = f"`{value}` is not a known value of `{name}` ({listed(about.values)}){suggestion}"
            self._findings.add(node, "unknown_value", message)
        elif is_id and str(value).lower().replace(" ", "_") in SYMBOLIC_IDS:
            message = f"`{value}` is passed on as it is: the consumer of commands must know what it stands for"
            self._findings.add(node, "symbolic_id", message)
        return Action(name, value)


def _writes_over(name: str) -> Iterable[str]:
    """Return the actions whose effect is completely replaced by one more action called `name`."""
    if name == "set_tags":
        return TAG_ACTIONS
    return () if name in TAG_ACTIONS or is_passed_on(name) else (name,)
