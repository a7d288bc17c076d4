"""Advice: said where it helps, never of what is right."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core.cycle import Rules
from streams.core.model import Lapse
from streams.core.triggers import Action, Condition, Operator, Ruleset, Trigger
from streams.documents.problems import Findings
from streams.documents.yaml_nodes import At
from streams.rules.lints.advice import advise
from streams.rules.lints.demands import values_of
from streams.rules.lints.overlaps import find_overlaps
from streams.rules.triggers import parse_triggers

LEFT = "{field: messaging_session_state, operator: changed_to, value: inactive}"
NOT_VIP = "{field: tags, operator: not_includes, value: vip}"
LOW, HIGH = "{field: priority, value: low}", "{field: priority, value: high}"


def rule(name: str, conditions: str, actions: str = "{field: type, value: task}", more: str = "") -> str:
    return f"  - {{id: {name}, {more} conditions: {{all: [{conditions}]}}, actions: [{actions}]}}\n"


def advice(*rules: str, cycle: str = "restart") -> list[str]:
    file = parse_triggers("triggers:\n" + "".join(rules) + f"cycle: {cycle}\n")
    assert file.errors == []
    assert file.ruleset is not None
    return [f"{problem.line} {problem.code}" for problem in file.warnings]


def problems(*rules: str) -> list[str]:
    return [f"{problem.line} {problem.code}" for problem in parse_triggers("triggers:\n" + "".join(rules)).problems]


def messages(*rules: str) -> str:
    return "\n".join(problem.message for problem in parse_triggers("triggers:\n" + "".join(rules)).warnings)


def test_a_plain_trigger_gets_no_advice():
    assert advice(rule("a", f"{LEFT}, {{field: priority, value: high}}")) == []


def test_a_file_without_an_active_trigger_does_nothing():
    assert advice(rule("a", LEFT, more="active: false,")) == ["1 no_active_trigger"]
    assert [problem.code for problem in parse_triggers("triggers: []").problems] == ["no_active_trigger"]


def test_what_could_not_be_read_is_compared_with_nothing():
    slips = rule("a", "{field: staus, value: open}"), rule("b", "{field: prioriti, value: high}")
    assert problems(*slips) == ["2 unknown_field", "3 unknown_field"]
    assert problems(rule("a", LEFT, "{field: staus, value: open}"), rule("b", LEFT, "{field: tag, value: x}")) == [
        "2 unknown_action",
        "3 unknown_action",
    ]


def test_beside_what_could_not_be_read_only_what_rests_on_no_other_trigger_is_told():
    unread = rule("x", LEFT, "{field: prio, value: low}")
    waits_for_it = rule("a", "{field: priority, operator: changed}")
    assert problems(waits_for_it) == ["2 unreachable"]
    assert problems(waits_for_it, unread) == ["3 unknown_action"]
    both = rule("a", "{field: type, value: task}", LOW), rule("b", LEFT, HIGH)
    assert problems(*both) == ["2 overwritten", "3 overlap"]
    assert problems(*both, unread) == ["3 overlap", "4 unknown_action"]
    assert problems(rule("a", LEFT, LOW), rule("b", LEFT, LOW), unread) == ["3 duplicate_trigger", "4 unknown_action"]
    never = rule("a", "{field: type, value: task}, {field: type, value: problem}", LOW)
    assert problems(never, unread) == ["2 unreachable", "3 unknown_action"]


@pytest.mark.parametrize(
    "conditions",
    [
        "{field: status, value: open}, {field: status, value: solved}",
        "{field: status, value: [open, new]}, {field: status, operator: greater_than, value: pending}",
        "{field: status, value: open}, {field: status, operator: is_not, value: open}",
        "{field: priority, operator: present}, {field: priority, operator: not_present}",
        "{field: priority, operator: less_than, value: low}",
        "{field: status, value: closed}",
        "{field: messaging_session_state, value: active}",
        "{field: messaging_session_state, operator: changed_to, value: ended}",
        "{field: messaging_session_state, operator: changed_from, value: inactive}",
        "{field: messaging_session_state, operator: not_changed}",
        "{field: messaging_session_inactive_reason, operator: changed_from, value: agent_left}",
        "{field: messaging_session_inactive_reason, operator: changed}, "
        "{field: messaging_session_inactive_reason, operator: not_present}",
        "{field: messaging_session_state, operator: not_changed_to, value: inactive}",
        "{field: update_type, value: Create}",
        "{field: tags, operator: includes, value: a}, {field: tags, operator: not_includes, value: a b}",
        "{field: priority, operator: changed}",
        "{field: priority, operator: changed_to, value: low}",
        "{field: custom_fields_1, operator: changed_from, value: x}",
        "{field: reopens, operator: less_than, value: 5}, {field: reopens, operator: greater_than, value: 9}",
        "{field: reopens, operator: less_than, value: 5}, {field: reopens, operator: greater_than_equal, value: 5}",
        "{field: reopens, operator: less_than, value: 5}, {field: reopens, value: [5, 7]}",
        "{field: custom_fields_1, operator: less_than, value: 5}, {field: custom_fields_1, operator: not_present}",
        "{field: tags, operator: includes, value: a}, {field: tags, operator: not_present}",
        "{field: messaging_session_inactive_reason, operator: changed_to, value: a}, "
        "{field: messaging_session_inactive_reason, operator: not_changed_to, value: [a, b]}",
        "{field: messaging_session_channel, operator: changed_from, value: web}, "
        "{field: messaging_session_channel, operator: not_changed_from, value: web}",
        "{field: messaging_session_channel, operator: changed_from, value: web}, "
        "{field: messaging_session_channel, operator: changed}, {field: messaging_session_channel, value: web}",
    ],
)
def test_conditions_that_never_hold_together_are_pointed_out(conditions):
    assert "2 unreachable" in advice(rule("a", conditions))


@pytest.mark.parametrize(
    "conditions",
    [
        "{field: status, value: [open, new]}, {field: status, operator: less_than, value: open}",
        "{field: status, operator: is_not, value: closed}",
        "{field: messaging_session_state, operator: changed_from, value: active}",
        "{field: messaging_session_state, operator: not_changed_to, value: ended}",
        "{field: messaging_session_inactive_reason, operator: changed}",
        "{field: priority, operator: not_changed}",
        "{field: tags, operator: includes, value: a c}, {field: tags, operator: not_includes, value: a b}",
        "{field: reopens, operator: less_than, value: 9}, {field: reopens, operator: greater_than, value: 5}",
        "{field: replies, operator: less_than_equal, value: 5}, "
        "{field: replies, operator: greater_than_equal, value: 5}",
        "{field: reopens, operator: less_than, value: 5}, {field: reopens, value: [4, 7]}",
        "{field: reopens, operator: less_than, value: 5}, {field: replies, operator: greater_than, value: 9}",
        "{field: tags, operator: not_includes, value: a}, {field: tags, operator: not_present}",
        "{field: messaging_session_inactive_reason, operator: changed_to, value: [a, c]}, "
        "{field: messaging_session_inactive_reason, operator: not_changed_to, value: [a, b]}",
        "{field: messaging_session_channel, operator: not_changed_from, value: web}, "
        "{field: messaging_session_channel, value: web}",
    ],
)
def test_conditions_that_may_hold_are_left_alone(conditions):
    assert not [line for line in advice(rule("a", conditions)) if line.endswith("unreachable")]


def test_any_conditions_are_unreachable_only_together():
    file = "triggers:\n- {{id: a, conditions: {{all: [{0}], any: [{1}]}}, actions: [{{field: type, value: task}}]}}"
    is_new, is_hold = "{field: status, value: new}", "{field: status, value: hold}"
    never = parse_triggers(file.format("{field: status, value: pending}", f"{is_new}, {is_hold}"))
    may = parse_triggers(file.format("{field: status, value: new}", f"{is_new}, {is_hold}"))
    assert [problem.code for problem in never.problems] == ["unreachable"]
    assert may.problems == []


def test_a_field_of_the_ticket_changes_only_by_another_trigger_of_the_round():
    sets_low = rule("a", LEFT, "{field: priority, value: low}")
    assert advice(sets_low, rule("b", "{field: priority, operator: changed}")) == ["3 depends_on_trigger"]
    assert advice(sets_low, rule("b", "{field: priority, operator: changed}", more="wait: 5s,")) == ["3 unreachable"]


def test_a_field_changes_only_to_what_a_trigger_sets():
    sets_low = rule("a", LEFT, "{field: priority, value: low}")
    to_low, to_high = (rule("b", f"{{field: priority, operator: changed_to, value: {to}}}") for to in ("low", "high"))
    assert advice(sets_low, to_low) == ["3 depends_on_trigger"]
    assert advice(sets_low, to_high) == ["3 unreachable"]
    assert "none sets it to `high`" in messages(sets_low, to_high)
    either = rule("b", "{field: priority, operator: changed_to, value: [high, low]}")
    assert advice(sets_low, either) == ["3 depends_on_trigger"]


def test_in_a_single_pass_only_earlier_triggers_count():
    asks, sets = rule("a", "{field: priority, operator: changed}"), rule("b", LEFT, "{field: priority, value: low}")
    assert advice(asks, sets) == ["2 depends_on_trigger"]
    assert advice(asks, sets, cycle="single_pass") == ["2 unreachable"]
    assert advice(sets, asks, cycle="single_pass") == ["3 depends_on_trigger"]


def test_only_a_trigger_that_closes_lets_another_see_closed():
    is_closed = rule("b", "{field: status, value: closed}")
    assert advice(rule("a", LEFT, "{field: status, value: closed}"), is_closed) == ["3 depends_on_trigger"]
    assert advice(rule("a", LEFT, "{field: status, value: solved}"), is_closed) == ["3 unreachable"]
    solved_or_closed = rule("b", "{field: status, value: [solved, closed]}")
    assert advice(rule("a", LEFT, "{field: status, value: closed}"), solved_or_closed) == []


def test_a_dependence_is_told_with_the_trigger_that_it_is_on():
    sets, asks = rule("a", LEFT, "{field: priority, value: low}"), "{field: priority, operator: changed_to, value: low}"
    said = messages(sets, rule("b", asks))
    assert said.startswith(
        "`b` can match only after `a` (line 2) has fired in the same round: `priority changed_to low`"
    )
    off = rule("a", LEFT, "{field: priority, value: low}", "active: false,")
    assert "only after `a` (line 2, not active) has fired" in messages(off, rule("b", asks))
    other = rule("c", f"{LEFT}, {{field: status, value: new}}", "{field: priority, value: low}")
    assert "only after `a` (line 2) or another has fired" in messages(sets, other, rule("b", asks))


def test_no_dependence_is_told_where_a_ticket_may_match_by_itself():
    sets = rule("a", LEFT, "{field: priority, value: low}")
    any_of = "  - {{id: b, conditions: {{any: [{}, {}]}}, actions: [{{field: type, value: task}}]}}\n"
    changed, is_low = "{field: priority, operator: changed}", "{field: priority, value: low}"
    assert advice(sets, any_of.format(changed, is_low)) == []
    assert advice(sets, any_of.format(changed, changed.replace("changed", "changed_to, value: low"))) == [
        "3 depends_on_trigger"
    ]
    assert advice(sets, rule("b", is_low)) == []
    assert advice(sets, rule("b", "{field: priority, operator: not_changed_to, value: low}")) == []
    assert advice(sets, rule("b", changed, more="active: false,")) == []


@pytest.mark.parametrize(
    ("condition", "code"),
    [
        ("{field: status, value: opne}", "unknown_value"),
        ("{field: type, value: [task, bug]}", "unknown_value"),
        ("{field: messaging_session_state, operator: changed_from, value: activ}", "unknown_value"),
        ("{field: messaging_session_inactive_reason, value: user inactive or ofline}", "unknown_value"),
        ("{field: messaging_session_inactive_reason, value: agent_ended}", None),
        ("{field: messaging_session_channel, value: carrier_pigeon}", None),
        ("{field: assignee_id, value: current_user}", "symbolic_id"),
        ("{field: role, value: agent}", "update_field"),
        ("{field: subject, operator: includes, value: refund}", "unusual_operator"),
        ("{field: group_id, operator: less_than, value: 5}", "unusual_operator"),
        ("{field: custom_fields_1, value: 1.10}", "number_spelling"),
        ("{field: custom_fields_1, value: '1.10'}", None),
        ("{field: custom_fields_1, value: 1.5}", None),
        ("{field: brand_id, value: 123e5}", None),
        ("{field: assignee_id, operator: includes, value: [1, current_user]}", "symbolic_id"),
        ("{field: assignee_id, value: Current user}", "symbolic_id"),
        ("{field: group_id, value: current_groups}", "symbolic_id"),
        ("{field: is_public, value: yes}", "unknown_value"),
        ("{field: is_public, value: true}", None),
        ("{field: is_public, value: 'false'}", None),
        ("{field: vip_since, value: yes}", "unlisted_member"),
    ],
)
def test_doubtful_conditions_are_pointed_out(condition, code):
    assert advice(rule("a", condition)) == ([f"2 {code}"] if code else [])


@pytest.mark.parametrize(
    ("action", "code"),
    [
        ("{field: status, value: new}", "unknown_value"),
        ("{field: priority, value: higher}", "unknown_value"),
        ("{field: priority, value: null}", None),
        ("{field: assignee_id, value: current_user}", "symbolic_id"),
        ("{field: custom_fields_1, value: 1.10}", "number_spelling"),
        ("{field: add_tags, value: 1.10}", None),
    ],
)
def test_doubtful_actions_are_pointed_out(action, code):
    assert advice(rule("a", LEFT, action)) == ([f"2 {code}"] if code else [])


@pytest.mark.parametrize(
    ("actions", "repeated"),
    [
        (f"{LOW}, {HIGH}", True),
        ("{field: custom_fields_1, value: a}, {field: type, value: task}, {field: custom_fields_1, value: a}", True),
        ("{field: add_tags, value: a}, {field: set_tags, value: b}", True),
        ("{field: set_tags, value: b}, {field: add_tags, value: a}", False),
        ("{field: add_tags, value: a}, {field: add_tags, value: b}, {field: remove_tags, value: c}", False),
        ("{field: notification_user, value: [1, a, b]}, {field: notification_user, value: [2, a, b]}", False),
        ("{field: custom_fields_1, value: a}, {field: custom_fields_2, value: a}", False),
    ],
)
def test_an_action_that_a_later_one_of_its_trigger_writes_over_is_pointed_out(actions, repeated):
    assert advice(rule("a", LEFT, actions)) == (["2 repeated_action"] if repeated else [])


def test_tags_keep_the_spelling_of_numbers():
    file = parse_triggers("triggers:\n" + rule("a", LEFT, "{field: add_tags, value: [1.10, 007]}"))
    assert file.ruleset is not None
    assert file.ruleset.triggers[0].actions[0].value == ["1.10", "007"]


@pytest.mark.parametrize(
    ("first", "later", "overlaps"),
    [
        ((LEFT, LOW), (LEFT, HIGH), True),
        ((LEFT, LOW), (LEFT, LOW), False),
        ((LEFT, LOW), (LEFT, "{field: type, value: task}"), False),
        (("{field: type, value: task}", LOW), ("{field: type, value: problem}", HIGH), False),
        (("{field: type, value: [task, problem]}", LOW), ("{field: type, value: problem}", HIGH), True),
        (("{field: group_id, value: 1}", LOW), ("{field: type, value: problem}", HIGH), True),
        (("{field: status, value: new}", LOW), ("{field: status, operator: less_than, value: pending}", HIGH), True),
        (("{field: status, value: new}", LOW), ("{field: status, operator: greater_than, value: new}", HIGH), False),
        ((LEFT, "{field: add_tags, value: a}"), (LEFT, "{field: add_tags, value: b}"), False),
        ((LEFT, "{field: add_tags, value: a}"), (LEFT, "{field: remove_tags, value: a b}"), True),
        ((LEFT, "{field: add_tags, value: a}"), (LEFT, "{field: remove_tags, value: b}"), False),
        ((LEFT, "{field: add_tags, value: a}"), (LEFT, "{field: set_tags, value: b}"), True),
        ((LEFT, "{field: custom_fields_1, value: a}"), (LEFT, "{field: custom_fields_1, value: [a]}"), True),
        ((LEFT, "{field: reply_public, value: a}"), (LEFT, "{field: reply_public, value: b}"), False),
        (("{field: tags, operator: includes, value: vip}", LOW), (f"{LEFT}, {NOT_VIP}", HIGH), False),
        (("{field: tags, operator: includes, value: vip late}", LOW), (f"{LEFT}, {NOT_VIP}", HIGH), True),
        (("{field: replies, operator: greater_than, value: 3}", LOW), ("{field: replies, value: [1, 2]}", HIGH), False),
        (("{field: replies, operator: greater_than, value: 3}", LOW), ("{field: replies, value: [1, 4]}", HIGH), True),
    ],
)
def test_two_triggers_of_one_lapse_that_write_a_field_differently_overlap(first, later, overlaps):
    found = [line for line in advice(rule("a", *first), rule("b", *later)) if line.endswith("overlap")]
    assert found == (["3 overlap"] if overlaps else [])


def test_an_overlap_is_found_among_triggers_told_apart_by_their_groups():
    of_group = [rule(f"g{group}", f"{{field: group_id, value: {group}}}", HIGH) for group in range(5)]
    of_all = rule("all", LEFT, LOW)
    assert advice(*of_group) == []
    assert advice(of_all, *of_group) == [f"{line} overlap" for line in range(3, 8)]
    assert advice(*of_group, of_all) == [*(f"{line} overwritten" for line in range(2, 7)), "7 overlap"]
    some = rule("some", "{field: group_id, value: [1, 3]}", LOW)
    assert advice(some, *of_group) == ["4 overlap", "6 overlap"]


def test_triggers_that_wait_differently_or_are_off_do_not_overlap():
    assert advice(rule("a", LEFT, LOW), rule("b", LEFT, HIGH, "wait: 5s,")) == []
    assert advice(rule("a", LEFT, LOW), rule("b", LEFT, HIGH, "active: false,")) == []


def test_an_overlap_tells_who_wins():
    assert "`b` comes later and wins" in messages(rule("a", LEFT, LOW), rule("b", LEFT, HIGH))
    once_high = rule("b", f"{LEFT}, {{field: priority, value: high}}", "{field: priority, value: normal}")
    assert "`a` comes first, after which `b` no longer matches" in messages(rule("a", LEFT, LOW), once_high)
    assert "`a` comes later and wins" in messages(rule("a", LEFT, LOW, "position: 9,"), rule("b", LEFT, HIGH))


# --- against the engine -----------------------------------------------------------------------------------------------

VALUES = {
    "status": ["new", "open", "pending", "solved", "closed"],
    "priority": ["low", "high", None],
    "current_tags": ["a", "b"],
    "messaging_session_state": ["active", "inactive", "ended"],
    "messaging_session_inactive_reason": ["left", "ended", None],
    "update_type": ["create", "change"],
    "reopens": [1, "2", 2.5, None],
}


@st.composite
def conditions(draw: st.DrawFn) -> Condition:
    field = draw(st.sampled_from(sorted(VALUES)))
    operators = [operator for operator in Operator if not operator.value.endswith("includes")]
    if field == "current_tags":
        operators = [Operator.INCLUDES, Operator.NOT_INCLUDES, Operator.PRESENT, Operator.NOT_PRESENT]
    elif field == "update_type":
        operators = [Operator.IS, Operator.IS_NOT]
    elif field not in ("status", "priority", "reopens"):
        operators = [operator for operator in operators if "_than" not in operator.value]
    operator = draw(st.sampled_from(operators))
    value: object = draw(st.sampled_from(VALUES[field]))
    if operator in (Operator.INCLUDES, Operator.NOT_INCLUDES):
        value = [value]
    elif "_than" in operator.value:
        value = draw(st.sampled_from([one for one in VALUES[field] if one is not None]))
        value = float(value) if field == "reopens" else value
    elif operator in (Operator.IS, Operator.IS_NOT) and draw(st.booleans()):
        value = draw(st.lists(st.sampled_from(VALUES[field]), min_size=1, max_size=2))
    return Condition(field, operator, value)


ACTIONS = st.one_of(
    st.builds(Action, st.just("status"), st.sampled_from(VALUES["status"])),
    st.builds(Action, st.just("priority"), st.sampled_from(VALUES["priority"])),
    st.builds(Action, st.sampled_from(["add_tags", "remove_tags", "set_tags"]), st.sampled_from([["a"], ["b"]])),
)
SOME = st.lists(conditions(), max_size=2)
BODIES = st.lists(st.tuples(SOME, SOME, st.lists(ACTIONS, min_size=1, max_size=2)), min_size=1, max_size=4)
ROWS = st.fixed_dictionaries(
    {
        "status": st.sampled_from(VALUES["status"][:-1]),
        "priority": st.sampled_from(VALUES["priority"]),
        "tags": st.sampled_from([None, ["a"], ["a", "b"]]),
        "reopens": st.sampled_from([None, 1, 2, "2.5", 3]),
    }
)
LAPSES = st.builds(
    lambda before, reason: Lapse("e", 0, 0, 1, before, None, None, reason, None),
    st.sampled_from([None, "active", "paused"]),
    st.sampled_from(VALUES["messaging_session_inactive_reason"]),
)


def trigger_list(bodies) -> tuple[Trigger, ...]:
    return tuple(
        Trigger(id=str(at), title="", position=at, actions=tuple(actions), all=tuple(every), any=tuple(some))
        for at, (every, some, actions) in enumerate(bodies, 1)
    )


@given(BODIES, st.sampled_from(["restart", "single_pass"]), ROWS, LAPSES)
def test_what_is_called_unreachable_never_fires(bodies, cycle, row, lapse):
    triggers = trigger_list(bodies)
    findings = Findings("f")
    advise(triggers, cycle, {trigger.id: At(int(trigger.id), 1) for trigger in triggers}, At(99, 1), findings)
    unreachable = {str(problem.line) for problem in findings.sorted() if problem.code == "unreachable"}
    fired, _ = Rules(Ruleset(triggers, cycle)).fire(0, lapse, row)
    assert unreachable & {trigger.id for trigger in fired} == set()


@given(BODIES, st.sampled_from(["restart", "single_pass"]), ROWS, LAPSES)
def test_what_is_said_to_depend_on_another_trigger_fires_after_another_or_not_at_all(bodies, cycle, row, lapse):
    triggers = trigger_list(bodies)
    findings = Findings("f")
    advise(triggers, cycle, {trigger.id: At(int(trigger.id), 1) for trigger in triggers}, At(99, 1), findings)
    dependent = {str(problem.line) for problem in findings.sorted() if problem.code == "depends_on_trigger"}
    fired, _ = Rules(Ruleset(triggers, cycle)).fire(0, lapse, row)
    assert not fired or fired[0].id not in dependent
    for trigger in triggers:
        if trigger.id in dependent:
            assert Rules(Ruleset((trigger,), cycle)).fire(0, lapse, row)[0] == []


@given(BODIES, ROWS, LAPSES)
def test_triggers_that_both_match_at_the_start_and_write_differently_are_among_the_overlaps(bodies, row, lapse):
    triggers = trigger_list(bodies)
    alone = [trigger for trigger in triggers if Rules(Ruleset((trigger,))).fire(0, lapse, row)[0]]
    writing = [trigger for trigger in alone if {action.field for action in trigger.actions} == {"priority"}]
    overlapping = {overlap.later.id for overlap in find_overlaps(triggers) if overlap is not None}
    for at, later in enumerate(writing):
        if any(first.actions[-1].value != later.actions[-1].value for first in writing[:at]):
            assert later.id in overlapping


def test_values_are_compared_as_text():
    assert values_of(Condition("x", Operator.IS, [360, "a", None, True])) == {"360", "a", None, "true"}
