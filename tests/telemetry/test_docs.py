"""docs/metrics.md is what the table makes of it, and says what a reader of a figure has to know."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from streams.telemetry.definitions import DEFINITIONS, FORMULAS
from streams.telemetry.docs import DOMAINS, page
from streams.telemetry.table import EVERY_METRIC

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "metrics.md"
INFO = {"ruleset", "version", "python", "faust", "aiokafka"}


def test_the_page_is_up_to_date():
    assert PAGE.read_text("utf-8") == page(), "run `python -m streams.telemetry.docs > docs/metrics.md`"


def test_the_module_prints_the_page():
    done = subprocess.run([sys.executable, "-m", "streams.telemetry.docs"], cwd=ROOT, capture_output=True, check=True)
    assert done.stdout.decode("utf-8") == page()


@pytest.mark.parametrize("row", EVERY_METRIC, ids=lambda row: row.name)
def test_every_metric_has_its_line(row):
    (line,) = [line for line in page().splitlines() if line.startswith(f"| `{row.name}` |")]
    assert row.help.replace("|", "\\|") in line


def test_every_label_is_explained():
    assert {label for row in EVERY_METRIC for label in row.labels} - INFO == set(DOMAINS)


@pytest.mark.parametrize(
    "figure",
    [
        "abandonment",
        "abandonment rate",
        "false abandonment",
        "false abandonment rate",
        "time to abandon",
        "time to return",
        "open abandonments",
    ],
)
def test_every_figure_has_whole_sentences_and_a_formula(figure):
    sentence = DEFINITIONS[figure]
    assert re.fullmatch(r"([A-Z][^.]*\.)( [A-Z][^.]*\.)*", sentence)
    assert f"**{figure.capitalize()}.** {sentence}" in page()
    assert FORMULAS[figure] in page()
    assert [row.name for row in EVERY_METRIC if row.name in FORMULAS[figure]]


@pytest.mark.parametrize("figure", ["abandonment rate", "false abandonment rate"])
def test_a_rate_names_its_denominator(figure):
    assert " / " in DEFINITIONS[figure]
    assert " / " in FORMULAS[figure]


@pytest.mark.parametrize("figure", ["time to abandon", "time to return"])
def test_a_duration_says_what_its_averages_are_over(figure):
    assert "averages and quantiles are over" in DEFINITIONS[figure].lower()
