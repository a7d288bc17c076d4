"""Every panel of every dashboard shows something, asked of a real Prometheus that scrapes workers under traffic."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.deploy_monitoring.live import Prometheus, account, traffic, until, webhooks
from tests.deploy_monitoring.test_dashboards import DASHBOARDS
from tests.deploy_monitoring.tools import require

WINDOWS = {
    "$__rate_interval": "20s",
    "$__range": "60s",
    "$job": ".+",
    "$instance": ".+",
    "$channel": ".+",
    "$reason": ".+",
    "$trigger": ".+",
    "offset 1w": "offset 2s",
}

QUIET = {
    ("Pipeline", "Keys and sizes that should not be"),
    ("Pipeline", "Dead letters"),
    ("Pipeline", "Commands waiting"),
    ("Pipeline", "Actions that the API can't carry out"),
    ("Triggers", "Unjoined"),
    ("Triggers", "Triggers that never fired"),
    ("Triggers", "Abandonments held out"),
    ("Triggers", "Abandonments, by group"),
    ("Triggers", "Returns of these customers, by group"),
    ("Triggers", "Rounds of the shadow, beside the live rules"),
    ("Triggers", "Held in the time shown, by trigger"),
    ("Triggers", "Commands held, by trigger"),
    ("Triggers", "Revision in use"),
    ("Triggers", "Newest revision not in use"),
    ("Triggers", "Refused entries"),
}
"""Panels that may show nothing but zeros in a run that is well."""

NEEDS_MORE = {
    ("Pipeline", "Session states written"),
    ("Pipeline", "Customers waited for"),
    ("Pipeline", "Records behind, silence"),
    ("Triggers", "Triggers of the shadow that would have fired"),
    ("Triggers", "Difference of the return rates"),
    ("Triggers", "Return rate, acted on"),
    ("Triggers", "Return rate, held out"),
}
"""Panels that have no data without `lapse ingest --silence`, or before a shadow has fired a trigger, or a holdout has
held a ticket out."""

Places = dict[tuple[str, str, str], str]


def asked() -> Places:
    """Every query of every dashboard by dashboard, panel and legend, with values for the variables."""
    found: Places = {}
    for name, dashboard in DASHBOARDS.items():
        queries = [
            (panel["title"], target["legendFormat"], target["expr"])
            for panel in dashboard["panels"]
            for target in panel.get("targets", ())
        ]
        queries += [(mark["name"], "mark", mark["expr"]) for mark in dashboard["annotations"]["list"]]
        for title, legend, query in queries:
            asks = query
            for variable, value in WINDOWS.items():
                asks = asks.replace(variable, value)
            assert "$" not in asks
            if (name.capitalize(), title) in NEEDS_MORE:
                continue
            found[name.capitalize(), title, legend] = asks
    return found


def silent(results: dict[tuple[str, str, str], list[float]]) -> set[tuple[str, str]]:
    """Panels none of whose queries gave more than zeros."""
    return {place[:2] for place in results} - {place[:2] for place, values in results.items() if any(values)}


@pytest.fixture(scope="module")
def seen(kafka: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What each query gave as soon as all gave something, or after a minute; and what Prometheus says of the rules."""
    require("prometheus")
    folder: Path = tmp_path_factory.mktemp("live")
    with (
        traffic(kafka.bootstrap, folder, rate=300) as (first, second, prefix),
        webhooks(kafka.bootstrap, prefix, folder) as ingest,
        account(kafka.bootstrap, prefix, folder) as apply,
    ):
        prometheus = Prometheus.scraping(folder, [first, f"127.0.0.1:{second.web_port}"], ingest, apply)
        try:
            until(lambda: prometheus.values("lapse_commands_applied_total > 0"), 60, prometheus.process.tail)
            second.start()
            until(lambda: prometheus.values("sum(lapse_restore_rows_total) > 0"), 60, second.tail)
            results: dict[tuple[str, str, str], list[float]] = {}

            def all_show_something() -> bool:
                for place, query in asked().items():
                    values = prometheus.values(query)
                    if any(values) or not any(results.get(place, ())):
                        results[place] = values
                return all(results.values()) and not silent(results) - QUIET

            try:
                until(all_show_something, 30, lambda: "")
            except AssertionError:
                pass  # the tests below name what is missing
            return results, prometheus.ask("rules")["groups"], prometheus.ask("alerts")["alerts"]
        finally:
            prometheus.process.stop(15)


def test_every_panel_returns_data(seen):
    results, _, _ = seen
    without = [" / ".join(place) for place, values in results.items() if not values]
    print(f"{len(results)} queries, {len(without)} without data")
    assert results.keys() == asked().keys()
    assert without == []


def test_every_panel_but_those_of_trouble_shows_more_than_zeros(seen):
    results, _, _ = seen
    assert silent(results) <= QUIET


def test_figures_are_possible_ones(seen):
    results, _, _ = seen
    units = {
        (name.capitalize(), panel["title"]): panel["fieldConfig"]["defaults"]["unit"]
        for name, dashboard in DASHBOARDS.items()
        for panel in dashboard["panels"]
        if panel["type"] != "row"
    }
    for (name, panel, legend), values in results.items():
        assert min(values) >= 0 or panel == "Stream time behind the clock", (panel, legend)
        # Rates and what was carried out compare two counts of one time: over seconds they can pass 100 %.
        if units.get((name, panel)) == "percentunit" and not re.search("rate|Carried out|Processor", panel):
            assert max(values) <= 1, (panel, legend, values)


def test_the_rules_evaluate_and_nothing_pages_while_all_is_well(seen):
    _, groups, alerts = seen
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) > 40
    assert [rule["name"] for rule in rules if rule["health"] != "ok" or rule.get("lastError")] == []
    assert [alert["labels"] for alert in alerts if alert["state"] == "firing"] == []
