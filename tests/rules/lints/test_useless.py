"""Triggers in each other's way: what is called useless is, and only that."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.core.actions import WorkingCopy
from streams.core.cycle import Rules
from streams.core.model import Lapse
from streams.core.triggers import Action, Condition, Operator, Ruleset, Trigger
from streams.rules.lints.demands import clash
from streams.rules.lints.overlaps import in_firing_order
from streams.rules.lints.useless import Useless, Why, find_useless
from tests.rules.lints.test_advice import LEFT, advice, messages, rule

LOW, HIGH = "{field: priority, value: low}", "{field: priority, value: high}"
TASK = "{field: type, value: task}"
IS_LOW, IS_HIGH = LOW, HIGH
TAGGED = "{field: add_tags, value: seen}"
UNTAGGED = "{field: tags, operator: not_includes, value: seen}"
MAIL = "{field: notification_user, value: [requester_id, a, b]}"


# --- case by case -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "found"),
    [
        ((LEFT, LOW), (LEFT, LOW), ["3 duplicate_trigger"]),
        ((f"{LEFT}, {TASK}", LOW), (f"{TASK}, {LEFT}", LOW), ["3 duplicate_trigger"]),
        ((LEFT, MAIL), (LEFT, MAIL), ["3 duplicate_trigger"]),
        ((LEFT, LOW), (LEFT, MAIL), []),
        # shadowed
        ((LEFT, HIGH), (f"{LEFT}, {IS_LOW}", TASK), ["3 shadowed"]),
        ((LEFT, HIGH), ("{field: priority, operator: less_than, value: high}", TASK), ["3 shadowed"]),
        ((LEFT, HIGH), ("{field: priority, operator: not_present}", MAIL), ["3 shadowed"]),
        ((LEFT, TAGGED), (UNTAGGED, MAIL), ["3 shadowed"]),
        ((LEFT, HIGH), (f"{LEFT}, {IS_HIGH}", TASK), []),
        (("{field: type, value: problem}", HIGH), (f"{LEFT}, {IS_LOW}", TASK), []),
        ((LEFT, "{field: remove_tags, value: seen}"), (UNTAGGED, MAIL), []),
        ((LEFT, TAGGED), ("{field: tags, operator: not_includes, value: other}", MAIL), []),
        # redundant
        ((LEFT, f"{LOW}, {TASK}"), (f"{LEFT}, {{field: group_id, value: 7}}", LOW), ["3 redundant"]),
        ((LEFT, TAGGED), (f"{LEFT}, {{field: group_id, value: 7}}", TAGGED), ["3 redundant"]),
        ((LEFT, TAGGED), (f"{LEFT}, {{field: group_id, value: 7}}", "{field: add_tags, value: seen more}"), []),
        ((LEFT, LOW), (f"{LEFT}, {{field: group_id, value: 7}}", f"{LOW}, {MAIL}"), []),
        ((LEFT, LOW), (f"{LEFT}, {{field: group_id, value: 7}}", f"{LOW}, {TASK}"), []),
        # overwritten
        ((f"{LEFT}, {IS_HIGH}", LOW), (LEFT, "{field: priority, value: normal}"), ["2 overwritten", "3 overlap"]),
        ((f"{LEFT}, {{field: group_id, value: 7}}", TASK), (LEFT, f"{TASK}, {LOW}"), ["2 overwritten"]),
        ((f"{LEFT}, {{field: group_id, value: 7}}", TAGGED), (LEFT, "{field: remove_tags, value: seen}"),
         ["2 overwritten", "3 overlap"]),
        ((f"{LEFT}, {{field: group_id, value: 7}}", f"{TASK}, {LOW}"), (LEFT, LOW), []),
        ((f"{LEFT}, {{field: group_id, value: 7}}", f"{TASK}, {MAIL}"), (LEFT, TASK), []),
        ((f"{LEFT}, {{field: group_id, value: 7}}", TASK), (f"{LEFT}, {IS_HIGH}", TASK), []),
    ],
)  # fmt: skip
def test_a_trigger_in_the_way_of_another_is_pointed_out(first, second, found):
    assert advice(rule("a", *first), rule("b", *second)) == found


def test_triggers_of_other_rounds_and_inactive_ones_are_in_nobodys_way():
    for more in ("wait: 5s,", "active: false,"):
        assert advice(rule("a", LEFT, LOW), rule("b", LEFT, LOW, more)) == []
        assert advice(rule("a", LEFT, LOW, more), rule("b", LEFT, LOW)) == []


def test_a_third_trigger_that_may_set_things_right_saves_a_shadowed_one():
    shadow, shadowed = rule("a", LEFT, HIGH), rule("b", f"{LEFT}, {IS_LOW}", MAIL)
    back = rule("c", f"{LEFT}, {{field: type, value: task}}", LOW)
    assert "3 shadowed" in advice(shadow, shadowed)
    assert "3 shadowed" not in advice(shadow, shadowed, back)
    assert "3 shadowed" in advice(shadow, shadowed, rule("c", LEFT, "{field: priority, value: urgent}"))


def test_a_third_trigger_that_may_need_what_is_overwritten_saves_it():
    one, over = rule("a", f"{LEFT}, {{field: group_id, value: 7}}", LOW), rule("b", LEFT, HIGH)
    needs = rule("c", "{field: priority, operator: is, value: low}", MAIL)
    assert "2 overwritten" in advice(one, over)
    assert "2 overwritten" not in advice(one, over, needs)


def test_a_trigger_that_others_let_match_late_is_not_called_overwritten():
    late = rule("a", f"{LEFT}, {{field: group_id, value: 7}}", LOW)
    over, moves = rule("b", LEFT, HIGH), rule("c", LEFT, "{field: group_id, value: 7}")
    assert "2 overwritten" not in advice(late, over, moves)


def test_a_shadow_that_is_an_overlap_too_is_told_once():
    pair = rule("a", LEFT, HIGH), rule("b", f"{LEFT}, {IS_LOW}", "{field: priority, value: normal}")
    assert advice(*pair) == ["3 overlap"]
    assert messages(*pair).endswith("`a` comes first, after which `b` no longer matches: it never fires")


def test_of_two_that_make_each_other_useless_one_is_told():
    assert advice(rule("a", LEFT, f"{LOW}, {TASK}"), rule("b", LEFT, f"{TASK}, {LOW}")) == ["2 overwritten"]


def test_every_message_names_the_other_trigger_and_its_line():
    weaker, stronger = rule("a", LEFT, HIGH), rule("b", f"{LEFT}, {IS_LOW}", TASK)
    assert "`b` never fires: wherever it could, `a` (line 2) fires first and leaves `priority` as `b` does" in messages(
        weaker, stronger
    )
    assert "`b` asks and does the same as `a` (line 2)" in messages(rule("a", LEFT, LOW), rule("b", LEFT, LOW))
    narrow = f"{LEFT}, {{field: group_id, value: 7}}"
    assert "`a` (line 2) has fired before it and done the same" in messages(
        rule("a", LEFT, LOW), rule("b", narrow, LOW)
    )
    assert "`b` (line 3) fires after it and writes all" in messages(rule("a", narrow, LOW), rule("b", LEFT, HIGH))


@pytest.mark.timeout(60)
def test_thousands_of_triggers_alike_are_given_up_on_in_time():
    alike = [rule(f"t{at}", LEFT, f"{{field: custom_fields_{at}, value: x}}") for at in range(2_000)]
    assert advice(*alike) == ["1 not_all_compared"]


# --- ending a session -------------------------------------------------------------------------------------------------

END = "{field: end_messaging_session, value: true}"


@pytest.mark.parametrize(
    ("first", "second", "warned"),
    [
        ((LEFT, END), (LEFT, LOW, "wait: 5m,"), True),
        ((LEFT, END, "wait: 1m,"), (LEFT, LOW, "wait: 5m,"), True),
        ((LEFT, END, "wait: 5m,"), (LEFT, LOW, "wait: 5m,"), False),
        ((LEFT, END, "wait: 10m,"), (LEFT, LOW, "wait: 5m,"), False),
        ((LEFT, END), (LEFT, LOW, "wait: 5m, active: false,"), False),
        ((LEFT, END, "active: false,"), (LEFT, LOW, "wait: 5m,"), False),
        ((LEFT, LOW), (LEFT, END, "wait: 5m,"), False),
        (("{field: status, value: solved}", END), ("{field: status, value: pending}", LOW, "wait: 5m,"), False),
        (
            ("{field: status, value: pending}", f"{END}, {{field: status, value: solved}}"),
            ("{field: status, value: pending}", LOW, "wait: 5m,"),
            False,
        ),
        (
            ("{field: messaging_session_inactive_reason, value: a}", END),
            ("{field: messaging_session_inactive_reason, value: b}", LOW, "wait: 5m,"),
            False,
        ),
        (
            ("{field: messaging_session_inactive_reason, value: [a, b]}", END),
            ("{field: messaging_session_inactive_reason, value: b}", LOW, "wait: 5m,"),
            True,
        ),
    ],
)
def test_ending_a_session_before_others_have_had_their_turn_is_pointed_out(first, second, warned):
    assert advice(rule("a", *first), rule("b", *second)) == (["2 cancels_waits"] if warned else [])


def test_the_cancelled_triggers_are_named_with_their_waits():
    later = [rule(f"b{at}", f"{LEFT}, {{field: group_id, value: {at}}}", LOW, f"wait: {at}m,") for at in (2, 1, 3, 4)]
    said = messages(rule("a", LEFT, END), *later)
    assert "`b1` (line 4, `wait: 1m`), `b2` (line 3, `wait: 2m`), `b3` (line 5, `wait: 3m`) and 1 more" in said


# --- against the engine -----------------------------------------------------------------------------------------------

NAMES = {"status": ["new", "open", "solved"], "priority": ["low", "high", None], "custom_fields_1": ["a", "7", ["a"]]}


@st.composite
def conditions(draw: st.DrawFn) -> Condition:
    field = draw(st.sampled_from([*NAMES, "current_tags", "messaging_session_state"]))
    if field == "current_tags":
        operator = draw(st.sampled_from([Operator.INCLUDES, Operator.NOT_INCLUDES, Operator.PRESENT]))
        words = None if operator is Operator.PRESENT else draw(st.sampled_from([["x"], ["y"], ["x", "y"]]))
        return Condition(field, operator, words)
    if field == "messaging_session_state":
        return Condition(field, Operator.VALUE, "inactive")
    operators = [Operator.IS, Operator.IS, Operator.IS_NOT, Operator.PRESENT, Operator.VALUE, Operator.NOT_CHANGED]
    if field != "custom_fields_1":
        operators += [Operator.LESS_THAN, Operator.GREATER_THAN_EQUAL]
    operator = draw(st.sampled_from(operators))
    values = [value for value in NAMES[field] if not isinstance(value, list)]
    if operator in (Operator.LESS_THAN, Operator.GREATER_THAN_EQUAL):
        return Condition(field, operator, draw(st.sampled_from([value for value in values if value is not None])))
    if operator in (Operator.PRESENT, Operator.NOT_CHANGED):
        return Condition(field, operator)
    if draw(st.booleans()):
        return Condition(field, operator, draw(st.sampled_from(values)))
    return Condition(field, operator, draw(st.lists(st.sampled_from(values), min_size=1, max_size=2)))


ACTIONS = st.one_of(
    *(st.builds(Action, st.just(field), st.sampled_from(values)) for field, values in NAMES.items()),
    st.builds(
        Action, st.sampled_from(["add_tags", "remove_tags", "set_tags"]), st.sampled_from([["x"], ["y"], ["x", "y"]])
    ),
    st.just(Action("reply_public", "hello")),
)
BODIES = st.lists(
    st.tuples(
        st.lists(conditions(), max_size=2),
        st.lists(conditions(), max_size=2),
        st.lists(ACTIONS, min_size=1, max_size=2),
    ),
    min_size=2,
    max_size=4,
)
ROWS = [
    {"status": status, "priority": priority, "custom_fields_1": custom, "tags": tags}
    for status in NAMES["status"]
    for priority in NAMES["priority"]
    for custom in [*NAMES["custom_fields_1"], None]
    for tags in (None, ["x"], ["y", "x"])
]
LAPSE = Lapse("e", 0, 0, 1, "active", None, None, None, None)


def effect(triggers: tuple[Trigger, ...], cycle: str, row: dict[str, object]) -> tuple[list[str], object, object]:
    """Who fires, the net effect by field (who is first to set a field may differ), and what is passed on."""
    copy = WorkingCopy(row)
    fired = [firing.trigger.id for firing in Rules(Ruleset(triggers, cycle)).firings(0, LAPSE, copy)]
    net = copy.net()
    return fired, {action.field: action.value for action in net}, [a for a in net if a.field == "reply_public"]


def check_claims(bodies: list, cycle: str) -> list[Useless]:
    """Every claim holds for every ticket. Return the claims."""
    triggers = tuple(
        Trigger(id=str(at), title="", position=at, actions=tuple(actions), all=tuple(every), any=tuple(some))
        for at, (every, some, actions) in enumerate(bodies, 1)
    )
    possible = [trigger for trigger in triggers if clash(trigger.all, may_be_closed=True) is None]
    claims = [claim for claim in find_useless(in_firing_order(possible), cycle) if claim is not None]
    for claim in claims:
        if claim.why is Why.DUPLICATE:
            continue
        others = tuple(trigger for trigger in triggers if trigger is not claim.trigger)
        for row in ROWS:
            fired, net, passed_on = effect(triggers, cycle, row)
            if claim.why is Why.SHADOWED:
                assert claim.trigger.id not in fired, (claim, row)
            if claim.trigger.id in fired and claim.why is Why.OVERWRITTEN:
                assert claim.by.id in fired[fired.index(claim.trigger.id) :], (claim, row)
            if claim.trigger.id in fired and claim.why is Why.REDUNDANT:
                assert claim.by.id in fired[: fired.index(claim.trigger.id)], (claim, row)
            without, net_without, passed_on_without = effect(others, cycle, row)
            assert (net, passed_on) == (net_without, passed_on_without), (claim, row)
            assert [name for name in fired if name != claim.trigger.id] == without, (claim, row)
    return claims


@settings(max_examples=300, deadline=None)
@given(BODIES, st.sampled_from(["restart", "single_pass"]))
def test_what_is_called_useless_changes_nothing_for_any_ticket(bodies, cycle):
    check_claims(bodies, cycle)
