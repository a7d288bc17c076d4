"""The mappings that come with Lapse, each with its samples, through `lapse map` and a backtest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streams.cli import app

ROOT = Path(__file__).parents[2]
NAMES = sorted(path.stem for path in (ROOT / "deploy" / "mappings").glob("*.yaml"))

EXPECTED = {
    # (usable, rejected paths)
    "debezium": (6, []),
    "kafka-connect": (3, ["from_millis(occurred_at)"]),
    "zendesk-ticket": (4, ["updated_at"]),
}


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def files(name):
    return ROOT / "deploy" / "mappings" / f"{name}.yaml", ROOT / "deploy" / "samples" / "mappings" / f"{name}.jsonl"


def test_each_has_samples_and_an_expectation():
    assert sorted(EXPECTED) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_its_samples_come_out_as_expected(name):
    mapping, samples = files(name)
    result = run("map", mapping, "--events", samples, "--json")
    shown = [json.loads(line) for line in result.stdout.splitlines()]
    usable, paths = EXPECTED[name]
    assert result.exit_code == 0
    assert sum("rejected" not in one for one in shown) == usable
    assert [one["rejected"]["path"] for one in shown if "rejected" in one] == paths


def test_a_mapping_of_nothing_usable_ends_with_1_and_says_what_is_not_found(tmp_path):
    mapping, samples = files("debezium")
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(mapping.read_text().replace("source.ts_ms", "source.when").replace("deleted: op == 'd'", ""))
    result = run("map", wrong, "--events", samples)
    assert result.exit_code == 0, "the tombstone is still usable"
    assert "invalid: from_millis(source.when)" in result.stdout
    lines = [line for line in samples.read_text().splitlines() if '"value":null' not in line]
    (tmp_path / "some.jsonl").write_text("\n".join(lines))
    assert run("map", wrong, "--events", tmp_path / "some.jsonl").exit_code == 1


def test_a_bad_mapping_file_ends_with_2(tmp_path):
    bad = tmp_path / "bad.yaml"
    bad.write_text("ticket-updates: {members: {ticket_id: 'a.'}}")
    result = run("map", bad, "--events", files("debezium")[1])
    assert result.exit_code != 0
    assert "bad_expression" in str(result.exception)
