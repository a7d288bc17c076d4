"""Durations, canonical JSON, misspellings."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import streams.documents
import streams.mapping
import streams.rules
from streams.core.model import MILLISECOND
from streams.documents import durations
from streams.documents.problems import CODES, Findings, nearest
from streams.documents.yaml_nodes import At
from streams.rules.canonical import canonical_json


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("500ms", 500_000),
        ("30s", 30_000_000),
        ("5m", 300_000_000),
        ("1h", 3_600_000_000),
        ("30d", 2_592_000_000_000),
        (" 5 m ", 300_000_000),
        ("0", 0),
        ("0s", 0),
    ],
)
def test_durations_are_a_whole_number_and_a_unit(text, micros):
    assert durations.parse(text) == micros


@pytest.mark.parametrize(
    "text", ["", "30", "1.5s", "-1s", "s", "1 h 30 m", "1h30m", "5M", "5 minutes", "٣s", "1e3s", "99999d"]
)
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(durations.BadDuration):
        durations.parse(text)


def test_a_forgotten_unit_is_asked_for():
    with pytest.raises(durations.BadDuration, match=r"did you mean `30s`\?"):
        durations.parse("30")


@given(st.integers(0, durations.LONGEST // MILLISECOND))
def test_a_rendered_duration_reads_as_itself(milliseconds):
    duration = milliseconds * MILLISECOND
    assert durations.parse(durations.render(duration)) == duration


@pytest.mark.parametrize(
    ("bits", "spelling"),  # RFC 8785, appendix B
    [
        ("0000000000000000", "0"),
        ("8000000000000000", "0"),
        ("0000000000000001", "5e-324"),
        ("8000000000000001", "-5e-324"),
        ("7fefffffffffffff", "1.7976931348623157e+308"),
        ("4340000000000000", "9007199254740992"),
        ("4430000000000000", "295147905179352830000"),
        ("44b52d02c7e14af5", "9.999999999999997e+22"),
        ("44b52d02c7e14af6", "1e+23"),
        ("44b52d02c7e14af7", "1.0000000000000001e+23"),
        ("444b1ae4d6e2ef4e", "999999999999999700000"),
        ("444b1ae4d6e2ef4f", "999999999999999900000"),
        ("444b1ae4d6e2ef50", "1e+21"),
        ("3eb0c6f7a0b5ed8c", "9.999999999999997e-7"),
        ("3eb0c6f7a0b5ed8d", "0.000001"),
        ("41b3de4355555553", "333333333.3333332"),
        ("41b3de4355555557", "333333333.33333343"),
        ("becbf647612f3696", "-0.0000033333333333333333"),
        ("43143ff3c1cb0959", "1424953923781206.2"),
    ],
)
def test_numbers_are_spelt_as_ecmascript_does(bits, spelling):
    (number,) = struct.unpack(">d", bytes.fromhex(bits))
    assert canonical_json(number).decode() == spelling


def test_keys_sort_by_utf16_code_units():
    # RFC 8785, section 3.2.3
    keys = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\u0080", "\u00f6"]
    assert list(json.loads(canonical_json(dict.fromkeys(keys, 0)))) == [
        "\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33",
    ]  # fmt: skip


def test_strings_escape_no_more_than_they_must():
    assert canonical_json('\u20ac$\u000f\u000aA\'B"\\\\"/') == '"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"'.encode()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2**53, -(2**53), "\ud800"])
def test_what_json_cannot_carry_is_refused(value):
    with pytest.raises(ValueError, match=r".+"):
        canonical_json([value])


@pytest.mark.parametrize("value", [{1, 2}, {1: "x"}, b"x"])
def test_what_is_not_json_is_refused(value):
    with pytest.raises(TypeError):
        canonical_json(value)


TEXT = st.text(st.characters(codec="utf-8"))
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | TEXT
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda children: st.lists(children) | st.dictionaries(TEXT, children),
    max_leaves=15,
)


@given(JSON)
def test_canonical_json_is_json_of_the_same_value(value):
    assert json.loads(canonical_json(value), parse_int=float) == value


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("staus", "status"),
        ("sttaus", "status"),
        ("statuss", "status"),
        ("Statu", "status"),
        ("typ", "type"),
        ("tpye", "type"),
        ("tyyyp", None),
        ("vip", None),
        ("organisation", None),
    ],
)
def test_two_slips_are_forgiven_and_one_in_a_short_word(word, meant):
    assert nearest(word, ["status", "type"]) == meant


def test_problems_come_in_the_order_of_the_file_and_once():
    findings = Findings("f")
    for line, column in [(2, 1), (1, 9), (1, 2), (1, 9)]:
        findings.add(At(line, column), "unknown_key", "x")
    assert [(problem.line, problem.column) for problem in findings.sorted()] == [(1, 2), (1, 9), (2, 1)]


def test_every_code_of_the_table_is_used_and_every_used_code_is_in_the_table():
    packages = (streams.rules, streams.documents, streams.mapping)
    paths = [path for package in packages for path in Path(package.__file__).parent.rglob("*.py")]
    sources = "\n".join(path.read_text() for path in paths)
    outside_the_table = sources.replace(sources[sources.index("CODES: dict") : sources.index('"""Every code')], "")
    written = set(re.findall(r'"([a-z]+(?:_[a-z0-9]+)*)"', outside_the_table))
    assert set(CODES) - written - {"failed_test"} == set(), "codes that nothing reports"
    reported = set(re.findall(r'add\(\s*[^"]{1,120}?,\s*"([a-z_0-9]+)"', outside_the_table))
    assert reported
    assert reported <= set(CODES)
