"""The demo with Zendesk as a whole: a process that shows both sides, ends by itself, and leaves nothing behind."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.demo.worker import Worker, WorkerFailed
from tests.demo.test_demo import home_in, run

ROW = re.compile(r"^ (\w[\w ]+?) {2,}([\d,.]+)(?: s)?  (.*)$", re.MULTILINE)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[dict[str, str]]:
    with home_in(tmp_path) as environment:
        yield environment


def figures(output: str) -> dict[str, tuple[float, str]]:
    """Return figure and note of each line of the summary, by name."""
    found = ROW.findall(output[output.index("Lapse demo with Zendesk, ") :])
    return {name: (float(figure.replace(",", "")), note.strip()) for name, figure, note in found}


def assert_a_good_run(output: str) -> None:
    seen = figures(output)
    assert seen["tickets"][0] > 0
    assert seen["customers who left"][0] == seen["lapses"][0]
    assert seen["carried out"][0] == seen["known as applied"][0] > 0
    assert seen["webhooks sent"][0] > seen["tickets"][0]
    median, note = seen["leaving to solved"]
    assert 0 < median <= float(re.search(r"p99 ([\d.]+) s", note)[1])


def test_it_ends_by_itself_when_every_ticket_is_solved_and_tells_of_both_sides(home):
    done = run(home, "--zendesk", "--seconds", "4", within=240)
    assert (done.returncode, done.stderr) == (0, "")
    assert_a_good_run(done.stdout)
    assert re.match(r"solved \d+; solved by agent \d+, lapse \d+", figures(done.stdout)["tickets"][1])
    for word in ("left", "solved"):
        assert f"  {word} " in done.stdout


async def test_a_process_that_ends_is_named_by_its_verb_with_the_end_of_its_log(tmp_path):
    process = await Worker.start(tmp_path, {"no_such_setting": 1}, "ingest")
    with pytest.raises(WorkerFailed, match="lapse ingest ended with exit code 2; its log ends with:") as failed:
        await process.ended()
    assert "no_such_setting" in str(failed.value)
