"""A trace can't disagree with the engine: it says of every round what the round itself came to."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from streams.core.cycle import Rules
from streams.core.model import Lapse
from streams.core.trace import trace_round
from streams.core.triggers import Action, Condition, Operator, Ruleset, Trigger

LAPSE = Lapse("e-1", 0, 0, 1, "active", None, "web", "user_inactive_or_offline", "web")

VALUES = {
    "status": ["new", "open", "solved", None],
    "priority": ["low", "high", None],
    "tags": ["vip", "late", "vip late"],
    "messaging_session_state": ["active", "inactive"],
    "messaging_session_inactive_reason": ["user_inactive_or_offline", "agent_ended"],
}


@st.composite
def conditions(draw: st.DrawFn) -> Condition:
    field = draw(st.sampled_from(list(VALUES)))
    if field == "tags":
        operator = draw(st.sampled_from([Operator.INCLUDES, Operator.NOT_INCLUDES, Operator.PRESENT]))
    else:
        operator = draw(
            st.sampled_from([Operator.IS, Operator.IS_NOT, Operator.VALUE, Operator.VALUE_PREVIOUS, Operator.CHANGED])
        )
    return Condition(field, operator, draw(st.sampled_from(VALUES[field])))


def actions() -> st.SearchStrategy[Action]:
    return st.one_of(
        st.builds(Action, st.just("status"), st.sampled_from(["open", "solved"])),
        st.builds(Action, st.just("priority"), st.sampled_from(["low", "high", None])),
        st.builds(Action, st.sampled_from(["add_tags", "remove_tags", "set_tags"]), st.sampled_from([["vip"], ["x"]])),
        st.just(Action("notification_user", ["1"])),
    )


@st.composite
def rulesets(draw: st.DrawFn) -> Ruleset:
    triggers = tuple(
        Trigger(
            id=f"t{number}",
            title="",
            position=draw(st.integers(1, 3)),
            all=tuple(draw(st.lists(conditions(), max_size=3))),
            any=tuple(draw(st.lists(conditions(), max_size=2))),
            actions=tuple(draw(st.lists(actions(), min_size=1, max_size=2))),
            active=draw(st.integers(0, 5)) > 0,
            wait=draw(st.sampled_from([0, 0, 5])),
        )
        for number in range(draw(st.integers(1, 6)))
    )
    return Ruleset(triggers, draw(st.sampled_from(["restart", "single_pass"])), "0")


ROWS = st.fixed_dictionaries(
    {},
    optional={
        "status": st.sampled_from(["new", "open", "solved"]),
        "priority": st.sampled_from(["low", "high"]),
        "tags": st.sampled_from([["vip"], ["late", "x"]]),
    },
)


@given(rulesets(), ROWS, st.sampled_from([0, 5]))
@settings(max_examples=1_000, deadline=None)
def test_a_trace_ends_as_the_round_does(ruleset: Ruleset, row: dict[str, Any], wait: int) -> None:
    rules = Rules(ruleset)
    fired, copy = rules.fire(wait, LAPSE, row)
    trace = trace_round(rules, wait, LAPSE, row)
    assert [one.trigger for one in trace.fired] == fired
    assert trace.actions == (copy.net() if fired else ())
    made: dict[str, Any] = dict(row)
    for one in trace.fired:
        assert one.short == 0
        assert all(condition.holds for condition in one.all)
        assert not one.any or any(condition.holds for condition in one.any)
        for field, (before, after) in one.changes.items():
            assert made.get(field) == before
            made[field] = after
    assert {k: v for k, v in made.items() if v != row.get(k)} == {k: v for k, v in copy.now.items() if v != row.get(k)}
    passes = [one.fired_in_pass for one in trace.fired]
    assert passes == sorted(passes)
    assert trace.passes >= max(passes, default=1)


@given(rulesets(), ROWS, st.sampled_from([0, 5]))
@settings(max_examples=500, deadline=None)
def test_every_trigger_of_the_wait_is_told_of_and_who_did_not_fire_was_short(
    ruleset: Ruleset, row: dict[str, Any], wait: int
) -> None:
    trace = trace_round(Rules(ruleset), wait, LAPSE, row)
    told = [*trace.fired, *trace.not_fired]
    asked = [one for one in ruleset.triggers if one.active and one.wait == wait]
    assert sorted(one.trigger.id for one in told) == sorted(one.id for one in asked)
    assert all(one.short > 0 for one in trace.not_fired)
    assert [one.short for one in trace.not_fired] == sorted(one.short for one in trace.not_fired)
    assert all(len(one.all) == len(one.trigger.all) and len(one.any) == len(one.trigger.any) for one in told)


def test_any_conditions_that_all_fail_are_one_condition_short() -> None:
    trigger = Trigger(
        id="t",
        title="",
        position=1,
        all=(Condition("status", Operator.IS, "open"), Condition("priority", Operator.IS, "high")),
        any=(Condition("status", Operator.IS, "new"), Condition("status", Operator.IS, "hold")),
        actions=(Action("status", "solved"),),
    )
    [one] = trace_round(Rules(Ruleset((trigger,))), 0, LAPSE, {"status": "open", "priority": "low"}).not_fired
    assert one.short == 2
    assert [(seen.before, seen.now, seen.holds) for seen in one.all] == [("open", "open", True), ("low", "low", False)]


def test_a_condition_shows_what_an_earlier_trigger_made_of_its_field() -> None:
    first = Trigger(id="first", title="", position=1, all=(Condition("status", Operator.IS, "open"),), actions=(
        Action("status", "solved"),))  # fmt: skip
    second = Trigger(id="second", title="", position=2, all=(Condition("status", Operator.IS, "open"),), actions=(
        Action("priority", "low"),))  # fmt: skip
    trace = trace_round(Rules(Ruleset((first, second))), 0, LAPSE, {"status": "open"})
    assert [one.trigger.id for one in trace.fired] == ["first"]
    assert trace.passes == 2
    [missed] = trace.not_fired
    assert (missed.all[0].before, missed.all[0].now) == ("open", "solved")
