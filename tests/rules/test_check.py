"""What `lapse check` does: every problem of every file, a line that sums up, an exit code."""

from __future__ import annotations

from pathlib import Path

import pytest

from streams.documents.problems import Problem
from streams.rules.check import check_files
from streams.rules.inline_tests import TestRun
from streams.rules.triggers import TriggerFile

SOUND = """\
triggers:
  - {id: a, conditions: {all: [{field: type, value: task}]}, actions: [{field: priority, value: low}]}
tests:
  - {name: x, when: {session: {state: inactive}}, expect: {fired: [a]}}
"""
DOUBTFUL = SOUND.replace("value: task", "value: tusk")
BROKEN = SOUND.replace("value: low", "valeu: low")
VALUE_OF_TYPE = SOUND.splitlines()[1].index("task") + 1
KEY_OF_VALUE = SOUND.splitlines()[1].index("value: low") + 1


@pytest.fixture
def file(tmp_path: Path):
    def write(name: str, text: str) -> str:
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write


def fails(file: TriggerFile) -> list[TestRun]:
    return [
        TestRun(
            test,
            Problem(file.file, test.line, test.column, "failed_test", f"`{test.name}` fails", ("why",)),
            lambda: None,
        )
        for test in file.tests
    ]


def passes(file: TriggerFile) -> list[TestRun]:
    return [TestRun(test, None, lambda: None) for test in file.tests]


@pytest.mark.parametrize(("text", "code", "strict_code"), [(SOUND, 0, 0), (DOUBTFUL, 0, 1), (BROKEN, 1, 1), ("", 1, 1)])
def test_errors_decide_the_exit_code_and_warnings_only_when_strict(file, text, code, strict_code):
    report = check_files([file("rules.yaml", text)])
    assert (report.exit_code(), report.exit_code(strict=True)) == (code, strict_code)


def test_the_text_has_a_line_for_each_problem_and_one_that_sums_up(file):
    broken, doubtful = file("broken.yaml", BROKEN), file("doubtful.yaml", DOUBTFUL)
    assert check_files([broken, doubtful]).text().splitlines() == [
        f"{broken}:2:{KEY_OF_VALUE}: unknown_key: an action has no key `valeu`; did you mean `value`?",
        f"{doubtful}:2:{VALUE_OF_TYPE}: unknown_value: `tusk` is not a known value of `type` "
        "(`question`, `incident`, `problem`, `task`); did you mean `task`? (warning)",
        "2 files, 1 trigger (1 active), 0 tests run: 1 error, 1 warning",
    ]


def test_tests_are_run_when_nothing_else_is_wrong(file):
    report = check_files([file("a.yaml", DOUBTFUL), file("b.yaml", BROKEN)], run_tests=fails)
    assert [problem.code for problem in report.problems] == ["unknown_value", "failed_test", "unknown_key"]
    assert report.tests_run == 1
    assert check_files([file("c.yaml", SOUND)], run_tests=fails).exit_code() == 1
    assert check_files([file("c.yaml", SOUND)], run_tests=passes).exit_code() == 0


def test_what_explains_a_failed_test_stands_below_it(file):
    report = check_files([file("a.yaml", SOUND)], run_tests=fails)
    assert report.text().splitlines()[1] == "    why"
    assert report.json()["problems"][0]["details"] == ["why"]


def test_the_json_form_holds_the_same(file):
    path = file("rules.yaml", DOUBTFUL)
    report = check_files([path, "/nowhere/rules.yaml"], run_tests=passes)
    found = report.json()
    assert found["files"][0]["file"] == path
    assert len(found["files"][0].pop("ruleset")) == 12
    assert found == {
        "files": [
            {"file": path, "triggers": 1, "active": 1, "tests": 1},
            {"file": "/nowhere/rules.yaml", "ruleset": None, "triggers": 0, "active": 0, "tests": 0},
        ],
        "problems": [
            {
                "file": path,
                "line": 2,
                "column": VALUE_OF_TYPE,
                "severity": "warning",
                "code": "unknown_value",
                "message": report.problems[0].message,
            },
            {
                "file": "/nowhere/rules.yaml",
                "line": 1,
                "column": 1,
                "severity": "error",
                "code": "not_found",
                "message": "no such file",
            },
        ],
        "tests_run": 1,
        "errors": 1,
        "warnings": 1,
    }
