"""Hundreds of failures in seconds: every law holds for every seed, and bugs that are planted are found.

The simulator runs in processes of their own, with a fixed hash seed: the same seed is then the same run everywhere.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.simulator.network import Faults
from tests.simulator.planted import PLANTED
from tests.simulator.scenario import Event, Scenario, scenario_of, tickets_of
from tests.simulator.shrink import shrink

ROOT = Path(__file__).parent.parent.parent
LIMIT_SECONDS = 600

SEEDS = 50
QUICKLY_FOUND = [
    "any-generation",
    "ends-stay",
    "forgotten-when-paused",
    "offsets-before-commands",
    "timers-forgotten",
    "timers-on-wall-time",
    "tombstones-ignored",
]
"""Bugs that a few seeds find. `python -m tests.simulator --planted` plants all of them."""


def simulator(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m tests.simulator` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "tests.simulator", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )


def test_every_law_holds_whatever_fails_and_when() -> None:
    done = simulator("--seeds", str(SEEDS), "--processes", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{SEEDS} seeds from 0, 0 failed" in done.stdout


def test_a_seed_is_the_same_run_in_every_process() -> None:
    first, second = [simulator("--digest", "--from", "40", "--seeds", "3") for _ in range(2)]
    assert first.returncode == 0, first.stderr
    digests = first.stdout.splitlines()
    assert len(set(digests)) == 3
    assert second.stdout.splitlines() == digests


def test_planted_bugs_are_found() -> None:
    assert set(QUICKLY_FOUND) <= PLANTED.keys()
    done = simulator("--seeds", "200", "--planted", *QUICKLY_FOUND)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == QUICKLY_FOUND


@pytest.fixture
def scenario() -> Scenario:
    """A large scenario with every kind of fault."""
    events = tuple(Event(float(at), kind, at % 3, 1.0) for at, kind in enumerate(("kill", "freeze", "outage", "stop")))
    faults = Faults(*[0.01] * len(vars(Faults())))
    return replace(scenario_of(1), records=40, workers=3, nodes=2, faults=faults, events=events, grow_old=True)


def test_a_scenario_shrinks_to_what_is_needed_for_the_failure(scenario: Scenario) -> None:
    culprit = sorted(tickets_of(scenario))[3]

    def fails(each: Scenario) -> bool:
        return (
            culprit in tickets_of(each)
            and each.faults.late > 0
            and any(event.kind == "freeze" for event in each.events)
        )

    smallest = shrink(scenario, fails)
    assert tickets_of(smallest) == {culprit}
    assert [event.kind for event in smallest.events] == ["freeze"]
    assert smallest.faults == Faults(late=0.01)
    assert (smallest.workers, smallest.nodes, smallest.grow_old) == (1, 1, False)
