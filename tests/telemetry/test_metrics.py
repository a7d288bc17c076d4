"""The table of metrics and the label domains: names, help, zeroes, and the series budget of the module's docstring."""

from __future__ import annotations

import math

import pytest
from prometheus_client.parser import text_string_to_metric_families

from streams.telemetry.definitions import DEFINITIONS
from streams.telemetry.labels import DEFAULT_CHANNELS, LabelDomains
from streams.telemetry.metrics import Instruments, series_budget
from streams.telemetry.observer import Metrics
from streams.telemetry.table import METRICS

SPEC_LABELS = {
    "lapse_records_total": {"topic", "result"},
    "lapse_misrouted_records_total": {"topic"},
    "lapse_session_transitions_total": {"kind", "reason", "channel"},
    "lapse_sessions_total": {"channel"},
    "lapse_sessions_abandoned_total": {"channel"},
    "lapse_abandonments_total": {"reason", "channel"},
    "lapse_tickets_abandoned_total": {"channel"},
    "lapse_false_abandonments_total": {"channel"},
    "lapse_time_to_abandon_seconds": set(),
    "lapse_time_to_return_seconds": set(),
    "lapse_rounds_total": {"outcome"},
    "lapse_triggers_fired_total": {"trigger"},
    "lapse_commands_total": set(),
    "lapse_commands_applied_total": set(),
    "lapse_command_apply_seconds": set(),
    "lapse_lag_records": {"topic", "partition"},
    "lapse_event_age_seconds": set(),
    "lapse_step_seconds": set(),
    "lapse_step_records": set(),
    "lapse_restore_rows_total": set(),
    "lapse_restore_seconds": set(),
    "lapse_pending_rounds": set(),
    "lapse_table_rows": {"table"},
    "lapse_ruleset_info": {"ruleset"},
    "lapse_build_info": {"version", "python", "faust", "aiokafka"},
}


def lapse_samples(metrics: Metrics) -> list:
    families = text_string_to_metric_families(metrics.exposition()[0].decode())
    return [sample for family in families for sample in family.samples if sample.name.startswith("lapse_")]


def budget(reasons: int, channels: int, triggers: int, partitions: int) -> int:
    domains = LabelDomains(
        abandonment_reasons=[f"reason_{n}" for n in range(reasons)],
        channels=[f"channel_{n}" for n in range(channels)],
        triggers=[f"trigger-{n}" for n in range(triggers)],
    )
    return series_budget(domains, partitions)


@pytest.mark.parametrize("name", SPEC_LABELS)
def test_every_metric_of_the_specification_is_in_the_table_with_its_labels(name):
    (row,) = [row for row in METRICS if row.name == name]
    assert set(row.labels) == SPEC_LABELS[name]


@pytest.mark.parametrize("row", METRICS, ids=lambda row: row.name)
def test_names_follow_the_naming_rules_of_prometheus(row):
    assert row.name.startswith("lapse_")
    assert row.name.endswith("_total") == (row.type == "counter")
    assert bool(row.buckets) == (row.type == "histogram")
    assert row.help[0].isupper() or row.help.startswith("1")
    assert row.help.endswith(".")


def test_the_help_defines_abandonment_rate_false_abandonment_and_time_to_abandon():
    text = Metrics().exposition()[0].decode()
    help_of = {line.split(" ")[2]: line for line in text.splitlines() if line.startswith("# HELP ")}
    for metric, figure in (
        ("lapse_abandonments_total", "abandonment"),
        ("lapse_sessions_abandoned_total", "abandonment rate"),
        ("lapse_false_abandonments_total", "false abandonment"),
        ("lapse_false_abandonments_total", "false abandonment rate"),
        ("lapse_time_to_abandon_seconds", "time to abandon"),
        ("lapse_time_to_return_seconds", "time to return"),
        ("lapse_open_abandonments", "open abandonments"),
    ):
        assert DEFINITIONS[figure] in help_of[metric]
    assert (
        "increase(lapse_sessions_abandoned_total) / increase(lapse_sessions_total)"
        in help_of["lapse_sessions_abandoned_total"]
    )


def test_known_label_sets_start_at_zero():
    samples = lapse_samples(Metrics(abandonment_reasons=["gone"], channels=["web"], triggers=["a", "b"]))
    counters = {(s.name, tuple(sorted(s.labels.items()))): s.value for s in samples if s.name.endswith("_total")}
    assert set(counters.values()) == {0.0}
    lapsed = {"channel": "web", "kind": "lapsed", "reason": "gone"}
    assert ("lapse_session_transitions_total", tuple(sorted(lapsed.items()))) in counters
    assert ("lapse_triggers_fired_total", (("trigger", "b"),)) in counters
    assert ("lapse_rounds_total", (("outcome", "historic"),)) in counters
    assert ("lapse_records_total", (("result", "dead_letter"), ("topic", "session-states"))) in counters


def test_reasons_and_channels_are_configured_in_any_spelling():
    domains = LabelDomains(abandonment_reasons=["User inactive or offline"], channels=["Web", "Native Messaging"])
    assert domains.bound("reason", "user_inactive_or_offline") == "user_inactive_or_offline"
    assert domains.bound("channel", "native_messaging") == "native_messaging"


@pytest.mark.parametrize(
    ("label", "value", "counted_as"),
    [
        ("channel", "fax", "other"),
        ("channel", None, "none"),
        ("channel", "", "none"),
        ("channel", "none", "none"),
        ("reason", "gone_fishing", "other"),
        ("trigger", "of-another-ruleset", "other"),
        ("code", "unheard_of", "other"),
        ("abandonment_reason", None, "other"),
    ],
)
def test_a_value_outside_its_domain_counts_as_other_and_an_absent_one_as_none(label, value, counted_as):
    assert LabelDomains(abandonment_reasons=["gone"]).bound(label, value) == counted_as


def test_the_budget_is_the_one_the_module_states():
    fixed = budget(0, 0, 0, 0)
    channel, reason = budget(0, 1, 0, 0) - fixed, budget(1, 0, 0, 0) - fixed
    assert fixed == 260
    assert (channel, reason) == (19, 16)
    assert budget(1, 1, 0, 0) - fixed - channel - reason == 8
    assert budget(0, 0, 1, 0) - fixed == 3
    assert budget(0, 0, 0, 1) - fixed == 14
    assert budget(1, len(DEFAULT_CHANNELS), 50, 32) == 1063
    assert budget(1, len(DEFAULT_CHANNELS), 500, 32) == 2413


def test_two_workers_in_one_process_do_not_share_metrics():
    one, two = Metrics(), Metrics()
    one.rebalanced()
    values = [next(s.value for s in lapse_samples(m) if s.name == "lapse_rebalances_total") for m in (one, two)]
    assert values == [1, 0]


def test_a_metric_that_is_not_in_the_table_is_refused():
    with pytest.raises(KeyError):
        Instruments(LabelDomains()).counter("lapse_unheard_of_total")


@pytest.mark.parametrize("row", [row for row in METRICS if row.type == "histogram"], ids=lambda row: row.name)
def test_buckets_rise_and_are_finite(row):
    assert list(row.buckets) == sorted(set(row.buckets))
    assert all(math.isfinite(bound) for bound in row.buckets)
