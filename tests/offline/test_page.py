"""`lapse backtest --html`: one page that stands by itself."""

from __future__ import annotations

import gzip
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from typer.testing import CliRunner

from deploy.samples.make import sample
from streams.cli import app
from streams.core.model import SECOND
from streams.offline import plots
from streams.offline.command import BacktestError
from tests.offline.scene import Capture
from tests.offline.test_against import TAG, solve

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "deploy/samples/support-week.jsonl.gz"
RECIPES = ROOT / "deploy/triggers/recipes.yaml"


class Tags(HTMLParser):
    """Counts tags and collects what an element asks a browser to load."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: dict[str, int] = {}
        self.loads: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] = self.tags.get(tag, 0) + 1
        for name, value in attrs:
            if name in {"src", "href", "xlink:href", "data", "srcset"} and value and not value.startswith("#"):
                self.loads.append(value)


def page(folder: Path, *more: str) -> str:
    path = folder / "page.html"
    done = CliRunner().invoke(
        app, ["backtest", "--events", str(SAMPLE), "--triggers", str(RECIPES), "--html", str(path), *more]
    )
    assert done.exit_code == 0, done.output
    return path.read_text(encoding="utf-8")


def test_the_page_loads_nothing_and_runs_nothing(tmp_path: Path):
    text = page(tmp_path, "--against", str(RECIPES))
    found = Tags(text)
    assert found.loads == []
    assert "script" not in found.tags
    assert "@import" not in text
    assert re.findall(r"url\((?!#)", text) == []
    assert found.tags["svg"] == 5
    assert len(text) < 1_000_000


def test_on_paper_nothing_scrolls_and_long_sections_go_on_over_the_page(tmp_path: Path):
    style = page(tmp_path).partition("<style>")[2].partition("</style>")[0]
    # What is said last holds: the rules for paper come after those for screens.
    paper = style[style.index("@media print") :]
    assert "@media screen" not in paper
    assert ".scroll { overflow: visible; }" in paper
    [whole] = re.findall(r"([^{}]*)\{ break-inside: avoid; \}", paper)
    assert "section" not in whole
    assert "figure" in whole


def test_the_table_of_waits_tells_the_delay_that_each_costs(tmp_path: Path):
    text = page(tmp_path)
    assert '<th scope="col">delay in all</th>' in text
    rows = re.findall(r"<td>15s</td>.*?</tr>", text)
    assert len(rows) == 1
    assert rows[0].endswith("<td>641</td><td>2.7 h</td></tr>")


def test_all_colours_of_the_plots_are_the_pages_own(tmp_path: Path):
    text = page(tmp_path)
    drawn = "".join(re.findall(r"<svg.*?</svg>", text, re.DOTALL))
    assert re.findall(r"#[0-9a-f]{6}\b", drawn) == []
    assert "var(--main)" in drawn


def test_the_figures_on_it_are_those_of_the_run(tmp_path: Path):
    text = page(tmp_path)
    tiles = re.findall(r"<dt>([^<]*)</dt><dd>([^<]*)</dd>", text)
    done = CliRunner().invoke(
        app, ["backtest", "--events", str(SAMPLE), "--triggers", str(RECIPES), "--json", "--suggest-wait"]
    )
    found = json.loads(done.stdout)
    shown = dict(tiles[:5])
    assert shown["commands"] == f"{found['commands']:,}"
    assert shown["abandonments"] == f"{found['waits']['abandonments']:,}"
    assert shown["of them false"] == f"{found['waits']['false_abandonments'] / found['waits']['abandonments']:.1%}"


def test_a_capture_without_abandonments_says_so(tmp_path: Path):
    capture = Capture(tmp_path).ticket(0, "1", status="open").session(0, "1", "active")
    path = tmp_path / "page.html"
    done = capture.backtest(solve(), "--html", str(path))
    assert done.exit_code == 0, done.output
    assert "This capture holds no abandonment" in path.read_text()


def test_hostile_ids_and_titles_are_text(tmp_path: Path):
    evil = "<img src=x onerror=alert(1)>"
    capture = Capture(tmp_path)
    capture.ticket(0, evil, status="open").session(0, evil, "active")
    capture.session(60, evil, "inactive", "user_inactive_or_offline").session(3_600, "2", "active")
    path = tmp_path / "page.html"
    done = capture.backtest(solve() + TAG, "--html", str(path), "--against", str(capture.write("old<b>.yaml", solve())))
    assert done.exit_code == 0, done.output
    text = path.read_text()
    assert "&lt;img src=x" in text
    assert Tags(text).tags.get("img") is None
    assert "old<b>" not in text


@pytest.mark.parametrize(("zone", "hour"), [("UTC", 10), ("Europe/Berlin", 11), ("Asia/Kolkata", 15)])
def test_hours_are_those_of_the_zone_asked_for(zone: str, hour: int):
    counts = plots.by_weekday_and_hour([1_772_359_200 * SECOND], ZoneInfo(zone))
    assert counts[6][hour] == 1, "2026-03-01 is a Sunday"
    assert sum(map(sum, counts)) == 1


def test_a_zone_that_does_not_exist_is_named(tmp_path: Path):
    done = Capture(tmp_path).backtest(solve(), "--html", str(tmp_path / "p.html"), "--time-zone", "Mars/Base")
    assert done.exit_code == 2
    assert "Mars/Base" in done.output


def test_a_page_that_cannot_be_written_is_named_before_the_run(tmp_path: Path):
    done = Capture(tmp_path).backtest(solve(), "--html", str(tmp_path / "no" / "page.html"))
    assert isinstance(done.exception, BacktestError)
    assert done.exception.exit_code == 2
    assert str(done.exception).startswith("--html ")


def test_the_sample_is_what_its_script_makes():
    assert gzip.decompress(SAMPLE.read_bytes()) == gzip.decompress(sample())
