"""`# lapse: allow CODE`: a warning that its writer has seen, so that `--strict` can watch over the others."""

from __future__ import annotations

import pytest

from streams.rules.triggers import parse_triggers

TRIGGER = """\
triggers:
  - id: a{here}
    conditions:
      all:
        - {{field: status, operator: is, value: open}}
        - {{field: assignee_id, operator: is, value: current_user}}{there}
    actions: [{{field: priority, value: low}}]
"""
ALLOW_OPEN, ALLOW_ID = "  # lapse: allow open_is_not_new", "  # lapse: allow symbolic_id"


def codes(here: str = "", there: str = "", text: str = TRIGGER) -> list[str]:
    file = parse_triggers(text.format(here=here, there=there))
    return [f"{problem.line} {problem.code}" for problem in file.problems]


def test_a_comment_at_the_end_of_its_line_allows_a_warning():
    assert codes() == ["2 open_is_not_new", "6 symbolic_id"]
    assert codes(here=ALLOW_OPEN) == ["6 symbolic_id"]
    assert codes(there=ALLOW_ID) == ["2 open_is_not_new"]
    assert codes(ALLOW_OPEN, ALLOW_ID) == []


def test_a_comment_alone_speaks_of_the_next_line_that_is_none():
    above = TRIGGER.replace(
        "  - id: a", "  # lapse: allow open_is_not_new (agents take every ticket at once)\n\n  # A\n  - id: a"
    )
    assert codes(text=above) == ["9 symbolic_id"]


def test_several_codes_may_stand_in_one_comment():
    line = "- {id: a, conditions: {all: [{field: assignee_id, value: current_user}, {field: status, value: open}]},"
    comment = "# lapse: allow symbolic_id, open_is_not_new: why"
    text = f"triggers:\n{line} actions: [{{field: type, value: task}}]}}  {comment}\n"
    assert parse_triggers(text).problems == []


@pytest.mark.parametrize(
    ("comment", "says"),
    [
        ("# lapse: allow overlap", "line 2 has no warning `overlap` to allow; remove this comment"),
        ("# lapse: allow open_is_nto_new", "there is no warning `open_is_nto_new`; did you mean `open_is_not_new`?"),
        ("# lapse: allow unknown_field", "`unknown_field` is an error and can't be allowed"),
        ("# lapse: allow", "this comment names no warning to allow"),
    ],
)
def test_a_comment_that_allows_nothing_is_pointed_out_at_its_place(comment, says):
    file = parse_triggers(TRIGGER.format(here=f"  {comment}", there=ALLOW_ID))
    (problem,) = [problem for problem in file.problems if problem.code == "bad_allow"]
    assert (problem.line, problem.column) == (2, 12)
    assert says in problem.message


def test_errors_are_never_allowed_and_hide_which_comments_are_needed():
    text = TRIGGER.replace("status, operator", "staus, operator").format(here=ALLOW_OPEN, there=ALLOW_ID)
    assert [problem.code for problem in parse_triggers(text).problems] == ["unknown_field"]


def test_other_comments_are_left_alone():
    assert codes(here="  # relapse: allowed, as lapse: says") == codes()


def test_what_one_comment_allows_is_told_of_other_triggers_all_the_same():
    opened = "    conditions: {all: [{field: status, value: open}]}\n    actions: [{field: priority, value: low}]\n"
    text = f"triggers:\n  - id: a{ALLOW_OPEN}\n{opened}  - id: b\n    wait: 5s\n{opened}"
    assert [f"{problem.line} {problem.code}" for problem in parse_triggers(text).problems] == ["5 open_is_not_new"]
