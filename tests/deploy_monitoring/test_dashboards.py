"""The dashboards: generated and committed alike, every panel complete, every query about something that is exported."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from deploy.grafana.__main__ import FOLDER, files
from deploy.grafana.queries import series
from streams.telemetry.definitions import DEFINITIONS
from tests.deploy_monitoring.promql import TABLE, divisors, groupings, is_counter, labels_of, selectors
from tests.deploy_monitoring.tools import promtool

DASHBOARDS = {path.stem: json.loads(text) for path, text in files().items()}
PANELS = [
    pytest.param(panel, id=f"{name}: {panel['title']}")
    for name, dashboard in DASHBOARDS.items()
    for panel in dashboard["panels"]
    if panel["type"] != "row"
]
UNITS = {"short", "percentunit", "s", "cps", "bytes"}
RISING = {"rate", "increase"}


def queries(panel: dict[str, Any]) -> Iterator[str]:
    """A panel's queries as Prometheus would get them, but for the windows."""
    for target in panel["targets"]:
        yield target["expr"].replace("$__rate_interval", "5m").replace("$__range", "1d")


def test_the_committed_dashboards_are_what_the_code_makes():
    committed = {path: path.read_text("utf-8") for path in FOLDER.glob("*.json")}
    assert committed == files(), "run `python -m deploy.grafana`"


def test_the_three_dashboards_are_there_each_with_an_address_of_its_own():
    assert {name: dashboard["uid"] for name, dashboard in DASHBOARDS.items()} == {
        "abandonment": "lapse-abandonment",
        "triggers": "lapse-triggers",
        "pipeline": "lapse-pipeline",
    }


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_dashboard_can_be_provisioned_anywhere(name):
    dashboard = DASHBOARDS[name]
    assert dashboard["editable"] is False
    assert dashboard["description"]
    assert "id" not in dashboard
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    variables = {variable["name"]: variable for variable in dashboard["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    for variable in ("job", "instance"):
        assert variables[variable]["includeAll"] and variables[variable]["multi"]
        assert variables[variable]["allValue"] == ".+"


@pytest.mark.parametrize("name", DASHBOARDS)
def test_variables_list_labels_that_exist_and_follow_the_time_shown(name):
    for variable in DASHBOARDS[name]["templating"]["list"]:
        if variable["type"] != "query":
            continue
        selector, label = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]).groups()
        (found,) = selectors(selector)
        assert {label, *found.matchers} <= labels_of(found.name)
        assert variable["refresh"] == 2
        assert variable["datasource"]["uid"] == "${datasource}"


@pytest.mark.parametrize("name", DASHBOARDS)
def test_every_dashboard_marks_when_the_triggers_changed(name):
    (annotation,) = DASHBOARDS[name]["annotations"]["list"]
    assert annotation["enable"]
    assert annotation["datasource"]["uid"] == "${datasource}"
    asked = list(selectors(annotation["expr"]))
    assert [selector.name for selector in asked] == ["lapse_ruleset_info"] * 2
    assert all(selector.matchers == {"job": "$job", "instance": "$instance"} for selector in asked)


@pytest.mark.parametrize(
    ("minute", "marked"), [(36, []), (39, []), (60, ["b"]), (66, [])], ids=["restarting", "back", "changed", "later"]
)
def test_new_triggers_are_marked_and_a_restart_with_the_same_ones_is_not(tmp_path, minute, marked):
    """One worker: away for three minutes after half an hour, restarted with other triggers after an hour."""
    (annotation,) = DASHBOARDS["triggers"]["annotations"]["list"]
    asked = annotation["expr"].replace("$job", ".+").replace("$instance", ".+")
    worker = 'job="lapse", instance="w1"'
    case = {
        "interval": "1m",
        "input_series": [
            {"series": f'lapse_ruleset_info{{{worker}, ruleset="a"}}', "values": "1x30 _x3 1x20 _x30"},
            {"series": f'lapse_ruleset_info{{{worker}, ruleset="b"}}', "values": "_x56 1x30"},
        ],
        "promql_expr_test": [
            {
                "expr": asked,
                "eval_time": f"{minute}m",
                "exp_samples": [{"labels": f'{{ruleset="{ruleset}"}}', "value": 1} for ruleset in marked],
            }
        ],
    }
    file = tmp_path / "mark.yaml"
    file.write_text(json.dumps({"evaluation_interval": "1m", "tests": [case]}), "utf-8")
    done = promtool("test", "rules", str(file))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_do_not_overlap_and_fill_their_lines(name):
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARDS[name]["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
    lines = {y for _, y in taken}
    assert all(sum(y == line for _, y in taken) == 24 for line in lines)


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_says_what_it_shows_in_which_unit(panel):
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert len(panel["description"]) > 20
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_asks_the_datasource_of_the_variable(panel):
    assert panel["targets"]
    for asks in (panel, *panel["targets"]):
        assert asks["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    ids = [target["refId"] for target in panel["targets"]]
    assert len(set(ids)) == len(ids)
    assert all(target["legendFormat"] for target in panel["targets"])


@pytest.mark.parametrize("panel", PANELS)
def test_windows_follow_the_scrape_interval_or_the_time_shown(panel):
    windows = {window for target in panel["targets"] for window in re.findall(r"\[(.*?)\]", target["expr"])}
    assert windows <= {"$__rate_interval", "$__range"}
    if panel["type"] in ("stat", "bargauge"):
        assert "$__rate_interval" not in windows, "one figure stands for all the time shown"


@pytest.mark.parametrize("panel", PANELS)
def test_every_query_asks_for_what_is_exported(panel):
    for query in queries(panel):
        asked = list(selectors(query))
        assert asked
        for selector in asked:
            labels = labels_of(selector.name)
            assert labels is not None, f"no worker exports {selector.name}"
            assert set(selector.matchers) <= labels
            assert selector.matchers["job"] == "$job"
            assert selector.matchers["instance"] == "$instance"
            assert is_counter(selector.name) == (selector.function in RISING), query


@pytest.mark.parametrize("panel", PANELS)
def test_nothing_is_divided_by_nothing(panel):
    """A share of nothing is no data: neither 0 % nor infinitely much."""
    for query in queries(panel):
        assert all(divisor.endswith(" > 0") for divisor in divisors(query)), query


@pytest.mark.parametrize("panel", PANELS)
def test_bars_are_stacked_and_lines_are_not(panel):
    """Grafana draws unstacked bars of one instant over each other, so that only one of them can be read."""
    custom = panel["fieldConfig"]["defaults"].get("custom", {})
    if custom.get("drawStyle") == "bars":
        assert custom["stacking"]["mode"] == "normal"


@pytest.mark.parametrize("panel", PANELS)
def test_legends_and_groupings_name_labels_that_are_there(panel):
    for target, query in zip(panel["targets"], queries(panel), strict=True):
        for by, inside in groupings(query):
            assert all(by <= labels_of(selector.name) for selector in inside)
        named = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        there = set().union(*(labels_of(selector.name) for selector in selectors(query)))
        assert named <= there | {"version"}
        if grouped := [by for by, _ in groupings(query)]:
            assert named <= set().union(*grouped)


@pytest.mark.parametrize(
    ("panel", "figure"),
    [
        ("Abandonment rate", "abandonment rate"),
        ("Abandonments", "abandonment"),
        ("False abandonment rate", "false abandonment rate"),
        ("Time to abandon", "time to abandon"),
        ("Time to return", "time to return"),
        ("Open abandoned now", "open abandonments"),
    ],
)
def test_the_definition_of_a_figure_stands_beside_it(panel, figure):
    shown = [found for found in DASHBOARDS["abandonment"]["panels"] if found["title"] == panel]
    assert shown
    assert all(DEFINITIONS[figure] in found["description"] for found in shown)


def test_a_query_about_an_unknown_metric_cannot_be_written():
    with pytest.raises(KeyError):
        series("lapse_no_such_thing_total")
    with pytest.raises(KeyError):
        series("lapse_commands_total_bucket")


@pytest.mark.parametrize("name", TABLE)
def test_every_metric_has_its_place_on_a_dashboard(name):
    asked = {selector.name for param in PANELS for query in queries(param.values[0]) for selector in selectors(query)}
    assert asked & {name, f"{name}_bucket", f"{name}_count"}
