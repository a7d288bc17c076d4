"""Tests in a trigger file: they pass when what they say is what happens, and otherwise say what happens instead."""

from __future__ import annotations

import pytest

from streams.config.triggers import parse_triggers
from streams.offline.inline_tests import run_tests

LEAVES = "{session: {state: inactive, reason: user_inactive_or_offline}}"
TRIGGERS = """
triggers:
  - id: tag
    conditions: {all: [{field: messaging_session_state, operator: changed_to, value: inactive}]}
    actions: [{field: add_tags, value: left}]
  - id: high
    conditions:
      all:
        - {field: priority, operator: is, value: high}
        - {field: messaging_session_state, operator: changed_to, value: inactive}
    actions:
      - {field: group_id, value: 360}
      - {field: notification_user, value: [requester_id, Hello, Where are you?]}
  - id: late
    wait: 60s
    conditions:
      all:
        - {field: status, operator: is, value: open}
        - {field: messaging_session_state, operator: changed_to, value: inactive}
    actions: [{field: status, value: solved}, {field: assignee_id, value: null}]
"""


def failures(**test: str) -> list[str]:
    """Run one test with these members; return the messages of what failed."""
    members = {"name": "n", "when": LEAVES, "given": "{ticket: {status: open}, session: {state: active}}", **test}
    text = f"{TRIGGERS}tests:\n" + "".join(
        f"  {'-' if number == 0 else ' '} {name}: {value}\n" for number, (name, value) in enumerate(members.items())
    )
    file = parse_triggers(text, "rules.yaml")
    assert file.errors == []
    problems = list(run_tests(file))
    assert all((problem.code, problem.file) == ("failed_test", "rules.yaml") for problem in problems)
    return [problem.message for problem in problems]


@pytest.mark.parametrize(
    ("given", "after", "expect"),
    [
        ("{ticket: {status: open}}", "0s", "{fired: [tag], outcome: commanded}"),
        ("{ticket: {status: open}}", "0s", "{actions: [{field: add_tags, value: left}]}"),
        ("{ticket: {status: open}}", "0s", "{actions: [{field: current_tags, value: [left]}]}"),
        ("{ticket: {status: open, tags: left}}", "0s", "{fired: [tag], actions: [], outcome: no_op}"),
        ("{ticket: {status: Open}, session: {state: active}}", "60s", "{fired: [late], outcome: commanded}"),
        ("{ticket: {status: pending}}", "60s", "{fired: [], actions: [], outcome: no_match}"),
        ("{ticket: {status: closed}}", "0s", "{fired: [], outcome: closed}"),
        ("{session: {state: active}}", "0s", "{fired: [], outcome: unjoined}"),
        ("{session: {state: active}}", "60s", "{outcome: unjoined}"),
        ("{ticket: {status: open}, session: {state: inactive}}", "0s", "{fired: []}"),
        (
            "{ticket: {status: open, priority: High}}",
            "0s",
            "{fired: [tag, high], actions: [{field: group_id, value: '360'}, {field: add_tags, value: left},"
            " {field: notification_user, value: [requester_id, Hello, Where are you?]}]}",
        ),
        (
            "{ticket: {status: open, assignee_id: 7}}",
            "60s",
            "{actions: [{field: status, value: Solved}, {field: assignee_id, value: ''}]}",
        ),
    ],
)
def test_what_happens_passes(given, after, expect):
    assert failures(given=given, after=after, expect=expect) == []


@pytest.mark.parametrize(
    ("expect", "message"),
    [
        ("{fired: [high]}", "`n`: fired: tag, expected high"),
        ("{fired: []}", "`n`: fired: tag, expected none"),
        ("{outcome: no_match}", "`n`: the outcome is commanded, expected no_match"),
        ("{actions: []}", '`n`: actions: add_tags=["left"], expected none'),
        (
            "{actions: [{field: add_tags, value: right}]}",
            '`n`: actions: add_tags=["left"], expected add_tags=["right"]',
        ),
        (
            "{fired: [high], outcome: no_op}",
            "`n`: the outcome is commanded, expected no_op; fired: tag, expected high",
        ),
    ],
)
def test_what_does_not_happen_fails_and_says_what_does(expect, message):
    assert failures(expect=expect) == [message]


def test_a_wait_that_no_trigger_has_is_named():
    said = failures(after="5s", expect="{fired: [late], outcome: commanded}")
    assert said == [
        "`n`: no active trigger waits 5 s, so there is no round then, expected commanded; fired: none, expected late"
    ]


def test_an_event_that_is_no_lapse_is_named():
    said = failures(when="{session: {state: active}}", expect="{outcome: no_match}")
    assert said == ["`n`: the event is no lapse, so there is no round, expected no_match"]


def test_an_order_key_of_the_test_counts():
    given = "{ticket: {status: open}, session: {state: active, sequence: 5}}"
    stale = "{session: {state: inactive, sequence: 4}}"
    assert failures(given=given, when=stale, expect="{outcome: commanded}") != []
    assert failures(given=given, when=stale.replace("4", "6"), expect="{outcome: commanded}") == []


def test_a_record_that_would_be_a_dead_letter_is_named():
    (said,) = failures(when="{session: {state: inactive, occurred_at: yesterday}}", expect="{fired: [tag]}")
    assert said.startswith("`n`: its records can't be used: $.occurred_at: ")


def test_a_problem_stands_where_its_test_begins():
    file = parse_triggers(
        TRIGGERS + f"tests:\n  - {{name: a, when: {LEAVES}, expect: {{fired: [tag]}}}}\n"
        f"  - {{name: b, given: {{ticket: {{}}}}, when: {LEAVES}, expect: {{fired: []}}}}\n"
    )
    problems = list(run_tests(file))
    assert [(problem.line - TRIGGERS.count("\n"), problem.column) for problem in problems] == [(2, 5), (3, 5)]
    assert "`a`: fired: none, expected tag" in problems[0].message
