"""`lapse check`: reports every problem of trigger files, and the results of the tests in them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from streams.core.escaping import json_text, one_line
from streams.documents.problems import Problem
from streams.documents.yaml_nodes import cyclic_collector_paused
from streams.rules.annotations import Form, github, sarif
from streams.rules.coverage import Coverage, cover
from streams.rules.inline_tests import TestRun
from streams.rules.triggers import TriggerFile, load_triggers, read_triggers

RunTests: TypeAlias = Callable[[TriggerFile], Iterable[TestRun]]
"""Runs the tests of a file that has no errors."""


STDIN = "<stdin>"
"""The file name that problems use for standard input."""

MAX_SHOWN = 1_000
"""The maximum number of problems listed in text output: a file of another kind may have one in every line."""


@dataclass(frozen=True, slots=True)
class CheckReport:
    """The problems found, by file."""

    files: tuple[TriggerFile, ...]
    problems: tuple[Problem, ...]
    """The problems of all files, in the order in which the files were given; failed tests come last within a file."""
    tests_run: int
    coverage: tuple[Coverage, ...] | None = None
    """The coverage of each file without errors; None when it was not requested."""

    @property
    def errors(self) -> int:
        """The number of problems that are errors."""
        return sum(problem.severity == "error" for problem in self.problems)

    @property
    def warnings(self) -> int:
        """The number of problems that are warnings."""
        return len(self.problems) - self.errors

    def exit_code(self, *, strict: bool = False) -> int:
        """Return 1 when there is any error, or any warning and `strict` is set; else 0."""
        return 1 if self.errors or (strict and self.warnings) else 0

    def text(self) -> str:
        """Return a line for each problem, a line for each coverage gap if coverage was requested, and the summary."""
        gaps = [line for file in self.coverage or () for line in file.lines()]
        more = len(self.problems) - MAX_SHOWN
        cut = [f"and {_count(more, 'problem')} more; --format json names them all"] if more > 0 else []
        return "\n".join([*map(_lines, self.problems[:MAX_SHOWN]), *cut, *map(one_line, gaps), self.summary()])

    def written(self, form: Form) -> str:
        """Return the report in the requested form, without a final line ending."""
        if form is Form.JSON:
            return json_text(json.dumps(self.json(), ensure_ascii=False))
        if form is Form.SARIF:
            return json_text(json.dumps(sarif(self.problems), ensure_ascii=False, indent=2))
        if form is Form.GITHUB:
            return github(self.problems) + self.summary()
        return self.text()

    def summary(self) -> str:
        """Return one line: what was checked, and the result."""
        rulesets = [file.ruleset for file in self.files if file.ruleset is not None]
        triggers = sum(len(ruleset.triggers) for ruleset in rulesets)
        active = sum(trigger.active for ruleset in rulesets for trigger in ruleset.triggers)
        looked_at = f"{_count(len(self.files), 'file')}, {_count(triggers, 'trigger')} ({active} active), "
        looked_at += f"{_count(self.tests_run, 'test')} run"
        return f"{looked_at}: {_count(self.errors, 'error')}, {_count(self.warnings, 'warning')}"

    def json(self) -> dict[str, Any]:
        """Return the report as one JSON object."""
        return {
            "files": [
                {
                    "file": file.file,
                    "ruleset": file.ruleset.digest if file.ruleset else None,
                    "triggers": len(file.ruleset.triggers) if file.ruleset else 0,
                    "active": sum(trigger.active for trigger in file.ruleset.triggers) if file.ruleset else 0,
                    "tests": len(file.tests),
                }
                for file in self.files
            ],
            "problems": [
                {
                    "file": problem.file,
                    "line": problem.line,
                    "column": problem.column,
                    "severity": problem.severity,
                    "code": problem.code,
                    "message": problem.message,
                    **({"details": list(problem.details)} if problem.details else {}),
                }
                for problem in self.problems
            ],
            "tests_run": self.tests_run,
            "errors": self.errors,
            "warnings": self.warnings,
            **({} if self.coverage is None else {"coverage": [file.json() for file in self.coverage]}),
        }


def check_files(
    paths: Iterable[Path | str], run_tests: RunTests | None = None, *, coverage: bool = False
) -> CheckReport:
    """Check each file separately. `run_tests` runs its tests when the file has no other errors.

    A path `-` means standard input.
    """
    covered: list[Coverage] = []
    files: list[TriggerFile] = []
    problems: list[Problem] = []
    tests_run = 0
    with cyclic_collector_paused():
        for path in paths:
            file = read_triggers(sys.stdin.buffer, STDIN) if str(path) == "-" else load_triggers(path)
            files.append(file)
            problems.extend(file.problems)
            runs = [] if run_tests is None or file.ruleset is None else list(run_tests(file))
            problems.extend(run.problem for run in runs if run.problem is not None)
            tests_run += len(runs)
            if coverage and (found := cover(file, runs)) is not None:
                covered.append(found)
    return CheckReport(tuple(files), tuple(problems), tests_run, tuple(covered) if coverage else None)


def _lines(problem: Problem) -> str:
    first = f"{problem} (warning)" if problem.severity == "warning" else str(problem)
    return "\n".join((one_line(first), *(f"    {one_line(detail)}" for detail in problem.details)))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
