"""Every golden case in every way of running it, and once more with a crash at each write."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from . import harness, ways
from .expectations import Result

CASES = harness.load_cases()
TO_THE_END = [case for case in CASES if case.runs_to_its_end and case.restart is None]
RULESETS = [case for case in CASES if {"same_ruleset_as", "other_ruleset_than"} & set(case.expect)]
AT_THE_COMMAND_LINE = {
    "s2-dead-letters: a record timestamp from the future is bad_timestamp",
    "s2-state-ends: an ended session is forgotten after state_ttl",
    "s3-transitions: another session's inactive is only seen when the setting says so",
    "s4-conditions: is on tags is refused",
    "s4-from-when: a lapse before act_from is history",
    "s4-from-when: a dry run does all but the command",
    "s4-no-ticket-yet: join_wait is a setting",
    "s4-time-and-merge: the files of a backtest go by partition",
    "s5-commands: the command of the contract's example",
}
"""A process each: one case for every setting and for each kind of ending."""
CRASHES = 8
"""Crash points that are tried in a case, spread over its writes."""


def _named(cases: list[harness.Case]) -> Any:
    return pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in cases])


@pytest.mark.parametrize(
    ("way", "case"), [pytest.param(way, case, id=f"{case.id} [{way}]") for case in CASES for way in case.ways]
)
def test_case(way: str, case: harness.Case, tmp_path: Path) -> None:
    found = harness.problems(case, ways.run(way, case, tmp_path))
    doubt = f"\nambiguous: {case.ambiguous}" if case.ambiguous else ""
    assert not found, "\n".join(["", case.spec + doubt, *found])


@_named([case for case in CASES if case.id in AT_THE_COMMAND_LINE])
def test_the_command_line_says_the_same(case: harness.Case, tmp_path: Path) -> None:
    found = harness.problems(case, ways.command_line(case, tmp_path))
    assert not found, "\n".join(["", case.spec, *found])


def test_every_case_for_the_command_line_exists() -> None:
    assert not AT_THE_COMMAND_LINE - {case.id for case in CASES}


@_named(TO_THE_END)
def test_a_crash_at_any_write_changes_nothing(case: harness.Case) -> None:
    """Steps of one record each, a crash before every n-th write, and the same outputs as without."""
    for number in range(len(case.partitions)):
        calm = ways.drivers(case, batch_records=1)[number]
        ways.finish(case, calm)
        wanted = (ways.outputs(calm), calm.pending_rounds)
        for point in range(0, calm.writes, max(1, calm.writes // CRASHES)):
            driver = ways.drivers(case, batch_records=1)[number]
            driver.crash_after(point)
            ways.finish(case, driver)
            assert driver.restarts == 1
            assert (ways.outputs(driver), driver.pending_rounds) == wanted, f"crash before write {point}"


@_named(RULESETS)
def test_a_ruleset_is_named_by_what_it_means(case: harness.Case, tmp_path: Path) -> None:
    def digest(trigger_file: str) -> str:
        result: Result = ways.run("backtest", replace(case, trigger_file=trigger_file), tmp_path)
        return str(result.commands[0]["ruleset"])

    own = digest(case.trigger_file)
    for same in case.expect.get("same_ruleset_as", []):
        assert digest(same) == own, same
    for other in case.expect.get("other_ruleset_than", []):
        assert digest(other) != own, other
