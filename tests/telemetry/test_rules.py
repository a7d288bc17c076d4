"""The metrics of rules that come from their topic."""

from __future__ import annotations

from streams.telemetry.observer import Metrics


def lines(metrics: Metrics) -> set[str]:
    return set(metrics.exposition()[0].decode().splitlines())


def test_a_partition_shows_its_revision_and_0_with_rules_from_a_file() -> None:
    metrics = Metrics()
    metrics.assigned([0, 1])
    metrics.rules_in_use(1, 4)
    assert {'lapse_rules_revision{partition="0"} 0.0', 'lapse_rules_revision{partition="1"} 4.0'} <= lines(metrics)
    metrics.rules_in_use(7, 4)
    assert not any('partition="7"' in line for line in lines(metrics)), "not held here"


def test_what_is_behind_and_what_is_refused_is_shown() -> None:
    metrics = Metrics()
    metrics.rules(12.5, 2)
    assert {"lapse_rules_behind_seconds 12.5", "lapse_rules_refused_entries 2.0"} <= lines(metrics)


def test_new_rules_show_their_digest_alone_and_their_triggers_count_under_their_ids() -> None:
    metrics = Metrics(ruleset="aaaaaaaaaaaa", triggers=["old"])
    metrics.use("bbbbbbbbbbbb", ["new"])
    shown = lines(metrics)
    assert 'lapse_ruleset_info{ruleset="bbbbbbbbbbbb"} 1.0' in shown
    assert not any("aaaaaaaaaaaa" in line for line in shown)
    assert metrics._domains.bound("trigger", "new") == "new"
    assert metrics._domains.bound("trigger", "never heard of") == "other"
