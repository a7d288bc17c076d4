"""The `limit` of trigger files: what is read, what is refused, and what is a ruleset of its own."""

from __future__ import annotations

import pytest

from streams.core.cycle import Rules
from streams.core.triggers import Limit
from streams.rules.triggers import parse_triggers
from streams.rules.zendesk.command import convert_export

BODY = """
    conditions: {all: [{field: messaging_session_state, operator: changed_to, value: inactive}]}
    actions: [{field: status, value: solved}]
"""


def file(head: str = "", limit: str = "", more: str = "") -> str:
    own = f"\n    limit: {limit}" if limit else ""
    return f"{head}\ntriggers:\n  - id: a{own}{BODY}{more}"


def test_a_limit_stands_on_a_trigger_or_at_the_head_for_those_that_have_none() -> None:
    second = f"  - id: b{BODY}  - id: c\n    active: false{BODY}"
    found = parse_triggers(file("limit: {count: 1, per: 1h}", "{count: 10000, per: 500ms}", second))
    assert found.ruleset is not None, found.errors
    assert Rules(found.ruleset).limits == {"a": Limit(10_000, 500_000), "b": Limit(1, 3_600_000_000)}


@pytest.mark.parametrize(
    ("limit", "codes"),
    [
        ("{count: 0, per: 1m}", {"bad_limit"}),
        ("{count: 10001, per: 1m}", {"bad_limit"}),
        ("{count: 1.5, per: 1m}", {"bad_limit"}),
        ("{count: true, per: 1m}", {"bad_limit"}),
        ("{count: '200', per: 1m}", {"bad_limit"}),
        ("{count: [1], per: 1m}", {"bad_limit"}),
        ("{count: 1, per: 0s}", {"bad_limit"}),
        ("{count: 1, per: 10}", {"bad_duration"}),
        ("{count: 1}", {"missing_key"}),
        ("{per: 1m}", {"missing_key"}),
        ("{max: 1, per: 1m}", {"unknown_key"}),
        ("200", {"wrong_type"}),
    ],
)
@pytest.mark.parametrize("at_head", [True, False])
def test_what_is_no_limit_is_refused_with_its_place(limit: str, codes: set[str], at_head: bool) -> None:
    found = parse_triggers(file(f"limit: {limit}") if at_head else file("", limit))
    assert {problem.code for problem in found.errors} == codes
    assert {problem.line for problem in found.errors} == {1 if at_head else 4}


def test_the_digits_differ_where_a_limit_is_set_and_only_there() -> None:
    texts = [
        file(),
        file("limit: {count: 1, per: 1m}"),
        file("", "{count: 1, per: 1m}"),
        file("", "{count: 2, per: 1m}"),
    ]
    digits = [found.digest for text in texts if (found := parse_triggers(text).ruleset) is not None]
    assert len(set(digits)) == len(texts)
    again = parse_triggers(file("", "{per: 60s, count: 1}")).ruleset
    assert again is not None
    assert again.digest == digits[2]


def test_an_export_says_that_zendesk_has_no_limit(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "triggers.yaml"
    path.write_text(file("limit: {count: 1, per: 1m}", "{count: 2, per: 1m}"))
    said = [message for message in convert_export(path).messages if "`limit`" in message]
    assert [message.split(": ")[1] for message in said] == ["`limit`", "trigger `a`"]
