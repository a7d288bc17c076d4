"""Every golden case, in every way of running it; and the same case with a crash at each write."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import harness, ways

CASES = harness.load_cases()
RUNS = [pytest.param(way, case, id=f"{case.id} [{way}]") for case in CASES for way in case.ways]


@pytest.mark.parametrize(("way", "case"), RUNS)
def test_case(way: str, case: harness.Case, tmp_path: Path) -> None:
    differences = harness.problems(case, ways.run(way, case, tmp_path))
    assert not differences, f"\n{case.spec}\n" + (f"ambiguous: {case.ambiguous}\n" if case.ambiguous else "") + "\n".join(
        differences
    )
