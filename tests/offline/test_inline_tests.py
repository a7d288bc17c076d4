"""Tests in a trigger file: they pass when what they say is what happens, and otherwise say what happens instead."""

from __future__ import annotations

import pytest

from streams.offline.inline_tests import run_tests
from streams.rules.triggers import parse_triggers

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
    problems = [run.problem for run in run_tests(file) if run.problem is not None]
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
        "`n`: no active trigger has `wait: 5s`, so there is no round then: rounds are `0s`, `1m` after the lapse, "
        "expected commanded; fired: none, expected late"
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
    problems = [run.problem for run in run_tests(file) if run.problem is not None]
    assert [(problem.line - TRIGGERS.count("\n"), problem.column) for problem in problems] == [(2, 5), (3, 5)]
    assert "`a`: fired: none, expected tag" in problems[0].message


# --- why a test fails -------------------------------------------------------------------------------------------------

RULES = """\
triggers:
  - id: solve
    conditions:
      all:
        - {field: messaging_session_state, operator: changed_to, value: inactive}
        - {field: status, operator: is, value: [new, open]}
      any:
        - {field: group_id, operator: is, value: 7}
        - {field: tags, operator: includes, value: vip}
    actions:
      - {field: status, value: solved}
      - {field: add_tags, value: seen}
  - id: note
    wait: 5m
    conditions: {all: [{field: messaging_session_inactive_reason, operator: changed_to, value: x}]}
    actions: [{field: priority, value: low}]
  - id: say
    conditions: {all: [{field: status, operator: changed_to, value: solved}]}
    actions: [{field: reply_public, value: bye}]
  - id: draft
    active: false
    conditions: {all: [{field: status, operator: is, value: open}]}
    actions: [{field: status, value: pending}]
tests:
"""
OPEN = "ticket: {status: open, group_id: 7}"


def details(given: str, expect: str, *, after: str = "0s", when: str = LEAVES) -> list[str]:
    """Run one test that fails; return the lines that explain it."""
    test = f"  - {{name: n, given: {{{given}}}, when: {when}, after: {after}, expect: {{{expect}}}}}\n"
    file = parse_triggers(RULES + test)
    assert file.errors == []
    (run,) = run_tests(file)
    assert run.problem is not None
    return list(run.problem.details)


def test_a_trigger_that_should_have_fired_is_explained_by_the_conditions_that_missed():
    assert details("ticket: {status: pending}", "fired: [solve]") == [
        "`solve` (line 2) did not fire: `status is new or open` (line 6) saw `pending`; none of its `any` conditions "
        "held (`group_id is 7` (line 8) saw no value, `current_tags includes vip` (line 9) saw no value); 1 other held"
    ]
    assert details("ticket: {status: pending, tags: vip}", "fired: [solve]") == [
        "`solve` (line 2) did not fire: `status is new or open` (line 6) saw `pending`; 2 others held"
    ]


def test_what_a_change_was_is_told():
    (said,) = details(OPEN, "outcome: commanded", after="5m")
    assert said == (
        "nearest to firing: `note` (line 13) did not fire: `messaging_session_inactive_reason changed_to x` (line 15) "
        "saw no value before and `user_inactive_or_offline` now"
    )


def test_a_trigger_that_should_not_have_fired_is_explained_by_what_changed_the_ticket_before_it():
    assert details(OPEN, "fired: [solve]") == [
        "`say` (line 17) fired: its condition held, after `solve` had changed the ticket"
    ]
    assert details(OPEN, "fired: [say]") == ["`solve` (line 2) fired: its conditions held"]
    assert details(OPEN, "outcome: no_match")[0] == "`solve` (line 2) fired: its conditions held"


def test_actions_are_compared_field_by_field():
    expect = "actions: [{field: status, value: pending}, {field: tags, value: x}, {field: reply_public, value: bye}]"
    assert details(OPEN, expect.replace("field: tags", "field: add_tags"))[:6] == [
        "actions (- expected, + came instead):",
        "  - status = pending",
        "  + status = solved",
        '  - add_tags = ["x"]',
        '  + add_tags = ["seen"]',
        "    reply_public = bye",
    ]
    same = "[{field: add_tags, value: seen}, {field: status, value: solved}, {field: reply_public, value: bye}]"
    assert details(OPEN, f"actions: {same}")[0] == "the same actions in another order: status, add_tags, reply_public"


@pytest.mark.parametrize(
    ("given", "expect", "said"),
    [
        ("ticket: {status: closed}", "fired: [solve]", "no trigger was asked: the ticket is closed"),
        (
            "session: {state: active}",
            "fired: [solve]",
            "no trigger was asked: there is no ticket; give one under `given`",
        ),
        (OPEN, "fired: [solve, say, note]", "`note` (line 13) waits 5m: its round is the one with `after: 5m`"),
        (OPEN, "fired: [draft]", "`draft` (line 20) is not active; `given: {active: [draft]}` tries it out"),
        (
            "session: {state: inactive}",
            "fired: [solve]",
            "`solve` (line 2) was not asked: the event is no lapse, so there is no round",
        ),
        (
            "ticket: {status: solved, tags: [vip]}, active: [draft]",
            "fired: [draft]",
            "`draft` (line 20) did not fire: `status is open` (line 22) saw `solved`",
        ),
    ],
)
def test_a_round_that_was_not_what_the_test_took_it_for_is_explained(given, expect, said):
    assert said in details(given, expect)


def test_a_test_can_try_out_a_trigger_that_is_off():
    test = f"  - {{name: n, given: {{{OPEN}, active: [draft]}}, when: {LEAVES}, expect: {{fired: [draft]}}}}\n"
    other = f"  - {{name: o, given: {{{OPEN}}}, when: {LEAVES}, expect: {{fired: [solve, say]}}}}\n"
    runs = list(run_tests(parse_triggers(RULES + test + other)))
    assert [run.problem for run in runs] == [None, None]
