"""Tests beside the rules: their shape is checked like that of the rules."""

from __future__ import annotations

import pytest

from streams.core.model import SECOND, RoundOutcome
from streams.rules.inline_tests import Expectation, InlineTest
from streams.rules.triggers import TriggerFile, parse_triggers

RULES = (
    "triggers: [{id: a, conditions: {all: [{field: type, value: task}]}, actions: [{field: priority, value: low}]}]\n"
)


def with_tests(tests: str) -> TriggerFile:
    return parse_triggers(f"{RULES}tests:\n{tests}")


def test_a_whole_test_is_read():
    file = with_tests(
        """\
  - name: a task is lowered
    given:
      ticket: {status: open, custom_fields: {"1": x}, tags: [vip, 7]}
      session: {state: active, channel: web}
    when:
      session: {state: inactive, reason: User inactive or offline}
    after: 60s
    expect:
      fired: [a]
      actions: [{field: priority, value: low}]
      outcome: commanded
"""
    )
    assert file.problems == []
    assert file.tests == [
        InlineTest(
            name="a task is lowered",
            line=3,
            column=5,
            ticket={"status": "open", "custom_fields": {"1": "x"}, "tags": ["vip", 7]},
            session={"state": "active", "channel": "web"},
            when={"state": "inactive", "reason": "User inactive or offline"},
            after=60 * SECOND,
            expect=Expectation(("a",), ({"field": "priority", "value": "low"},), RoundOutcome.COMMANDED),
        )
    ]


def test_only_a_name_an_event_and_an_expectation_are_needed():
    (test,) = with_tests("  - {name: x, when: {session: {state: inactive}}, expect: {outcome: unjoined}}").tests
    assert (test.ticket, test.session, test.after) == (None, None, 0)
    assert test.expect == Expectation(None, None, RoundOutcome.UNJOINED)


def test_nothing_fired_is_an_expectation_too():
    (test,) = with_tests("  - {name: x, when: {session: {state: inactive}}, expect: {fired: [], actions: []}}").tests
    assert test.expect == Expectation((), (), None)


def test_a_test_may_say_which_triggers_are_on():
    tests = with_tests(
        "  - {name: x, given: {active: [a]}, when: {session: {state: inactive}}, expect: {fired: []}}\n"
        "  - {name: y, given: {active: []}, when: {session: {state: inactive}}, expect: {fired: []}}\n"
        "  - {name: z, given: {active: null}, when: {session: {state: inactive}}, expect: {fired: []}}\n"
    ).tests
    assert [test.active for test in tests] == [("a",), (), None]


WHEN = "when: {session: {state: inactive}}"
EXPECT = "expect: {outcome: no_match}"


@pytest.mark.parametrize(
    ("written", "codes", "says"),
    [
        ("▸{}", "missing_key missing_key missing_key", "lacks `name`"),
        ("▸5", "wrong_type", "a test is a mapping"),
        (f"▸{{{WHEN}, {EXPECT}}}", "missing_key", "lacks `name`"),
        (f"▸{{name: x, {EXPECT}}}", "missing_key", "lacks `when`"),
        (f"▸{{name: x, {WHEN}}}", "missing_key", "lacks `expect`"),
        (f"{{▸nmae: x, {WHEN}, {EXPECT}}}", "unknown_key", "did you mean `name`?"),
        (f"{{name: x, when: ▸inactive, {EXPECT}}}", "wrong_type", "`when` is a mapping"),
        (f"{{name: x, when: ▸{{}}, {EXPECT}}}", "missing_key", "lacks its `session`"),
        (f"{{name: x, when: {{session: ▸{{reason: x}}}}, {EXPECT}}}", "missing_key", "lacks a `state`"),
        (f"{{name: x, when: {{session: {{state: a, ▸reson: x}}}}, {EXPECT}}}", "unknown_key", "did you mean `reason`?"),
        (f"{{name: x, when: {{session: {{state: ▸[a]}}}}, {EXPECT}}}", "wrong_type", "this is a list"),
        (f"{{name: x, when: {{session: {{state: a, reason: ▸[b]}}}}, {EXPECT}}}", "wrong_type", "this is a list"),
        (f"{{name: x, when: {{session: {{state: a}}, ▸ticket: {{}}}}, {EXPECT}}}", "unknown_key", "`session`"),
        (f"{{name: x, given: {{active: ▸a}}, {WHEN}, {EXPECT}}}", "wrong_type", "`active` is a list"),
        (f"{{name: x, given: {{active: [▸b]}}, {WHEN}, {EXPECT}}}", "unknown_trigger", "no trigger `b`"),
        (f"{{name: x, given: ▸open, {WHEN}, {EXPECT}}}", "wrong_type", "`given` is a mapping"),
        (f"{{name: x, given: {{ticket: ▸open}}, {WHEN}, {EXPECT}}}", "wrong_type", "such as `status`"),
        (f"{{name: x, given: {{session: ▸{{}}}}, {WHEN}, {EXPECT}}}", "missing_key", "lacks a `state`"),
        (f"{{name: x, {WHEN}, after: ▸60, {EXPECT}}}", "bad_duration", "did you mean `60s`?"),
        (f"{{name: x, {WHEN}, expect: ▸{{}}}}", "empty_value", "says nothing"),
        (f"{{name: x, {WHEN}, expect: {{▸fird: [a]}}}}", "unknown_key", "did you mean `fired`?"),
        (f"{{name: x, {WHEN}, expect: {{fired: ▸a}}}}", "wrong_type", "is a list"),
        (f"{{name: x, {WHEN}, expect: {{fired: [a, ▸b]}}}}", "unknown_trigger", "no trigger `b`"),
        (f"{{name: x, {WHEN}, expect: {{actions: [▸{{value: x}}]}}}}", "missing_key", "names no `field`"),
        (f"{{name: x, {WHEN}, expect: {{actions: [{{field: ▸stats}}]}}}}", "unknown_action", "`stats`"),
        (f"{{name: x, {WHEN}, expect: {{outcome: ▸commandd}}}}", "unknown_outcome", "did you mean `commanded`?"),
        (f"{{name: x, {WHEN}, expect: {{outcome: ▸nothing}}}}", "unknown_outcome", "outcomes are `commanded`"),
    ],
)
def test_a_test_that_cannot_be_one_is_refused_at_its_place(written, codes, says):
    file = with_tests(f"  - {written.replace('▸', '')}\n")
    assert [problem.code for problem in file.errors] == codes.split()
    assert {(problem.line, problem.column) for problem in file.errors} == {(3, 5 + written.index("▸"))}
    assert says in file.errors[0].message
    assert file.ruleset is None


@pytest.mark.parametrize(
    ("given", "code", "says"),
    [
        ("ticket: {▸staus: open}", "similar_field", "if `status` is meant"),
        ("ticket: {▸group: 5}", "similar_field", "if `group_id` is meant"),
        ("ticket: {▸current_tags: vip}", "similar_field", "tags stand under `tags`"),
        ("ticket: {▸messaging_session_channel: web}", "similar_field", "stands under `session`"),
        ("ticket: {status: ▸opne}", "unknown_value", "did you mean `open`?"),
        ("ticket: {priority: ▸medium}", "unknown_value", "did you mean `normal`?"),
        ("session: {state: ▸activ}", "unknown_value", "did you mean `active`?"),
        ("session: {state: inactive, reason: ▸user_inactive_or_ofline}", "unknown_value", "or_offline`?"),
    ],
)
def test_a_slip_that_gives_another_ticket_or_session_is_pointed_out(given, code, says):
    written = f"{{name: x, given: {{{given}}}, {WHEN}, {EXPECT}}}"
    file = with_tests(f"  - {written.replace('▸', '')}\n")
    (problem,) = file.problems
    assert (problem.severity, problem.code) == ("warning", code)
    assert (problem.line, problem.column) == (3, 5 + written.index("▸"))
    assert says in problem.message


@pytest.mark.parametrize(
    "given",
    [
        "ticket: {status: Open, priority: null, tags: a b, custom_fields: {5: x}, custom_fields_6: y, loyalty: gold}",
        "ticket: {status: '', group_id: 5, updated_at: 2026-03-01T10:00:00Z, created_by: me}",
        "session: {state: open, channel: web, session_id: s}",
        "session: {state: Inactive, reason: agent_ended_session}",
        "session: {state: paused_by_bot}",
    ],
)
def test_what_records_may_hold_is_taken_as_it_is(given):
    assert with_tests(f"  - {{name: x, given: {{{given}}}, {WHEN}, {EXPECT}}}\n").problems == []


def test_two_tests_of_one_name_are_refused():
    one = f"  - {{name: x, {WHEN}, {EXPECT}}}\n"
    (problem,) = with_tests(one + one).problems
    assert (problem.line, problem.code) == (4, "duplicate_id")
