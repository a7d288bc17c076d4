"""Recording rules and alerts: they load, fire and stay silent when they should, and each tells what to do."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from streams.cli import app
from streams.settings.settings import Settings
from streams.telemetry.table import EVERY_METRIC
from tests.deploy_monitoring.promql import divisors, groupings, is_counter, labels_of, selectors
from tests.deploy_monitoring.tools import promtool

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "prometheus"
RUNBOOKS = ROOT / "docs" / "runbooks"
CASES = sorted((FOLDER / "tests").glob("*.yaml"))
DASHBOARDS = "".join(path.read_text("utf-8") for path in (ROOT / "deploy/grafana/dashboards").glob("*.json"))


def rules(file: str) -> list[dict[str, Any]]:
    groups = yaml.safe_load((FOLDER / file).read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


RECORDS = {rule["record"]: rule["expr"] for rule in rules("recording.yaml")}
ALERTS = rules("alerts.yaml")
NAMES = sorted({alert["alert"] for alert in ALERTS})
EXPRESSIONS = [pytest.param(expr, id=name) for name, expr in RECORDS.items()] + [
    pytest.param(alert["expr"], id=f"{alert['alert']}-{alert['labels']['severity']}") for alert in ALERTS
]
EXISTENCE = "lapse_triggers_fired_total"
"""The one counter that is asked for bare: whether a trigger is still in the file."""


def test_the_rules_load():
    done = promtool("check", "rules", str(FOLDER / "recording.yaml"), str(FOLDER / "alerts.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_configuration_loads():
    done = promtool("check", "config", str(FOLDER / "prometheus.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_every_case_fires_or_stays_silent_as_it_says(path):
    done = promtool("test", "rules", str(path))
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_firing_and_a_silent_case():
    cases: dict[str, set[bool]] = defaultdict(set)
    for path in CASES:
        for case in yaml.safe_load(path.read_text("utf-8"))["tests"]:
            for expected in case["alert_rule_test"]:
                fires = bool(expected["exp_alerts"])
                cases[expected["alertname"]].add(fires)
                assert case["name"].startswith(f"{expected['alertname']} {'fires' if fires else 'is silent'}: ")
    assert dict(cases) == {name: {True, False} for name in NAMES}


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_expression_asks_for_what_is_exported_or_recorded(expression):
    asked = list(selectors(expression))
    assert asked
    for selector in asked:
        if ":" in selector.name:
            assert selector.name in RECORDS
            continue
        labels = labels_of(selector.name)
        assert labels is not None, f"no worker exports {selector.name}"
        assert set(selector.matchers) <= labels
        if selector.name != EXISTENCE or selector.function is not None:
            assert is_counter(selector.name) == (selector.function in ("rate", "increase")), expression


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_expressions_group_by_labels_that_are_there(expression):
    for by, inside in groupings(expression):
        for selector in inside:
            if ":" not in selector.name:
                assert by <= labels_of(selector.name)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_no_rule_divides_by_nothing(expression):
    """Save where the alert asks for thirty sessions as well."""
    for divisor in divisors(expression):
        assert re.search(r" > \d+$", divisor) or divisor.startswith("job:lapse_sessions:increase1h"), divisor


@pytest.mark.parametrize("name", RECORDS)
def test_a_recorded_series_is_named_by_its_labels_its_metric_and_the_operation(name):
    level, metric, operation = name.split(":")
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", level)
    assert metric.startswith("lapse_")
    assert re.fullmatch(r"(increase|ratio|rate|average)\d+[mhd](_4w|_7d)?|max", operation)
    written = {label for by, _ in groupings(RECORDS[name]) for label in by}
    assert set(level.split("_")) <= written or ":" in RECORDS[name]


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: f"{alert['alert']}-{alert['labels']['severity']}")
def test_an_alert_says_how_bad_it_is_what_is_wrong_and_where_to_read_on(alert):
    assert alert["labels"] in ({"severity": "page"}, {"severity": "warning"})
    annotations = alert["annotations"]
    assert set(annotations) == {"summary", "description", "runbook_url"}
    assert annotations["summary"].endswith(".") and annotations["description"].endswith(".")
    assert annotations["runbook_url"] == f"docs/runbooks/{alert['alert']}.md"


@pytest.mark.parametrize("name", NAMES)
def test_a_runbook_tells_meaning_impact_diagnosis_and_mitigation(name):
    text = (RUNBOOKS / f"{name}.md").read_text("utf-8")
    assert text.startswith(f"# {name}\n")
    parts = re.split(r"^## (.*)$", text, flags=re.M)
    assert parts[1::2] == ["Meaning", "Impact", "Diagnosis", "Mitigation"]
    assert all(len(part.strip()) > 30 for part in parts[2::2])
    severities = {alert["labels"]["severity"] for alert in ALERTS if alert["alert"] == name}
    assert f"Severity: {', or '.join(sorted(severities))}." in text


def test_there_are_no_runbooks_without_an_alert_and_the_index_lists_all():
    assert sorted(path.stem for path in RUNBOOKS.glob("*.md") if path.stem != "README") == NAMES
    index = (RUNBOOKS / "README.md").read_text("utf-8")
    assert sorted(re.findall(r"\]\((\w+)\.md\)", index)) == NAMES


@pytest.mark.parametrize("path", sorted(RUNBOOKS.glob("*.md")), ids=lambda path: path.stem)
def test_what_a_runbook_names_exists(path):
    text = path.read_text("utf-8")
    assert [
        link for link in re.findall(r"\]\(([^)]+)\)", text) if not (RUNBOOKS / link.partition("#")[0]).exists()
    ] == []
    known = {row.name for row in EVERY_METRIC}
    assert set(re.findall(r"\blapse_[a-z_]+\b", text)) <= known
    for panel in re.findall(r"\*(?:Pipeline|Abandonment|Triggers) → ([^*]+)\*", text):
        assert f'"title": "{panel}' in DASHBOARDS, panel


COMMANDS = sorted(
    {span for path in RUNBOOKS.glob("*.md") for span in re.findall(r"`lapse ([^`]+)`", path.read_text("utf-8"))}
)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_that_runbooks_name_are_verbs_with_such_flags(command):
    words = command.split()
    verb = [word for word in words[:2] if re.fullmatch(r"[a-z-]+", word) and not word.startswith("-")]
    shown = CliRunner().invoke(app, [*verb, "--help"])
    assert shown.exit_code == 0, shown.output
    assert [word for word in words if word.startswith("-") and word not in shown.output] == []


@pytest.mark.parametrize("name", NAMES)
def test_commands_about_the_brokers_can_be_run_as_they_stand(name):
    """At three in the morning nobody looks flags up: each says which broker, and which group or topic."""
    text = (RUNBOOKS / f"{name}.md").read_text("utf-8")
    for command in re.findall(r"kafka-[a-z-]+\.sh[^`|]*", text):
        assert re.match(r"kafka-[a-z-]+\.sh --bootstrap-server BROKER ", command), command
        if "consumer-groups" in command or "console-consumer" in command:
            assert re.search(r"--(group|topic) [A-Z]", command), command


def test_settings_that_runbooks_name_are_settings():
    named = {"app_id", "dead_letter_limit", "false_abandonment_window", "join_wait", "state_ttl", "dry_run"}
    text = "".join(path.read_text("utf-8") for path in RUNBOOKS.glob("*.md"))
    assert named <= set(Settings.model_fields)
    assert all(re.search(rf"`{name}\b", text) for name in named)
