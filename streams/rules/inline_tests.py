"""Reads the `tests` of a trigger file: examples next to the rules (SPEC section 7). They are run elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from streams.core import normal
from streams.core.model import Micros, RoundOutcome
from streams.core.names import REASON_FIELD, STATE_FIELD
from streams.core.trace import RoundTrace
from streams.documents.problems import Problem, did_you_mean, listed
from streams.documents.shape import Shape
from streams.documents.yaml_nodes import MapNode, Node, ScalarNode, kind, plain
from streams.rules.conditions import did_you_mean_value, similar_field
from streams.rules.reference import (
    CONDITION_FIELDS,
    CUSTOM_FIELD_NAME,
    SESSION_PREFIX,
    TAGS_FIELD,
    ConditionField,
    action_field,
    plain_action_names,
)

_TEST_KEYS = ("name", "given", "when", "after", "expect")
_GIVEN_KEYS = ("ticket", "session", "active")
_WHEN_KEYS = ("session",)
_EXPECT_KEYS = ("fired", "actions", "outcome")
SESSION_KEYS = ("state", "reason", "channel", "session_id", "event_id", "occurred_at", "sequence", "ticket_id")
_RECORD_NAMES = frozenset({"tags", "custom_fields"})
"""Members of a ticket's records that conditions call by another name."""

_WITHOUT = frozenset({RoundOutcome.HELD_OUT, RoundOutcome.HELD})
"""Tests run without holdout and limits."""

OUTCOMES = tuple(outcome.value for outcome in RoundOutcome if outcome not in _WITHOUT)


@dataclass(frozen=True, slots=True)
class Expectation:
    """The expected result of the round; None where the test does not specify it."""

    fired: tuple[str, ...] | None = None
    """Ids of the triggers that fire, in firing order."""
    actions: tuple[Mapping[str, Any], ...] | None = None
    """The command's actions as `{field, value}`, as written in the file."""
    outcome: RoundOutcome | None = None


@dataclass(frozen=True, slots=True)
class InlineTest:
    """One example: given a ticket and a session, after a session event, the expected result of the round at `after`."""

    name: str
    line: int
    column: int
    ticket: Mapping[str, Any] | None
    """Members of the ticket before the event, as in a record; None: there is no ticket."""
    session: Mapping[str, Any] | None
    """Members of the session before the event, as in a record; None: there is no session."""
    when: Mapping[str, Any]
    """Members of the session event, as in a record; has a `state`."""
    after: Micros
    expect: Expectation
    active: tuple[str, ...] | None = None
    """Ids of the triggers that are active in this test, which may be inactive in the file; None: as in the file."""


@dataclass(frozen=True, slots=True)
class TestRun:
    """The result of one test."""

    __test__ = False  # keeps pytest from collecting it as a test class

    test: InlineTest
    problem: Problem | None
    """None when the test passed."""
    trace: Callable[[], RoundTrace | None]
    """Computes the trace of the round's triggers; None when no trigger was evaluated."""


class InlineTestReader:
    """Turns nodes into tests; invalid nodes are reported and left out."""

    def __init__(self, shape: Shape, trigger_ids: set[str]) -> None:
        """Read with `shape`; `trigger_ids` are the triggers that a test may expect to fire."""
        self._shape = shape
        self._findings = shape.findings
        self._trigger_ids = trigger_ids

    def read(self, node: Node) -> InlineTest | None:
        """Return one test; None when it is invalid, with a finding."""
        members = self._shape.members(node, _TEST_KEYS, "a test")
        if members is None:
            return None
        for key in ("name", "when", "expect"):
            if members.is_missing(key):
                self._findings.add(node, "missing_key", f"this test lacks `{key}`")
        name_node, when_node, expect_node = members.get("name"), members.get("when"), members.get("expect")
        name = None if name_node is None else self._shape.text(name_node, "`name`")
        ticket, session, active = self._given(members.get("given"))
        when = None if when_node is None else self._when(when_node)
        after_node = members.get("after")
        after = 0 if after_node is None else self._shape.duration(after_node, "`after`")
        expect = None if expect_node is None else self._expect(expect_node)
        if name is None or when is None or after is None or expect is None:
            return None
        return InlineTest(name, node.line, node.column, ticket, session, when, after, expect, active)

    def _given(self, node: Node | None) -> tuple[dict[str, Any] | None, dict[str, Any] | None, tuple[str, ...] | None]:
        if node is None or _is_nothing(node):
            return None, None, None
        members = self._shape.members(node, _GIVEN_KEYS, "`given`")
        if members is None:
            return None, None, None
        ticket_node, session_node = members.get("ticket"), members.get("session")
        ticket = None
        if ticket_node is not None and not _is_nothing(ticket_node):
            if isinstance(ticket_node, MapNode):
                self._advise_ticket(ticket_node)
                ticket = plain(ticket_node)
            else:
                message = f"`ticket` is a mapping with members such as `status`, and this is {kind(ticket_node)}"
                self._findings.add(ticket_node, "wrong_type", message)
        session = None if session_node is None or _is_nothing(session_node) else self._session(session_node)
        active_node = members.get("active")
        active = None if active_node is None or _is_nothing(active_node) else self._ids(active_node, "`active`")
        return ticket, session, active

    def _advise_ticket(self, node: MapNode) -> None:
        """Warn of members and values that make the ticket different from the one its author probably intends."""
        for name, (key, value) in node.entries.items():
            if name == TAGS_FIELD or name.startswith(SESSION_PREFIX):
                what = "tags stand under `tags`" if name == TAGS_FIELD else "what the session is stands under `session`"
                self._findings.add(key, "similar_field", f"`{name[:60]}` is no member of tickets; {what}")
                continue
            about = CONDITION_FIELDS.get(name)
            if about is None:
                meant = None if name in _RECORD_NAMES or CUSTOM_FIELD_NAME.fullmatch(name) else similar_field(name)
                if meant is not None:
                    message = f"`{name[:60]}` is taken for a member of tickets; if `{meant}` is meant, write that"
                    self._findings.add(key, "similar_field", message)
            elif about.closed and isinstance(value, ScalarNode):
                self._advise_value(value, about)

    def _advise_value(self, node: ScalarNode, about: ConditionField) -> None:
        value = normal.field_value(about.name, node.value)
        value = "active" if about.name == STATE_FIELD and value == "open" else value
        if value is None or normal.text(value) in about.values:
            return
        advice = did_you_mean_value(about, normal.text(value), about.values, 3)
        if about.closed or advice:
            message = f"`{node.text[:60]}` is not a known value of `{about.name}` ({listed(about.values)}){advice}"
            self._findings.add(node, "unknown_value", message)

    def _when(self, node: Node) -> dict[str, Any] | None:
        members = self._shape.members(node, _WHEN_KEYS, "`when`")
        if members is None:
            return None
        session_node = members.get("session")
        if session_node is None:
            if members.is_missing("session"):
                self._findings.add(node, "missing_key", "`when` lacks its `session` event, as in `{state: inactive}`")
            return None
        return self._session(session_node)

    def _session(self, node: Node) -> dict[str, Any] | None:
        members = self._shape.members(node, SESSION_KEYS, "a session")
        if members is None or not isinstance(node, MapNode):
            return None
        state = members.get("state")
        if state is None:
            if members.is_missing("state"):
                self._findings.add(node, "missing_key", "this session lacks a `state`, such as `inactive`")
            return None
        if self._shape.text(state, "`state`") is None:
            return None
        for key in SESSION_KEYS:
            member = members.get(key)
            if member is not None and not isinstance(member, ScalarNode):
                self._findings.add(member, "wrong_type", f"`{key}` is a text, and this is {kind(member)}")
                return None
        if isinstance(state, ScalarNode):
            self._advise_value(state, CONDITION_FIELDS[STATE_FIELD])
        reason = members.get("reason")
        if isinstance(reason, ScalarNode):
            self._advise_value(reason, CONDITION_FIELDS[REASON_FIELD])
        return {key: plain(value) for key, (_, value) in node.entries.items() if key in members}

    def _expect(self, node: Node) -> Expectation | None:
        members = self._shape.members(node, _EXPECT_KEYS, "`expect`")
        if members is None:
            return None
        fired_node, actions_node, outcome_node = members.get("fired"), members.get("actions"), members.get("outcome")
        if fired_node is None and actions_node is None and outcome_node is None:
            if all(members.is_missing(key) for key in _EXPECT_KEYS):
                message = f"`expect` says nothing; give at least one of {listed(_EXPECT_KEYS)}"
                self._findings.add(node, "empty_value", message)
            return None
        fired = None if fired_node is None else self._ids(fired_node, "`fired`")
        actions = None if actions_node is None else self._actions(actions_node)
        outcome = None if outcome_node is None else self._outcome(outcome_node)
        return Expectation(fired, actions, outcome)

    def _ids(self, node: Node, what: str) -> tuple[str, ...]:
        """Return ids of triggers that exist in the file."""
        ids = []
        for item in self._shape.items(node, what) or ():
            trigger_id = self._shape.text(item, "a trigger's id")
            if trigger_id is None:
                continue
            if trigger_id not in self._trigger_ids:
                advice = did_you_mean(trigger_id, self._trigger_ids)
                self._findings.add(item, "unknown_trigger", f"the file has no trigger `{trigger_id[:60]}`{advice}")
            ids.append(trigger_id)
        return tuple(ids)

    def _actions(self, node: Node) -> tuple[Mapping[str, Any], ...]:
        actions: list[Mapping[str, Any]] = []
        for item in self._shape.items(node, "`actions`") or ():
            members = self._shape.members(item, ("field", "value"), "an action")
            if members is None:
                continue
            field_node, value_node = members.get("field"), members.get("value")
            if field_node is None:
                if members.is_missing("field"):
                    self._findings.add(item, "missing_key", "this action names no `field`")
                continue
            field = self._shape.text(field_node, "`field`")
            if field is None:
                continue
            if action_field(field) is None and field != "current_tags":
                advice = did_you_mean(field.lower().replace(" ", "_"), plain_action_names())
                self._findings.add(field_node, "unknown_action", f"no command has an action `{field[:60]}`{advice}")
            actions.append({"field": field, "value": None if value_node is None else plain(value_node)})
        return tuple(actions)

    def _outcome(self, node: Node) -> RoundOutcome | None:
        name = self._shape.text(node, "`outcome`")
        if name is None:
            return None
        if name in OUTCOMES:
            return RoundOutcome(name)
        advice = did_you_mean(name, OUTCOMES) or f"; outcomes are {listed(OUTCOMES)}"
        self._findings.add(node, "unknown_outcome", f"there is no outcome `{name[:60]}`{advice}")
        return None


def read_tests(node: Node | None, shape: Shape, trigger_ids: set[str]) -> list[InlineTest]:
    """Return all tests of a file that could be read."""
    reader = InlineTestReader(shape, trigger_ids)
    tests: list[InlineTest] = []
    lines: dict[str, int] = {}
    for item in shape.items(node, "`tests`") or ():
        test = reader.read(item)
        if test is None:
            continue
        if test.name in lines:
            message = f"a test named `{test.name[:60]}` begins on line {lines[test.name]} already"
            shape.findings.add(item, "duplicate_id", message)
        lines.setdefault(test.name, item.line)
        tests.append(test)
    return tests


def _is_nothing(node: Node) -> bool:
    return isinstance(node, ScalarNode) and node.value is None
