"""Problems where code review shows them: SARIF, and GitHub's annotations."""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from typer.testing import CliRunner

from streams.cli import app
from streams.documents.problems import CODES, Problem
from streams.rules.annotations import Form, github, sarif
from streams.rules.check import check_files

RULES = """\
triggers:
  - {id: a, conditions: {all: [{field: type, value: tusk}]}, actions: [{field: priority, valeu: low}]}
"""
COMMAND = re.compile(r"::(error|warning) file=([^,:]*),line=(\d+),col=(\d+),title=([^,:]*)::(.*)")


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "a b.yaml").write_text(RULES)
    return tmp_path


def unescaped(text: str) -> str:
    """As GitHub's runner reads a property."""
    return unquote(text)


# --- SARIF ------------------------------------------------------------------------------------------------------------


def test_a_sarif_log_has_a_run_whose_rules_are_the_codes():
    log = sarif([])
    assert log["version"] == "2.1.0"
    assert log["$schema"].endswith("sarif-schema-2.1.0.json")
    (run,) = log["runs"]
    assert run["results"] == []
    driver = run["tool"]["driver"]
    assert driver["name"] == "Lapse"
    assert [rule["id"] for rule in driver["rules"]] == list(CODES)
    for rule in driver["rules"]:
        assert rule["defaultConfiguration"]["level"] == CODES[rule["id"]].severity
        # GitHub's *SARIF support for code scanning* calls these three required.
        for member in ("shortDescription", "fullDescription", "help"):
            assert rule[member]["text"].endswith(".")


def test_every_problem_is_a_result_at_its_place(checkout):
    report = check_files(["rules/a b.yaml"])
    log = json.loads(report.written(Form.SARIF))
    (run,) = log["runs"]
    found = []
    for result in run["results"]:
        rule = run["tool"]["driver"]["rules"][result["ruleIndex"]]
        assert rule["id"] == result["ruleId"]
        (location,) = result["locations"]
        where = location["physicalLocation"]
        assert where["artifactLocation"] == {"uri": "rules/a%20b.yaml", "uriBaseId": "%SRCROOT%"}
        region = where["region"]
        found.append(
            (result["ruleId"], result["level"], result["message"]["text"], region["startLine"], region["startColumn"])
        )
    assert found == [
        (problem.code, problem.severity, problem.message, problem.line, problem.column) for problem in report.problems
    ]
    assert {level for _, level, *_ in found} == {"error", "warning"}


def test_a_file_named_in_full_is_relative_all_the_same_and_one_elsewhere_is_not(checkout):
    inside, outside = str(checkout / "rules" / "a b.yaml"), "/nowhere/ü.yaml"
    log = sarif([Problem(inside, 1, 1, "empty", "m"), Problem(outside, 1, 1, "empty", "m")])
    locations = [result["locations"][0]["physicalLocation"]["artifactLocation"] for result in log["runs"][0]["results"]]
    assert locations[0]["uri"] == "rules/a%20b.yaml"
    assert set(locations[1]) == {"uri"}
    assert urlsplit(locations[1]["uri"]).scheme == "file"
    assert unquote(urlsplit(locations[1]["uri"]).path) == outside


def test_details_are_part_of_the_message():
    (result,) = sarif([Problem("f", 1, 1, "failed_test", "`n` fails", ("a", "b"))])["runs"][0]["results"]
    assert result["message"]["text"] == "`n` fails\na\nb"


# --- GitHub -----------------------------------------------------------------------------------------------------------


def test_every_problem_is_an_annotation_at_its_place(checkout):
    report = check_files(["rules/a b.yaml"])
    *commands, summary = report.written(Form.GITHUB).splitlines()
    found = [COMMAND.fullmatch(line) for line in commands]
    assert [
        (each[1], unescaped(each[2]), int(each[3]), int(each[4]), unescaped(each[5]), unescaped(each[6]))
        for each in found
        if each
    ] == [
        (problem.severity, "rules/a b.yaml", problem.line, problem.column, problem.code, problem.message)
        for problem in report.problems
    ]
    assert summary == report.summary()


def test_what_would_end_a_command_or_a_property_is_escaped():
    message = "100 % of `a,b: c`\r\nand `::error::` too"
    line = github([Problem("C:/x,y%.yaml", 3, 7, "empty", message)], Path("/nowhere"))
    assert line == (
        "::error file=C%3A/x%2Cy%25.yaml,line=3,col=7,title=empty::100 %25 of `a,b: c`\\r%0Aand `::error::` too\n"
    )
    assert unescaped(line.split("::", 2)[2][:-1]) == message.replace("\r", "\\r"), "no control character as it is"


def test_details_are_in_the_annotation():
    assert github([Problem("f", 1, 1, "failed_test", "m", ("a", "b"))]).endswith("::m%0Aa%0Ab\n")


# --- the verb ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", list(Form))
def test_every_form_ends_with_the_same_code(checkout, form):
    done = CliRunner().invoke(app, ["check", "--format", form, "rules/a b.yaml"])
    assert done.exit_code == 1
    report = check_files(["rules/a b.yaml"])
    assert done.output == report.written(form) + "\n"


def test_json_is_a_form_that_has_a_flag_of_its_own(checkout):
    with_flag = CliRunner().invoke(app, ["check", "--json", "rules/a b.yaml"])
    assert with_flag.output == CliRunner().invoke(app, ["check", "--format", "json", "rules/a b.yaml"]).output
    both = CliRunner().invoke(app, ["check", "--json", "--format", "sarif", "rules/a b.yaml"])
    assert getattr(both.exception, "exit_code", None) == 2
    assert "--format sarif" in str(both.exception)
