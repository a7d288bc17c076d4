"""Partitions that run at the same time: the same result in the same order, and trouble is told."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streams.cli import app
from streams.offline.processes import InProcesses, ProcessDied
from tests.offline.test_page import RECIPES, SAMPLE


def test_results_come_in_order_whoever_is_first():
    def work(number: int, tell: Callable[[int], None]) -> int:
        time.sleep(0.02 * (5 - number))
        tell(number)
        return os.getpid()

    told: list[int] = []
    found = list(InProcesses(work, 3, told.append).over(range(5)))
    assert len(set(found)) == 5
    assert os.getpid() not in found
    assert told[-1] == sum(range(5))


def test_an_error_in_a_process_is_raised_here():
    def work(number: int, tell: Callable[[int], None]) -> int:
        raise ValueError(f"partition {number}")

    with pytest.raises(ValueError, match="partition 7"):
        list(InProcesses(work, 2).over([7]))


def test_a_process_that_is_killed_is_told_of():
    def work(number: int, tell: Callable[[int], None]) -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return number

    with pytest.raises(ProcessDied, match="ended with code -9; is there enough memory"):
        list(InProcesses(work, 2).over([1, 2]))


def test_a_backtest_gives_the_same_with_any_number_of_processes(tmp_path: Path):
    new = tmp_path / "new.yaml"
    new.write_text(RECIPES.read_text().replace("    conditions:", "    wait: 60s\n    conditions:", 1))
    seen = set()
    for jobs in ("1", "2", "3"):
        files = {flag: tmp_path / f"{flag}-{jobs}" for flag in ("commands", "transitions")}
        done = CliRunner().invoke(
            app,
            [
                *("backtest", "--events", str(SAMPLE), "--triggers", str(new), "--against", str(RECIPES)),
                *("--suggest-wait", "--json", "--jobs", jobs),
                *(word for flag, path in files.items() for word in (f"--{flag}", str(path))),
            ],
        )
        assert done.exit_code == 0, done.output
        seen.add((done.stdout, *(path.read_bytes() for path in files.values())))
    assert len(seen) == 1
    ((report, commands, transitions),) = seen
    assert commands.count(b"\n") > 100
    assert transitions.count(b"\n") > 5_000
    assert '"against"' in report
