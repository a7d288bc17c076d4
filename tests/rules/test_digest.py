"""The ruleset's digits change with what the rules say, not with how it is written."""

from __future__ import annotations

import pytest

from streams.rules.triggers import parse_triggers

RULES = """\
cycle: restart
triggers:
  - id: solve
    title: Solve
    wait: 60s
    conditions:
      all:
        - {field: status, operator: is, value: open}
        - {field: messaging_session_state, operator: changed_to, value: inactive}
        - {field: current_tags, operator: includes, value: [vip, late]}
    actions:
      - {field: add_tags, value: abandoned}
      - {field: priority, value: null}
"""


def digest(text: str) -> str:
    ruleset = parse_triggers(text).ruleset
    assert ruleset is not None
    return ruleset.digest


def test_the_digits_stay_as_they_are_from_release_to_release():
    assert digest(RULES) == "ca628d6713eb"


@pytest.mark.parametrize(
    ("written", "otherwise"),
    [
        ("cycle: restart\n", ""),
        ("cycle: restart\n", "# a comment\ncycle: restart\n"),
        ("wait: 60s", "wait: 1m"),
        ("wait: 60s", "wait: 60000ms"),
        ("title: Solve", "title: Solve\n    active: true\n    position: 1"),
        ("title: Solve", "title: Solve\n    category: {position: 0, name: General}"),
        ("operator: changed_to", "operator: value"),
        ("{field: status, operator: is, value: open}", "{value: Open, field: status}"),
        ("current_tags", "tags"),
        ("[vip, late]", "vip late"),
        ("field: add_tags", "field: current_tags"),
        ("value: abandoned", "value: [abandoned]"),
        ("value: null", "value: ''"),
        ("value: null}\n", "value: null}\ntests: []\n"),
    ],
)
def test_spelling_does_not_count(written, otherwise):
    assert written in RULES
    assert digest(RULES.replace(written, otherwise)) == digest(RULES)


@pytest.mark.parametrize(
    ("written", "otherwise"),
    [
        ("cycle: restart", "cycle: single_pass"),
        ("id: solve", "id: solves"),
        ("title: Solve", "title: Solves"),
        ("title: Solve", "title: Solve\n    active: false"),
        ("title: Solve", "title: Solve\n    position: 2"),
        ("title: Solve", "title: Solve\n    category: {position: 1}"),
        ("wait: 60s", "wait: 61s"),
        ("operator: is,", "operator: is_not,"),
        ("value: open", "value: new"),
        ("      all:", "      any:"),
        ("[vip, late]", "[late, vip]"),
        ("value: null", "value: low"),
    ],
)
def test_what_the_rules_say_counts(written, otherwise):
    assert written in RULES
    assert digest(RULES.replace(written, otherwise)) != digest(RULES)


def test_the_order_of_triggers_counts():
    rule = "{{id: {0}, conditions: {{all: [{{field: status, value: new}}]}}, actions: [{{field: type, value: task}}]}}"
    one = f"triggers: [{rule.format('a')}, {rule.format('b')}]"
    other = f"triggers: [{rule.format('b')}, {rule.format('a')}]"
    assert digest(one) != digest(other)
