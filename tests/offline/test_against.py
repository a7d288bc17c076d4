"""`lapse backtest --against`: what another trigger file did over the same capture."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.offline.scene import Capture

SOLVE = """
triggers:
  - id: solve
    title: Solve
    {wait}
    conditions:
      all:
        - {{field: messaging_session_state, operator: changed_to, value: inactive}}
        - {{field: priority, operator: is_not, value: {spared}}}
    actions:
      - {{field: status, value: solved}}
"""
TAG = """
  - id: tag
    title: Tag
    conditions:
      all:
        - {field: messaging_session_state, operator: changed_to, value: inactive}
    actions:
      - {field: add_tags, value: left}
"""


def solve(wait: str = "0s", spared: str = "urgent") -> str:
    return SOLVE.format(wait=f"wait: {wait}", spared=spared)


@pytest.fixture
def capture(tmp_path: Path) -> Capture:
    """Four tickets that are left: one urgent, one whose customer is back after 20 s."""
    found = Capture(tmp_path)
    for number, (priority, back) in enumerate([("low", None), ("urgent", None), ("high", 20), ("low", None)]):
        ticket = str(number)
        found.ticket(number, ticket, status="open", priority=priority).session(number, ticket, "active")
        found.leaves(60 + 100 * number, ticket, back)
    return found.session(1_000, "99", "active")


def against(capture: Capture, new: str, old: str, *more: str) -> dict[str, object]:
    path = capture.write("old.yaml", old)
    found: dict[str, object] = capture.json(new, "--against", str(path), *more)["against"]
    return found


def test_the_same_rules_differ_in_nothing(capture: Capture):
    found = against(capture, solve(), solve())
    assert found["commands"] == {"old": 3, "new": 3, "same": 3, "changed": 0, "removed": 0, "added": 0}
    assert (found["tickets"], found["differing"]) == (0, [])
    done = capture.backtest(solve(), "--against", str(capture.write("old.yaml", solve())))
    assert "nothing would differ: the same 3 commands" in done.stdout


def test_a_condition_that_changed_shows_who_is_spared_and_who_is_not(capture: Capture):
    found = against(capture, solve(spared="high"), solve(spared="urgent"))
    about = found["triggers"]["solve"]  # type: ignore[index]
    assert (about["newly"], about["no_longer"], about["same"]) == (1, 1, 2)
    assert [one["ticket_id"] for one in about["newly_samples"]] == ["1"]
    assert [one["ticket_id"] for one in about["no_longer_samples"]] == ["2"]
    assert found["commands"] == {"old": 3, "new": 3, "same": 2, "changed": 0, "removed": 1, "added": 1}
    sides = {one["lapse"]["ticket_id"]: (one["old"], one["new"]) for one in found["differing"]}  # type: ignore[union-attr]
    assert sides["1"][0] is None
    assert sides["1"][1]["actions"] == [{"field": "status", "value": "solved"}]
    assert sides["2"][1] is None


def test_a_wait_that_changed_is_the_same_trigger_in_another_round(capture: Capture):
    """Its commands come later; the customer who is back within the wait is spared."""
    found = against(capture, solve("60s"), solve())
    about = found["triggers"]["solve"]  # type: ignore[index]
    assert (about["newly"], about["no_longer"], about["same"]) == (0, 1, 2)
    assert found["commands"] == {"old": 3, "new": 2, "same": 0, "changed": 2, "removed": 1, "added": 0}
    assert found["rounds"]["cancelled"] == {"old": 0, "new": 1}  # type: ignore[index]


def test_a_trigger_that_only_one_file_has_is_marked(capture: Capture):
    found = against(capture, solve() + TAG, solve())
    about = found["triggers"]["tag"]  # type: ignore[index]
    assert (about["old"], about["new"], about["newly"], about["same"]) == (False, True, 4, 0)
    assert found["commands"]["changed"] == 3  # type: ignore[index]
    assert found["commands"]["added"] == 1  # type: ignore[index]
    text = capture.backtest(solve() + TAG, "--against", str(capture.write("old.yaml", solve()))).stdout
    assert "tag (new)" in text
    assert "      old: after 0s by solve: status = solved\n" in text
    assert "      new: after 0s by solve, tag: status = solved; add_tags = [left]\n" in text


def test_samples_bound_the_examples_and_not_the_counts(capture: Capture):
    found = against(capture, solve() + TAG, solve(), "--samples", "1")
    about = found["triggers"]["tag"]  # type: ignore[index]
    assert about["newly"] == 4
    assert len(about["newly_samples"]) == 1
    assert len(found["differing"]) == 2, "one that changed, one that is new"  # type: ignore[arg-type]


def test_what_the_new_file_does_is_reported_as_without_a_comparison(capture: Capture):
    plain = capture.json(solve())
    compared = capture.json(solve(), "--against", str(capture.write("old.yaml", solve("60s"))))
    assert {name: value for name, value in compared.items() if name != "against"} == plain


def test_an_old_file_that_is_not_usable_is_named(capture: Capture):
    path = capture.write("old.yaml", "triggers: [{id: a}]")
    done = capture.backtest(solve(), "--against", str(path))
    assert done.exit_code == 1
    assert str(done.exception).startswith(f"{path}: not usable")
