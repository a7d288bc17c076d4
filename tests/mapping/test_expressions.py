"""Expressions: what they find, what they tell apart, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from streams.mapping.expressions import ABSENT, FUNCTIONS, BadExpression, Expression, ExpressionFailed
from streams.wire.capture import CapturedRecord

RECORD = CapturedRecord(7, 1_772_359_500_000, b"k-1", b"{}", (("tenant", b"a"), ("tenant", b"b")))


@pytest.mark.parametrize(
    ("expression", "value", "found"),
    [
        ("a.b", {"a": {"b": 1}}, 1),
        ("a.b", {"a": {"b": None}}, None),
        ("a.b", {"a": {}}, ABSENT),
        ("a.b", {"a": None}, ABSENT),
        ("a.b", {"a": [1]}, ABSENT),
        ('"odd name".x', {"odd name": {"x": "ü"}}, "ü"),
        ("@", {"a": 1}, {"a": 1}),
        ("a || b", {"b": 2}, 2),
        ("a || b", {}, ABSENT),
        ("items[?id == `11`].value | [0]", {"items": [{"id": 11, "value": "x"}]}, "x"),
        ("status == 'open'", {"status": "open"}, True),
        ("from_seconds(t)", {"t": 1772359500}, "2026-03-01T10:05:00Z"),
        ("from_millis(t)", {"t": 1772359500250}, "2026-03-01T10:05:00.250000Z"),
        ("from_micros(t)", {"t": 1772359500000001}, "2026-03-01T10:05:00.000001Z"),
        ("record_timestamp()", {}, "2026-03-01T10:05:00Z"),
        ("record_key()", {}, "k-1"),
        ("record_header('tenant')", {}, "b"),
        ("record_header('none')", {}, ABSENT),
    ],
)
def test_an_expression_finds(expression, value, found):
    got = Expression(expression).find(value, RECORD)
    assert got is found if found is ABSENT else got == found


@pytest.mark.parametrize("text", ["", "a.", "a b", "no_such(a)", "from_millis()", "from_millis(a, b)", "length(a, b)"])
def test_a_text_that_can_never_work_is_refused_when_it_is_compiled(text):
    with pytest.raises(BadExpression):
        Expression(text)


@pytest.mark.parametrize("millis", ["soon", 10**30, -(10**30), None])
def test_a_value_that_is_no_instant_fails_with_a_reason(millis):
    with pytest.raises(ExpressionFailed, match=r"\w"):
        Expression("from_millis(t)").find({"t": millis}, RECORD)


def test_every_function_of_ours_is_documented():
    page = (Path(__file__).parents[2] / "docs" / "own-records.md").read_text()
    missing = [name for name in FUNCTIONS if f"`{name}`" not in page]
    assert missing == []
