"""Triggers that fire in one round though their writer thinks of two."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core.cycle import Rules
from streams.core.triggers import Ruleset
from streams.rules.lints.chains import find_chains
from tests.rules.lints.test_advice import BODIES, LAPSES, LEFT, ROWS, advice, messages, rule, trigger_list

OPEN, PENDING = "{field: status, value: [new, open]}", "{field: status, value: pending}"
TO_PENDING, TO_SOLVED = PENDING, "{field: status, value: solved}"
TAGGED = "{field: tags, operator: includes, value: left}"
NOT_TAGGED = "{field: tags, operator: not_includes, value: left}"
TAG, TAG_AGAIN = "{field: add_tags, value: left}", "{field: add_tags, value: left_again}"


@pytest.mark.parametrize(
    ("first", "then", "chained"),
    [
        ((OPEN, TO_PENDING), (PENDING, TO_SOLVED), True),
        ((f"{LEFT}, {OPEN}", TO_PENDING), (f"{LEFT}, {PENDING}", TO_SOLVED), True),
        ((OPEN, TO_PENDING), ("{field: status, operator: greater_than, value: open}", TAG), True),
        ((OPEN, TO_PENDING), (f"{PENDING}, {{field: status, operator: not_changed}}", TO_SOLVED), False),
        ((OPEN, TO_PENDING), (f"{PENDING}, {{field: group_id, value: 1}}", TO_SOLVED), True),
        ((f"{OPEN}, {{field: type, value: task}}", TO_PENDING), (f"{PENDING}, {{field: type, value: ''}}", TAG), False),
        ((LEFT, "{field: group_id, value: 1}"), ("{field: group_id, value: 1}", TAG), False),  # routing, then a mark
        ((NOT_TAGGED, TAG), (TAGGED, TAG_AGAIN), True),
        ((LEFT, TAG), (f"{LEFT}, {TAGGED}", TAG_AGAIN), True),
        ((f"{LEFT}, {OPEN}", TAG), (f"{LEFT}, {TAGGED}", TAG_AGAIN), False),  # sorting by tags
        ((LEFT, "{field: add_tags, value: other}"), (f"{LEFT}, {TAGGED}", TAG_AGAIN), False),
    ],
)
def test_a_trigger_that_another_makes_fire_in_the_same_round_is_pointed_out(first, then, chained):
    for cycle in ("restart", "single_pass"):
        found = [line for line in advice(rule("a", *first), rule("b", *then), cycle=cycle) if line.endswith("chained")]
        assert found == (["3 chained"] if chained else [])


def test_in_a_single_pass_a_trigger_above_is_not_made_to_fire():
    rules = rule("b", TAGGED, TAG_AGAIN), rule("a", NOT_TAGGED, TAG)
    assert advice(*rules) == ["2 chained"]
    assert advice(*rules, cycle="single_pass") == []


def test_triggers_of_different_waits_are_no_chain():
    assert advice(rule("a", OPEN, TO_PENDING), rule("b", PENDING, TO_SOLVED, "wait: 5m,")) == []


def test_the_message_says_what_happens_and_what_to_do():
    told = messages(rule("a", OPEN, TO_PENDING), rule("b", PENDING, TO_SOLVED))
    assert "`b` fires right after `a` (line 2), in the same round: that one sets `status` to `pending`" in told
    assert "add `{field: status, operator: not_changed}`" in told
    told = messages(rule("a", NOT_TAGGED, TAG), rule("b", TAGGED, TAG_AGAIN))
    assert "that one adds the tag `left`, after which `current_tags includes left` holds; put `b` above it" in told


@given(BODIES, st.sampled_from(["restart", "single_pass"]), ROWS, LAPSES)
def test_what_is_said_to_follow_another_does_not_match_by_itself_where_that_one_fires_first(bodies, cycle, row, lapse):
    triggers = trigger_list(bodies)
    fired = [trigger.id for trigger in Rules(Ruleset(triggers, cycle)).fire(0, lapse, row)[0]]
    for chain in find_chains(triggers, cycle):
        if chain is None or chain.condition.field == "current_tags" or fired[:1] != [chain.first.id]:
            continue
        assert Rules(Ruleset((chain.then,), cycle)).fire(0, lapse, row)[0] == []
