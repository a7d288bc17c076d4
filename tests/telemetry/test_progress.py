"""The line that says once a minute what a worker has done."""

from __future__ import annotations

import asyncio
import logging

import pytest

from streams.telemetry.progress import Progress, Totals


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    caplog.set_level(logging.INFO, "streams.telemetry.progress")
    return caplog.messages


def test_a_line_says_what_was_done_since_the_last_one(lines, caplog):
    at = Totals(100, 1, 7, 0)
    progress = Progress(lambda: at)
    at = Totals(1_340, 2, 8, 12)
    progress.log()
    at = Totals(1_341, 2, 8, 0)
    progress.log()
    assert caplog.messages == [
        "1,240 records, 1 dead letter, 1 command; 12 records behind",
        "1 record, 0 dead letters, 0 commands; 0 records behind",
    ]
    members = ("records", "dead_letters", "commands", "lag")
    assert [vars(caplog.records[0])[name] for name in members] == [1_240, 1, 1, 12]


def test_a_minute_in_which_nothing_happened_has_no_line(lines, caplog):
    progress = Progress(lambda: Totals(100, 1, 7, 3))
    progress.log()
    assert caplog.messages == []


def test_a_command_of_a_round_that_had_waited_is_something_that_happened(lines, caplog):
    at = Totals(100, 0, 7, 0)
    progress = Progress(lambda: at)
    at = Totals(100, 0, 8, 0)
    progress.log()
    assert caplog.messages == ["0 records, 0 dead letters, 1 command; 0 records behind"]


async def test_it_logs_at_intervals_and_the_rest_at_the_end(lines, caplog):
    at = Totals(0, 0, 0, 0)
    async with Progress(lambda: at, every=0.01):
        at = Totals(10, 0, 0, 0)
        async with asyncio.timeout(5):
            while not caplog.messages:  # noqa: ASYNC110 - a line sets no event
                await asyncio.sleep(0.01)
        at = Totals(15, 0, 1, 0)
    assert [message.partition(",")[0] for message in caplog.messages] == ["10 records", "5 records"]
