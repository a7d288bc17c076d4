"""The tree keeps places, bounds what a file can cost, and springs none of YAML 1.1's surprises."""

from __future__ import annotations

import gc
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.documents.problems import Findings
from streams.documents.yaml_nodes import ListNode, MapNode, ScalarNode, compose, plain, resolve

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"])),
    lambda children: (
        st.lists(children, max_size=4) | st.dictionaries(st.text("abcd", min_size=1), children, max_size=4)
    ),
    max_leaves=20,
)


def read(text: str) -> tuple[object, list[str]]:
    findings = Findings("f")
    root = compose(text, findings)
    problems = [f"{problem.line}:{problem.column} {problem.code}" for problem in findings.sorted()]
    return (None if root is None else plain(root)), problems


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("Off", "Off"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("360", 360),
        ("-5", -5),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("007", "007"),
        ("0x1F", "0x1F"),
        ("0o17", "0o17"),
        ("1_000", "1_000"),
        ("+5", "+5"),
        ("-0", "-0"),
        (".5", ".5"),
        (".inf", ".inf"),
        (".nan", ".nan"),
        ("1e999", "1e999"),
        ("12:30", "12:30"),
        ("2026-03-01", "2026-03-01"),
        ("2026-03-01T10:00:00Z", "2026-03-01T10:00:00Z"),
        ("9007199254740991", 9007199254740991),
        ("9007199254740992", "9007199254740992"),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_only_what_json_writes_alike_is_more_than_text(written, meant):
    assert resolve(written) == meant
    assert type(resolve(written)) is type(meant)
    assert read(f"[{written}]") == ([meant], [])


def test_quotes_make_text_of_anything():
    assert read("""["360", 'true', "null", ""]""") == (["360", "true", "null", ""], [])


@given(JSON)
def test_json_reads_as_json(value):
    assert read(json.dumps(value, ensure_ascii=False)) == (value, [])


def test_every_node_knows_its_place():
    root = compose("a: 1\nb:\n  - ü: x\n  - [1,\n     2]\n", Findings("f"))
    assert isinstance(root, MapNode)
    key, items = root.entries["b"]
    assert (key.line, key.column) == (2, 1)
    assert isinstance(items, ListNode)
    first, second = items.items
    assert (first.line, first.column) == (3, 5)
    assert isinstance(first, MapNode)
    assert (first.entries["ü"][1].line, first.entries["ü"][1].column) == (3, 8)
    assert isinstance(second, ListNode)
    assert isinstance(second.items[1], ScalarNode)
    assert (second.items[1].line, second.items[1].column) == (5, 6)


def test_an_alias_stands_for_the_same_value_every_time():
    assert read("a: &x {k: [1, 2]}\nb: *x\nc: [*x]\n") == (
        {"a": {"k": [1, 2]}, "b": {"k": [1, 2]}, "c": [{"k": [1, 2]}]},
        [],
    )


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("a: 1\na: 2\n", ["2:1 duplicate_key"]),
        ("a: {b: 1, c: 2, b: 3}\n", ["1:17 duplicate_key"]),
        ("? [a]\n: 1\nb: 2\n", ["1:3 complex_key"]),
        ("a: &x {b: 1}\nc:\n  <<: *x\n", ["3:3 merge_key"]),
        (
            "a: !!python/object:os.system x\nb: !mine [1]\nc: !!set {d}\n",
            ["1:4 unknown_tag", "2:4 unknown_tag", "3:4 unknown_tag"],
        ),
        ("a: !!int 5\nb: !!str 6\nc: !!map {d: 1}\n", []),
        ("a: *x\nb: *y\n", ["1:4 unknown_alias", "2:4 unknown_alias"]),
        ("a: &x [1, *x]\n", ["1:11 recursive_alias"]),
        ("a: 1\n---\nb: 2\n", ["2:1 several_documents"]),
        ("a: [1, 2\nb: 3\n", ["2:2 yaml_syntax"]),
        ("a: b: c\n", ["1:5 yaml_syntax"]),
        ("a:\n\t- b\n", ["2:1 yaml_syntax"]),
        ("a: 'x\n", ["1:4 yaml_syntax"]),
        ("a: [{b: 1}\n", ["1:4 yaml_syntax"]),
        ("a:\n  b: 1\n  c\n  d: 1\n", ["3:3 yaml_syntax"]),
        ('a: "\\ud800"\n', ["1:7 yaml_syntax"]),
        ("ä: 1\nb: \x07\n", ["2:4 yaml_syntax"]),
        ("\ufeffa: \x00\n", ["1:4 yaml_syntax"]),
        ("a: \ud800\n", ["1:4 not_utf8"]),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text, problems):
    assert read(text)[1] == problems


def test_a_duplicate_key_keeps_the_first_value_and_what_follows_is_read():
    assert read("a: 1\na: 2\nb: 3\n")[0] == {"a": 1, "b": 3}


def test_a_byte_order_mark_shifts_nothing():
    root = compose("\ufeffa: 1", Findings("f"))
    assert isinstance(root, MapNode)
    assert root.entries["a"][0].column == 1


def test_nesting_is_taken_up_to_64_levels():
    assert read("[" * 64 + "]" * 64)[1] == []
    assert read("[" * 65 + "]" * 65)[1] == ["1:65 too_deep"]
    assert read("[" * 1_000_000)[1] == ["1:65 too_deep"]


def test_aliases_count_in_with_the_depth_of_what_they_stand_for():
    assert read("- &a " + "[" * 40 + "]" * 40 + "\n- " + "[" * 23 + "*a" + "]" * 23)[1] == []
    assert read("- &a " + "[" * 40 + "]" * 40 + "\n- " + "[" * 24 + "*a" + "]" * 24)[1] == ["2:27 too_deep"]


@pytest.mark.timeout(60)
def test_a_bomb_of_aliases_is_refused_before_it_grows():
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12))
    (problem,) = read(bomb)[1]
    assert problem.endswith("too_many_aliases")


def test_ordinary_sharing_is_no_bomb():
    many = "all: &all [{field: a}, {field: b}]\nuses:\n" + "  - *all\n" * 7000
    assert read(many)[1] == []


def test_the_cyclic_collector_runs_again_afterwards():
    assert gc.isenabled()
    read("a: [")
    read("a: 1")
    assert gc.isenabled()


@given(st.text())
def test_no_text_makes_it_raise(text):
    read(text)


@given(st.text("-[]{}:,&*!|>'\"%@`#? ab\n\t0", max_size=60))
def test_no_scramble_of_yaml_makes_it_raise(text):
    read(text)
