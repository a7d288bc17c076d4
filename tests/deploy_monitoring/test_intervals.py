"""The holdout's intervals: what a real Prometheus computes, compared with a computation that shares nothing with it."""

from __future__ import annotations

import itertools
import math
import re
import signal
import subprocess
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest

from tests.deploy_monitoring.live import Prometheus
from tests.deploy_monitoring.test_dashboards import DASHBOARDS
from tests.deploy_monitoring.tools import require

DOCS = Path(__file__).parents[2] / "docs" / "does-it-help.md"
PANELS = ("Return rate, acted on", "Return rate, held out", "Difference of the return rates")

CASES = {
    "thousands": ((4000, 400), (4000, 480)),
    "uneven": ((19_000, 2280), (1000, 100)),
    "few": ((40, 9), (7, 1)),
    "none came back": ((300, 0), (20, 0)),
    "all came back": ((50, 50), (20, 20)),
    "one each": ((1, 0), (1, 1)),
    "returns from before": ((100, 10), (10, 12)),
}
"""(abandonments, returns) of acted_on and of held_out."""

EMPTY = {"nothing held out": ((400, 40), (0, 0)), "nothing yet": ((0, 0), (0, 0))}

BEGIN, END = 1_767_225_600, 1_767_225_600 + 6 * 3600
"""2026-01-01, and six hours later, in seconds."""


def by_search(returns: int, whole: int) -> tuple[float, float]:
    """Wilson's bounds, found by bisection of what defines them: rates that lie 1.96 of their own deviations away."""
    rate = min(returns / whole, 1)

    def away(true: float) -> float:
        deviation = math.sqrt(true * (1 - true) / whole)
        return abs(rate - true) / deviation if deviation else (0.0 if rate == true else math.inf)

    def search(inside: float, outside: float) -> float:
        if away(outside) <= 1.959964:
            return outside
        for _ in range(200):
            middle = (inside + outside) / 2
            inside, outside = (middle, outside) if away(middle) <= 1.959964 else (inside, middle)
        return inside

    return search(rate, 0.0), search(rate, 1.0)


def expected(panel: str, acted_on: tuple[int, int], held_out: tuple[int, int]) -> list[float]:
    """The three figures of a panel."""
    (n1, k1), (n2, k2) = acted_on, held_out
    (low1, high1), (low2, high2) = by_search(k1, n1), by_search(k2, n2)
    p1, p2 = min(k1 / n1, 1), min(k2 / n2, 1)
    return {
        "Return rate, acted on": [low1, p1, high1],
        "Return rate, held out": [low2, p2, high2],
        "Difference of the return rates": [
            p1 - p2 - math.hypot(p1 - low1, high2 - p2),
            p1 - p2,
            p1 - p2 + math.hypot(high1 - p1, p2 - low2),
        ],
    }[panel]


def exposition() -> Iterator[str]:
    """Six hours of every case as OpenMetrics: a sample a minute, two workers that share the counts, a job a case."""
    metrics: dict[str, list[str]] = {"lapse_holdout_abandonments": [], "lapse_holdout_returns": []}
    for (case, groups), worker in itertools.product((CASES | EMPTY).items(), (0, 1)):
        for group, (whole, returns) in zip(("acted_on", "held_out"), groups, strict=True):
            parts = {
                f'lapse_holdout_abandonments_total{{group="{group}"': whole,
                f'lapse_holdout_returns_total{{within="yes",group="{group}"': returns - returns // 3,
                f'lapse_holdout_returns_total{{within="no",group="{group}"': returns // 3,
            }
            for series, count in parts.items():
                name = series.split("_total")[0]
                mine = count // 2 if worker else count - count // 2
                for at in range(BEGIN, END + 1, 60):
                    value = float(Fraction(mine * (at - BEGIN), END - BEGIN))
                    metrics[name].append(f'{series},job="{case}",instance="w{worker}"}} {value!r} {at}')
    for name, lines in metrics.items():
        yield f"# TYPE {name} counter"
        yield from lines
    yield "# EOF"


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A real Prometheus whose data are `exposition()`; nothing is scraped."""
    folder: Path = tmp_path_factory.mktemp("intervals")
    (folder / "counts").write_text("\n".join(exposition()) + "\n", "utf-8")
    words = [require("promtool"), "tsdb", "create-blocks-from", "openmetrics", "counts", "data"]
    subprocess.run(words, cwd=folder, check=True, capture_output=True, timeout=60)
    started = Prometheus(folder, {"scrape_configs": []})
    try:
        yield started
    finally:
        started.process.stop(signal.SIGTERM)


def shown(prometheus: Prometheus, panel: str, case: str) -> list[list[float]]:
    """What each query of a panel gives at the end of the six hours, for one case."""
    (found,) = [one for one in DASHBOARDS["triggers"]["panels"] if one["title"] == panel]
    return [
        prometheus.values(
            target["expr"].replace("$job", case).replace("$instance", ".+").replace("$__range", "6h"), time=str(END)
        )
        for target in found["targets"]
    ]


@pytest.mark.parametrize("panel", PANELS)
@pytest.mark.parametrize("case", CASES)
def test_rates_and_their_difference_have_the_intervals_of_wilson_and_newcombe(prometheus, panel, case):
    figures = [value for (value,) in shown(prometheus, panel, case)]
    assert figures == pytest.approx(expected(panel, *CASES[case]), abs=1e-5)
    assert figures == pytest.approx(sorted(figures), abs=1e-6)


@pytest.mark.parametrize("case", EMPTY)
def test_without_tickets_held_out_there_is_no_difference_to_show(prometheus, case):
    assert shown(prometheus, "Difference of the return rates", case) == [[], [], []]
    assert shown(prometheus, "Return rate, held out", case) == [[], [], []]


def test_what_the_docs_print_is_wilsons_interval():
    page = DOCS.read_text("utf-8")
    rows = re.findall(r"^\| ([\d,]+) \| (\d+) \| (\d+) % \| ([\d.]+) % to ([\d.]+) % \|$", page, re.M)
    assert len(rows) >= 4
    for whole, returns, rate, low, high in rows:
        n, k = int(whole.replace(",", "")), int(returns)
        assert (int(rate), float(low), float(high)) == (
            100 * k // n,
            *(round(100 * bound, 1) for bound in by_search(k, n)),
        )


def test_the_differences_that_the_docs_print_are_newcombes():
    page = DOCS.read_text("utf-8").replace(",", "").replace("−", "-")
    figure = r"(-?[\d.]+) %"
    rows = re.findall(rf"^\| (\d+) of (\d+) \| (\d+) of (\d+) \| {figure} \| {figure} \| {figure} \|", page, re.M)
    assert len(rows) >= 4
    for k1, n1, k2, n2, *said in rows:
        computed = expected("Difference of the return rates", (int(n1), int(k1)), (int(n2), int(k2)))
        assert [float(one) for one in said] == [round(100 * one, 1) for one in computed]


def test_what_the_docs_say_of_how_many_tickets_it_takes_is_computed():
    page = DOCS.read_text("utf-8")
    rows = re.findall(r"^\| 10 % and (\d+) % \| ([\d,]+) \| ([\d,]+) \|$", page, re.M)
    assert len(rows) >= 3
    for other, equal, small in rows:
        for said, ratio in ((equal, 1), (small, 19)):
            # z of 95 % and of 80 %: whoever looks finds the difference in eight of ten comparisons.
            spread = 0.1 * 0.9 + int(other) / 100 * (1 - int(other) / 100) / ratio
            needed = (1.959964 + 0.841621) ** 2 * spread / (int(other) / 100 - 0.1) ** 2
            assert int(said.replace(",", "")) == pytest.approx(needed, rel=0.05)
