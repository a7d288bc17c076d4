"""`lapse apply --forecast`: how much of the quota the commands of a backtest would take."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
from typer.testing import CliRunner

from streams.cli import app
from streams.core.model import SECOND
from streams.zendesk.apply.forecast import forecast
from tests.zendesk.commands import command

START = 1_772_359_200 * SECOND
HOUR = 3_600 * SECOND


def lines(*seconds: float, trigger: str = "one") -> list[bytes]:
    return [
        msgspec.json.encode(command(number, issued_at=START + int(at * SECOND), trigger=trigger))
        for number, at in enumerate(seconds)
    ]


def test_commands_within_the_quota_wait_for_nothing() -> None:
    told = forecast(lines(0, 30, 60, 90), 2, HOUR)
    assert (told.commands, told.minutes, told.longest_wait, told.most_waiting) == (4, 2.0, 0, 0)


def test_commands_over_the_quota_wait_for_the_next_minutes() -> None:
    told = forecast(lines(*[0] * 10), 2, HOUR)
    assert told.minutes == 5
    assert told.longest_wait == 240 * SECOND
    assert told.most_waiting == 8
    assert told.expired == 0


def test_a_command_whose_turn_comes_too_late_expires_and_takes_nothing() -> None:
    told = forecast(lines(*[0] * 10), 2, 120 * SECOND)
    assert told.expired == 6
    assert told.longest_wait == 60 * SECOND


def test_minutes_are_told_for_each_trigger_and_other_lines_are_counted() -> None:
    told = forecast([*lines(0, 1), *lines(2, trigger="two"), b"\n", b"{}"], 2, HOUR)
    assert told.by_trigger == {"one": 1.0, "two": 0.5}
    assert told.unusable == 1


def test_a_file_without_commands_takes_nothing() -> None:
    told = forecast([], 2, HOUR)
    assert (told.commands, told.minutes, told.span) == (0, 0.0, 0)


def test_the_verb_needs_no_account_and_no_broker(tmp_path: Path) -> None:
    file = tmp_path / "commands.jsonl"
    file.write_bytes(b"\n".join(lines(*[0] * 250)))
    done = CliRunner().invoke(app, ["apply", "--forecast", str(file)])
    assert done.exit_code == 0, done.output
    assert done.stdout == (
        "250 commands are 2.5 minutes of 100 updates a minute\n"
        "  one: 2.5 minutes\n"
        "most waiting at once: 150, for 2m at most\n"
        "older than apply_max_age (1h) before their turn: 0\n"
    )
    told = CliRunner().invoke(app, ["apply", "--forecast", str(file), "--json", "--zendesk-updates-per-minute", "10"])
    assert json.loads(told.stdout)["minutes"] == 25
    file.write_bytes(b"nonsense\n")
    assert CliRunner().invoke(app, ["apply", "--forecast", str(file)]).exit_code == 1
    assert CliRunner().invoke(app, ["apply", "--forecast", str(tmp_path / "none")]).exit_code == 2
