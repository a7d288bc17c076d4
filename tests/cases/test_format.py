"""The format of the golden cases: strict where it is read, and no expectation that could not fail."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from . import harness, notation, ways
from .expectations import Result

CASES = [case for case in harness.load_cases() if case.runs_to_its_end]
PLAIN = {
    "name": "a case",
    "spec": "§2 something",
    "records": [{"at": "10:00:00", "session": "active"}],
    "expect": {"applied": 1},
}


def _made(**changed: Any) -> harness.Case:
    return harness.make_case("file.yaml", "section", PLAIN | changed, {"off": []})


@pytest.mark.parametrize(
    "wrong",
    [
        {"expects": {}},
        {"expect": {"command": []}},
        {"expect": {"commands": [{"action": {}}]}},
        {"expect": {"transitions": ["lapse"]}},
        {"expect": {"transitions": [{"kind": "lapsed", "form": "active"}]}},
        {"expect": {"records": [{"episode": 1}]}},
        {"expect": {}},
        {"spec": ""},
        {"settings": {"joinwait": "30s"}},
        {"ways": ["driver"]},
        {"until": "10:00:00"},
        {"records": [{"at": "10:00:00", "state": "active"}]},
        {"records": [{"at": "10:00:00", "session": "active", "ticket": {}}]},
        {"records": [{"at": "10 o'clock", "session": "active"}]},
        {"triggers": [{"id": "x", "condition": []}]},
        {"triggers": "off", "probes": []},
        {"probes": [{"status is open": "yes"}]},
        {"revisions": [{"publish": "off"}], "triggers": "off"},
        {"revisions": [{"at": "10:00:00"}]},
        {"revisions": [{"publish": "off", "stop": "all"}]},
        {"revisions": [{"at": "10:01:00", "publish": "off"}, {"publish": "off"}]},
    ],
    ids=str,
)
def test_what_the_format_does_not_know_is_refused(wrong: dict[str, Any]) -> None:
    _made()
    with pytest.raises((notation.CaseError, KeyError)):
        _made(**wrong)


def test_a_key_written_twice_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "twice.yaml"
    file.write_text("section: a\nsection: b\n")
    with pytest.raises(notation.CaseError, match="twice"):
        notation.read(file)


def test_times_and_words_are_read_as_people_write_them(tmp_path: Path) -> None:
    file = tmp_path / "times.yaml"
    file.write_text('{at: 10:05:00, day: 2026-03-01, answer: no, number: 7, text: "7", none: null, nested: !nested 2}')
    assert notation.read(file) == {
        "at": "10:05:00",
        "day": "2026-03-01",
        "answer": "no",
        "number": 7,
        "text": "7",
        "none": None,
        "nested": [[]],
    }


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("10:05:00", "2026-03-01T10:05:00Z"),
        ("10:05:00.1239", "2026-03-01T10:05:00.123Z"),
        ("10:05:00.0009", "2026-03-01T10:05:00Z"),
        ("2026-03-01T10:05:00.000Z", "2026-03-01T10:05:00.000Z"),
    ],
)
def test_times_are_expected_as_output_shows_them(written: str, shown: str) -> None:
    assert notation.printed(written) == shown


@pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in CASES])
def test_every_expectation_can_fail(case: harness.Case, tmp_path: Path) -> None:
    """Change any one thing that a case expects, and some way of running it must object."""
    results = [ways.run(way, case, tmp_path) for way in case.ways]
    assert not any(harness.problems(case, result) for result in results)
    for where, wrong in _changes(case.expect):
        if where[0] not in ("same_ruleset_as", "other_ruleset_than"):
            assert _objects(replace(case, expect=wrong), results), f"nobody minds a change of {where}"


def _objects(case: harness.Case, results: list[Result]) -> bool:
    try:
        return any(harness.problems(case, result) for result in results)
    except (notation.CaseError, KeyError, ValueError):
        return True  # a changed value that is none any more


def _changes(expect: dict[str, Any]) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
    """Yield (where, the expectation with that one leaf changed)."""
    for where in _leaves(expect, ()):
        wrong = copy.deepcopy(expect)
        holder = wrong
        for step in where[:-1]:
            holder = holder[step]
        holder[where[-1]] = _changed(where[-1], holder[where[-1]])
        yield where, wrong


def _leaves(value: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, dict) and value:
        for name, item in value.items():
            yield from _leaves(item, (*path, name))
    elif isinstance(value, list) and value:
        for number, item in enumerate(value):
            yield from _leaves(item, (*path, number))
    else:
        yield path


def _changed(name: Any, value: Any) -> Any:
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case str():
            return f"{value}?"
        case None:
            return "something"
        case list():
            return [{"code": "invalid"}] if name == "dead_letters" else [{}]
        case dict():
            return {"something": 1}
    raise AssertionError(value)
