"""The core does not become slower unnoticed: instructions a record against the committed baseline."""

from __future__ import annotations

import os

import pytest

from tests.bench import instructions
from tests.bench.instructions import RENEW, compare


@pytest.mark.timeout(360)
def test_the_core_executes_no_more_instructions_a_record_than_its_baseline():
    if instructions.valgrind() is None:
        if os.environ.get("CI"):
            pytest.fail("Valgrind is missing; on Debian and Ubuntu: apt install valgrind")
        pytest.skip("Valgrind is not installed")
    baseline = instructions.baselines().get(instructions.interpreter())
    if baseline is None:
        pytest.skip(f"No baseline for {instructions.interpreter()}; to make one: {RENEW}")
    verdict = compare(instructions.count(), baseline)
    assert verdict.holds, "\n" + verdict.text


def test_a_record_that_costs_a_tenth_more_than_its_baseline_is_refused():
    assert compare({"update": 1_100}, {"update": 1_000}).holds
    verdict = compare({"update": 1_101, "lapse": 10}, {"update": 1_000, "lapse": 10})
    assert not verdict.holds
    assert "baseline     1,000: +10.1%, more than the 10% allowed" in verdict.text
    assert RENEW in verdict.text


def test_a_record_that_costs_much_less_asks_for_a_new_baseline_and_passes():
    verdict = compare({"update": 800}, {"update": 1_000})
    assert verdict.holds
    assert RENEW in verdict.text


def test_a_kind_without_a_baseline_is_refused():
    assert not compare({"update": 1}, {}).holds
