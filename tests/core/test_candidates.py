"""The index only ever leaves out triggers that cannot match: found by what they ask for, none is missed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.core import cycle
from streams.core.cycle import Rules
from streams.core.model import Lapse
from streams.core.triggers import Action, Condition, Operator, Ruleset, Trigger

LAPSE = Lapse("e", 0, 0, 1, "active", None, None, "gone", "web")

VALUES = st.sampled_from(["a", "b", "360", 360, True, None])
CONDITIONS = st.one_of(
    st.builds(
        Condition,
        st.sampled_from(["group_id", "status", "x"]),
        st.just(Operator.IS),
        st.one_of(VALUES, st.lists(VALUES, max_size=3)),
    ),
    st.builds(
        Condition,
        st.sampled_from(["tags", "current_tags"]),
        st.sampled_from([Operator.INCLUDES, Operator.NOT_INCLUDES]),
        st.sampled_from(["a", "b c", ["a", "b"], ["c"]]),
    ),
    st.builds(Condition, st.sampled_from(["x", "status"]), st.just(Operator.IS_NOT), VALUES),
)
ACTIONS = st.sampled_from(
    [
        Action("x", "a"),
        Action("status", "b"),
        Action("group_id", None),
        Action("add_tags", ["c"]),
        Action("set_tags", []),
    ]
)


@st.composite
def rulesets(draw: st.DrawFn) -> Ruleset:
    return Ruleset(
        tuple(
            Trigger(
                id=f"t{number}",
                title="",
                position=number,
                all=tuple(draw(st.lists(CONDITIONS, max_size=3))),
                any=tuple(draw(st.lists(CONDITIONS, max_size=2))),
                actions=(draw(ACTIONS),),
            )
            for number in range(draw(st.integers(1, 6)))
        ),
        cycle=draw(st.sampled_from(["restart", "single_pass"])),
    )


ROWS = st.fixed_dictionaries(
    {},
    optional={
        "group_id": st.sampled_from(["360", "a", None]),
        "status": st.sampled_from(["a", "b"]),
        "x": st.sampled_from(["a", 360, True, ["a", "b"], None]),
        "tags": st.lists(st.sampled_from(["a", "b", "c"]), unique=True),
    },
)


@given(rulesets(), ROWS)
@settings(max_examples=400, deadline=None)
def test_the_index_changes_nothing_but_the_time(ruleset: Ruleset, row: dict[str, Any]):
    fired, copy = Rules(ruleset).fire(0, LAPSE, row)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cycle, "_key_of", lambda condition: None)
        plain, plain_copy = Rules(ruleset).fire(0, LAPSE, row)
    assert [trigger.id for trigger in fired] == [trigger.id for trigger in plain]
    assert copy.now == plain_copy.now


VARIED = st.dictionaries(
    st.sampled_from(["group_id", "status", "x", "tags", "updated_at", "unasked"]),
    st.sampled_from(["a", "b", "360", 360, 360.0, 1, 1.0, True, 0.0, -0.0, None, [], ["a"], ["a", "b"], [1], [True]]),
)


@given(rulesets(), st.lists(VARIED, min_size=2, max_size=12))
@settings(max_examples=200, deadline=None)
def test_a_remembered_decision_is_the_one_that_would_be_made_again(ruleset: Ruleset, rows: list[dict[str, Any]]):
    rules = Rules(ruleset)
    for row in rows * 2:
        decided, again = rules.decide(0, LAPSE, row), Rules(ruleset).decide(0, LAPSE, row)
        assert repr(decided) == repr(again), "also the types of numbers"


def test_decisions_that_never_come_again_are_not_remembered_for_long():
    asks = Trigger(id="t", title="", position=1, all=(Condition("x", Operator.IS_NOT, "a"),), actions=())
    rules = Rules(Ruleset((asks,)))
    for number in range(2 * cycle.DECISIONS_KEPT):
        assert rules.decide(0, LAPSE, {"x": str(number)}).fired == ("t",)
    assert not rules._decisions[0].useful
    assert not rules._decisions[0]._known


def test_triggers_that_ask_for_tags_are_looked_up_by_them(monkeypatch: pytest.MonkeyPatch):
    """A thousand of them cost no more than the few whose tag the ticket has."""
    asked: list[str] = []

    def compiled(condition: Condition) -> Any:
        def predicate(before: Any, now: Any) -> bool:
            asked.append(condition.value)
            return condition.value in now["tags"]

        return predicate

    monkeypatch.setattr(cycle, "compile_condition", compiled)
    triggers = tuple(
        Trigger(id=f"t{n}", title="", position=n, all=(Condition("tags", Operator.INCLUDES, f"tag{n}"),), actions=())
        for n in range(1_000)
    )
    fired, _ = Rules(Ruleset(triggers)).fire(0, LAPSE, {"tags": ["tag7", "tag700"]})
    assert [trigger.id for trigger in fired] == ["t7", "t700"]
    assert set(asked) == {"tag7", "tag700"}


def test_a_list_is_no_value_that_is_asks_for_though_it_holds_it():
    asks = Trigger(
        id="t", title="", position=1, all=(Condition("x", Operator.IS, "a"),), actions=(Action("status", "solved"),)
    )
    rules = Rules(Ruleset((asks,)))
    assert [trigger.id for trigger in rules.fire(0, LAPSE, {"x": "a"})[0]] == ["t"]
    for row in ({"x": ["a"]}, {"x": ["a", "b"]}):
        assert rules.fire(0, LAPSE, row)[0] == []
